"""Rows of numbers as they lie in a file, to float32 [n, d] when they are asked for.

Activations of more than two dimensions become one row each:

    mean     over all positions: [n, tokens, c], [n, h, w, c] or [n, c, h, w] to [n, c]. Of four
             dimensions the two neighboring equal ones are the positions; where that does not
             decide, they are refused
    first    the first token of [n, tokens, c]
    flatten  everything, in the order of the file

Cost: 4 d bytes per row asked for, and a pass over the file for `check_finite`.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from substrate_jax.data.paths import first_of

POOLS = ("mean", "flatten", "first")
_BLOCK_BYTES = 2**24  # read at a time


class FileRows:
    """An [n, d] block of float32 whose rows are read when they are asked for.

    `block[rows]` takes a slice or row numbers, `np.asarray(block)` reads everything.

    Args:
        values: [m, ...] numbers, in memory or mapped from a file.
        pool: of `POOLS`; None for values of two dimensions.
        where: what to call them in messages.
        order: [n] numbers of the rows that count; all by default.

    Raises:
        ValueError: values that are no numbers, of one dimension, or of more than two which `pool`
            cannot make one row each of.

    Example:
        >>> block = FileRows(np.arange(12).reshape(2, 3, 2), "mean", "a.npy")
        >>> block.shape, block[:1].tolist()
        ((2, 2), [[2.0, 3.0]])
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self,
        values: Shaped[np.ndarray, "m ..."],
        pool: str | None,
        where: str,
        order: Int64[np.ndarray, " n"] | None = None,
    ):
        _check_dtype(values.dtype, where)
        self._values, self._where = values, where
        self._order = np.arange(len(values)) if order is None else order
        self._axes = _averaged_axes(values.shape, pool, where)
        self._first = pool == "first" and len(values.shape) > 2
        self.shape = (len(self._order), self._width(values.shape[1:]))
        if not self.shape[1]:
            raise ValueError(f"{where} is {list(values.shape)}; give at least one feature")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Sequence[int]) -> Float32[np.ndarray, "k d"]:
        picked = self._values[self._order[rows]]
        if self._first:
            picked = picked[:, 0]
        elif self._axes:  # in double precision, as half would not hold the sum
            picked = picked.astype(np.float64).mean(axis=self._axes)
        with np.errstate(over="ignore", invalid="ignore"):
            return picked.reshape(len(picked), -1).astype(np.float32)

    def __array__(self, dtype=None, copy=None) -> Float32[np.ndarray, "n d"]:
        return np.asarray(self[:], dtype)

    def check_finite(self, ids: Sequence[str]) -> None:
        """Refuse rows that hold NaN, infinity, or what float32 cannot hold.

        Args:
            ids: of the rows.

        Raises:
            ValueError: their ids.
        """
        bad: list[int] = []
        size = max(8 * math.prod(self._values.shape[1:]), 1)
        step = max(1, _BLOCK_BYTES // size)
        for start in range(0, len(self), step):
            finite = np.isfinite(self[start : start + step]).all(axis=1)
            bad += (np.flatnonzero(~finite) + start).tolist()
        if bad:
            raise ValueError(
                f"{self._where}: NaN, infinity or a number beyond float32 in {len(bad)} of "
                f"{len(self)} rows: {first_of(ids[row] for row in bad)}; leave them out of every "
                "file, or write them anew"
            )

    def _width(self, shape: tuple[int, ...]) -> int:
        if self._first:
            return shape[1]
        return math.prod(size for axis, size in enumerate(shape, 1) if axis not in self._axes)


def _check_dtype(dtype: np.dtype, where: str) -> None:
    """Refuse what is no real number."""
    if dtype.kind in "biuf" or dtype.name == "bfloat16":
        return
    hint = ""
    if dtype.kind == "V":
        hint = (
            " (NumPy loses the type of bfloat16 on saving: save it as float32, or as safetensors)"
        )
    raise ValueError(f"{where} has dtype {dtype}{hint}; give whole or floating-point numbers")


def _averaged_axes(shape: tuple[int, ...], pool: str | None, where: str) -> tuple[int, ...]:
    """The axes to average over; () for none."""
    if len(shape) < 2:
        raise ValueError(f"{where} is {list(shape)}; give [rows, features]")
    if len(shape) == 2:
        return ()
    if pool not in POOLS:
        raise ValueError(
            f"{where} is {list(shape)}, more than two dimensions; give pool={', '.join(POOLS)}, "
            "which make one row of each"
        )
    if pool == "flatten":
        return ()
    if 0 in shape[1:]:
        raise ValueError(f"{where} is {list(shape)}; give at least one feature")
    if pool == "first":
        if len(shape) == 3:
            return ()
        raise ValueError(f"{where} is {list(shape)}; pool=first needs [rows, tokens, features]")
    if len(shape) == 3:
        return (1,)
    if len(shape) == 4:
        last, first = shape[1] == shape[2], shape[2] == shape[3]
        if last != first:
            return (1, 2) if last else (2, 3)
    raise ValueError(
        f"{where} is {list(shape)}: which axes are positions is not clear; average over them "
        "before writing, or give pool=flatten"
    )
