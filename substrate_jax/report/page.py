"""What a page is made of: prose, figures, tables and thumbnails.

A page is data: sections that hold blocks. `html.render` turns it into one file. Pictures are data
URIs, drawings SVG, and tables and figures carry their numbers in full as compressed CSV, which the
page's script unpacks. Text is escaped when it is rendered, that of drawings when they are drawn.

Cost: 4/3 bytes of page per byte of picture; a contact sheet has about .7 kB per image, a heat map
of fifteen rows 16 kB, numbers included.

Not guaranteed: that a spreadsheet reads a name beginning with "=" as text.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from matplotlib.figure import Figure
from PIL import Image

from substrate_jax.report import drawing
from substrate_jax.report.run import Run
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import csv_text, csv_uri, data_uri
from substrate_jax.report.values import plain


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with the sentence that says how to read it, and what is drawn in it as CSV.

    `vector` holds the elements of an SVG of `width` x `height` pixels, which a page shows in place
    of the PNG; `readings` what places of it say.
    """

    key: str
    title: str
    caption: str
    alt: str
    png: bytes
    width: int
    csv: str = ""
    readings: Sequence[drawing.Cells | drawing.Point] = ()
    vector: str = ""
    height: int = 0

    @property
    def places(self) -> list[dict[str, Any]]:
        """What places of the picture say, for the script of the page.

        Points in a row whose words begin alike share what stands before the last colon.
        """
        found: list[dict[str, Any]] = []
        for reading in self.readings:
            if isinstance(reading, drawing.Cells):
                found.append(dataclasses.asdict(reading))
                continue
            name, colon, value = reading.words.rpartition(": ")
            if not found or found[-1].get("name") != name + colon:
                found.append({"name": name + colon, "points": []})
            found[-1]["points"].append((reading.x, reading.y, value))
        return found

    @property
    def uri(self) -> str:
        """The picture as a data URI: WebP with the pixels of the PNG in a third of its bytes."""
        buffer = io.BytesIO()
        Image.open(io.BytesIO(self.png)).save(buffer, "WEBP", lossless=True)
        return data_uri(buffer.getvalue(), "image/webp")

    @property
    def csv_uri(self) -> str:
        """The compressed CSV as a data URI."""
        return csv_uri(self.csv)


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
        """The compressed CSV as a data URI."""
        return csv_uri(self.csv)


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


def provenance(run: Run) -> list[Block]:
    """What it takes to make a result again: command, versions, devices, seconds, arguments."""
    seconds = {k: None if v is None else f"{v:.1f} s" for k, v in run.seconds.items()}
    return [
        Facts({"command": run.command}),
        Facts(run.versions, title="Versions"),
        Facts(run.devices, title="Devices"),
        Facts(seconds, title="Time by stage"),
        Facts(plain(run.arguments), title="Arguments", folded=True),
    ]


def drawn(key: str, title: str, caption: str, alt: str, figure: Figure, csv: str = "") -> Picture:
    """A figure with its words and its numbers, drawn."""
    image, width = drawing.png(figure), drawing.css_width(figure)
    if not isinstance(figure, drawing.Drawn):
        return Picture(key, title, caption, alt, image, width, csv)
    height = round(drawing.CSS_DPI * figure.get_figheight())
    more = figure.readings, figure.vector, height
    return Picture(key, title, caption, alt, image, width, csv, *more)
