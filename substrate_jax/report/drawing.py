"""What figures are made of: type and its widths, marks, lines and cells at places given in inches.

`Drawing` holds the heat maps, whose layout follows from the inches of their cells; plots have axes
of matplotlib (`report.axes`). Neither uses pyplot: no global state, so several threads may draw. A
drawing's text is outlines, all in one artist: a report has thousands of labels, and each text
object of matplotlib takes about a millisecond. Beside it the same is kept as SVG, for pages.

References: M. Okabe, K. Ito (2008), Color universal design.
"""

import dataclasses
import functools
import io
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from PIL import Image

from substrate_jax.report.svg import Svg
from substrate_jax.report.text import number

CSS_DPI, PIXEL_RATIO = 96, 1.5
# At most so many inches wide, a figure fits a phone with its type still readable.
PHONE = 4.9
TEXT = "text"  # gid of the outlines of a drawing's text
INK = "#222222"
GRID = "#e6e6e6"
FONT = 8.0
LONGEST_LABEL, LONGEST_LINE = 28, 60
# Type fitted to pixels takes up to this factor more than `text_width`.
HINTED = 1.05
# A color and a shape, so that neither is needed to tell a curve.
MARKS = (
    ("#0072b2", "o"),
    ("#d55e00", "s"),
    ("#009e73", "^"),
    ("#cc79a7", "D"),
    ("#e69f00", "v"),
    ("#56b4e9", "P"),
    ("#222222", "X"),
    ("#8c6d31", "<"),
    ("#777777", ">"),
    ("#7b3294", "p"),
)


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
    for which in itertools.count():
        turn, place = divmod(which, count)
        yield colors[place], shapes[(place + 3 * turn) % count]


def ink_on(color: str | Sequence[float] | np.ndarray) -> str:
    """Black or white, whichever contrasts more with a color (relative luminance of WCAG 2).

    Example:
        >>> ink_on("#ffffff"), ink_on("#0072b2")
        ('#000000', '#ffffff')
    """
    rgb = np.asarray(to_rgb(color) if isinstance(color, str) else color[:3])
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
def _font_file(weight: str = "normal") -> str:
    return font_manager.findfont(font_manager.FontProperties(weight=weight))


@functools.cache
def _characters() -> frozenset[int]:
    return frozenset(font_manager.get_font(_font_file()).get_charmap())


@functools.lru_cache(4096)
def _outline(text: str, weight: str) -> Path:
    """Outline of a line of text that starts at 0, in units of its size."""
    font = font_manager.FontProperties(fname=_font_file(weight))
    vertices, codes = text_to_path.get_text_path(font, text, ismath=False)
    return Path(np.reshape(vertices, (-1, 2)) / text_to_path.FONT_SCALE, codes)


def text_width(text: str, size: float) -> float:
    """Inches of a line of text: the sum of its characters, which kerning changes little."""
    return sum(map(_advance, text)) * size / 72


@functools.cache
def _advance(character: str) -> float:
    """How far a character moves the next one, in units of its size."""
    font = font_manager.get_font(_font_file())
    font.set_size(100, 72)
    return font.load_char(ord(character)).linearHoriAdvance / 2**16 / 100


def fitting(text: str, size: float, room: float) -> str:
    """The text as `drawable`, shortened in its middle until it takes at most so many inches.

    Example:
        >>> fitting("quite a long name", 8.0, 0.7)
        'quit…name'
    """
    text = drawable(text, LONGEST_LINE)
    room /= HINTED
    width = text_width(text, size)
    longest = len(text) if width <= room else max(int(len(text) * room / width) + 2, 4)
    while longest > 4 and text_width(drawable(text, longest), size) > room:
        longest -= 1
    return drawable(text, longest)


@dataclasses.dataclass(frozen=True)
class Cells:
    """A rectangle of cells that say their values where the pointer is.

    Attributes:
        box: left, top, width and height, as shares of the figure's.
        rows: names, from top to bottom.
        columns: names, from left to right.
        values: of each row, in words.
    """

    box: tuple[float, float, float, float]
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Point:
    """A place that says its words where the pointer is near.

    Attributes:
        x: from the left, as a share of the figure's width.
        y: from the top, as a share of its height.
        words: name and value.
    """

    x: float
    y: float
    words: str


def rounded(share: float) -> float:
    """A share of a figure to a fraction of a pixel, for it is written into the page."""
    return round(float(share), 4)


class Drawn(Figure):
    """A figure that a notebook shows, without pyplot, and what a page says of its places."""

    def __init__(self, **options):
        super().__init__(**options)
        self.readings: list[Cells | Point] = []
        self.vector = ""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return png(self), {"width": css_width(self)}


def new_figure(width: float, height: float) -> Drawn:
    """An empty figure of so many inches, at the resolution of `png`, to which type is fitted."""
    return Drawn(figsize=(width, height), dpi=CSS_DPI * PIXEL_RATIO, facecolor="white")


class Drawing:
    """A figure with one axes in inches all over it."""

    def __init__(self, width: float, height: float):
        self.figure = new_figure(width, height)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
        self.axes.set_axis_off()
        self.outlines: list[tuple[Path, str]] = []
        self.svg = Svg(width, height)

    def text(self, x, y, text, size, *, ha="center", va="center", color=INK, bold=False, up=False):
        """Put a line of text at a point; `up` turns it a quarter to the left."""
        outline = _outline(text, "bold" if bold else "normal")
        points = np.asarray(outline.vertices) * (size / 72)
        if not len(points):
            return
        width = points[:, 0].max()
        # From the baseline, in units of the size: half of a capital, and its height.
        shift = {"left": 0, "center": width / 2, "right": width}[ha]
        points = points - [shift, {"center": 0.36, "top": 0.73}[va] * size / 72]
        if up:
            points = points @ [[0, 1], [-1, 0]]
        self.outlines.append((Path(np.add(points, [x, y]), outline.codes), color))
        drop = {"center": 0.36, "top": 0.73}[va] * size / 72
        place = (x + drop, y) if up else (x, y - drop)
        self.svg.text(*place, text, size, ha=ha, color=color, bold=bold, up=up)

    def chips(self, x, y, tags, size):
        """Draw the letters of tags on their colors."""
        self.axes.scatter(
            x, y, s=(size * 1.6) ** 2, marker="s", color=[t.color for t in tags], lw=0
        )
        self.svg.squares(x, y, [tag.color for tag in tags], size * 1.6 / 72)
        for a, b, tag in zip(x, y, tags, strict=True):
            self.text(a, b, tag.letter, size, color=tag.ink, bold=True)

    def lines(self, x, y, color, width, *, above=False):
        """Draw segments from x[:, 0], y[:, 0] to x[:, 1], y[:, 1]; `above` marks, or below."""
        style = {"colors": color, "linewidths": width, "zorder": 3.5 if above else 2}
        self.axes.add_artist(LineCollection(list(np.stack([x, y], axis=-1)), **style))
        self.svg.lines(x, y, color, width)

    def rings(self, x, y):
        """Mark points by small rings."""
        self.axes.scatter(x, y, s=16, facecolor="white", edgecolor="black", lw=0.9)
        self.svg.rings(x, y, 2 / 72, 0.9)

    def image(self, colors, left, bottom, width, height):
        """Fill a rectangle with cells of the given colors."""
        extent = (left, left + width, bottom, bottom + height)
        self.axes.imshow(colors, extent=extent, interpolation="nearest", aspect="auto")
        self.svg.image(colors, left, bottom, width, height)

    def read(self, rows, columns, values, left, bottom, width, height):
        """Have the cells of a rectangle say their values where the pointer is."""
        wide, high = self.figure.get_size_inches()
        place = rounded(left / wide), rounded(1 - (bottom + height) / high)
        box = (*place, rounded(width / wide), rounded(height / high))
        words = [[number(value) for value in row] for row in values]
        self.figure.readings.append(Cells(box, rows, columns, words))

    def finish(self) -> Figure:
        """Draw the text collected, and return the figure."""
        if self.outlines:
            paths, colors = zip(*self.outlines, strict=True)
            style = {"facecolors": colors, "linewidths": 0, "zorder": 4, "gid": TEXT}
            self.axes.add_artist(PathCollection(paths, **style))
        self.figure.vector = self.svg.finish()
        return self.figure


def png(figure: Figure) -> bytes:
    """A figure of `new_figure` as a PNG file without transparency, the same bytes each time."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).save(buffer, "PNG")
    return buffer.getvalue()


def css_width(figure: Figure) -> int:
    """Width at which the figure's type has the size asked for, in CSS pixels."""
    return round(figure.get_figwidth() * CSS_DPI)
