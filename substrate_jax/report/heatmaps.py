"""Heat maps: of a symmetric matrix, of a matrix between two lists, and of correlations.

`heatmap` shows a symmetric m x m matrix S of similarities. Rows and columns stand in the order of
the leaves of an average-linkage tree on the distances 1 - S (Sokal, Michener 1958), so that what is
alike stands together. Lengths are fixed in inches and type in points: at `CSS_DPI` pixels an inch a
figure appears in a page at its own size, and is drawn with `PIXEL_RATIO` times as many pixels.

Cost: O(m^2 log m) for the tree, O(m^2) for the drawing; about 0.1 s for m = 8. Figures are made
without pyplot: no global state, so several threads may draw.

Not guaranteed: that a leaf order is unique. A tree fixes which branches hold together, not which of
two stands first; they are turned so that neighbors are as alike as the tree lets them be.

References: R. Sokal, C. Michener (1958), A statistical method for evaluating systematic
relationships. Z. Bar-Joseph, D. Gifford, T. Jaakkola (2001), Fast optimal leaf ordering.
M. Okabe, K. Ito (2008), Color universal design.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from substrate_jax.report.cells import cells, color_bar, colors_of
from substrate_jax.report.drawing import FONT, GRID, PHONE, Drawing, drawable, text_width
from substrate_jax.report.tags import Tag

COLORMAP = "viridis"
# From −1 to 1, white at 0 exactly; blue and orange differ for every kind of color vision.
DIVERGING = LinearSegmentedColormap.from_list(
    "blue_orange", ["#003a63", "#0072b2", "#ffffff", "#d55e00", "#6e2c00"], N=257
)
DIAGONAL = "#dddddd"
FRAME = "#d55e00"
# A cell whose side has fewer inches has no room for a value.
VALUE_SIDE = 0.22


@dataclasses.dataclass(frozen=True)
class CellSize:
    """Side of a heat map's cells in inches, `total / m` between two bounds, and size of type."""

    total: float
    least: float
    most: float
    font: float

    def side(self, m: int) -> float:
        """Side of one of m x m cells."""
        return float(np.clip(self.total / m, self.least, self.most))


LARGE = CellSize(5.0, 0.19, 0.6, 8.5)
SMALL = CellSize(1.84, 0.13, 0.45, 7.0)


def cluster(similarity: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m-1 4"] | None:
    """Average linkage on 1 - S.

    Args:
        similarity: symmetric; the diagonal is not read, NaN counts as 0.

    Returns:
        The linkage matrix of scipy, or None for one row, which has no tree.

    Example:
        >>> tree = cluster(np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]]))
        >>> leaves(tree, 3)
        [1, 2, 0]
    """
    if len(similarity) < 2:
        return None
    distance = 1 - np.nan_to_num(similarity, nan=0.0)
    distance = np.maximum((distance + distance.T) / 2, 0)
    np.fill_diagonal(distance, 0)
    return hierarchy.linkage(squareform(distance), method="average", optimal_ordering=True)


def leaves(tree: Float[np.ndarray, "m-1 4"] | None, m: int) -> list[int]:
    """Order of the m leaves of a tree; the order given where there is none."""
    return list(range(m)) if tree is None else [int(i) for i in hierarchy.leaves_list(tree)]


def heatmap(
    matrix: Float[np.ndarray, "m m"],
    labels: Sequence[str],
    *,
    quantity: str,
    limits: tuple[float, float] = (0.0, 1.0),
    size: CellSize = SMALL,
    tree: Float[np.ndarray, "m-1 4"] | None = None,
    draw_tree: bool = False,
    tags: Sequence[Tag] | None = None,
    rings: Bool[np.ndarray, "m m"] | None = None,
    colormap: str | Colormap = COLORMAP,
) -> Figure:
    """A symmetric matrix as colored cells; below the diagonal the values too, where they fit.

    The diagonal is gray, for it compares a thing with itself. A NaN elsewhere is a white cell with
    a dash. Values beyond the limits take the color of the nearer one and are written as they are.

    Args:
        matrix: in the order of the labels.
        labels: names of the rows; long ones are shortened.
        quantity: what the colors stand for, with its unit.
        limits: values of the first and last color.
        size: how large the cells are.
        tree: of `cluster`; it orders the rows.
        draw_tree: draws the tree over the columns.
        tags: class of each row, shown beside its label.
        rings: pairs marked by a small ring above the diagonal.
        colormap: from the first limit to the second.

    Returns:
        The figure; `png` makes bytes of it.

    Raises:
        ValueError: the matrix is not m x m for m labels.
    """
    m = len(labels)
    if np.shape(matrix) != (m, m) or m < 1:
        raise ValueError(f"matrix has shape {np.shape(matrix)}; give {m} x {m}, one row per label")
    order = leaves(tree, m)
    matrix = np.asarray(matrix, np.float64)[np.ix_(order, order)]
    names = [drawable(labels[i]) for i in order]
    side = size.side(m)
    fits = side >= VALUE_SIDE
    font = size.font if fits else side * 72 * 0.6

    # Inches: what stands around the cells.
    chip = 0.2 if tags else 0.05
    longest = max(text_width(name, font) for name in names)
    upright = longest + 0.05 > side
    left, bottom = chip + longest + 0.05, chip + (longest if upright else font * 1.2 / 72) + 0.05
    top = 0.62 if draw_tree and tree is not None else 0.08
    wide = side * m
    drawing = Drawing(left + wide + 0.6, bottom + wide + top)
    middles = (np.arange(m) + 0.5) * side
    x, y = left + middles, bottom + wide - middles

    colored = colors_of(matrix, limits, colormap)
    colored[np.arange(m), np.arange(m)] = to_rgba(DIAGONAL)
    written = np.isnan(matrix) & ~np.eye(m, dtype=bool)
    if fits:
        written |= np.tri(m, k=-1, dtype=bool)
    cells(drawing, matrix, colored, written, (left, bottom), side, min(font - 0.5, side * 30))
    full = [labels[i] for i in order]
    drawing.read(full, full, matrix, left, bottom, wide, wide)
    if rings is not None:
        i, j = np.nonzero(np.triu(np.asarray(rings)[np.ix_(order, order)], 1))
        drawing.rings(x[j], y[i])

    for i, name in enumerate(names):
        drawing.text(left - chip, y[i], name, font, ha="right")
        if upright:
            drawing.text(x[i], bottom - chip, name, font, ha="right", up=True)
        else:
            drawing.text(x[i], bottom - chip, name, font, va="top")
    if tags:
        ordered, letter = [tags[i] for i in order], min(6.0, font - 1)
        drawing.chips(np.full(m, left - 0.09), y, ordered, letter)
        drawing.chips(x, np.full(m, bottom - 0.09), ordered, letter)
    if draw_tree and tree is not None:
        drawn = hierarchy.dendrogram(tree, no_plot=True)
        # scipy sets the leaves at 5, 15, 25, ...
        across = left + np.asarray(drawn["icoord"]) / 10 * side
        height = np.asarray(drawn["dcoord"]) / max(float(tree[:, 2].max()), 1e-6) * (top - 0.1)
        drawing.lines(across, bottom + wide + 0.05 + height, "#555555", 0.9)

    color_bar(drawing, limits, quantity, left + wide + 0.1, bottom + wide, wide, colormap)
    return drawing.finish()


def grid(
    matrix: Float[np.ndarray, "m k"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    quantity: str,
    titles: tuple[str, str] = ("", ""),
    limits: tuple[float, float] = (0.0, 1.0),
    size: CellSize = SMALL,
    frames: Bool[np.ndarray, "m k"] | None = None,
) -> Figure:
    """A matrix of two lists of things as colored cells with their values, in the order given.

    Args:
        matrix: one row per name of `rows`, one column per name of `columns`; NaN is a white cell.
        rows: names beside the rows, from top to bottom.
        columns: names under the columns.
        quantity: what the colors stand for, with its unit.
        titles: what the rows are, and what the columns are.
        limits: values of the first and last color.
        size: how large the cells are.
        frames: cells with a dark frame.

    Returns:
        The figure; `png` makes bytes of it.

    Raises:
        ValueError: the matrix does not fit its names.
    """
    m, k = len(rows), len(columns)
    if np.shape(matrix) != (m, k) or m * k < 1:
        raise ValueError(f"matrix has shape {np.shape(matrix)}; give {m} x {k}, as the names are")
    matrix = np.asarray(matrix, np.float64)
    side = size.side(max(m, k))
    font = size.font if side >= VALUE_SIDE else side * 72 * 0.6
    beside, under = [drawable(name) for name in rows], [drawable(name) for name in columns]
    title = 0.25 if any(titles) else 0.0
    left = title + max(text_width(name, font) for name in beside) + 0.1
    longest = max(text_width(name, font) for name in under)
    upright = longest + 0.05 > side
    bottom = title + (longest if upright else font * 1.2 / 72) + 0.1
    wide, high = side * k, side * m
    drawing = Drawing(left + wide + 0.6, bottom + high + 0.08)
    written = np.isnan(matrix) | (side >= VALUE_SIDE)
    colored = colors_of(matrix, limits, COLORMAP)
    cells(drawing, matrix, colored, written, (left, bottom), side, min(font - 0.5, side * 30))
    drawing.read(rows, columns, matrix, left, bottom, wide, high)
    x, y = left + (np.arange(k) + 0.5) * side, bottom + high - (np.arange(m) + 0.5) * side
    for height, name in zip(y, beside, strict=True):
        drawing.text(left - 0.05, height, name, font, ha="right")
    for middle, name in zip(x, under, strict=True):
        if upright:
            drawing.text(middle, bottom - 0.05, name, font, ha="right", up=True)
        else:
            drawing.text(middle, bottom - 0.05, name, font, va="top")
    corners = side / 2 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1]])
    for row, column in np.argwhere(frames) if frames is not None else ():
        edges = corners + np.array([x[column], y[row]])
        pairs = np.stack([edges[:-1], edges[1:]], axis=1)
        drawing.lines(pairs[..., 0], pairs[..., 1], FRAME, 1.6)
    beside, under = (drawable(title, 60) for title in titles)
    drawing.text(0.11, bottom + high / 2, beside, size.font, up=True)
    drawing.text(left + wide / 2, 0.11, under, size.font)
    color_bar(drawing, limits, quantity, left + wide + 0.1, bottom + high, high, COLORMAP)
    return drawing.finish()


def correlations(
    correlation: Float[np.ndarray, "k p"],
    features: Sequence[str],
    groups: Sequence[str],
    *,
    quantity: str,
) -> Figure:
    """Correlations of components with features: one column per component, one row per feature.

    Args:
        correlation: from -1 to 1; NaN is a gray cell.
        features: names of the p features.
        groups: of the p features; a gap stands between groups.
        quantity: what the colors show.

    Returns:
        The figure, components above and below.
    """
    k, p = correlation.shape
    font, tall, gap = 6.5, 0.125, 0.07
    names = [drawable(name) for name in features]
    left = max(text_width(name, font) for name in names) + 0.15
    side = min(0.22, (PHONE - left - 0.62) / k)
    starts = [0, *(i for i in range(1, p) if groups[i] != groups[i - 1]), p]
    bottom, top = 0.42, 0.26
    high = tall * p + gap * (len(starts) - 2)
    drawing = Drawing(left + side * k + 0.62, bottom + high + top)
    limits = (-1.0, 1.0)
    y = bottom + high
    for start, end in itertools.pairwise(starts):
        values = correlation[:, start:end].T
        colored = colors_of(values, limits, DIVERGING)
        colored[np.isnan(values)] = (0.8, 0.8, 0.8, 1.0)
        y -= tall * (end - start)
        place = left, y, side * k, tall * (end - start)
        drawing.image(colored, *place)
        columns = [f"component {component}" for component in range(k)]
        drawing.read(features[start:end], columns, values, *place)
        edges = y + tall * np.arange(end - start + 1)
        drawing.lines([[left, left + side * k]] * len(edges), np.c_[edges, edges], GRID, 0.4)
        for i, name in enumerate(names[start:end]):
            drawing.text(left - 0.06, edges[-1] - tall * (i + 0.5), name, font, ha="right")
        y -= gap
    x = left + side * np.arange(k + 1)
    drawing.lines(np.c_[x, x], [[bottom, bottom + high]] * (k + 1), GRID, 0.4)
    every = int(np.ceil(0.17 / side))
    for component in range(0, k, every):
        for height in (bottom - 0.1, bottom + high + 0.1):
            drawing.text(left + side * (component + 0.5), height, str(component), font + 0.5)
    drawing.text(left + side * k / 2, bottom - 0.28, "component", FONT - 0.5)
    color_bar(drawing, limits, quantity, left + side * k + 0.1, bottom + high, high, DIVERGING)
    return drawing.finish()
