"""One self-contained HTML page out of prose, figures, tables and thumbnails.

A page is data: sections that hold blocks. `render` turns it into one file that needs nothing else:
pictures are data URIs, style and script are inline, and its content security policy forbids every
request, so that a forgotten link would stay dead instead of calling out. Text is escaped by the
template, never here. Tables and figures carry their numbers in full as CSV.

Cost: 4/3 bytes of page for a byte of picture; a contact sheet has about 2.5 kB an image.

Not guaranteed: that a spreadsheet reads a name beginning with "=" as text.
"""

import base64
import csv
import dataclasses
import functools
import io
import itertools
import math
import os
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from substrate_jax import figures
from substrate_jax.figures import Tag

_TEMPLATES = Path(__file__).parent / "templates"
THUMBNAIL_SIDE = 96
TILE_SIDE, TILE_GAP = 72, 4
CSV_TYPE = "text/csv;charset=utf-8"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says how to read it, and what is drawn in it as CSV."""

    key: str
    title: str
    caption: str
    alt: str
    png: bytes
    width: int
    csv: str = ""

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return data_uri(self.png, "image/png")

    @property
    def csv_uri(self) -> str:
        """The CSV as a data URI."""
        return data_uri(self.csv.encode(), CSV_TYPE)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: the key of its values, its heading, and how values are written."""

    key: str
    label: str
    style: str = "text"
    shown: bool = True

    @property
    def numeric(self) -> bool:
        """Whether values stand to the right."""
        return self.style != "text"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values; every column is in the CSV, the shown ones are in the page.

    `tags` gives labels of the text columns their class, `folded` hides the table behind its title.
    """

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    file: str
    tags: Mapping[str, Tag] = dataclasses.field(default_factory=dict)
    folded: bool = False
    kind: ClassVar[str] = "table"

    @property
    def shown(self) -> list[Column]:
        """The columns of the page."""
        return [column for column in self.columns if column.shown]

    @property
    def csv(self) -> str:
        """All columns as CSV: a heading, numbers in full, nothing where there is no value."""
        keys = [column.key for column in self.columns]
        return csv_text(keys, ([row[key] for key in keys] for row in self.rows))

    @property
    def uri(self) -> str:
        """The CSV as a data URI."""
        return data_uri(self.csv.encode(), CSV_TYPE)


@dataclasses.dataclass(frozen=True)
class Figures:
    """Figures side by side as far as the window is wide; `folded` hides them behind the title."""

    pictures: Sequence[Picture]
    title: str = ""
    legend: Sequence[Tag] = ()
    folded: bool = False
    kind: ClassVar[str] = "figures"


@dataclasses.dataclass(frozen=True)
class Prose:
    """Paragraphs, or points of a list."""

    paragraphs: Sequence[str]
    title: str = ""
    points: bool = False
    kind: ClassVar[str] = "prose"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Terms and their values."""

    facts: Mapping[str, Any]
    title: str = ""
    folded: bool = False
    kind: ClassVar[str] = "facts"


@dataclasses.dataclass(frozen=True)
class Strip:
    """A few thumbnails in a row, as data URIs."""

    uris: Sequence[str]
    caption: str
    alt: str
    kind: ClassVar[str] = "strip"


@dataclasses.dataclass(frozen=True)
class SheetRow:
    """Images at the two ends of an axis, each end one picture as a data URI with its width."""

    title: str
    detail: str
    ends: Sequence[tuple[str, str, int]]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A contact sheet: rows of images from one end to the other; `folded` hides it."""

    rows: Sequence[SheetRow]
    caption: str = ""
    title: str = ""
    folded: bool = False
    kind: ClassVar[str] = "sheet"


Block = Table | Figures | Prose | Facts | Strip | Sheet


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Page:
    """A report: heading, one paragraph, key figures (value, meaning, detail) and sections."""

    title: str
    lede: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All figures in order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [p for block in blocks if isinstance(block, Figures) for p in block.pictures]


def render(page: Page) -> str:
    """The page as HTML.

    Example:
        >>> page = Page("A < B", "", [], [])
        >>> "<h1>A &lt; B</h1>" in render(page)
        True
    """
    return _environment().get_template("report.html").render(page=page)


def provenance(result: Mapping[str, Any]) -> list[Block]:
    """What it takes to make a result again: command, versions, devices, seconds, arguments."""
    seconds = {k: None if v is None else f"{v:.1f} s" for k, v in result["seconds"].items()}
    return [
        Facts({"command": result["command"]}),
        Facts(result["versions"], title="Versions"),
        Facts(result["devices"], title="Devices"),
        Facts(seconds, title="Time by stage"),
        Facts(result["arguments"], title="Arguments", folded=True),
    ]


def strip(images: Sequence[UInt8[np.ndarray, "h w 3"]], caption: str, alt: str) -> Strip:
    """Thumbnails of images, at most 96 pixels a side.

    Raises:
        ValueError: an image is not uint8 with three channels.
    """
    uris = []
    for image in images:
        small = _picture(image, "thumbnails")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        uris.append(_jpeg(small, quality=90, subsampling=0))
    return Strip(uris, caption, alt)


def sheet_row(
    title: str,
    detail: str,
    ends: Mapping[str, Sequence[UInt8[np.ndarray, "h w 3"]]],
) -> SheetRow:
    """A row of a contact sheet; every image in a square of 72 pixels, its shape kept.

    Args:
        title: name of the axis.
        detail: what is known of it.
        ends: what an end is called -> its images, from left to right.

    Raises:
        ValueError: an image is not uint8 with three channels.
    """
    found = []
    for name, images in ends.items():
        step = TILE_SIDE + TILE_GAP
        width = max(len(images) * step - TILE_GAP, 1)
        row = Image.new("RGB", (width, TILE_SIDE), "white")
        for i, image in enumerate(images):
            tile = ImageOps.contain(_picture(image, "sheets"), (TILE_SIDE, TILE_SIDE))
            corner = (i * step + (TILE_SIDE - tile.width) // 2, (TILE_SIDE - tile.height) // 2)
            row.paste(tile, corner)
        found.append((name, _jpeg(row, quality=82), width))
    return SheetRow(title, detail, found)


def _picture(image: Any, what: str) -> Image.Image:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{what}: an image is {image.dtype}{list(image.shape)}; give uint8 [h, w, 3]"
        )
    return Image.fromarray(image)


def _jpeg(image: Image.Image, **options) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a URI that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def plain(value: Any) -> Any:
    """A value as JSON and CSV have it: Python's own scalars and lists, None for NaN and infinity.

    Example:
        >>> plain({"a": np.float64("nan"), 10: (np.int32(2), np.array([0.5]))})
        {'a': None, '10': [2, [0.5]]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise ValueError(f"a value of type {type(value).__name__} ({value!r:.60}); give a number, "
                     "string, list or dict")  # fmt: skip


def write_file(path: Path, content: bytes | str) -> Path:
    """Write to a temporary name beside `path` and rename, so that readers see all of it or none."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def slugs(names: Sequence[str]) -> dict[str, str]:
    """Names as parts of file names: letters, digits, "-" and "_", all different.

    Example:
        >>> slugs(["a b", "a/b", "../etc"])
        {'a b': 'a-b', 'a/b': 'a-b-2', '../etc': 'etc'}
    """
    taken: dict[str, str] = {}
    for name in names:
        base = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] or "unnamed"
        slug, number = base, 1
        while slug.lower() in (other.lower() for other in taken.values()):
            number += 1
            slug = f"{base}-{number}"
        taken[name] = slug
    return taken


def number(value: float | None, style: str = "score") -> str:
    """A value as a table shows it: styles score, p, count, ratio and text; "–" for none.

    "log10_p" takes the logarithm of a p that may be less than a float holds.

    Example:
        >>> [number(0.87312), number(3e-12, "p"), number(0.0, "p"), number(12345, "count")]
        ['0.873', '3e-12', '<1e-38', '12,345']
        >>> number(-11.5, "log10_p"), number(-412.3, "log10_p")
        ('3e-12', '1e-412')
    """
    value = plain(value)
    if value is None:
        return "–"
    if style == "log10_p":
        return number(10**value, "p") if value > -38 else f"1e{value:.0f}"
    if style == "p":
        if value == 0:  # float32 underflows there
            return "<1e-38"
        return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("e-0", "e-")
    formats = {"score": "{:.3f}", "count": "{:,}", "ratio": "{:.2f}×", "text": "{}"}
    return formats[style].format(value).replace("-", "−" if style == "score" else "-")


def drawn(key: str, title: str, caption: str, alt: str, figure: Figure, csv: str = "") -> Picture:
    """A figure with its words and its numbers, drawn."""
    return Picture(key, title, caption, alt, figures.png(figure), figures.css_width(figure), csv)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with numbers in full, and nothing where there is no value.

    Example:
        >>> csv_text(["name", "value"], [["a, b", 0.5], ["c", float("nan")]])
        'name,value\\n"a, b",0.5\\nc,\\n'
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(["" if value is None else value for value in map(plain, row)])
    return buffer.getvalue()


def matrix_csv(
    rows: Sequence[str], columns: Sequence[str], matrix: Float[np.ndarray, "m k"], corner: str = ""
) -> str:
    """A matrix as CSV, with the names of its rows and columns.

    Example:
        >>> matrix_csv(["a"], ["x", "y"], np.array([[1.0, 0.5]]), "name")
        'name,x,y\\na,1.0,0.5\\n'
    """
    lines = ([name, *values] for name, values in zip(rows, matrix, strict=True))
    return csv_text([corner, *columns], lines)


def text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for a terminal: the heading ruled off, all columns but the first right.

    Example:
        >>> text_table([("name", "n"), ("a", "100")])
        ['name    n', '---------', 'a     100']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def describe(title: str, names: Sequence[str], matrix: Float[np.ndarray, "m m"]) -> str:
    """What a heat map says, for those who cannot see it: its range and its median."""
    pairs = list(itertools.combinations(range(len(names)), 2))
    values = [(matrix[i, j], names[i], names[j]) for i, j in pairs if np.isfinite(matrix[i, j])]
    if not values:
        return f"Heat map. {title}: no values."
    (low, a, b), (high, c, d) = min(values), max(values)
    return (
        f"Heat map. {title}: from {number(low)} ({a} and {b}) to {number(high)} ({c} and {d}), "
        f"median {number(statistics.median(v for v, *_ in values))}."
    )


def square(values: Any, m: int, name: str) -> Float[np.ndarray, "m m"]:
    """Rows of numbers as an array; None becomes NaN.

    Raises:
        ValueError: it is not m x m.
    """
    matrix = np.array(values, np.float64)
    if matrix.shape != (m, m):
        raise ValueError(f"{name} has shape {matrix.shape}; give {m} x {m}, one row a name")
    return matrix


def upper(matrix: Float[np.ndarray, "m m"]) -> Float[np.ndarray, " pairs"]:
    """Values of the pairs i < j."""
    return matrix[np.triu_indices(len(matrix), 1)]


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "image"), counted(1200, "image"), counted(2, "class", "classes")
        ('1 image', '1,200 images', '2 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def sentence(text: str) -> str:
    """A text with a capital at its beginning and a stop at its end.

    Example:
        >>> sentence("mutual kNN, k = 5")
        'Mutual kNN, k = 5.'
    """
    return f"{text[:1].upper()}{text[1:]}."


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "plain": plain}
    return environment
