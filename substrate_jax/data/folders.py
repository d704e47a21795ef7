"""Folders of images: `dir:PATH`, class folders or images side by side without labels.

    PATH/cat/1.png              labels are the names of the class folders
    PATH/1.png                  no labels
    PATH+PATH                   several folders as one
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
import dataclasses
import itertools
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from substrate_jax.data.decode import Orientation, decode_image
from substrate_jax.data.formats import image_suffixes
from substrate_jax.data.paths import first_of, read_file, readable, resolved, user_path
from substrate_jax.data.sources import Modality, Source, by_count, digest, oriented, read_named
from substrate_jax.data.spec_options import NONE, exists
from substrate_jax.data.unreadable import Unreadable, UnreadableImage

SPLITS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
)
NO_SUFFIX = "without suffix"


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Which files of a folder are images, or sounds, and how they are read.

    Attributes:
      kind: of the source.
      is_image: whether a file is one, by its name or contents.
      decode: bytes -> pixels, or a sound.
      ending: what names of such files end in, for a message.
      modality: "image" or "sound".
      unreadable: raised for a file that cannot be opened.
    """

    kind: str
    is_image: Callable[[Path], bool]
    decode: Callable[[bytes], Any]
    ending: str
    modality: Modality = "image"
    unreadable: type[Unreadable] = UnreadableImage


def open_folder(
    path: str | os.PathLike,
    orientation: Orientation = "ignore",
    options: Mapping[str, str] = types.MappingProxyType({}),
) -> Source:
    """Images of a folder: `PATH/class/.../image.png`, or images directly in it without labels.

    Labels number the sorted names of the class folders; ids are the paths below `path`. Hidden
    files and files that are not images by their suffix are left out, and the latter counted.

    Args:
      path: a local folder, or several joined by "+", whose ids are the paths below the folder that
        all of them are in; classes of one name are one class.
      orientation: see `decode.decode_image`.
      options: `label=none` for no labels.

    Returns:
      A source in the order of its ids.

    Raises:
      ValueError: a folder is absent or empty, a folder in it cannot be read, or it mixes loose
        images with class folders.
    """
    suffixes = image_suffixes()
    files = ImageFiles(
        "dir",
        lambda file: readable(file.suffix.lower()) in suffixes,
        partial(decode_image, orientation=orientation),
        " ".join(sorted(suffixes)),
    )
    source = open_image_files(path, files, options)
    return dataclasses.replace(source, fingerprint=oriented(source.fingerprint, orientation))


def open_image_files(
    path: str | os.PathLike, kind: ImageFiles, options: Mapping[str, str]
) -> Source:
    """As `open_folder`, for files of any kind.

    Args:
      path: one folder, or several joined by "+".
      kind: which files are images, and how they are read.
      options: `label=none` for no labels.

    Raises:
      ValueError: as `open_folder`.
    """
    name = f"{kind.kind}:{readable(os.fspath(path))}"
    roots = _roots(os.fspath(path), name, kind.modality)
    common = roots[0] if len(roots) == 1 else Path(os.path.commonpath(roots))
    files: dict[str, Path] = {}
    classes: dict[str, str | None] = {}
    left_out: collections.Counter[str] = collections.Counter()
    for root in roots:
        found, others = _list_images(root, kind.is_image, name)
        left_out.update(others)
        if not found:
            raise no_images(name, root, others, kind.ending, kind.modality)
        below = "" if root == common else f"{readable(root.relative_to(common).as_posix())}/"
        ids = sorted(found)
        files |= {below + row_id: found[row_id] for row_id in ids}
        of = _classes(ids, name, options)
        classes |= {below + row_id: one for row_id, one in zip(ids, of, strict=True)}
    ids = sorted(files)
    labels, names = _numbered([classes[row_id] for row_id in ids], name)
    stats = [_stat(files[i]) for i in ids]
    versions = (f"{i} {s.st_size} {s.st_mtime_ns}" for i, s in zip(ids, stats, strict=True))
    return Source(
        name=name,
        ids=tuple(ids),
        labels=labels,
        fingerprint=digest(kind.kind, *map(str, roots), *versions),
        read=lambda row: read_named(
            ids[row], lambda: kind.decode(read_file(files[ids[row]])), kind.unreadable
        ),
        label_names=names,
        left_out=dict(left_out),
        modality=kind.modality,
    )


def class_labels(
    ids: Sequence[str], name: str, options: Mapping[str, str]
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Labels by the class folders in paths, and their names; None where there are none.

    Raises:
      ValueError: loose images beside class folders.

    Example:
      >>> class_labels(["dog/1.png", "cat/2.png"], "dir:pets", {})
      (array([1, 0]), ('cat', 'dog'))
    """
    return _numbered(_classes(ids, name, options), name)


def no_images(
    name: str,
    place: Path,
    left_out: Mapping[str, int],
    ending: str = "",
    modality: Modality = "image",
) -> ValueError:
    """The one line that a place without images ends in."""
    beside = f"only {by_count(left_out)}; " if left_out else ""
    ending = ending or " ".join(sorted(image_suffixes()))
    return ValueError(
        f"{name}: no {modality}s in {readable(str(place))}; {beside}give a folder with files that "
        f"end in {ending}"
    )


def _roots(text: str, name: str, modality: Modality) -> list[Path]:
    """The folders that a path means, or several paths joined by "+"."""
    parts = [text] if exists(text) else _parts(text)
    roots = []
    for part in parts:
        root = resolved(user_path(part, name), name)
        if not root.is_dir():
            raise ValueError(
                f"{name}: no such folder {readable(str(root))}; give one that holds {modality}s"
            )
        roots.append(root)
    for a, b in itertools.permutations(roots, 2):
        if a.is_relative_to(b):
            raise ValueError(f"{name}: {readable(str(a))} lies in {readable(str(b))}; give one")
    return roots


def _parts(text: str) -> list[str]:
    """Paths joined by "+", of which the names may hold one too."""
    first, *rest = text.split("+")
    parts = [first]
    for piece in rest:
        longer = f"{parts[-1]}+{piece}"
        if not exists(parts[-1]) or exists(longer):
            parts[-1] = longer
        else:
            parts.append(piece)
    return parts


def _list_images(
    root: Path, is_image: Callable[[Path], bool], name: str
) -> tuple[dict[str, Path], dict[str, int]]:
    """Id -> file of every image below a folder, and the number of other files by suffix."""
    files: dict[str, Path] = {}
    left_out: collections.Counter[str] = collections.Counter()
    unreadable: list[str] = []
    for file in _walk(root, unreadable):
        row_id = readable(file.relative_to(root).as_posix())
        if not is_image(file):
            left_out[readable(file.suffix.lower()) or NO_SUFFIX] += 1
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


def _classes(ids: Sequence[str], name: str, options: Mapping[str, str]) -> list[str | None]:
    """The class folder of each id, all None where images lie side by side or none is wanted."""
    if wanted := options.get("label"):
        if wanted != NONE:
            raise ValueError(
                f"{name}: labels are the class folders; give ?label=none or leave it out"
            )
        return [None] * len(ids)
    parts = [row_id.split("/") for row_id in ids]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    loose = any(len(part) == 1 for part in parts)
    depth = int(not loose and tops <= SPLITS)
    classes = [part[depth] if len(part) > depth + 1 else None for part in parts]
    if None in classes and any(classes):
        alone = ids[classes.index(None)]
        folder = next("/".join(part[: depth + 1]) for part in parts if len(part) > depth + 1)
        raise ValueError(
            f"{name}: {alone!r} lies beside the class folder {folder!r}; put every file in a "
            f"class folder, or none{', or give one split' if depth else ''}"
        )
    return classes


def _numbered(
    classes: Sequence[str | None], name: str
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...]]:
    present = [one for one in classes if one is not None]
    if not present:
        return None, ()
    if len(present) < len(classes):  # of several folders
        raise ValueError(
            f"{name}: one of the folders has class folders and another has not; give folders of "
            "one kind, or ?label=none"
        )
    names = tuple(sorted(set(present)))
    number = {one: label for label, one in enumerate(names)}
    return np.array([number[one] for one in present], np.int64), names
