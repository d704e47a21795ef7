"""Arithmetic that all kernels share: full precision, safe division, sums over shards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .validate import axis_size

HIGHEST = jax.lax.Precision.HIGHEST


def psum(x, axis_name):
    """Sum over the shards of `axis_name`; the identity when there is none."""
    if axis_name is None:
        return x
    axis_size(axis_name)  # refuses one that is not mapped
    return jax.lax.psum(x, axis_name)


def pmax(x, axis_name):
    """Maximum over the shards of `axis_name`; a constant to differentiation."""
    x = jax.lax.stop_gradient(x)
    if axis_name is None:
        return x
    axis_size(axis_name)
    return jax.lax.pmax(x, axis_name)


def gather_rows(x, axis_name, axis=0):
    """The shards of all devices side by side, as an array of JAX; None stays None."""
    if x is None:
        return None
    x = jnp.asarray(x)
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=axis, tiled=True)


def from_first(x, axis_name):
    """What the first device holds, as a value that all devices are known to share."""
    if axis_name is None:
        return x
    here = jax.lax.axis_index(axis_name) == 0
    return psum(jax.tree.map(lambda a: jnp.where(here, a, 0), x), axis_name)


def matmul(a, b):
    """The product at full precision, which accelerators do not give unasked."""
    return jnp.matmul(a, b, precision=HIGHEST)


def count_rows(rows: int, mask, axis_name) -> Int[Array, ""]:
    """Rows that count, over all shards."""
    local = jnp.asarray(rows, jnp.int32) if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return psum(local, axis_name)


def divide(numerator, denominator):
    """numerator / denominator, and 0 with a zero gradient where the denominator is 0."""
    empty = denominator == 0
    return jnp.where(empty, 0, numerator / jnp.where(empty, 1, denominator))


def is_constant(deviation, magnitude, dtype):
    """Whether a deviation from the center is no more than the rounding of values so large.

    The threshold is 8 eps max|x|: what a constant leaves behind when it was itself the result of a
    few roundings. Features with std/mean below 1e-6 in float32 are thus called constant.
    """
    return deviation <= 8 * jnp.finfo(dtype).eps * magnitude


def mirror(upper: Float[Array, "*b E E"]) -> Float[Array, "*b E E"]:
    """The symmetric matrix with this upper triangle."""
    return jnp.triu(upper) + jnp.swapaxes(jnp.triu(upper, 1), -1, -2)
