"""Lines, cells and text at places given in inches, without pyplot and without a layout pass.

Text is drawn as outlines, all of one color as one path: a report has thousands of labels, and each
text object of matplotlib takes milliseconds. `Axes` puts points of two quantities into a drawing.

References: M. Okabe, K. Ito (2008), Color universal design.
"""

import dataclasses
import functools
import io
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from PIL import Image

INK = "#222222"
GRID = "#e6e6e6"
FONT = 8.0
LONGEST_LABEL = 28
# A color and a shape, so that neither is needed to tell a curve.
MARKS = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"),
    ("#e69f00", "v"), ("#56b4e9", "P"), ("#222222", "X"), ("#8c6d31", "<"), ("#777777", ">"),
    ("#7b3294", "p"),
)  # fmt: skip


def all_marks() -> Iterator[tuple[str, str]]:
    """The pairs of `MARKS`, then their colors with other shapes: no two alike in the first 100.

    Example:
        >>> first = list(itertools.islice(all_marks(), 100))
        >>> first[10], len(set(first))
        (('#0072b2', 'D'), 100)
    """
    colors, shapes = zip(*MARKS, strict=True)
    count = len(MARKS)
    # 3 and the number of marks have no common divisor: ten turns give every pair.
    for number in itertools.count():
        turn, place = divmod(number, count)
        yield colors[place], shapes[(place + 3 * turn) % count]


def ink_on(color: str | Sequence[float]) -> str:
    """Black or white, whichever contrasts more with a color (relative luminance of WCAG 2).

    Example:
        >>> ink_on("#ffffff"), ink_on("#0072b2")
        ('#000000', '#ffffff')
    """
    rgb = np.asarray(color[:3] if not isinstance(color, str) else to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#ffffff"


def drawable(text: str, longest: int = LONGEST_LABEL) -> str:
    """The text with characters that the font lacks as "?", shortened in its middle."""
    known = _characters()
    text = "".join(c if ord(c) in known else "?" for c in " ".join(text.split()))
    keep = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:keep]}…{text[-keep:]}"


@functools.cache
def _font(weight: str = "normal") -> font_manager.FontProperties:
    path = font_manager.findfont(font_manager.FontProperties(weight=weight))
    return font_manager.FontProperties(fname=path)


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(font_manager.get_font(_font().get_file()).get_charmap())


@functools.lru_cache(4096)
def _outline(text: str, weight: str) -> Path:
    """Outline of a line of text that starts at 0, in units of its size."""
    vertices, codes = text_to_path.get_text_path(_font(weight), text, ismath=False)
    return Path(np.reshape(vertices, (-1, 2)) / text_to_path.FONT_SCALE, codes)


def text_width(text: str, size: float) -> float:
    """Inches of a text."""
    vertices = _outline(text, "normal").vertices
    return float(vertices[:, 0].max()) * size / 72 if len(vertices) else 0.0


class Drawing:
    """A figure with one axes in inches all over it."""

    def __init__(self, width: float, height: float):
        self.axes = Figure(figsize=(width, height), facecolor="white").add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
        self.axes.set_axis_off()
        self.outlines: dict[str, list[Path]] = {}

    def text(self, x, y, text, size, *, ha="center", va="center", color=INK, bold=False, up=False):
        """Put a line of text at a point; `up` turns it a quarter to the left."""
        outline = _outline(text, "bold" if bold else "normal")
        if not len(outline.vertices):
            return
        points = outline.vertices * (size / 72)
        width = points[:, 0].max()
        # From the baseline, in units of the size: half of a capital, and its height.
        shift = {"left": 0, "center": width / 2, "right": width}[ha]
        points = points - [shift, {"center": 0.36, "top": 0.73}[va] * size / 72]
        if up:
            points = points @ [[0, 1], [-1, 0]]
        self.outlines.setdefault(color, []).append(Path(np.add(points, [x, y]), outline.codes))

    def chips(self, x, y, tags, size):
        """Draw the letters of tags on their colors."""
        self.axes.scatter(
            x, y, s=(size * 1.6) ** 2, marker="s", color=[t.color for t in tags], lw=0
        )
        for a, b, tag in zip(x, y, tags, strict=True):
            self.text(a, b, tag.letter, size, color=tag.ink, bold=True)

    def marks(self, x, y, mark, hollow=False, size=30):
        """Draw a shape in a color at points, `hollow` with white inside."""
        color, shape = mark
        face = "white" if hollow else color
        style = {"marker": shape, "s": size, "facecolor": face, "edgecolor": color, "lw": 1.2}
        self.axes.scatter(x, y, zorder=3, **style)

    def bar(self, left, middle, width, height, color):
        """Fill a rectangle given by the middle of its left side; a negative width goes left."""
        low, high = middle - height / 2, middle + height / 2
        self.axes.fill_between([left, left + width], low, high, color=color, lw=0, zorder=2.5)

    def lines(self, x, y, color, width, *, above=False):
        """Draw segments from x[:, 0], y[:, 0] to x[:, 1], y[:, 1]; `above` marks, or below."""
        style = {"colors": color, "linewidths": width, "zorder": 3.5 if above else 2}
        self.axes.add_artist(LineCollection(np.stack([x, y], axis=-1), **style))

    def image(self, colors, left, bottom, width, height):
        """Fill a rectangle with cells of the given colors."""
        extent = (left, left + width, bottom, bottom + height)
        self.axes.imshow(colors, extent=extent, interpolation="nearest", aspect="auto")

    def finish(self) -> Figure:
        """Draw the text collected, and return the figure."""
        for color, paths in self.outlines.items():
            path = Path.make_compound_path(*paths)
            self.axes.add_artist(PathPatch(path, facecolor=color, lw=0, zorder=4))
        return self.axes.figure


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of one kind, and how the legend calls them."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[str, str]
    hollow: bool = False


class Axes:
    """A rectangle of a drawing, each of its two directions logarithmic or linear."""

    def __init__(
        self, drawing: Drawing, corner, size, x_limits, y_limits, logarithmic=(True, True)
    ):
        self.drawing, self.corner, self.size = drawing, np.array(corner), np.array(size)
        self.limits, self.logarithmic = (x_limits, y_limits), logarithmic
        self.low, self.high = self._scaled(x_limits, y_limits)

    def _scaled(self, x, y) -> Float[np.ndarray, "points 2"]:
        values = np.broadcast_arrays(np.atleast_1d(x), np.atleast_1d(y))
        return np.stack(
            [np.log(v) if log else v for v, log in zip(values, self.logarithmic, strict=True)],
            axis=-1,
        )

    def place(self, x, y) -> Float[np.ndarray, "points 2"]:
        """Inches of points."""
        return self.corner + self.size * (self._scaled(x, y) - self.low) / (self.high - self.low)

    def line(self, x, y, color: str, width: float, *, above: bool = False) -> None:
        """A line through points."""
        points = self.place(x, y)
        pairs = np.stack([points[:-1], points[1:]], axis=1)
        self.drawing.lines(pairs[..., 0], pairs[..., 1], color, width, above=above)

    def band(self, x, low, high, color: str) -> None:
        """Fill what lies between two lines."""
        bottom, top = self.place(x, low), self.place(x, high)
        self.drawing.axes.fill_between(bottom[:, 0], bottom[:, 1], top[:, 1], color=color, lw=0)

    def scatter(self, curve: Curve) -> None:
        """The points of a curve."""
        points = self.place(curve.x, curve.y)
        self.drawing.marks(points[:, 0], points[:, 1], curve.mark, curve.hollow)

    def frame(self, x_ticks: dict[float, str], y_ticks: dict[float, str], titles) -> None:
        """Grid, axes, the ticks with their labels, and titles."""
        (left, bottom), (wide, high) = self.corner, self.size
        for value, label in x_ticks.items():
            x = self.place(value, self.limits[1][0])[0, 0]
            self.drawing.lines([[x, x]], [[bottom, bottom + high]], GRID, 0.7)
            self.drawing.text(x, bottom - 0.06, label, FONT - 0.5, va="top")
        for value, label in y_ticks.items():
            y = self.place(self.limits[0][0], value)[0, 1]
            self.drawing.lines([[left, left + wide]], [[y, y]], GRID, 0.7)
            self.drawing.text(left - 0.06, y, label, FONT - 0.5, ha="right")
        self.drawing.lines([[left, left + wide]], [[bottom, bottom]], INK, 0.8)
        self.drawing.lines([[left, left]], [[bottom, bottom + high]], INK, 0.8)
        self.drawing.text(left + wide / 2, bottom - 0.25, titles[0], FONT, va="top")
        self.drawing.text(0.1, bottom + high / 2, titles[1], FONT, up=True)


def legend(drawing: Drawing, curve: Curve, x: float, y: float) -> None:
    """The mark of a curve and its label."""
    drawing.marks([x], [y], curve.mark, curve.hollow, size=26)
    drawing.text(x + 0.14, y, drawable(curve.label, 60), FONT, ha="left")


CSS_DPI = 96


PIXEL_RATIO = 1.5


# At most so many inches wide, a figure fits a telephone with its type still readable.
PHONE = 4.9


def png(figure: Figure) -> bytes:
    """The figure as a PNG file without transparency, the same bytes each time."""
    figure.set_dpi(CSS_DPI * PIXEL_RATIO)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG")
    return buffer.getvalue()


def css_width(figure: Figure) -> int:
    """Width at which the figure's type has the size asked for, in CSS pixels."""
    return round(figure.get_figwidth() * CSS_DPI)
