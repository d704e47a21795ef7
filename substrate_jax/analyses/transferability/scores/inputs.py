"""What every score takes: features, labels, sizes that programs share, and float64.

Compiling takes longer than most scores, so programs are shared: rows, classes and coordinates are
padded with zeros to a size of a short list, and the true sizes are numbers that a program is given.
A padded row has no class (its row of `Classes.one_hot` is zero), a padded class no rows, a padded
coordinate no variance.

Arithmetic is in float64 whatever JAX is set to, because the evidence, the coding rate and the
Fisher spaces sum logarithms or inverses of eigenvalues that span more digits than float32 has.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Float64, Int
from numpy.typing import ArrayLike

from substrate_jax.kernels.validate import check_finite, check_matrix

Function = TypeVar("Function", bound=Callable[..., Any])


def in_float64(function: Function) -> Function:
    """Runs a function with JAX's 64-bit types enabled."""

    @functools.wraps(function)
    def run(*arguments, **options):
        with jax.enable_x64(True):
            return function(*arguments, **options)

    return run  # pyright: ignore[reportReturnType]


def program(function: Function, *static: str, **options: Any) -> Function:
    """`function` compiled, in float64; arguments named in `static` are constants of it.

    Args:
        function: of arrays.
        static: names of its constants.
        options: of the compiler.
    """
    compiled = jax.jit(function, static_argnames=static, compiler_options=options or None)
    return in_float64(compiled)  # pyright: ignore[reportReturnType]


def shared_size(size: int, least: int) -> int:
    """The smallest of least, 2 least, 3 least, 4 least, 6 least, 8 least, ... that holds `size`.

    Example:
      >>> [shared_size(size, 128) for size in (96, 152, 384, 768, 1280)]
      [128, 256, 384, 768, 1536]
    """
    power = least
    while 2 * power < size:
        power *= 2
    if size <= power:
        return power
    return 3 * power // 2 if power > least and size <= 3 * power // 2 else 2 * power


def filled_up(array: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n columns"]:
    """Features and zeros beyond, in a number of columns that encoders share.

    Programs of fewer columns compile for as long, and run for moments.

    Example:
      >>> filled_up(np.ones((2, 96), np.float32)).shape
      (2, 512)
    """
    d = array.shape[1]
    return np.pad(array, ((0, 0), (0, shared_size(d, 512) - d)))


def shared_rows(rows: int) -> int:
    """Rows that a program is compiled for."""
    return -(-rows // 128) * 128


def checked_features(features: ArrayLike, name: str = "features") -> np.ndarray | Array:
    """Features as an array, refused unless finite, [n, d] and of at least two rows."""
    array = features if isinstance(features, jax.Array) else np.asarray(features)
    check_matrix(name, array)
    if array.shape[0] < 2:
        raise ValueError(f"{name} must have at least 2 rows, got {array.shape[0]}: give more rows.")
    check_finite([array], [name])
    return array


@dataclasses.dataclass(frozen=True)
class Classes:
    """The labels of a target.

    Attributes:
      codes: [n] class of each row, 0..C-1 in the order of the labels; every class has a row.
      counts: [C] rows of each class.
      one_hot: [rows, classes] of shared sizes, 1 where the row has the class.
      padded: [rows] the codes, -1 for rows that are none.
    """

    codes: Int[np.ndarray, " n"]
    counts: Int[np.ndarray, " C"]
    one_hot: Float64[np.ndarray, "rows classes"]
    padded: Int[np.ndarray, " rows"]

    @property
    def number(self) -> int:
        """How many classes there are."""
        return len(self.counts)

    def rows_by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """[classes, m] numbers of the rows of each class, and whether an entry is one."""
        longest = shared_size(int(self.counts.max()), 256)
        index = np.zeros((self.one_hot.shape[1], longest), np.int32)
        valid = np.zeros(index.shape, bool)
        for code, count in enumerate(self.counts):
            index[code, :count] = np.flatnonzero(self.codes == code)
            valid[code, :count] = True
        return index, valid


def classes_of(labels: ArrayLike, rows: int, score: str, *, least: int = 1) -> Classes:
    """Checked labels.

    Args:
      labels: [n] integers >= 0; classes that no row has do not count.
      rows: n.
      score: who asks, for the message.
      least: the fewest rows a class may have.

    Raises:
      ValueError: labels that are no integers, negative, not one per row, of one class only, or a
        class with fewer than `least` rows.

    Example:
      >>> classes_of([0, 0, 3], 3, "LogME").counts.tolist()
      [2, 1]
      >>> classes_of([0, 0, 3], 3, "GBC", least=2)
      Traceback (most recent call last):
          ...
      ValueError: labels have 1 row of class 3, and GBC needs 2 of each: add rows or drop it.
    """
    array = np.asarray(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels must be integers, got {array.dtype}: use np.unique(labels, "
            "return_inverse=True)[1]."
        )
    if array.shape != (rows,):
        raise ValueError(
            f"labels must have shape ({rows},), one for each row of features, got {array.shape}: "
            "align them."
        )
    if array.min() < 0:
        raise ValueError(
            f"labels must not be negative, got {array.min()}: drop rows without a class."
        )
    values, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(values) < 2:
        raise ValueError(
            f"labels hold one class only, {values[0]}: give rows of at least two classes."
        )
    if counts.min() < least:
        few = int(np.argmin(counts))
        raise ValueError(
            f"labels have {counts[few]} row of class {values[few]}, and {score} needs {least} of "
            "each: add rows or drop it."
        )
    padded = np.full(shared_rows(rows), -1)
    padded[:rows] = codes
    one_hot = np.zeros((len(padded), shared_size(len(values), 16)))
    one_hot[np.arange(rows), codes] = 1
    return Classes(codes, counts, one_hot, padded)
