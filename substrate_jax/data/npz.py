"""Arrays of images in one npz file: `npz:PATH[:split]`, in MedMNIST's layout.

    train_images, val_images, test_images    uint8 [n, h, w] or [n, h, w, 3]
    train_labels, val_labels, test_labels    whole numbers or words, [n] or [n, 1]

A row is called split/row. A file that is cut short, is something else under that name, or whose
arrays claim another size than the file holds is refused before anything is allocated.

Cost: opening loads the arrays of the chosen splits.

References: J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023.
"""

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from substrate_jax.data.labels import numbered, whole_labels
from substrate_jax.data.paths import first_of, one_line, readable, resolved, special_kind, user_path
from substrate_jax.data.sources import Source, digest

_SPLITS = ("train", "val", "test")
# Whatever numpy says of a damaged header, which is Python in text, and of the file.
HEADER_ERRORS = (
    EOFError,
    MemoryError,  # of Python's parser
    OSError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
_DAMAGE = (*HEADER_ERRORS, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
MOST_PACKED = 1032  # bytes that deflate can make of one


def open_npz(path: str | os.PathLike, split: str | None = None) -> Source:
    """Arrays `train_images`, `train_labels`, `val_...`, `test_...` of one npz file (MedMNIST).

    Labels of shape [n] or [n, 1] are kept: whole numbers of any type, or words, which are numbered
    in sorted order and become `label_names`. Several labels per image (ChestMNIST) are not, and the
    source then has none.

    Args:
      path: a local file.
      split: "train", "val" or "test"; None takes every split that the file holds.

    Returns:
      A source in file order.

    Raises:
      ValueError: the file or the split is absent or damaged, the images are of another kind, or a
        label is no whole number.
    """
    name = f"npz:{readable(os.fspath(path))}"
    file = resolved(user_path(path, name), name)
    if not file.is_file():
        what = special_kind(file) or "no such file"
        raise ValueError(f"{name}: {what} {readable(str(file))}; give a file in MedMNIST's layout")
    names, arrays = _load(file, name, split)
    chosen = [one for one in _SPLITS if f"{one}_images" in arrays]
    if not chosen:
        raise ValueError(
            f"{name}: no array {split or 'train'}_images in {readable(str(file))}, which holds "
            f"{first_of(map(readable, names)) or 'nothing'}; give one of its splits"
        )
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    ids: list[str] = []
    for one in chosen:
        block = arrays[f"{one}_images"]
        if block.dtype != np.uint8 or not (block.ndim == 3 or block.shape[3:] == (3,)):
            raise ValueError(
                f"{name}: {one}_images is {block.dtype} {list(block.shape)}; "
                "give uint8 [n, h, w] or [n, h, w, 3]"
            )
        images.extend(block)
        ids.extend(f"{one}/{row:06d}" for row in range(len(block)))
        found = arrays.get(f"{one}_labels", np.zeros((len(block), 0)))
        if found.shape[:1] != (len(block),):
            raise ValueError(
                f"{name}: {one}_labels is {list(found.shape)} for {len(block)} images; give every "
                "image its label, or none"
            )
        labels.append(found)
    numbers, label_names = _one_label_each(labels, name)

    def read(row: int) -> UInt8[np.ndarray, "h w 3"]:
        image = images[row]
        return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)

    stat = file.stat()
    return Source(
        name=name + (f":{split}" if split else ""),
        ids=tuple(ids),
        labels=numbers,
        fingerprint=digest("npz", str(file), str(stat.st_size), str(stat.st_mtime_ns), *ids),
        read=read,
        label_names=label_names,
    )


def _one_label_each(
    blocks: Sequence[Shaped[np.ndarray, "n ..."]], name: str
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Labels and their names; None where some image has no label or several."""
    if not all(block.size == len(block) for block in blocks):
        return None, ()
    words = {block.dtype.kind in "US" for block in blocks}
    if words == {True}:
        return numbered(word for block in blocks for word in block.ravel().tolist())
    if words == {True, False}:
        raise ValueError(f"{name}: labels are words in one split and numbers in another; give one")
    return np.concatenate([whole_labels(block.ravel(), name) for block in blocks]), ()


def _load(
    file: Path, name: str, split: str | None
) -> tuple[list[str], dict[str, Shaped[np.ndarray, "..."]]]:
    """The names of all arrays of an npz file, and the images and labels of the chosen splits.

    Raises:
      ValueError: the file is damaged, or is another; one line that names it.
    """
    wanted = [
        f"{one}_{part}"
        for one in (_SPLITS if split is None else [split])
        for part in ("images", "labels")
    ]
    try:
        with zipfile.ZipFile(file) as archive:
            members = {
                member.filename.removesuffix(".npy"): member for member in archive.infolist()
            }
            arrays = {
                key: read_member(archive, members[key], file.stat().st_size)
                for key in wanted
                if key in members
            }
            return list(members), arrays
    except _DAMAGE as error:
        raise ValueError(
            f"{name}: {readable(str(file))} is no whole npz file ({one_line(error)}); make or "
            "fetch it again"
        ) from error


def read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int
) -> Shaped[np.ndarray, "..."]:
    """One array, if its header and the archive agree on its size.

    Raises:
      ValueError: they do not, or the array holds Python objects.
    """
    key = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{key} is compressed in a way that numpy never uses")
    # What it unpacks to is bounded by the bytes that are there.
    packed = min(member.compress_size, size)
    if member.file_size > (packed + 1) * MOST_PACKED:
        raise ValueError(f"{key} claims {member.file_size} bytes, packed into {packed}")
    with archive.open(member) as data:
        shape, dtype = _header(data)
        held = member.file_size - data.tell()
    if dtype.hasobject:
        raise ValueError(f"{key} holds Python objects, which are never unpickled")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{key} claims {dtype} {list(shape)} and holds {held} bytes")
    with archive.open(member) as data:
        return np.lib.format.read_array(data, allow_pickle=False)


def _header(data: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype that an npy file begins with."""
    if np.lib.format.read_magic(data) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(data)
    else:  # the third version differs in how field names are written
        shape, _, dtype = np.lib.format.read_array_header_2_0(data)
    return shape, dtype
