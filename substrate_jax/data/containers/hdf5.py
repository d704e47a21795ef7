"""Images in an HDF5 file: `h5:PATH[?image=NAME&label=NAME&id=NAME]`.

    images    pixels [n, h, w] or [n, h, w, 1 or 3], uint8 or uint16; or the bytes of an image file
              in each row (variable length uint8, opaque)
    labels    whole numbers or words, [n] or [n, 1]
    ids       texts or whole numbers, [n]

Datasets in groups are called GROUP/NAME. Without options the images are those called `images` or
`image`, or the only dataset that can be any; `labels` or `label` and `ids` or `id` beside them are
used where they are there. Pixels of 16 bits run from 0 to 65535, as everywhere.

Only what lies in the file itself is read: links to other files, external and virtual datasets may
name any file of the machine, and are passed over. Read by h5py (extra `files`).

Cost: a row is read with its chunk, of which `CHUNK_CACHE` bytes are kept.

Not guaranteed: ids without a dataset of them, `row` being all there is.

References: The HDF Group, HDF5 File Format Specification 3.0.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from substrate_jax.data.containers.files import Opened, only_images, versions
from substrate_jax.data.decode import Orientation, UnreadableImage, decode_image
from substrate_jax.data.labels import labels_of_cells, text_of
from substrate_jax.data.npz import MOST_PACKED
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import (
    MOST_BYTES,
    first_of,
    one_line,
    readable,
    resolved,
    special_kind,
    user_path,
)
from substrate_jax.data.sources import Source, digest, oriented, read_named
from substrate_jax.data.spec_options import NONE

OPTIONS = ("image", "label", "id")
CHUNK_CACHE = 64 * 2**20
_CALLED = {"image": ("images", "image"), "label": ("labels", "label"), "id": ("ids", "id")}


def open_hdf5(path: str, options: Mapping[str, str], orientation: Orientation = "ignore") -> Source:
    """Images in one HDF5 file.

    Args:
      path: a local file.
      options: `image`, `label` and `id`: datasets, `none` for no labels or ids.
      orientation: see `decode.decode_image`; pixels are the same either way.

    Returns:
      A source in file order, with ids "row" where no dataset has them.

    Raises:
      ValueError: h5py is not installed, the file is absent or damaged, a dataset claims more than
        the file holds, or it is not clear which datasets are meant.
    """
    what = f"h5:{readable(path)}"
    h5py = optional("h5py", what, "files")
    file = resolved(user_path(path, what), what)
    if not file.is_file():
        kind = special_kind(file) or "no such file"
        raise ValueError(f"{what}: {kind} {readable(str(file))}; give an HDF5 file")
    opened = Opened(partial(_open, file))
    try:
        found = dict(local_datasets(opened()))
        able = [name for name, dataset in found.items() if _holds_images(h5py, dataset)]
    except Exception as error:  # whatever HDF5 says of a damaged file
        raise _damaged(what, file, error) from error
    image = options.get("image") or _default("image", able) or only_images(able, what, "dataset")
    if image not in able:
        shape = f" is {found[image].dtype} {list(found[image].shape)}" if image in found else ""
        raise ValueError(
            f"{what}: dataset {image!r}{shape or ' is not there'}; images are uint8 or "
            "uint16 [n, h, w] or [n, h, w, 3], or bytes [n]; choose with "
            f"?image={first_of(able) or 'NAME'}"
        )
    rows = len(found[image])
    try:
        cells = {role: _column(h5py, role, image, found, rows, options, what) for role in _ROLES}
    except OSError as error:  # a chunk that is damaged
        raise _damaged(what, file, error) from error
    ids = cells["id"]
    labels, names = (None, ()) if cells["label"] is None else labels_of_cells(cells["label"], what)
    ids = tuple(f"{row:06d}" for row in range(rows)) if ids is None else tuple(map(_id, ids))
    return Source(
        name=what,
        ids=ids,
        labels=labels,
        fingerprint=oriented(digest("h5", image, *versions([file]), *ids), orientation),
        read=lambda row: read_named(ids[row], lambda: _read(opened, image, row, orientation)),
        label_names=names,
    )


_ROLES = ("label", "id")


def local_datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name -> dataset of everything that lies in the file itself.

    Args:
      group: of h5py.
      prefix: of the names.

    Raises:
      ValueError: a dataset claims more bytes than can be packed into those that are there.
    """
    import h5py

    yield from _local(h5py, group, prefix, set())


def _local(h5py: Any, group: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:  # a group may hold itself
                seen.add(address)
                yield from _local(h5py, item, f"{prefix}{name}/", seen)
        elif isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external):
            if item.shape is None:
                continue
            if item.nbytes > (item.id.get_storage_size() + 1) * MOST_PACKED:
                raise ValueError(f"{prefix}{name} claims {item.nbytes} bytes, which are not there")
            yield prefix + name, item


def _open(file: Path) -> Any:
    import h5py

    return h5py.File(file, "r", rdcc_nbytes=CHUNK_CACHE)


def _holds_images(h5py: Any, dataset: Any) -> bool:
    if dataset.ndim == 1:
        inside = h5py.check_vlen_dtype(dataset.dtype)
        return inside == np.uint8 or (dataset.dtype.kind == "V" and not dataset.dtype.names)
    pixels = dataset.dtype in (np.uint8, np.uint16)
    return pixels and (dataset.ndim == 3 or dataset.shape[3:] in ((1,), (3,)))


def _default(role: str, names: Sequence[str], beside: str = "") -> str | None:
    return next((beside + name for name in _CALLED[role] if beside + name in names), None)


def _column(
    h5py: Any,
    role: str,
    image: str,
    found: Mapping[str, Any],
    rows: int,
    options: Mapping[str, str],
    what: str,
) -> list[Any] | None:
    """Labels or ids; None where there are none."""
    beside = image.rpartition("/")[0]
    name = options.get(role) or _default(role, list(found), f"{beside}/" if beside else "")
    if name is None or name == NONE:
        return None
    if name not in found:
        raise ValueError(f"{what}: no dataset {name!r}; choose with ?{role}={first_of(found)}")
    dataset = found[name]
    if dataset.shape not in ((rows,), (rows, 1)):
        if role in options:
            raise ValueError(
                f"{what}: {name} is {list(dataset.shape)} for {rows} images; choose one value for "
                f"each with ?{role}=NAME, or give ?{role}=none"
            )
        return None
    text = h5py.check_string_dtype(dataset.dtype)
    values = dataset.asstr(errors="surrogateescape")[()] if text else dataset[()]
    return values.ravel().tolist()


def _id(value: Any) -> str:
    return text_of(value) if isinstance(value, (str, bytes)) else str(value)


def _read(
    opened: Opened[Any], name: str, row: int, orientation: Orientation
) -> UInt8[np.ndarray, "h w 3"]:
    dataset = opened()[name]
    most = Image.MAX_IMAGE_PIXELS or math.inf
    if math.prod(dataset.shape[1:3]) > 2 * most:
        raise UnreadableImage(f"{dataset.shape[1]} x {dataset.shape[2]} pixels are too many")
    if math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize > MOST_BYTES:
        raise UnreadableImage("chunks of more than 2 GiB; store the images in smaller ones")
    try:
        value = dataset[row]
    except Exception as error:  # of HDF5 and its filters
        raise UnreadableImage(one_line(error, 200)) from error
    if dataset.ndim == 1:
        return decode_image(bytes(value), orientation=orientation)
    if value.dtype != np.uint8:
        # As `decode.decode_image`: full range to full range, in colors the upper 8 bits.
        gray = value.ndim == 2 or value.shape[2] == 1
        wide = value.astype(np.uint32)
        value = ((wide * 255 + 32767) // 65535 if gray else wide >> 8).astype(np.uint8)
    value = value if value.ndim == 3 else value[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(value, (*value.shape[:2], 3)))


def _damaged(what: str, file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{what}: {readable(str(file))} is no whole HDF5 file ({one_line(error, 200)}); write or "
        "fetch it again"
    )
