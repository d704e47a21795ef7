"""Images or texts that a CSV file lists: `csv:PATH[?image=NAME&label=NAME&id=NAME&root=FOLDER]`.

    path,label,id        the first line names the columns; label and id may be missing
    day/1.png,cat,a7     paths are below the folder of the file, or below `root`

The column of paths is `path`, else `file_name`, as Hugging Face's metadata.csv has it. Without a
column `id` a row is called by its path. A `.tsv` is separated by tabs. Files may be of any suffix,
DICOM among them.

    csv:PATH?text=caption     the texts in the column `caption`, and not the images

Texts have the ids that the images of the same file have: the column `id`, else the paths; without
either the numbers of the rows, from 1. So a list of pictures with captions is matched with itself.

A list from someone else must not reach other files: a path that leads out of the root is refused,
and `root=/` allows all.

Cost: opening stats every file.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from substrate_jax.data.decode import Orientation, decode_image
from substrate_jax.data.labels import labels_of_texts
from substrate_jax.data.paths import (
    first_of,
    one_line,
    read_file,
    readable,
    readable_inverse,
    resolved,
    shown,
    special_kind,
    user_path,
)
from substrate_jax.data.sources import Modality, Source, digest, oriented, read_named
from substrate_jax.data.spec_options import NONE

OPTIONS = ("image", "label", "id", "root", "text")
_PATHS = ("path", "file_name")


def open_manifest(
    path: str, options: Mapping[str, str], orientation: Orientation = "ignore"
) -> Source:
    """Images or texts that a CSV file lists.

    Args:
      path: a local file.
      options: `image`, `label`, `id` and `text`: columns, `none` for no labels or ids; `root`: the
        folder that paths are below.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of the file. Files that are not there are unreadable images.

    Raises:
      ValueError: the file is absent or damaged, lacks a column, or lists a path outside its root;
        or images and texts are both asked for.
    """
    what = f"csv:{readable(path)}"
    file = resolved(user_path(path, what), what)
    if not file.is_file():
        kind = special_kind(file) or "no such file"
        raise ValueError(f"{what}: {kind} {readable(str(file))}; give a CSV file that lists images")
    header, rows = _rows(file, what)
    if "text" in options:
        return _texts(file, header, rows, options, what)
    image = _choose("image", header, options, what)
    paths = [row[image] for row in rows] if image is not None else []
    root = user_path(options.get("root", str(file.parent)), what).absolute()
    files = [_below(root, one, row, what) for row, one in enumerate(paths)]
    id_at = _choose("id", header, options, what)
    ids = tuple(readable(row[id_at]) for row in rows) if id_at is not None else tuple(paths)

    def read(row: int) -> Any:
        return read_named(
            ids[row], lambda: decode_image(read_file(files[row]), orientation=orientation)
        )

    fingerprint = oriented(digest("csv", *map(_version, files), *ids), orientation)
    return _source(header, rows, options, what, ids, fingerprint, read)


def _texts(
    file: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    options: Mapping[str, str],
    what: str,
) -> Source:
    """The texts of a column, under the ids of the images of the same file."""
    if found := [option for option in ("image", "root") if option in options]:
        raise ValueError(f"{what}: ?text= and ?{found[0]}= are both given; give one of them")
    column = _choose("text", header, options, what)
    assert column is not None
    texts = [row[column] for row in rows]  # and not the rows, which need not be held
    id_at = _choose("id", header, options, what)
    path_at = next((header.index(name) for name in _PATHS if name in header), None)
    if id_at is not None:
        ids = tuple(readable(row[id_at]) for row in rows)
    elif path_at is not None:
        ids = tuple(row[path_at] for row in rows)
    else:
        ids = tuple(map(str, range(1, len(rows) + 1)))
    fingerprint = digest("csv text", header[column], _version(file), *ids)
    return _source(header, rows, options, what, ids, fingerprint, texts.__getitem__, "text")


def _source(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    options: Mapping[str, str],
    what: str,
    ids: tuple[str, ...],
    fingerprint: str,
    read: Callable[[int], Any],
    modality: Modality = "image",
) -> Source:
    """The source of the rows of a list, with the labels that it has."""
    labels, names = None, ()
    label_at = _choose("label", header, options, what)
    if label_at is not None:
        labels, names = labels_of_texts([row[label_at] for row in rows], what)
    return Source(
        name=what,
        ids=ids,
        labels=labels,
        fingerprint=fingerprint,
        read=read,
        label_names=names,
        modality=modality,
    )


def _rows(file: Path, what: str) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the lines below them that are not empty."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            tab = "\t" if file.suffix.lower() == ".tsv" else ","
            reader = csv.reader(lines, delimiter=tab, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = []
            for row in reader:
                if row and len(row) != len(header):
                    raise ValueError(
                        f"line {reader.line_num} has {len(row)} fields, the first {len(header)}"
                    )
                if row:
                    rows.append(row)
    except (csv.Error, ValueError, OSError) as error:
        raise ValueError(
            f"{what}: {readable(str(file))} is no whole CSV file ({one_line(error, 200)}); write "
            "it again, in UTF-8"
        ) from error
    return header, rows


def _choose(role: str, header: Sequence[str], options: Mapping[str, str], what: str) -> int | None:
    wanted = options.get(role)
    if wanted is None:
        names = _PATHS if role == "image" else (role,)
        found = next((name for name in names if name in header), None)
        if found is not None or role != "image":
            return None if found is None else header.index(found)
    elif wanted in header:
        return header.index(wanted)
    elif wanted == NONE and role not in ("image", "text"):
        return None
    raise ValueError(
        f"{what}: no column {wanted or _PATHS[0]!r}; its first line names "
        f"{shown(first_of(header), 200) or 'none'}; choose with ?{role}=NAME"
    )


def _below(root: Path, path: str, row: int, what: str) -> Path:
    """A listed file, which must be below the root."""
    try:
        name = os.fsdecode(readable_inverse(path.strip()))
        found = Path(os.path.normpath(root / name))
        outside = not found.is_relative_to(os.path.normpath(root)) or "\0" in name
    except ValueError as error:
        raise ValueError(f"{what}: {shown(path, 80)!r} of row {row} is no path") from error
    if outside or not name:
        raise ValueError(
            f"{what}: {shown(path, 80)!r} of row {row} is not below {readable(str(root))}; list "
            "files below it, or give ?root=FOLDER (/ for any)"
        )
    return found


def _version(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return f"{file} is missing"
    return f"{file} {status.st_size} {status.st_mtime_ns}"
