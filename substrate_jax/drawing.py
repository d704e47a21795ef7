"""Lines, cells and text at places given in inches, without pyplot and without a layout pass.

Text is drawn as outlines, all of one colour as one path: a report has thousands of labels, and each
text object of matplotlib takes milliseconds.
"""

import functools
from collections.abc import Sequence

import numpy as np
from matplotlib import font_manager
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

INK = "#222222"
LONGEST_LABEL = 28


def ink_on(color: str | Sequence[float]) -> str:
    """Black or white, whichever contrasts more with a colour (relative luminance of WCAG 2).

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
        """Draw the letters of tags on their colours."""
        self.axes.scatter(
            x, y, s=(size * 1.6) ** 2, marker="s", color=[t.color for t in tags], lw=0
        )
        for a, b, tag in zip(x, y, tags, strict=True):
            self.text(a, b, tag.letter, size, color=tag.ink, bold=True)

    def lines(self, x, y, color, width):
        """Draw segments from x[:, 0], y[:, 0] to x[:, 1], y[:, 1]."""
        segments = np.stack([x, y], axis=-1)
        self.axes.add_artist(LineCollection(segments, colors=color, linewidths=width))

    def image(self, colors, left, bottom, width, height):
        """Fill a rectangle with cells of the given colours."""
        extent = (left, left + width, bottom, bottom + height)
        self.axes.imshow(colors, extent=extent, interpolation="nearest", aspect="auto")

    def finish(self) -> Figure:
        """Draw the text collected, and return the figure."""
        for color, paths in self.outlines.items():
            path = Path.make_compound_path(*paths)
            self.axes.add_artist(PathPatch(path, facecolor=color, lw=0, zorder=4))
        return self.axes.figure
