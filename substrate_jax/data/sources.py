"""Images by row number, whatever holds them: a folder or an npz file here, and other modules' own.

A `Source` is n rows, each with an image (uint8 [h, w, 3]), a label or None and an id. Ids are
unique and stable: rows of two runs, two encoders or two machines are matched by id and never by
position. The fingerprint is a hash of what determines the rows at the price of a directory
listing: two sources with one fingerprint hold the same images under the same ids.

    dir:PATH            class folders, or images side by side without labels
    npz:PATH[:split]    MedMNIST's layout: train_images, train_labels, val_...

Every image becomes RGB by the rules of `decode.decode_image`. An image that cannot be read raises
`UnreadableImage`, so that whoever reads rows can count and name them.

Cost: opening `dir:` stats every file, `npz:` loads the arrays of the chosen splits. Reading a row
is one file read and one decode, safe from many threads.

Not guaranteed: `dir:` trusts sizes and modification times, so a file overwritten in place with
another of equal size and restored time goes unnoticed.

References: J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023 (npz layout).
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from substrate_jax.data.decode import UnreadableImage, decode_image

_NETPBM = (".pbm", ".pgm", ".ppm")
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", *_NETPBM)
_NPZ_SPLITS = ("train", "val", "test")


class Example(NamedTuple):
    """One row of a source: the image, its label (None where there are none) and its id."""

    image: UInt8[np.ndarray, "h w 3"]
    label: int | None
    id: str


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Rows of images under unique ids; `source[i]` decodes row i.

    Args:
      name: what to call it in messages and reports.
      ids: one string per row, unique.
      labels: int64 [n], or None.
      fingerprint: hash of what determines the rows.
      read: row number -> uint8 [h, w, 3]; called from several threads at once.
      label_names: name of each label, where known.

    Raises:
      ValueError: no rows, a repeated id, or labels of another length.

    Example:
      >>> pixels = np.zeros((2, 8, 8, 3), np.uint8)
      >>> source = Source("black", ("a", "b"), None, "0", lambda row: pixels[row])
      >>> len(source), source[1].id, source[1].image.shape
      (2, 'b', (8, 8, 3))
    """

    name: str
    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"] | None
    fingerprint: str
    read: Callable[[int], UInt8[np.ndarray, "h w 3"]]
    label_names: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "ids", tuple(self.ids))
        if not self.ids:
            raise ValueError(f"{self.name}: no images; give a source with at least one")
        if len(set(self.ids)) < len(self.ids):
            seen = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))
            raise ValueError(f"{self.name}: id {twice!r} appears twice; give every row its own id")
        if self.labels is not None:
            object.__setattr__(self, "labels", np.asarray(self.labels, np.int64))
            if self.labels.shape != (len(self.ids),):
                raise ValueError(
                    f"{self.name}: labels have shape {self.labels.shape}; "
                    f"give one for each of the {len(self.ids)} ids"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Example:
        label = None if self.labels is None else int(self.labels[row])
        return Example(self.read(range(len(self))[row]), label, self.ids[row])

    def select(self, rows: Sequence[int]) -> "Source":
        """The given rows, in the given order, under their old ids."""
        rows = [range(len(self))[row] for row in rows]
        ids = tuple(self.ids[row] for row in rows)
        return dataclasses.replace(
            self,
            ids=ids,
            labels=None if self.labels is None else self.labels[rows],
            fingerprint=digest(self.fingerprint, *ids),
            read=lambda row: self.read(rows[row]),
        )


def digest(*parts: str | bytes) -> str:
    """Hash of a sequence of strings that no other sequence shares (each is length-prefixed)."""
    state = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


def take(source: Source, n: int, seed: int = 0) -> Source:
    """A subsample of n rows that depends on the seed and the ids alone.

    Rows are ordered by sha256(seed, id) and the first n are kept: reordering the source changes
    nothing, a larger n extends a smaller one, and adding images replaces only as many rows as
    hash before the last one kept.

    Args:
      source: any source.
      n: rows to keep, 1 to len(source).
      seed: another seed is another, independent subsample.

    Returns:
      A source of n rows, in hash order.

    Raises:
      ValueError: n is outside 1 to len(source).

    Example:
      >>> black = Source("black", "abcd", None, "0", lambda row: np.zeros((8, 8, 3), np.uint8))
      >>> set(take(black, 2).ids) <= set(take(black, 3).ids)
      True
    """
    if not 1 <= n <= len(source):
        raise ValueError(f"n={n}: {source.name} has {len(source)} images; give 1 to {len(source)}")
    order = sorted(range(len(source)), key=lambda row: digest(str(seed), source.ids[row]))
    return source.select(order[:n])


def open_folder(path: str | os.PathLike) -> Source:
    """Images of a folder: `PATH/class/.../image.png`, or images directly in it without labels.

    Labels number the sorted names of the class folders; ids are the paths below `path`. Hidden
    files and files that are not images by their suffix are left out.

    Args:
      path: a local folder.

    Returns:
      A source in the order of its ids.

    Raises:
      ValueError: the folder is absent or empty, or mixes loose images with class folders.
    """
    root = pathlib.Path(path).expanduser().resolve()
    if not root.is_dir():
        raise ValueError(f"dir:{path}: no such folder {root}; give one that holds images")
    files = {}
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = pathlib.Path(folder, name)
            if not name.startswith(".") and file.suffix.lower() in _SUFFIXES:
                files[file.relative_to(root).as_posix()] = file
    if not files:
        raise ValueError(
            f"dir:{path}: no images in {root}; give a folder with files that end in "
            f"{' '.join(sorted(_SUFFIXES))}"
        )
    ids = sorted(files)
    classes = sorted({i.split("/")[0] for i in ids if "/" in i})
    loose = [i for i in ids if "/" not in i]
    if classes and loose:
        raise ValueError(
            f"dir:{path}: {loose[0]!r} lies beside the class folder {classes[0]!r}; "
            "put every image in a class folder, or none"
        )
    stats = [files[i].stat() for i in ids]
    versions = (f"{i} {s.st_size} {s.st_mtime_ns}" for i, s in zip(ids, stats, strict=True))
    number = {name: label for label, name in enumerate(classes)}
    return Source(
        name=f"dir:{path}",
        ids=tuple(ids),
        labels=np.array([number[i.split("/")[0]] for i in ids]) if classes else None,
        fingerprint=digest("dir", str(root), *versions),
        read=lambda row: read_named(ids[row], lambda: decode_image(files[ids[row]].read_bytes())),
        label_names=tuple(classes),
    )


def read_named(row_id: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """What `read` returns; if the image is unreadable, the error names the row."""
    try:
        return read()
    except (UnreadableImage, OSError) as error:
        raise UnreadableImage(f"{row_id}: {error}") from error


def open_npz(path: str | os.PathLike, split: str | None = None) -> Source:
    """Arrays `train_images`, `train_labels`, `val_...`, `test_...` of one npz file (MedMNIST).

    Images are uint8 [n, h, w] or [n, h, w, 3]. Ids are `split/row`. Labels of shape [n] or [n, 1]
    are kept; several labels per image (ChestMNIST) are not, and the source then has none.

    Args:
      path: a local file.
      split: "train", "val" or "test"; None takes every split that the file holds.

    Returns:
      A source in file order.

    Raises:
      ValueError: the file or the split is absent, or the images are of another kind.
    """
    file = pathlib.Path(path).expanduser().resolve()
    if not file.is_file():
        raise ValueError(f"npz:{path}: no such file {file}; give a file in MedMNIST's layout")
    images, labels, ids = [], [], []
    with np.load(file, allow_pickle=False) as arrays:
        present = [name for name in _NPZ_SPLITS if f"{name}_images" in arrays]
        if not present or split not in (None, *present):
            raise ValueError(
                f"npz:{path}: no array {split or 'train'}_images in {file}, which holds "
                f"{', '.join(arrays) or 'nothing'}; give one of its splits"
            )
        for name in present if split is None else [split]:
            block = arrays[f"{name}_images"]
            if block.dtype != np.uint8 or not (block.ndim == 3 or block.shape[3:] == (3,)):
                raise ValueError(
                    f"npz:{path}: {name}_images is {block.dtype} {list(block.shape)}; "
                    "give uint8 [n, h, w] or [n, h, w, 3]"
                )
            images.extend(block)
            ids.extend(f"{name}/{row:06d}" for row in range(len(block)))
            key = f"{name}_labels"
            labels.append(arrays[key] if key in arrays else np.zeros((len(block), 0)))
    single = all(block.size == len(block) for block in labels)

    def read(row: int) -> np.ndarray:
        image = images[row]
        return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)

    stat = file.stat()
    return Source(
        name=f"npz:{path}" + (f":{split}" if split else ""),
        ids=tuple(ids),
        labels=np.concatenate([block.ravel() for block in labels]) if single else None,
        fingerprint=digest("npz", str(file), str(stat.st_size), str(stat.st_mtime_ns), *ids),
        read=read,
    )
