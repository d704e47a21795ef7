"""Readers of files that hold arrays: .npy, .npz, .safetensors, .h5 and .hdf5.

Each takes a path to a regular file and gives its `Contents`; a damaged file is a ValueError in one
line. A .npy is mapped into memory, not read. Headers that claim more than the file holds are
refused before anything is allocated.

Of HDF5 only what lies in the file itself is read: links to other files, external and virtual
datasets are passed over, as they may name any file of the machine.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from substrate_jax.data.containers.hdf5 import local_datasets
from substrate_jax.data.npz import HEADER_ERRORS, read_member
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import readable
from substrate_jax.features.files.contents import IDS, LABEL_NAMES, LABELS, Contents, damaged

_METADATA = (*IDS, *LABELS, LABEL_NAMES)


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
    h5py = needed("h5py", path)
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            for name, dataset in local_datasets(file):
                text = h5py.check_string_dtype(dataset.dtype)
                arrays[name] = np.asarray(dataset.asstr()[()] if text else dataset[()])
    except Exception as error:  # whatever HDF5 and its filters say of a damaged file
        raise damaged(path, error) from error
    return Contents.of_arrays(arrays)


def needed(module: str, path: Path) -> Any:
    """A module that reads files of a suffix and is not installed with the package.

    Raises:
        ValueError: it is not installed; one line.
    """
    try:
        return optional(module, f"{readable(str(path))}", "files")
    except ValueError as error:
        raise ValueError(f"{error}, or write .npz or .safetensors") from error
