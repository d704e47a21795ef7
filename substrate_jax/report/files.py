"""From a result to files: result.json, the figures, and one self-contained report.html.

A launcher hands over a result, a dataclass with a field `run` (`report.run`), and the `Page` it
made of it. Matrices become lists of lists in the order of "encoders" (or of the names beside them);
null stands for a number that does not exist.

Not guaranteed: that two runs give the same bytes, for the result holds times. The figures of equal
results are equal with one version of matplotlib.
"""

import json
import re
from pathlib import Path
from typing import Any

from substrate_jax.report.html import render
from substrate_jax.report.page import Page
from substrate_jax.report.run import Result
from substrate_jax.report.values import plain
from substrate_jax.report.writing import write_file

_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")


def write_result(result: Result, folder: str | Path) -> Path:
    """Write `folder`/result.json, all of it or nothing.

    Keys stand in the order of the fields, those of the run first. NaN and infinity become null, a
    row of a matrix stands on one line.

    Args:
        result: a dataclass of strings, numbers, arrays, lists, dicts and further dataclasses.
        folder: made where it is missing.

    Returns:
        Path of the file.

    Raises:
        ValueError: a value that JSON cannot hold.
    """
    try:
        content = plain(result)
    except ValueError as error:
        raise ValueError(f"result holds {error}") from None
    return write_file(Path(folder) / "result.json", _json(content) + "\n")


def write_report(result: Result, page: Page, folder: str | Path) -> Path:
    """Write `folder`/report.html, its figures as `folder`/figures/*.png too, and result.json.

    Args:
        result: what an experiment found.
        page: what people read of it.
        folder: made where it is missing.

    Returns:
        Path of the report: one file that needs neither the network nor the figures beside it.

    Raises:
        ValueError: a value that JSON cannot hold, or a picture whose key is no name of a file; then
            nothing is written.
    """
    for picture in page.pictures:
        if not _KEY.fullmatch(picture.key):
            raise ValueError(
                f"picture {picture.key!r}: give a key of up to 200 letters, digits, '-' and '_', "
                "see report.text.slugs"
            )
    document = render(page)
    write_result(result, folder)
    for picture in page.pictures:
        write_file(Path(folder) / "figures" / f"{picture.key}.png", picture.png)
    return write_file(Path(folder) / "report.html", document)


def _json(value: Any, indent: str = "") -> str:
    """JSON with lists of scalars on one line."""
    if not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + "  "
    if isinstance(value, list):
        (left, right), lines = "[]", [_json(item, deeper) for item in value]
    else:
        left, right = "{}"
        lines = [f"{json.dumps(key)}: {_json(item, deeper)}" for key, item in value.items()]
    body = ",\n".join(deeper + line for line in lines)
    return f"{left}\n{body}\n{indent}{right}"
