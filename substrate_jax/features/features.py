"""Blocks of features, in memory or read from a store on demand, with the ids of their rows."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from substrate_jax.features.files import FileRows, match_rows, open_features, write_features
from substrate_jax.features.store import FeatureStore


class StoredRows:
    """An [n, d] block whose rows are read from a store when they are asked for.

    `block[rows]` takes a slice or row numbers and reads each chunk it touches once;
    `np.asarray(block)` reads everything.

    Args:
      store: where the chunks are.
      key: of the block.
      stored_rows: rows in the store.
      width: features per row.
      keep: [n] numbers of the rows that count, ascending.

    Raises:
      ValueError: on reading, rows that are no longer in the store.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     store = FeatureStore(folder, chunk_rows=2)
      ...     for chunk in range(2):
      ...         store.write("key", chunk, np.full((2, 3), chunk, np.float32))
      ...     block = StoredRows(store, "key", 4, 3, np.array([0, 1, 3]))
      ...     block.shape, block[1:].tolist()
      ((3, 3), [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        store: FeatureStore,
        key: str,
        stored_rows: int,
        width: int,
        keep: Int64[np.ndarray, " n"],
    ):
        self._store, self._key, self._stored_rows, self._keep = store, key, stored_rows, keep
        self.shape = (len(keep), width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int]) -> Float32[np.ndarray, "m d"]:
        wanted = self._keep[rows]
        values = np.empty((len(wanted), self.shape[1]), np.float32)
        size = self._store.chunk_rows
        chunks = wanted // size
        for chunk in np.unique(chunks):
            start = int(chunk) * size
            length = min(size, self._stored_rows - start)
            stored = self._store.read(self._key, int(chunk), length, self.shape[1])
            if stored is None:
                raise ValueError(
                    f"rows {start} to {start + length - 1} of {self._key} have left the store "
                    f"{self._store.path}; run again, and let every process see one folder"
                )
            here = chunks == chunk
            values[here] = stored[wanted[here] - start]
        return values

    def __array__(self, dtype=None, copy=None) -> Float32[np.ndarray, "n d"]:
        return np.asarray(self[:], dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Mapping[str, Any]):
    """Features of several encoders on the same rows; a mapping from encoder name to [n, d].

    Args:
      ids: one per row, unique.
      labels: int64 [n], or None.
      arrays: encoder name -> float32 [n, d], arrays, `StoredRows` or `files.FileRows`.
      label_names: word of each label, where known.

    Raises:
      ValueError: a block with another number of rows than there are ids.

    Example:
      >>> features = Features(("a", "b"), None, {"one": np.ones((2, 3), np.float32)})
      >>> list(features), features["one"].shape
      (['one'], (2, 3))
    """

    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"] | None
    arrays: Mapping[str, Float32[np.ndarray, "n d"] | StoredRows | FileRows]
    label_names: tuple[str, ...] = ()

    def __post_init__(self):
        blocks = (
            dict(self.arrays) if self.labels is None else {**self.arrays, "labels": self.labels}
        )
        for name, block in blocks.items():
            if len(block) != len(self.ids):
                raise ValueError(f"{name} has {len(block)} rows for {len(self.ids)} ids")

    def __getitem__(self, name: str) -> Float32[np.ndarray, "n d"] | StoredRows | FileRows:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def _repr_markdown_(self) -> str:
        labels = "no labels" if self.labels is None else f"{len(np.unique(self.labels))} labels"
        rows = [f"| {name} | {block.shape[1]:,} |" for name, block in self.arrays.items()]
        head = ["| encoder | width |", "|---|---:|"]
        return "\n".join([f"Features of {len(self.ids):,} rows, {labels}", "", *head, *rows])

    @classmethod
    def read(cls, path: str | os.PathLike, *, pool: str | None = None) -> "Features":
        """Features made elsewhere, or by `write`; `substrate_jax.features.files` lists the formats.

        Args:
          path: .npy, .npz, .safetensors, .h5, .csv, .parquet, or a folder of thingsvision.
          pool: "mean", "flatten" or "first", for activations of more than two dimensions.

        Returns:
          Its blocks by their keys; a file of one array has it under the name of the file.

        Raises:
          ValueError: no such file, a damaged one, rows without an id of their own, or values that
            are no finite numbers, by the ids of their rows.

        Example:
          >>> Features(("a", "b"), None, {"one": np.ones((2, 3))}).write("two.npz")
          >>> Features.read("two.npz").ids
          ('a', 'b')
        """
        file = open_features(path)
        arrays = {key: file.rows(key, pool) for key in file.blocks}
        return cls(file.ids, file.labels, arrays, file.label_names)

    def write(self, path: str | os.PathLike) -> None:
        """Write to a file that `read` reads back to the same bits; it appears whole or not at all.

        Args:
          path: ends in .safetensors, for 100 MB of ids at most, or in .npz.

        Raises:
          ValueError: another suffix, no encoder, one that is called ids or labels, or a path that
            cannot be written.
        """
        write_features(path, self.ids, self.labels, self.label_names, self.arrays)

    def matched(self, ids: Sequence[str]) -> "Features":
        """The rows of the given ids, in their order.

        Args:
          ids: such as those of other features, to `join` them.

        Raises:
          ValueError: ids that are missing here; ten of them, and how many more.

        Example:
          >>> features = Features(("a", "b"), None, {"one": np.array([[1.0], [2.0]], np.float32)})
          >>> features.matched(["b", "a"])["one"].tolist()
          [[2.0], [1.0]]
        """
        order = match_rows(self.ids, ids, "these features", "those asked for")
        return dataclasses.replace(
            self,
            ids=tuple(ids),
            labels=None if self.labels is None else self.labels[order],
            arrays={name: block[order.tolist()] for name, block in self.arrays.items()},
        )

    def join(self, other: "Features") -> "Features":
        """The encoders of both, which must have the same rows in the same order.

        Args:
          other: features of other encoders on the same source.

        Returns:
          Features with the blocks of `self`, then those of `other`.

        Raises:
          ValueError: ids differ (the first place is named), or an encoder is in both.
        """
        for row, (mine, theirs) in enumerate(zip(self.ids, other.ids, strict=False)):
            if mine != theirs:
                raise ValueError(
                    f"row {row} is {mine!r} here and {theirs!r} there; "
                    "extract both from one source before joining"
                )
        if len(self.ids) != len(other.ids):
            longer = max(self.ids, other.ids, key=len)
            first = longer[min(len(self.ids), len(other.ids))]
            raise ValueError(
                f"{len(self.ids)} rows here and {len(other.ids)} there, {first!r} on one side "
                "only; extract both from one source before joining"
            )
        if twice := sorted(self.keys() & other.keys()):
            raise ValueError(f"encoder {twice[0]!r} is in both; drop one before joining")
        return dataclasses.replace(self, arrays={**self.arrays, **other.arrays})
