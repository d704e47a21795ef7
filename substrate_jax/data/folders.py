"""Folders of images: `dir:PATH`, class folders or images side by side without labels.

    PATH/cat/1.png              labels are the names of the class folders
    PATH/1.png                  no labels
    PATH/train/cat/1.png        splits: where all folders of PATH are called so, the classes are
                                below them and every split is read; dir:PATH/train reads one

Ids are the paths below PATH; bytes of a name that are not UTF-8 are written \\xNN. A file is taken
for an image by its suffix, one of those of every format that Pillow decodes; others are counted in
`Source.left_out`, hidden ones are not. Links are followed, but a folder that is already on the path
is not entered again. A folder that cannot be read is an error; pipes, sockets, devices and broken
links that are called as images are unreadable images.

Cost: opening stats every file.

Not guaranteed: sizes and modification times are trusted, so a file overwritten in place with
another of equal size and restored time goes unnoticed.
"""

import collections
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from substrate_jax.data.decode import Orientation, decode_image
from substrate_jax.data.formats import image_suffixes
from substrate_jax.data.paths import first_of, read_file, readable, resolved, user_path
from substrate_jax.data.sources import Source, by_count, digest, oriented, read_named

SPLITS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
)
_NO_SUFFIX = "without suffix"


def open_folder(path: str | os.PathLike, orientation: Orientation = "ignore") -> Source:
    """Images of a folder: `PATH/class/.../image.png`, or images directly in it without labels.

    Labels number the sorted names of the class folders; ids are the paths below `path`. Hidden
    files and files that are not images by their suffix are left out, and the latter counted.

    Args:
      path: a local folder.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of its ids.

    Raises:
      ValueError: the folder is absent or empty, a folder in it cannot be read, or it mixes loose
        images with class folders.
    """
    name = f"dir:{readable(os.fspath(path))}"
    root = resolved(user_path(path, name), name)
    if not root.is_dir():
        raise ValueError(
            f"{name}: no such folder {readable(str(root))}; give one that holds images"
        )
    files, left_out = _list_images(root, name)
    if not files:
        beside = f"only {by_count(left_out)}; " if left_out else ""
        raise ValueError(
            f"{name}: no images in {readable(str(root))}; {beside}give a folder with files that "
            f"end in {' '.join(sorted(image_suffixes()))}"
        )
    ids = sorted(files)
    classes = _classes(ids, name)
    stats = [_stat(files[i]) for i in ids]
    versions = (f"{i} {s.st_size} {s.st_mtime_ns}" for i, s in zip(ids, stats, strict=True))
    names = sorted({label for label in classes if label is not None})
    number = {label: row for row, label in enumerate(names)}
    return Source(
        name=name,
        ids=tuple(ids),
        labels=np.array([number[label] for label in classes if label]) if names else None,
        fingerprint=oriented(digest("dir", str(root), *versions), orientation),
        read=lambda row: read_named(
            ids[row], lambda: decode_image(read_file(files[ids[row]]), orientation=orientation)
        ),
        label_names=tuple(names),
        left_out=left_out,
    )


def _list_images(root: Path, name: str) -> tuple[dict[str, Path], dict[str, int]]:
    """Id -> file of every image below a folder, and the number of other files by suffix."""
    suffixes = image_suffixes()
    files: dict[str, Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    unreadable: list[str] = []
    for file in _walk(root, unreadable):
        row_id = readable(file.relative_to(root).as_posix())
        suffix = readable(file.suffix.lower())
        if suffix not in suffixes:
            left_out[suffix or _NO_SUFFIX] += 1
            continue
        try:
            _stat(file)
        except OSError:  # of a folder that may be listed and not entered
            unreadable.append(str(file.parent))
        files[row_id] = file
    if unreadable:
        folders = sorted({readable(folder) for folder in unreadable})
        raise ValueError(
            f"{name}: {len(folders)} folder{'s' if len(folders) > 1 else ''} cannot be read: "
            f"{first_of(folders)}; allow it (chmod u+rx), or give a folder without them"
        )
    return files, dict(left_out)


def _walk(root: Path, unreadable: list[str]) -> Iterator[Path]:
    """Every file below a folder that is not hidden; folders that cannot be read are appended."""
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            place = status.st_dev, status.st_ino
            if place in above:
                continue
            with os.scandir(folder) as listing:
                entries = [entry for entry in listing if not entry.name.startswith(".")]
        except OSError:
            unreadable.append(str(folder))
            continue
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to where we may not look, or to itself
                is_folder = False
            if is_folder:
                waiting.append((folder / entry.name, above | {place}))
            else:
                yield folder / entry.name


def _stat(file: Path) -> os.stat_result:
    """Of what a file leads to; of the link itself where it leads nowhere."""
    try:
        return file.stat()
    except OSError:
        return file.lstat()


def _classes(ids: list[str], name: str) -> list[str | None]:
    """The class folder of each id, all None where images lie side by side."""
    parts = [row_id.split("/") for row_id in ids]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    loose = any(len(part) == 1 for part in parts)
    depth = int(not loose and tops <= SPLITS)
    classes = [part[depth] if len(part) > depth + 1 else None for part in parts]
    if None in classes and any(classes):
        alone = ids[classes.index(None)]
        folder = next("/".join(part[: depth + 1]) for part in parts if len(part) > depth + 1)
        raise ValueError(
            f"{name}: {alone!r} lies beside the class folder {folder!r}; put every image in a "
            f"class folder, or none{', or give one split' if depth else ''}"
        )
    return classes
