"""Images in a zip file: `zip:PATH[?label=none]`.

Entries are taken, called and labeled as files of a folder are (`folders`), but for one folder
around all others, which is no class. They are read where they are; nothing is unpacked to disk, so
names of entries are never paths.

Cost: opening reads the directory at the end of the file.

Not guaranteed: entries that are encrypted, or packed other than by deflate; they are unreadable.

References: PKWARE, .ZIP File Format Specification 6.3.
"""

import collections
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath

from substrate_jax.data.containers.files import Opened, versions
from substrate_jax.data.decode import Orientation, UnreadableImage, decode_image
from substrate_jax.data.folders import NO_SUFFIX, class_labels, no_images
from substrate_jax.data.formats import image_suffixes
from substrate_jax.data.npz import MOST_PACKED
from substrate_jax.data.paths import (
    MOST_BYTES,
    one_line,
    readable,
    resolved,
    special_kind,
    user_path,
)
from substrate_jax.data.sources import Source, digest, oriented, read_named

OPTIONS = ("label",)
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError)


def open_zip(path: str, options: Mapping[str, str], orientation: Orientation = "ignore") -> Source:
    """Images in a zip file, by the rules of a folder.

    Args:
      path: a local file.
      options: `label=none` for no labels.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of its ids, the names of the entries.

    Raises:
      ValueError: the file is absent, damaged or without images, or it mixes loose images with class
        folders.
    """
    what = f"zip:{readable(path)}"
    file = resolved(user_path(path, what), what)
    if not file.is_file():
        kind = special_kind(file) or "no such file"
        raise ValueError(f"{what}: {kind} {readable(str(file))}; give a zip file of images")
    opened = Opened(partial(zipfile.ZipFile, file))
    try:
        listed = opened().infolist()
    except (*_DAMAGE, ValueError, OverflowError) as error:
        raise ValueError(
            f"{what}: {readable(str(file))} is no whole zip file ({one_line(error, 200)}); make or "
            "fetch it again"
        ) from error
    suffixes = image_suffixes()
    entries: dict[str, zipfile.ZipInfo] = {}
    left_out = collections.Counter[str]()
    for entry in listed:
        inside = PurePosixPath(entry.filename)
        if entry.is_dir() or any(map(_is_hidden, inside.parts)):
            continue
        row_id, suffix = readable(entry.filename), readable(inside.suffix.lower())
        if suffix not in suffixes:
            left_out[suffix or NO_SUFFIX] += 1
        elif row_id in entries:
            raise ValueError(f"{what}: {row_id!r} is in it twice; give every image its own name")
        else:
            entries[row_id] = entry
    if not entries:
        raise no_images(what, file, left_out)
    ids = sorted(entries)
    tops = {row_id.partition("/")[0] for row_id in ids}
    around = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    labels, names = class_labels([row_id.removeprefix(around) for row_id in ids], what, options)
    return Source(
        name=what,
        ids=tuple(ids),
        labels=labels,
        fingerprint=oriented(digest("zip", *versions([file])), orientation),
        read=lambda row: read_named(
            ids[row],
            lambda: decode_image(_read(opened, entries[ids[row]]), orientation=orientation),
        ),
        label_names=names,
        left_out=dict(left_out),
    )


def _read(opened: Opened[zipfile.ZipFile], entry: zipfile.ZipInfo) -> bytes:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableImage("packed other than by deflate; make the zip file again")
    # What it unpacks to is bounded by the bytes that are there.
    if entry.file_size > min((entry.compress_size + 1) * MOST_PACKED, MOST_BYTES):
        raise UnreadableImage(
            f"claims {entry.file_size:,} bytes, packed into {entry.compress_size:,}"
        )
    try:
        return opened().read(entry)
    except _DAMAGE as error:
        raise UnreadableImage(one_line(error, 200)) from error


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and part != ".."
