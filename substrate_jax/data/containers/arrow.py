"""Data sets of Hugging Face's library as it keeps them on disk: Arrow files and JSON beside them.

    PATH/state.json, PATH/data-00000-of-00001.arrow    what `save_to_disk` makes of one split
    PATH/dataset_dict.json, PATH/SPLIT/state.json      of several
    PATH/NAME-SPLIT.arrow                              its cache

The library itself is not needed: pyarrow maps the files into memory.

Cost: reading a row touches its bytes alone.

Not guaranteed: that a damaged file is noticed before its rows are read.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from substrate_jax.data.containers import tables
from substrate_jax.data.containers.files import Opened, versions
from substrate_jax.data.decode import Orientation, UnreadableImage
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import first_of, one_line, read_file, readable
from substrate_jax.data.sources import Source

STATE, SPLITS = "state.json", "dataset_dict.json"
_CACHED = re.compile(r"(.+?)(?:-\d{5}-of-\d{5})?\.arrow")


def is_saved(folder: Path) -> bool:
    """Whether a folder holds a data set of Hugging Face's library."""
    return any((folder / name).is_file() for name in (STATE, SPLITS)) or bool(_cached(folder))


def open_saved(
    folder: Path, split: str | None, options: Mapping[str, str], orientation: Orientation = "ignore"
) -> Source:
    """A data set that Hugging Face's library wrote to a folder.

    Args:
      folder: see the head of this module.
      split: one of those in it; None for the only one, or `train`.
      options: `image`, `label`, `id` and `text`, as of `tables`.
      orientation: see `decode.decode_image`.

    Returns:
      A source with ids "split/row" where no column has them.

    Raises:
      ValueError: no such split, files are missing or damaged, or it is not clear which columns are
        meant.
    """
    what = f"hfds:{readable(str(folder))}"
    optional("pyarrow", what, tables.EXTRA)
    split, files = _files(folder, split, what)
    table = ArrowTable(files, what)
    row_ids = [f"{readable(split)}/{row:06d}" for row in range(table.rows)]
    named = f"{what}:{readable(split)}"
    return tables.open_table(table, options, named, row_ids, versions(files), orientation)


def choose_split(splits: Sequence[str], wanted: str | None, what: str) -> str:
    """One of the splits of a set.

    Raises:
      ValueError: it is not there, or none is named and several are there, none of them `train`.
    """
    if wanted is None and (len(splits) == 1 or "train" in splits):
        return "train" if "train" in splits else splits[0]
    if wanted is None or wanted not in splits:
        raise ValueError(
            f"{what}: {'no split ' + repr(wanted) if wanted else 'several splits'}; give one of "
            f"{first_of(map(readable, splits)) or 'none'} after a colon"
        )
    return wanted


def _files(folder: Path, split: str | None, what: str) -> tuple[str, list[Path]]:
    if (folder / SPLITS).is_file():
        listed = _json(folder / SPLITS, what).get("splits")
        splits = [name for name in listed if _is_name(name)] if isinstance(listed, list) else []
        split = choose_split(splits, split, what)
        return split, _of_state(folder / split, what)
    if (folder / STATE).is_file():
        name = _json(folder / STATE, what).get("_split")
        name = name if _is_name(name) else "train"
        return choose_split([name], split, what), _of_state(folder, what)
    cached = _cached(folder)
    split = choose_split(sorted(cached), split, what)
    return split, cached[split]


def _of_state(folder: Path, what: str) -> list[Path]:
    state = _json(folder / STATE, what)
    listed = state.get("_data_files")
    found = [one.get("filename") for one in listed or () if isinstance(one, dict)]
    names = [name for name in found if _is_name(name)]
    if not names or len(names) < len(found):
        raise ValueError(
            f"{what}: {readable(str(folder / STATE))} lists no files of its folder; save it again"
        )
    if state.get("_indices_data_files"):
        raise ValueError(f"{what}: rows were selected before it was saved; flatten_indices() first")
    files = [folder / name for name in names]
    for file in files:
        if not file.is_file():
            raise ValueError(f"{what}: {readable(str(file))} is missing; save the set again")
    return files


def _cached(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    files = sorted(folder.glob("*.arrow")) if folder.is_dir() else []
    for file in files:
        # The cache also keeps what `map` and `filter` made.
        match = None if file.name.startswith("cache-") else _CACHED.fullmatch(file.name)
        if match:
            found.setdefault(match[1].rpartition("-")[2], []).append(file)
    return found


def _is_name(name: Any) -> TypeGuard[str]:
    return isinstance(name, str) and Path(name).name == name


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{what}: {readable(str(path))} cannot be read ({one_line(error)}); save the set again"
        ) from error
    return content if isinstance(content, dict) else {}


class ArrowTable:
    """Rows of Arrow files, mapped into memory; see `tables.Table`.

    Args:
      files: in order.
      what: the spec, for messages.

    Raises:
      ValueError: a file is damaged, or has other columns than the first.
    """

    def __init__(self, files: Sequence[Path], what: str):
        self._what = what
        self._opened = Opened(partial(_map, tuple(files), what))
        self.schema = self._opened().schema
        self.rows = self._opened().num_rows

    def column(self, name: str) -> list[Any]:
        """Every value of a column."""
        try:
            values = self._opened().column(name)
            values.validate(full=True)
            return values.to_pylist()
        except Exception as error:  # of Arrow
            raise ValueError(
                f"{self._what}: column {name!r} is damaged: {one_line(error)}"
            ) from error

    def image(self, row: int, name: str) -> Any:
        """One value of a column of images."""
        values = self._opened().column(name).slice(row, 1)
        try:
            values.validate(full=True)  # offsets that lead out of the file
            return values[0].as_py()
        except Exception as error:  # of Arrow
            raise UnreadableImage(f"{self._what} is damaged: {one_line(error)}") from error


def _map(files: Sequence[Path], what: str) -> Any:
    import pyarrow

    found = []
    for file in files:
        name = f"{what}: {readable(str(file))}"
        try:
            mapped = pyarrow.memory_map(str(file))
            try:
                table = pyarrow.ipc.open_stream(mapped).read_all()
            except pyarrow.ArrowInvalid:  # the other of Arrow's two forms
                table = pyarrow.ipc.open_file(mapped).read_all()
            table.validate()
        except Exception as error:  # whatever Arrow says of a damaged file
            raise ValueError(
                f"{name} is no whole Arrow file ({one_line(error, 200)}); write or fetch it again"
            ) from error
        tables.check_rows(table.num_rows, file.stat().st_size, name)
        found.append(table)
        if not table.schema.equals(found[0].schema, check_metadata=False):
            raise ValueError(f"{name} has other columns than {readable(str(files[0]))}")
    return pyarrow.concat_tables(found)
