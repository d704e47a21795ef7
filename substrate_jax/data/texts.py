"""Texts in plain files: `text:FILE`, one a line, or `text:FOLDER[?label=none]`, one a file.

    a dog runs           of a file the ids are the numbers of its lines, from 1, and no labels
    FOLDER/dog/1.txt     of a folder ids and labels are those of `folders`: this one is a `dog`

Texts are UTF-8; a mark of the byte order at the beginning is left out. Lines end in "\\n" or
"\\r\\n", and an empty line is an empty text. Of a folder the `.txt` files are taken, each whole,
without the ends of lines at its end. Captions in a column of a table: `csv:`, `parquet:` and
`hfds:` with `?text=COLUMN`.

Cost: opening a file reads it once and keeps 8 bytes a line; a row is read when asked for.

Not guaranteed: ids of lines, if lines are put in between.
"""

import array
import os
import types
from collections.abc import Mapping
from pathlib import Path

from substrate_jax.data.folders import ImageFiles, open_image_files
from substrate_jax.data.paths import read_file, readable, resolved, special_kind, user_path
from substrate_jax.data.sources import Source, digest, read_named
from substrate_jax.data.spec_options import NONE, exists
from substrate_jax.data.unreadable import UnreadableText

OPTIONS = ("label",)
SUFFIX = ".txt"
_MARK = b"\xef\xbb\xbf"  # of the byte order


def decode_text(data: bytes) -> str:
    r"""Bytes of UTF-8 to a text, without a mark of the byte order and ends of lines at its end.

    Raises:
      UnreadableText: they are no UTF-8.

    Example:
      >>> decode_text(b"a caf\xc3\xa9\r\n")
      'a café'
    """
    try:
        return data.removeprefix(_MARK).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UnreadableText(
            f"no UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from error


def open_texts(
    path: str | os.PathLike, options: Mapping[str, str] = types.MappingProxyType({})
) -> Source:
    """Texts of a file, or of a folder.

    Args:
      path: a file; or a folder, or several joined by "+".
      options: `label=none` for no labels.

    Returns:
      A source of texts: of a file in the order of its lines, of a folder in that of its ids.

    Raises:
      ValueError: nothing is there, a line is no UTF-8, or as `folders.open_folder`.
    """
    text = os.fspath(path)
    if exists(text) and not user_path(text, f"text:{text}").is_dir():
        return _lines(text, options)
    files = ImageFiles("text", _is_text, decode_text, SUFFIX, "text", UnreadableText)
    return open_image_files(path, files, options)


def _is_text(file: Path) -> bool:
    return readable(file.suffix.lower()) == SUFFIX


def _lines(path: str, options: Mapping[str, str]) -> Source:
    what = f"text:{readable(path)}"
    if options.get("label", NONE) != NONE:
        raise ValueError(f"{what}: lines have no labels; leave ?label out, or give csv:PATH")
    file = resolved(user_path(path, what), what)
    if kind := special_kind(file):
        raise ValueError(f"{what}: {readable(str(file))} is {kind}; give a file of texts")
    ends = array.array("q", [0])
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    decode_text(line)
                except UnreadableText as error:
                    raise ValueError(f"{what}: line {number} is {error}") from error
                ends.append(ends[-1] + len(line))
        status = file.stat()
    except OSError as error:
        raise ValueError(f"{what}: {error.strerror}; give a file that can be read") from error
    ids = tuple(map(str, range(1, len(ends))))

    def read(row: int) -> str:
        size = ends[row + 1] - ends[row]
        data = read_file(file, ends[row], size)
        if len(data) < size:
            raise UnreadableText("the file was cut short after it was opened")
        # Only the first line may begin with the mark.
        return decode_text(data)

    return Source(
        name=what,
        ids=ids,
        labels=None,
        fingerprint=digest("text", f"{file} {status.st_size} {status.st_mtime_ns}"),
        read=lambda row: read_named(f"line {ids[row]}", lambda: read(row), UnreadableText),
        modality="text",
    )
