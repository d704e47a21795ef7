"""Folders as thingsvision writes them: a folder a module, with the names of its images beside.

    FOLDER/features.npy, .hdf5, .mat or .txt      all rows
    FOLDER/features_0-512.npy, _512-1024.npy ...  rows 0 to 511, 512 to 1023, ...
    FOLDER/features_01.npy, .txt ...              the first part of the rows, the second, ...
    FOLDER/file_names.txt, or beside FOLDER       the name of an image a line, in the order of rows

FOLDER may also be the folder around, if it holds one module. A .hdf5 holds a dataset `features`, or
parts `features_01`, ...; a .mat holds `features`, or a variable for each image, called as its file
without suffix. A .pt is a pickle, and refused.

References: L. Muttenthaler, M. Hebart, THINGSvision, Frontiers in Neuroinformatics 15, 2021.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.io import loadmat

from substrate_jax.data.paths import first_of, readable
from substrate_jax.features.files.arrays import read_hdf5, read_npy
from substrate_jax.features.files.contents import Contents, beside, damaged

_PART = re.compile(r"features(?:.*)_(?:(\d+)-(\d+)|(\d+))")
_PICKLES = (".pt", ".pth", ".pkl", ".pickle")


def read_folder(folder: Path) -> tuple[tuple[Path, ...], Contents]:
    """The files of a folder that hold its features, and what is in them.

    Raises:
        ValueError: no features, several modules, formats or runs of parts, parts that leave a gap,
            or a damaged file.
    """
    module = _module(folder)
    found = _files(module)
    if not found:
        if pickles := [p for p in module.iterdir() if p.suffix in _PICKLES]:
            raise ValueError(
                f"{readable(str(pickles[0]))} is a pickle, which is never opened; save as npy"
            )
        raise ValueError(
            f"{readable(str(folder))} holds no features.npy, .hdf5, .mat or .txt; give a file, "
            "or a folder as thingsvision writes it"
        )
    if len({path.suffix for path in found}) > 1:
        raise ValueError(
            f"{readable(str(module))} holds features in several formats "
            f"({first_of(path.name for path in found)}); give the path of one file"
        )
    parts = [READERS[path.suffix](path) for path in found]
    if len(parts) == 1 and parts[0].ids is not None:
        return found, _in_order(module, parts[0])
    arrays = [block for part in parts for block in _ordered(part.blocks)]
    if len({array.shape[1:] for array in arrays}) > 1:
        raise ValueError(
            f"{readable(str(module))}: parts of several shapes: "
            f"{first_of(str(list(array.shape)) for array in arrays)}; write them anew"
        )
    return found, Contents({module.name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays)})


def _module(folder: Path) -> Path:
    """The folder that holds features: the one given, or the only one in it."""
    if _files(folder):
        return folder
    modules = sorted(path for path in folder.iterdir() if path.is_dir() and _files(path))
    if len(modules) > 1:
        raise ValueError(
            f"{readable(str(folder))} holds {len(modules)} modules "
            f"({first_of(readable(path.name) for path in modules)}); give the folder of one"
        )
    return modules[0] if modules else folder


def _files(folder: Path) -> tuple[Path, ...]:
    """The whole features, or their parts in order."""
    whole = [folder / f"features{suffix}" for suffix in READERS]
    if here := tuple(path for path in whole if path.is_file()):
        return here
    parts = []
    for path in folder.iterdir():
        match = _PART.fullmatch(path.stem)
        if match and path.suffix in READERS and path.is_file():
            start, stop, number = (part and int(part) for part in match.groups())
            parts.append((number if start is None else start, stop, path))
    parts.sort()
    starts = [start for start, stop, _ in parts if stop is not None]
    stops = [stop for _, stop, _ in parts if stop is not None]
    numbers = [start for start, stop, _ in parts if stop is None]
    gap = starts != [0, *stops][: len(starts)] or numbers != list(range(1, len(numbers) + 1))
    if parts and (gap or (starts and numbers)):
        raise ValueError(
            f"{readable(str(folder))}: parts that overlap or leave a gap: "
            f"{first_of(path.name for *_, path in parts)}; keep those of one run"
        )
    return tuple(path for *_, path in parts)


def _ordered(blocks: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Datasets of one file, by the number that their name ends in."""
    names = sorted(blocks, key=lambda name: int(match[0]) if (match := _END.search(name)) else 0)
    return [blocks[name] for name in names]


_END = re.compile(r"\d+$")


def _in_order(module: Path, contents: Contents) -> Contents:
    """Rows that are called as images without suffix, under the names of the list, in its order."""
    if (listed := beside(module / "features.mat", "ids", [module.parent])) is None:
        return contents
    (rows,), (file, names) = contents.blocks.values(), listed
    place = {name: row for row, name in enumerate(contents.ids)}
    keys = [name if name in place else _without_suffix(name) for name in names]
    if missing := [name for name, key in zip(names, keys, strict=True) if key not in place]:
        raise ValueError(
            f"{readable(str(module))}/features.mat lacks {len(missing)} of the {len(names)} rows "
            f"of {file.name}: {first_of(missing)}; write it anew"
        )
    return Contents({module.name: rows[[place[key] for key in keys]]}, np.array(names, object))


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def read_txt(path: Path) -> Contents:
    """A table of numbers, separated by blanks."""
    try:
        return Contents({path.stem: np.loadtxt(path, np.float64, ndmin=2, encoding="utf-8")})
    except (ValueError, OverflowError) as error:
        raise damaged(path, error) from error


def read_mat(path: Path) -> Contents:
    """`features`, or a row a variable."""
    try:
        found: dict[str, Any] = loadmat(path)
    except Exception as error:  # whatever SciPy says of a damaged file
        raise damaged(path, error) from error
    arrays = {key: np.asarray(value) for key, value in found.items() if key[:2] != "__"}
    if "features" in arrays:
        return Contents({path.stem: arrays["features"]})
    if odd := [key for key, row in arrays.items() if row.dtype.kind not in "biuf"]:
        raise ValueError(f"{readable(str(path))}: {odd[0]} holds no numbers; write it anew")
    rows = [row[0] if row.ndim == 2 and len(row) == 1 else row for row in arrays.values()]
    if len({row.shape for row in rows}) != 1:
        raise ValueError(f"{readable(str(path))}: rows of several shapes, or none; write it anew")
    return Contents({path.stem: np.stack(rows)}, np.array(list(arrays), object))


READERS: Mapping[str, Callable[[Path], Contents]] = {
    ".npy": read_npy,
    ".hdf5": read_hdf5,
    ".mat": read_mat,
    ".txt": read_txt,
}
