"""Checks shared by the kernels: one-line `ValueError`s that name the argument, the value, the mend.

Only static facts (shape, dtype, options) are checked, so every check works under `jax.jit` and
costs nothing at run time. Values such as NaN are not inspected.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def check_matrix(name: str, x) -> None:
    """Raises ValueError unless `x` is a floating-point array of [rows, features]."""
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
    if jnp.shape(mask) != (rows,) or mask.dtype != jnp.bool_:
        raise ValueError(
            f"mask must be bool of shape ({rows},), got {mask.dtype} of shape {jnp.shape(mask)}: "
            "give one truth value a row."
        )


def check_rows(rows: int, minimum: int, why: str) -> None:
    """Raises ValueError if there are fewer than `minimum` rows."""
    if rows < minimum:
        raise ValueError(f"{why} needs at least {minimum} rows, got {rows}: give more rows.")


def check_blocks(blocks: Sequence, mask=None) -> None:
    """Raises ValueError unless `blocks` are matrices with the same rows, which `mask` fits."""
    if isinstance(blocks, jax.Array) or not blocks:
        raise ValueError(
            f"blocks must be a non-empty sequence of matrices, got {type(blocks).__name__}: "
            "give one [rows, features] array an encoder."
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


def check_option(name: str, value: str, options: Sequence[str]) -> None:
    """Raises ValueError unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}.")


def compute_dtype(*arrays) -> jnp.dtype:
    """The dtype kernels compute in: float64 if any input is, else float32 (halves are upcast)."""
    dtypes = [array.dtype for array in arrays]
    return jnp.dtype(jnp.float64 if jnp.dtype(jnp.float64) in dtypes else jnp.float32)


def all_rows(local_rows: int, axis_name) -> int:
    """Rows over all shards of `axis_name` (static), padding included."""
    return local_rows if axis_name is None else local_rows * jax.lax.axis_size(axis_name)
