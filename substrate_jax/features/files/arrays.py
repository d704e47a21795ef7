"""Readers of files that hold arrays: .npy, .npz, .safetensors, .h5 and .hdf5.

Each takes a path to a regular file and gives its `Contents`; a damaged file is a ValueError in one
line. A .npy is mapped into memory, not read. Headers that claim more than the file holds are
refused before anything is allocated.

Of HDF5 only what lies in the file itself is read: links to other files, external and virtual
datasets are passed over, as they may name any file of the machine.
"""

import importlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from substrate_jax.data.npz import HEADER_ERRORS, read_member
from substrate_jax.data.paths import readable
from substrate_jax.features.files.contents import IDS, LABEL_NAMES, LABELS, Contents, damaged

_METADATA = (*IDS, *LABELS, LABEL_NAMES)
_MOST_PACKED = 1032  # bytes that deflate can make of one; other filters of HDF5 make less


def read_npy(path: Path) -> Contents:
    """One array, named as the file."""
    try:
        values = np.lib.format.open_memmap(path, mode="r")
    except HEADER_ERRORS as error:
        raise damaged(path, error) from error
    return Contents({path.stem: values})


def read_npz(path: Path) -> Contents:
    """Arrays by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            arrays = {
                member.filename.removesuffix(".npy"): read_member(archive, member, size)
                for member in archive.infolist()
            }
    except (*HEADER_ERRORS, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise damaged(path, error) from error
    return Contents.of_arrays(arrays)


def read_safetensors(path: Path) -> Contents:
    """Tensors by name; ids, labels and label_names as tensors or as JSON lists in the metadata."""
    try:
        with safe_open(path, framework="np") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, TypeError, ValueError, KeyError) as error:
        raise damaged(path, error) from error
    for key in metadata.keys() & set(_METADATA):
        try:
            listed = json.loads(metadata[key])
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        if not isinstance(listed, list):
            raise ValueError(f"{readable(str(path))}: metadata {key} is no JSON list; write a list")
        arrays[key] = np.array(listed, None if all(type(x) is int for x in listed) else object)
    return Contents.of_arrays(arrays)


def read_hdf5(path: Path) -> Contents:
    """Datasets by name, those in groups as GROUP/NAME.

    Raises:
        ValueError: h5py is not installed, or the file is damaged.
    """
    h5py = optional("h5py", path)
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            _collect(h5py, file, "", arrays, set())
    except Exception as error:  # whatever HDF5 and its filters say of a damaged file
        raise damaged(path, error) from error
    return Contents.of_arrays(arrays)


def _collect(h5py: Any, group: Any, prefix: str, arrays: dict[str, Any], seen: set[int]) -> None:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:  # a group may hold itself
                seen.add(address)
                _collect(h5py, item, f"{prefix}{name}/", arrays, seen)
        elif isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external):
            if item.shape is None:
                continue
            if item.nbytes > (item.id.get_storage_size() + 1) * _MOST_PACKED:
                raise ValueError(f"{prefix}{name} claims {item.nbytes} bytes, which are not there")
            text = h5py.check_string_dtype(item.dtype)
            arrays[prefix + name] = np.asarray(item.asstr()[()] if text else item[()])


def optional(module: str, path: Path) -> Any:
    """A module that is not installed with the package, or the one line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{readable(str(path))}: reading {path.suffix} needs {module.partition('.')[0]}; "
            "pip install 'substrate-jax[files]', or write .npz or .safetensors"
        ) from error
