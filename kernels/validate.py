"""Checks shared by the kernels: one-line `ValueError`s that name argument, value and fix.

All but `check_finite` look at static facts (shape, dtype, options) only: they work under `jax.jit`
and cost nothing at run time. `check_finite` reads the values, on the host, before any program.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CHUNK_BYTES = 1 << 24  # of a host array inspected at once
MOST_ROWS = 46_340  # n (n-1) < 2^31


def check_unmasked(name: str, x) -> None:
    """Raises ValueError if `x` is an array of `numpy.ma`, whose mask JAX would drop."""
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(
            f"{name} must not be a numpy.ma array, got {type(x).__name__}, whose mask would be "
            "lost: give its filled() values, and the rows that count as mask."
        )


def check_array(name: str, x) -> None:
    """Raises ValueError unless `x` is an array of JAX, or one of NumPy that JAX can take."""
    check_unmasked(name, x)
    if not isinstance(x, jax.Array | np.ndarray) or isinstance(x, np.matrix):
        raise ValueError(f"{name} must be an array, got {type(x).__name__}: use np.asarray.")
    if not x.dtype.isnative:
        raise ValueError(
            f"{name} must be in the byte order of this machine, got {x.dtype.str}: use "
            f"astype({x.dtype.name!r})."
        )


def check_floating(name: str, x) -> None:
    """Raises ValueError unless `x` is an array of floating-point numbers of at most 64 bits."""
    check_array(name, x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype.itemsize > 8:
        raise ValueError(f"{name} must be real floating-point, got {x.dtype}: cast it first.")


def check_matrix(name: str, x) -> None:
    """Raises ValueError unless `x` is a floating-point array of [rows, features]."""
    check_array(name, x)
    if jnp.ndim(x) != 2:
        raise ValueError(f"{name} must be [rows, features], got shape {jnp.shape(x)}: reshape it.")
    check_floating(name, x)
    if x.shape[1] == 0:
        raise ValueError(f"{name} has no features, got shape {x.shape}: drop it.")


def check_mask(mask, rows: int) -> None:
    """Raises ValueError unless `mask` is None or a boolean vector with one entry for each row."""
    if mask is None:
        return
    check_array("mask", mask)
    if mask.shape != (rows,) or mask.dtype != jnp.bool_:
        raise ValueError(
            f"mask must be bool of shape ({rows},), got {mask.dtype} of shape {mask.shape}: give "
            "one truth value per row."
        )


def check_strata(strata, rows: int) -> None:
    """Raises ValueError unless `strata` is None or holds one integer label for each row."""
    if strata is None:
        return
    check_array("strata", strata)
    if strata.shape != (rows,) or not jnp.issubdtype(strata.dtype, jnp.integer):
        raise ValueError(
            f"strata must be integers of shape ({rows},), got {strata.dtype} of shape "
            f"{strata.shape}: give one label per row, np.unique(labels, return_inverse=True)[1]."
        )


def check_rows(rows: int, minimum: int, why: str) -> None:
    """Raises ValueError if there are fewer than `minimum` rows."""
    if rows < minimum:
        raise ValueError(f"{why} needs at least {minimum} rows, got {rows}: give more rows.")


def check_pairs(rows: int) -> None:
    """Raises ValueError if there are more pairs of rows than 32 bits count."""
    if rows > MOST_ROWS:
        raise ValueError(f"pairs are counted in 32 bits, got {rows} rows: give at most {MOST_ROWS}")


def check_sequence(name: str, items) -> None:
    """Raises ValueError unless `items` is a list, tuple or other sequence that is not empty."""
    if isinstance(items, Sequence) and not isinstance(items, str | bytes) and len(items):
        return
    remedy = f"list({name}.values())" if isinstance(items, Mapping) else f"list({name})"
    raise ValueError(
        f"{name} must be a non-empty sequence of matrices, got {type(items).__name__}: "
        f"give one [rows, features] array per encoder, as in {remedy}."
    )


def check_blocks(blocks: Sequence, mask=None, *, least_rows: int = 1) -> None:
    """Raises ValueError unless `blocks` are matrices with the same rows, which `mask` fits."""
    check_sequence("blocks", blocks)
    for index, block in enumerate(blocks):
        check_matrix(f"blocks[{index}]", block)
    counts = [block.shape[0] for block in blocks]
    if len(set(counts)) > 1:
        raise ValueError(f"blocks have {counts} rows: align them so that all have the same rows.")
    if counts[0] < least_rows:
        raise ValueError(f"blocks need at least {least_rows} row, got {counts[0]}: give more rows.")
    check_mask(mask, counts[0])


def check_fraction(name: str, value: float) -> None:
    """Raises ValueError unless 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}: use 0.05, say.")


def check_at_least(name: str, value: int, minimum: int) -> None:
    """Raises ValueError if a number is below its minimum."""
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}: raise it.")


def check_option(name: str, value: str, options: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}.")


def compute_dtype(*arrays) -> jnp.dtype:
    """The dtype kernels compute in: float64 if any input is and x64 is enabled, else float32."""
    dtypes = [array.dtype for array in arrays]
    wide = jnp.float64 if jnp.dtype(jnp.float64) in dtypes else jnp.float32
    return jax.dtypes.canonicalize_dtype(wide)


def axis_size(axis_name) -> int:
    """Devices along a mesh axis, 1 without one (static).

    Raises:
      ValueError: outside a map over `axis_name`.
    """
    if axis_name is None:
        return 1
    try:
        return jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f"{axis_name!r} is not a mapped axis here: call this inside jax.shard_map over it, or "
            "leave the axis out."
        ) from None


def all_rows(local_rows: int, axis_name) -> int:
    """Rows over all shards of `axis_name` (static), padding included."""
    return local_rows * axis_size(axis_name)


def _check_stored(name: str, block: Any) -> None:
    """Raises ValueError unless `block` has the shape of a matrix and a dtype of numbers."""
    check_unmasked(name, block)
    dtype, shape = getattr(block, "dtype", None), getattr(block, "shape", ())
    try:
        numbers = dtype is not None and jnp.issubdtype(dtype, jnp.number)
    except TypeError:  # of another library
        numbers = False
    if not numbers or len(shape) != 2:
        raise ValueError(
            f"{name} must be an array of numbers [rows, features], got {type(block).__name__} of "
            f"dtype {dtype} and shape {tuple(shape)}: use np.asarray."
        )


@jax.jit
def _finite_rows(block):
    return jnp.all(jnp.isfinite(block), axis=1)


def check_finite(blocks: Sequence, names: Sequence[str] | None = None) -> None:
    """Raises ValueError if a block holds NaN or inf; on the host, not under `jax.jit`.

    Device arrays are reduced where they are, and n truth values come back; all others are read in
    slices of 16 MiB, so that rows kept on disk never lie in memory together.

    Args:
      blocks: arrays [n, d_e], or what gives arrays when sliced.
      names: of the blocks, for the message; "blocks[0]", ... by default.

    Raises:
      ValueError: naming the first such block, how many of its rows are affected, and the first 5;
        or a block that is no matrix of numbers.

    Example:
      >>> check_finite([jnp.ones((3, 2)), jnp.array([[0.0], [jnp.nan], [1.0]])], ["a", "b"])
      Traceback (most recent call last):
          ...
      ValueError: b holds NaN or inf in 1 of 3 rows (1): drop these rows from all blocks.
    """
    check_sequence("blocks", blocks)
    for index, block in enumerate(blocks):
        name = f"blocks[{index}]" if names is None else names[index]
        _check_stored(name, block)
        if isinstance(block, jax.Array):
            finite = np.asarray(_finite_rows(block))
        else:
            step = max(1, CHUNK_BYTES // max(1, block.dtype.itemsize * block.shape[1]))
            finite = np.ones(len(block), bool)
            for start in range(0, len(block), step):
                part = np.asarray(block[start : start + step])
                finite[start : start + step] = np.isfinite(part).all(axis=1)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            listed = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            raise ValueError(
                f"{name} holds NaN or inf in {len(rows)} of {len(finite)} rows ({listed}): drop "
                "these rows from all blocks."
            )
