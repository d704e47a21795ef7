"""Figures of the agreement of domains: strips, curves over K, bars, and what components read.

All are at most `report.drawing.PHONE` inches wide, so that a telephone shows them whole: names
stand above their lanes, legends below the plot. A color never tells alone: marks differ in shape,
and values are written beside their names.

Cost: about 0.1 s a figure.

Not guaranteed: that all dots of a crowded lane are apart; beyond five levels they overlap.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from substrate_jax.report.drawing import (
    FONT,
    GRID,
    INK,
    MARKS,
    PHONE,
    Axes,
    Curve,
    Drawing,
    drawable,
    legend,
    text_width,
)
from substrate_jax.report.heatmaps import DIVERGING, color_bar, colors_of, short
from substrate_jax.report.tags import Tag

OURS, PAPER = MARKS[0], ("#222222", "D")
BAND, RANGE = "#a3c9e2", "#e9e9e9"
LESS, MORE = "#d55e00", "#0072b2"
NOTE = 7.5
LEFT, RIGHT = 0.15, 0.15
LANE, LABEL = 0.45, 0.19
LEVELS = (0, 1, -1, 2, -2)


@dataclasses.dataclass(frozen=True)
class Lane:
    """Values in a row under their name.

    Attributes:
        label: what they are.
        values: drawn as dots.
        mark: color and shape of the dots.
        note: stands to the right of the label.
        hollow: dots with white inside.
        middle: drawn as a black line.
        interval: drawn as a line; an end that is infinite is open, drawn as an arrow at the border.
        paper: what a publication has, drawn as a hollow diamond.
    """

    label: str
    values: Sequence[float]
    mark: tuple[str, str] = OURS
    note: str = ""
    hollow: bool = False
    middle: float | None = None
    interval: tuple[float, float] | None = None
    paper: float | None = None


def strip(
    lanes: Sequence[Lane],
    *,
    quantity: str,
    limits: tuple[float, float] = (0.0, 1.0),
    band: tuple[float, float] | None = None,
    line: float | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Values of several kinds on one axis, one lane a kind.

    Args:
        lanes: from top to bottom.
        quantity: what the axis shows.
        limits: of the axis; widened to hold every value.
        band: shaded behind all lanes.
        line: drawn through all lanes.
        logarithmic: scale of the axis.

    Returns:
        The figure.
    """
    high, bottom = LANE * len(lanes) + 0.05, 0.5
    drawing = Drawing(PHONE, bottom + high + 0.08)
    wide = PHONE - LEFT - RIGHT
    found = np.array([v for lane in lanes for v in _numbers(lane)], float)
    limits = (min([*limits[:1], *found]), max([*limits[1:], *found]))
    if logarithmic:
        limits = (limits[0] / 1.1, limits[1] * 1.1)
    axes = Axes(
        drawing, (LEFT, bottom), (wide, high), limits, (0.0, high), (logarithmic, False)
    )  # fmt: skip
    axes.frame(_ticks(limits, logarithmic), {}, (drawable(quantity, 80), ""))
    for index, lane in enumerate(lanes):
        top = high - LANE * index
        _label(drawing, lane, bottom + top - 0.12)
        y = top - LABEL - 0.13
        reach = y + np.array([-0.115, 0.115])
        if band:
            axes.band(np.array(band), *reach, RANGE)
        if line is not None:
            axes.line(np.full(2, line), reach, OURS[0], 1.4)
        spots = axes.place(np.array(lane.values, float), y)
        spots[:, 1] += _levels(spots[:, 0])
        drawing.marks(spots[:, 0], spots[:, 1], lane.mark, lane.hollow, size=14)
        if lane.interval:
            ends = np.clip(lane.interval, *limits)
            axes.line(ends, np.full(2, y), INK, 1.2)
            for end, given, arrow in zip(ends, lane.interval, "<>", strict=True):
                if np.isfinite(given):
                    axes.line(np.full(2, end), y + np.array([-0.045, 0.045]), INK, 1.2)
                else:
                    axes.scatter(Curve("", [end], [y], (INK, arrow)))
        if lane.middle is not None:
            axes.line(np.full(2, lane.middle), y + np.array([-0.1, 0.1]), INK, 2.0, above=True)
        if lane.paper is not None:
            (x, height), *_ = axes.place(lane.paper, y)
            drawing.marks([x], [height], PAPER, hollow=True, size=34)
    return drawing.finish()


def sweep(
    ks: Sequence[int],
    median: Sequence[float],
    *,
    interval: tuple[Sequence[float], Sequence[float]] | None,
    spread: tuple[Sequence[float], Sequence[float]],
    paper: Mapping[int, float],
    k: int,
    names: Mapping[str, str],
) -> Figure:
    """The median over pairs of domains against the number of components.

    Args:
        ks: numbers of components, ascending.
        median: of the pairs at each.
        interval: ends of the median's interval at each.
        spread: least and greatest pair at each.
        paper: number of components -> the paper's median.
        k: the number used elsewhere, marked by a line.
        names: of "median", "interval", "spread" and "paper" in the legend.

    Returns:
        The figure, its legend below.
    """
    x = np.array(ks, float)
    rows = [
        (names["median"], OURS, False),
        *([(names["interval"], (BAND, "s"), False)] if interval else []),
        (names["spread"], (RANGE, "s"), False),
        *([(names["paper"], PAPER, True)] if paper else []),
    ]
    ends = [*x, *paper]
    drawing, axes = _plot(rows, (min(ends) / 1.15, max(ends) * 1.15), 1.0)
    axes.band(x, *(np.array(v, float) for v in spread), RANGE)
    if interval:
        axes.band(x, *(np.array(v, float) for v in interval), BAND)
    ticks = {value: f"{value:g}" for value in sorted({*map(float, ks), *map(float, paper)})}
    axes.frame(ticks, _ticks((0.0, 1.0)), ("components K (logarithmic)", "PCKA"))
    axes.line(np.full(2, float(k)), np.array([0.0, 1.0]), "#999999", 0.9)
    if paper:
        there = Curve("", list(map(float, paper)), list(paper.values()), PAPER, hollow=True)
        axes.line(np.array(there.x), np.array(there.y), "#777777", 0.9)
        axes.scatter(there)
    axes.line(x, np.array(median, float), OURS[0], 1.8)
    axes.scatter(Curve("", x, np.array(median, float), OURS))
    return drawing.finish()


def variance(shares: Mapping[str, Sequence[float]], *, k: int) -> Figure:
    """Share of the variance in the leading components, cumulated, one curve a domain.

    Args:
        shares: domain -> share of each component.
        k: the number used elsewhere, marked by a line.

    Returns:
        The figure, its legend below in the order of the curves at k.
    """
    sums = {name: np.cumsum(np.array(values, float)) for name, values in shares.items()}
    at_k = {name: float(values[min(k, len(values)) - 1]) for name, values in sums.items()}
    order = sorted(sums, key=lambda name: -at_k[name])
    marks = dict(zip(sums, MARKS * len(sums), strict=False))
    rows = [(f"{drawable(n, 34)}: {short(at_k[n])} at {k}", marks[n], False) for n in order]
    most = max(map(len, sums.values()))
    top = max(float(values[-1]) for values in sums.values())
    top = min(1.0, np.ceil(10 * top) / 10)
    drawing, axes = _plot(rows, (0.93, most * 1.08), top)
    powers = [2**i for i in range(int(np.log2(most)) + 1)]
    titles = ("components (logarithmic)", "cumulative share of variance")
    axes.frame({float(p): str(p) for p in powers}, _ticks((0.0, top)), titles)
    axes.line(np.full(2, float(k)), np.array([0.0, top]), "#999999", 0.9)
    for name in order:
        x = np.arange(1, len(sums[name]) + 1)
        axes.line(x.astype(float), sums[name], marks[name][0], 1.3)
        at = np.array([p for p in powers if p <= len(x)])
        axes.scatter(Curve(name, at.astype(float), sums[name][at - 1], marks[name]))
    return drawing.finish()


def bars(
    groups: Mapping[str, Mapping[str, float]], *, baseline: float, quantity: str, line: str
) -> Figure:
    """Values as bars that begin at a baseline, so that their lengths are the changes.

    Args:
        groups: heading -> name -> value.
        baseline: where bars begin.
        quantity: what the axis shows.
        line: what the baseline is.

    Returns:
        The figure.
    """
    row, bottom = 0.19, 0.5
    count = sum(len(values) + 1.6 for values in groups.values())
    high = row * count + 0.25
    drawing = Drawing(PHONE, bottom + high + 0.05)
    names = [drawable(name) for values in groups.values() for name in values]
    # Headings are bold, which is a tenth wider.
    headings = max(1.1 * text_width(drawable(heading, 60), FONT) for heading in groups)
    left = max(headings, *(text_width(name, FONT) for name in names)) + 0.25
    wide = PHONE - left - 0.5
    found = [value for values in groups.values() for value in values.values()]
    reach = 1.15 * max([0.01, *(abs(value - baseline) for value in found)])
    limits = (baseline - reach, baseline + reach)
    axes = Axes(drawing, (left, bottom), (wide, high - 0.2), limits, (0.0, 1.0), (False, False))
    axes.frame(_ticks(limits), {}, (drawable(quantity, 80), ""))
    y = bottom + high - 0.2
    for heading, values in groups.items():
        drawing.text(0.12, y - row, drawable(heading, 60), FONT, ha="left", bold=True)
        y -= 1.6 * row
        for name, value in values.items():
            start, end = axes.place(np.array([baseline, value]), 0.0)[:, 0]
            drawing.bar(start, y - row / 2, end - start, 0.62 * row, MORE if end > start else LESS)
            drawing.text(left - 0.08, y - row / 2, drawable(name), FONT, ha="right")
            drawing.text(PHONE - 0.1, y - row / 2, f"{value:.3f}", FONT, ha="right")
            y -= row
    axes.line(np.full(2, baseline), np.array([0.0, 1.0]), INK, 1.2)
    middle = axes.place(baseline, 0.0)[0, 0]
    drawing.text(middle, bottom + high - 0.08, f"{line}: {baseline:.3f}", FONT)
    return drawing.finish()


def reading(
    correlation: Float[np.ndarray, "k p"],
    features: Sequence[str],
    groups: Sequence[str],
    *,
    quantity: str,
) -> Figure:
    """Correlations of components with features: a column a component, a row a feature.

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
        drawing.image(colored, left, y, side * k, tall * (end - start))
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
    color_bar(
        drawing, limits, quantity, left + side * k + 0.1, bottom + high, high, DIVERGING
    )  # fmt: skip
    return drawing.finish()


def _plot(rows, x_limits: tuple[float, float], top: float) -> tuple[Drawing, Axes]:
    """A logarithmic and a linear axis with the legend of `rows` (label, mark, hollow) below."""
    left, high, row = 0.55, 2.5, 0.18
    bottom = 0.55 + row * len(rows) + 0.05
    drawing = Drawing(PHONE, bottom + high + 0.12)
    size = (PHONE - left - 0.2, high)
    axes = Axes(drawing, (left, bottom), size, x_limits, (0.0, top), (True, False))
    for index, (label, mark, hollow) in enumerate(rows):
        legend(drawing, Curve(label, (), (), mark, hollow), left, bottom - 0.55 - row * index)
    return drawing, axes


def _label(drawing: Drawing, lane: Lane, y: float) -> None:
    """The label of a lane on the left, shortened to leave room for its note on the right."""
    note = drawable(lane.note, 60)
    right = PHONE - RIGHT - 0.03
    room = right - text_width(note, NOTE) - LEFT - 0.2
    longest = 60
    while longest > 4 and text_width(drawable(lane.label, longest), FONT) > room:
        longest -= 1
    drawing.text(LEFT + 0.06, y, drawable(lane.label, longest), FONT, ha="left")
    drawing.text(right, y, note, NOTE, ha="right", color="#555555")


def _numbers(lane: Lane) -> list[float]:
    ends = [lane.middle, lane.paper, *(lane.interval or ())]
    return [*lane.values, *(end for end in ends if end is not None and np.isfinite(end))]


def _levels(x: Float[np.ndarray, " n"], apart: float = 0.055) -> Float[np.ndarray, " n"]:
    """Heights that keep dots apart, in ascending order of x, as far as there are levels."""
    heights, last = np.zeros(len(x)), dict.fromkeys(LEVELS, -np.inf)
    for i in np.argsort(x, kind="stable"):
        free = [level for level in LEVELS if x[i] - last[level] >= apart]
        level = free[0] if free else min(LEVELS, key=last.get)
        heights[i], last[level] = 0.03 * level, x[i]
    return heights


def _ticks(limits: tuple[float, float], logarithmic: bool = False) -> dict[float, str]:
    if logarithmic:
        exponents = range(int(np.floor(np.log10(limits[0]))), int(np.log10(limits[1])) + 1)
        values = np.array([d * 10.0**e for e in exponents for d in (1, 2, 5)])
    else:
        values = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(*limits)
    inside = (values >= limits[0] - 1e-9) & (values <= limits[1] + 1e-9)
    return {float(v): f"{v:.4g}".replace("-", "−") for v in values[inside] + 0.0}


def dots(
    rows: Mapping[str, Sequence[tuple[Tag, Sequence[float]]]],
    *,
    quantity: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Values of several groups, one row a name and one lane a group, with a line at the mean of
    several.

    Args:
        rows: name -> (group, its values); groups without values are left out.
        quantity: what the horizontal axis shows.
        limits: of the axis.

    Returns:
        The figure.
    """
    lanes = [
        (name, tag, np.asarray(values, np.float64))
        for name, groups in rows.items()
        for tag, values in groups
        if len(values)
    ]
    names = list(dict.fromkeys(name for name, *_ in lanes))
    gaps = (1.55 if a[0] != b[0] else 1.0 for a, b in itertools.pairwise(lanes))
    y = 0.17 * np.cumsum([0.0, *gaps])[::-1]
    y = y - y.min() + 0.62
    shown = {name: drawable(name, 20) for name in names}
    left = max(text_width(words, 9) for words in shown.values()) + 0.35
    width = PHONE - left - 0.2
    drawing = Drawing(PHONE, y.max() + 0.18)

    def across(value):
        return left + width * (np.asarray(value) - limits[0]) / (limits[1] - limits[0])

    drawing.lines([[left, left + width]] * len(y), np.c_[y, y], "#e6e6e6", 0.8)
    for height, (_, tag, values) in zip(y, lanes, strict=True):
        spots = across(values)
        style = {"s": 17, "color": tag.color, "alpha": 0.75, "lw": 0, "zorder": 3}
        drawing.axes.scatter(spots, np.full(len(values), height), **style)
    several = [(h, across(v.mean())) for h, (*_, v) in zip(y, lanes, strict=True) if len(v) > 1]
    for height, mean in several:
        ends = [[height - 0.075, height + 0.075]]
        drawing.lines([[mean, mean]], ends, "black", 1.8, above=True)
    drawing.chips(np.full(len(y), left - 0.13), y, [tag for _, tag, _ in lanes], 6.0)
    for name in names:
        height = np.mean([h for h, lane in zip(y, lanes, strict=True) if lane[0] == name])
        drawing.text(left - 0.27, height, shown[name], 9, ha="right")
    drawing.lines([[left, left + width]], [[0.47, 0.47]], INK, 0.8)
    for value in np.linspace(*limits, 6):
        drawing.lines([[across(value)] * 2], [[0.43, 0.47]], INK, 0.8)
        drawing.text(across(value), 0.4, f"{value:g}", 8, va="top")
    drawing.text(left + width / 2, 0.2, drawable(quantity, 80), 8.5, va="top")
    return drawing.finish()
