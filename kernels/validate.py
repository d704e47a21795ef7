"""Checks shared by the kernels: one-line `ValueError`s that name argument, value and fix.

All but `check_finite` look at static facts (shape, dtype, options) only: they work under `jax.jit`
and cost nothing at run time. `check_finite` reads the values, on the host, before any program.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

CHUNK_BYTES = 1 << 24  # of a host array inspected at once
MOST_ROWS = 46_340  # n (n-1) < 2^31


def check_matrix(name: str, x) -> None:
    """Raises ValueError unless `x` is a floating-point array of [rows, features]."""
    if not hasattr(x, "dtype"):
        raise ValueError(f"{name} must be an array, got {type(x).__name__}: use jnp.asarray.")
    if jnp.ndim(x) != 2:
        raise ValueError(f"{name} must be [rows, features], got shape {jnp.shape(x)}: reshape it.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be real floating-point, got {x.dtype}: cast it first.")
    if x.shape[1] == 0:
        raise ValueError(f"{name} has no features, got shape {x.shape}: drop it.")


def check_mask(mask, rows: int) -> None:
    """Raises ValueError unless `mask` is None or a boolean vector with one entry for each row."""
    if mask is None:
        return
    if jnp.shape(mask) != (rows,) or jnp.asarray(mask).dtype != jnp.bool_:
        raise ValueError(
            f"mask must be bool of shape ({rows},), got {jnp.asarray(mask).dtype} of shape "
            f"{jnp.shape(mask)}: give one truth value per row."
        )


def check_strata(strata, rows: int) -> None:
    """Raises ValueError unless `strata` is None or holds one integer label for each row."""
    if strata is None:
        return
    dtype = jnp.asarray(strata).dtype
    if jnp.shape(strata) != (rows,) or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(
            f"strata must be integers of shape ({rows},), got {dtype} of shape "
            f"{jnp.shape(strata)}: give one label per row."
        )


def check_rows(rows: int, minimum: int, why: str) -> None:
    """Raises ValueError if there are fewer than `minimum` rows."""
    if rows < minimum:
        raise ValueError(f"{why} needs at least {minimum} rows, got {rows}: give more rows.")


def check_pairs(rows: int) -> None:
    """Raises ValueError if there are more pairs of rows than 32 bits count."""
    if rows > MOST_ROWS:
        raise ValueError(f"pairs are counted in 32 bits, got {rows} rows: give at most {MOST_ROWS}")


def check_blocks(blocks: Sequence, mask=None) -> None:
    """Raises ValueError unless `blocks` are matrices with the same rows, which `mask` fits."""
    if isinstance(blocks, jax.Array) or not blocks:
        raise ValueError(
            f"blocks must be a non-empty sequence of matrices, got {type(blocks).__name__}: "
            "give one [rows, features] array per encoder."
        )
    for index, block in enumerate(blocks):
        check_matrix(f"blocks[{index}]", block)
    counts = [block.shape[0] for block in blocks]
    if len(set(counts)) > 1:
        raise ValueError(f"blocks have {counts} rows: align them so that all have the same rows.")
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
      ValueError: naming the first such block, how many of its rows are affected, and the first 5.

    Example:
      >>> check_finite([jnp.ones((3, 2)), jnp.array([[0.0], [jnp.nan], [1.0]])], ["a", "b"])
      Traceback (most recent call last):
          ...
      ValueError: b holds NaN or inf in 1 of 3 rows (1): drop these rows from all blocks.
    """
    for index, block in enumerate(blocks):
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
            name = f"blocks[{index}]" if names is None else names[index]
            raise ValueError(
                f"{name} holds NaN or inf in {len(rows)} of {len(finite)} rows ({listed}): drop "
                "these rows from all blocks."
            )
