"""Numbers, names and tables as text: in sentences, in cells, in file names, as CSV, as URIs."""

import base64
import csv
import gzip
import io
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.report.values import plain


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


def points(value: float) -> str:
    """Points or percent with one decimal; "–" for none.

    Example:
        >>> points(-1.25), points(float("nan"))
        ('−1.2', '–')
    """
    return f"{value:.1f}".replace("-", "−") if math.isfinite(value) else "–"


def short(value: float) -> str:
    """A similarity in as few characters as two decimals take.

    Example:
        >>> [short(v) for v in (0.873, -0.02, 1.0, float("nan"))]
        ['.87', '−.02', '1', '–']
    """
    if np.isnan(value):
        return "–"
    text = f"{abs(value):.2f}"
    if float(text) == 0:
        return "0"
    text = text.rstrip("0").rstrip(".") if float(text) % 1 == 0 else text.removeprefix("0")
    return f"−{text}" if value < 0 else text


def digits(value: float) -> str:
    """A value in four digits, whatever its unit; "–" for none.

    Example:
        >>> [digits(v) for v in (0.87312, 97.25, -3.0, float("nan"))]
        ['0.8731', '97.25', '−3', '–']
    """
    return "–" if np.isnan(value) else f"{value:.4g}".replace("-", "−")


def interval(low: float, high: float) -> str:
    """Ends behind a value, open where they are infinite; nothing where there are none.

    Example:
        >>> [interval(0.25, 1.5), interval(-np.inf, 1.0), interval(np.nan, np.nan)]
        [' (0.25 to 1.5)', ' (open to 1)', '']
    """
    if np.isnan(low) or np.isnan(high):
        return ""
    ends = (digits(end) if np.isfinite(end) else "open" for end in (low, high))
    return f" ({' to '.join(ends)})"


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


def csv_uri(text: str) -> str:
    """CSV, compressed by gzip, as a URI that holds it: less than half as long as the text.

    Example:
        >>> csv_uri("name,value\\na b,0.5\\n")[:29]
        'data:application/gzip;base64,'
    """
    return data_uri(gzip.compress(text.encode(), mtime=0), "application/gzip")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as a URI that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
