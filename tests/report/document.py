"""A page as a browser would see it."""

import base64
import csv
import gzip
import io
import itertools
from html.parser import HTMLParser

from PIL import Image


class Document(HTMLParser):
    """What a browser would load, and where; raises on nothing, records everything."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.texts, self.unbalanced = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]

    def figures(self) -> list[str]:
        """What figures show, for those who cannot see them: pictures, and drawings in the page."""
        return [a["alt"] for a in self.drawn()] + [a["aria-label"] for a in self.all("svg")]

    def drawn(self) -> list[dict]:
        """Figures that are pictures, each the first thing in its frame."""
        after = itertools.pairwise(self.elements)
        return [a for (_, b), (tag, a) in after if tag == "img" and b.get("class") == "pan"]

    def thumbnails(self) -> list[Image.Image]:
        """The other pictures, strips and rows of sheets."""
        figures = self.drawn()
        return [image_of(a["src"]) for a in self.all("img") if a not in figures]


def read_csv(document: Document, file: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(csv_text(document, file))))


def csv_text(document: Document, file: str) -> str:
    """What a download of a page holds."""
    (uri,) = [a["href"] for a in document.all("a") if a.get("download") == f"{file}.gz"]
    head, _, content = uri.partition(",")
    assert head == "data:application/gzip;base64"
    return gzip.decompress(base64.b64decode(content)).decode()


def image_of(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))
