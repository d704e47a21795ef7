"""A page as a browser would see it."""

import csv
import io
import urllib.parse
from html.parser import HTMLParser


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
        pngs = [a for a in self.all("img") if a["src"].startswith("data:image/png")]
        return [a["alt"] for a in pngs] + [a["aria-label"] for a in self.all("svg")]


def read_csv(document: Document, file: str) -> list[dict]:
    (uri,) = [a["href"] for a in document.all("a") if a.get("download") == file]
    content = urllib.parse.unquote(uri.partition("charset=utf-8,")[2])
    return list(csv.DictReader(io.StringIO(content)))
