"""A file or folder of features, opened: its blocks, and who its rows are."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from substrate_jax.data.paths import first_of, readable, resolved, special_kind, user_path
from substrate_jax.features.files.arrays import read_hdf5, read_npy, read_npz, read_safetensors
from substrate_jax.features.files.contents import (
    Contents,
    beside,
    numbered_labels,
    numbers_or_words,
    texts,
)
from substrate_jax.features.files.folders import read_folder
from substrate_jax.features.files.rows import FileRows
from substrate_jax.features.files.tables import read_csv, read_parquet

MAPPED_BYTES = 2**28  # above which a .npy stays on the disk

_READERS: Mapping[str, Callable[[Path], Contents]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureFile:
    """What a file of features holds; its numbers are converted and checked by `rows`.

    Attributes:
        path: as the user gave it.
        files: that were read, without those of ids and labels.
        ids: of the rows, unique.
        labels: int64 [n]; None without any.
        label_names: word of each label, where they were words.
        blocks: key -> [n, ...] as in the file.
    """

    path: str
    files: tuple[Path, ...]
    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"] | None
    label_names: tuple[str, ...]
    blocks: Mapping[str, Shaped[np.ndarray, "n ..."]]

    def key_of(self, name: str) -> str:
        """The block that a user who calls it `name` means: of that key, or the only one.

        Raises:
            ValueError: there are several, and none is called so.
        """
        if name in self.blocks or len(self.blocks) == 1:
            return name if name in self.blocks else next(iter(self.blocks))
        raise ValueError(
            f"{readable(self.path)} holds {len(self.blocks)} blocks and none is called {name!r}; "
            f"name one of {first_of(self.blocks)}"
        )

    def rows(
        self, key: str, pool: str | None = None, order: Int64[np.ndarray, " m"] | None = None
    ) -> Float32[np.ndarray, "m d"] | FileRows:
        """A block as float32 [m, d], checked to be finite.

        Args:
            key: of `blocks`.
            pool: for more than two dimensions, see `rows`.
            order: numbers of the rows to take; all by default.

        Returns:
            An array; of a .npy file beyond 256 MiB, rows that are read when they are asked for.

        Raises:
            ValueError: no numbers, too many dimensions, or rows that are not finite, by their ids.
        """
        values = self.blocks[key]
        where = readable(self.path) + (f", {key}" if len(self.blocks) > 1 else "")
        found = FileRows(values, pool, where, order)
        found.check_finite(self.ids if order is None else [self.ids[row] for row in order])
        on_disk = isinstance(values, np.memmap) and values.nbytes > MAPPED_BYTES
        return found if on_disk else np.asarray(found)


def open_features(path: str | os.PathLike) -> FeatureFile:
    """Open a file or folder of features, and find its ids and labels.

    Args:
        path: a file or folder as `substrate_jax.features.files` lists them.

    Raises:
        ValueError: no such file, one that is damaged or of another kind, rows without ids, with
            ids of another number, or with an id twice.

    Example:
        >>> import pathlib
        >>> np.save("a.npy", np.ones((2, 3)))
        >>> _ = pathlib.Path("a.ids.txt").write_text("cat/1.png\\ncat/2.png\\n")
        >>> file = open_features("a.npy")
        >>> file.ids, file.rows(file.key_of("mine")).shape
        (('cat/1.png', 'cat/2.png'), (2, 3))
    """
    given = os.fspath(path)
    file = resolved(user_path(path, given), given)
    folders: Sequence[Path] = ()
    if file.is_dir():
        files, contents = read_folder(file)
        folders = [files[0].parent.parent]
    else:
        if not file.is_file():
            what = special_kind(file) or "no such file or folder"
            raise ValueError(f"{readable(given)}: {what}; give a file of features")
        if (reader := _READERS.get(file.suffix.lower())) is None:
            raise ValueError(
                f"{readable(given)}: {file.suffix or 'a file without suffix'} is not read; give "
                f"one of {', '.join(_READERS)} (pickles such as .pt are never opened)"
            )
        files, contents = (file,), reader(file)
    if not contents.blocks:
        raise ValueError(
            f"{readable(given)} holds no array of two dimensions; give [rows, features]"
        )
    counts = {key: len(block) for key, block in contents.blocks.items()}
    n = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"{readable(given)} holds blocks of several lengths: "
            f"{first_of(f'{key} {count}' for key, count in counts.items())}; give all the same rows"
        )
    ids = _ids(contents, files[0], folders, n, readable(given))
    labels, names = None, ()
    if contents.labels is not None:
        labels, names = numbered_labels(contents.labels, contents.label_names, ids, readable(given))
    elif (listed := beside(files[0], "labels", folders)) is not None:
        words = numbers_or_words(listed[1])
        labels, names = numbered_labels(words, None, ids, readable(str(listed[0])))
    return FeatureFile(given, files, ids, labels, names, contents.blocks)


def _ids(
    contents: Contents, file: Path, folders: Sequence[Path], n: int, where: str
) -> tuple[str, ...]:
    if contents.ids is not None:
        ids, source = texts(contents.ids, where, "ids"), where
    elif (listed := beside(file, "ids", folders)) is not None:
        ids, source = listed[1], readable(str(listed[0]))
    else:
        raise ValueError(
            f"{where}: its rows have no ids; write {file.with_suffix('.ids.txt').name} beside it "
            "with the id of a row on each line"
        )
    if len(ids) != n:
        raise ValueError(f"{where} has {n} rows and {len(ids)} ids ({source}); give one per row")
    if not n:
        raise ValueError(f"{where} has no rows; give at least one")
    if empty := [row for row, one in enumerate(ids) if not one]:
        raise ValueError(f"{where}: row {empty[0]} has an empty id ({source}); give every row one")
    if len(set(ids)) < n:
        seen: set[str] = set()
        twice = dict.fromkeys(one for one in ids if one in seen or seen.add(one))
        raise ValueError(
            f"{where}: {len(twice)} ids appear twice ({source}): {first_of(twice)}; give every row "
            "its own"
        )
    return tuple(ids)
