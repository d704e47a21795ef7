"""Lines, squares, cells and type as SVG, at places given in inches from the lower left.

A picture of cells is small this way: a PNG with one pixel for each cell, which the browser
enlarges, and letters as letters. Type that looks alike shares its attributes.

Not guaranteed: the font. Where DejaVu Sans is missing, type is that of another.
"""

import base64
import io
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image

PIXELS = 96  # of CSS, per inch
FONTS = "DejaVu Sans, Verdana, sans-serif"
ANCHORS = {"left": "start", "center": "middle", "right": "end"}


class Svg:
    """What is drawn, in order; type above all."""

    def __init__(self, width: float, height: float):
        self.size = width, height
        self.parts: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def text(self, x, y, text, size, *, ha, color, bold, up):
        """Put a line of text with its baseline at a point; `up` turns it a quarter to the left."""
        style = f"font-size={_quoted(size / 72)} text-anchor={quoteattr(ANCHORS[ha])}"
        style += f" fill={quoteattr(color)}" + (' font-weight="bold"' if bold else "")
        place = self._place(x, y)
        if up:
            turned = f'<text transform="translate({" ".join(place)}) rotate(-90)">'
        else:
            turned = f'<text x="{place[0]}" y="{place[1]}">'
        self.texts.setdefault(style, []).append(f"{turned}{escape(text)}</text>")

    def lines(self, x, y, color, width):
        """Draw curves through the points of each row, of a width in points."""
        rows = (
            "M" + " ".join(" ".join(self._place(*point)) for point in zip(a, b, strict=True))
            for a, b in zip(np.asarray(x), np.asarray(y), strict=True)
        )
        stroke = f"stroke={quoteattr(color)} stroke-width={_quoted(width / 72)}"
        self.parts.append(f'<path d="{"".join(rows)}" fill="none" {stroke}/>')

    def squares(self, x, y, colors: Sequence[str], side):
        """Fill squares of a side in inches around points."""
        for a, b, color in zip(x, y, colors, strict=True):
            left, top = self._place(a - side / 2, b + side / 2)
            box = f'x="{left}" y="{top}" width={_quoted(side)} height={_quoted(side)}'
            self.parts.append(f"<rect {box} fill={quoteattr(color)}/>")

    def rings(self, x, y, radius, width):
        """Draw white rings with a black edge of a width in points."""
        stroke = f'fill="#fff" stroke="#000" stroke-width={_quoted(width / 72)}'
        for a, b in zip(x, y, strict=True):
            across, down = self._place(a, b)
            self.parts.append(f'<circle cx="{across}" cy="{down}" r={_quoted(radius)} {stroke}/>')

    def image(self, colors, left, bottom, width, height):
        """Fill a rectangle with cells of the given colors, [m, k, 4] from 0 to 1."""
        buffer = io.BytesIO()
        pixels = np.uint8(np.round(255 * np.asarray(colors)[..., :3]))
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        x, y = self._place(left, bottom + height)
        uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        self.parts.append(
            f'<image x="{x}" y="{y}" width={_quoted(width)} height={_quoted(height)} '
            f'preserveAspectRatio="none" style="image-rendering:pixelated" href="{uri}"/>'
        )

    def finish(self) -> str:
        """The elements within `<svg>`."""
        groups = (f"<g {style}>{''.join(texts)}</g>" for style, texts in self.texts.items())
        return f"{''.join(self.parts)}<g font-family={quoteattr(FONTS)}>{''.join(groups)}</g>"

    def _place(self, x, y) -> tuple[str, str]:
        return _pixels(x), _pixels(self.size[1] - y)


def _pixels(inches: float) -> str:
    """A length in pixels, to a tenth."""
    return f"{PIXELS * inches:.1f}".removesuffix(".0")


def _quoted(inches: float) -> str:
    """A length as an attribute, finer, for type and lines are thin."""
    return f'"{PIXELS * inches:.2f}"'
