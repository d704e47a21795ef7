"""Arithmetic that all kernels share: full precision, safe division, and sums over shards.

Kernels run on one device or, inside `jax.shard_map`, on the shards of a mesh. The functions that
take an `axis_name` do what their name says over all shards of that axis, and without one (None)
over the rows at hand, so that one program serves both. An axis that is not mapped is refused with a
ValueError. Two kernels shard the features too: `MeshAxes` names both axes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from .validate import all_rows, axis_size

HIGHEST = jax.lax.Precision.HIGHEST
Tree = TypeVar("Tree")
# What public functions take; they give arrays of JAX.
AnyArray = Array | np.ndarray


def matmul(a: Float[Array, "*a"], b: Float[Array, "*b"]) -> Float[Array, "*c"]:
    """The product at full precision, which accelerators do not give unasked."""
    return jnp.matmul(a, b, precision=HIGHEST)


def divide(numerator, denominator) -> Array:
    """numerator / denominator, and 0 with a zero gradient where the denominator is 0."""
    empty = denominator == 0
    return jnp.where(empty, 0, numerator / jnp.where(empty, 1, denominator))


def root(x) -> Array:
    """sqrt(x), and 0 with a zero gradient where x is 0 or less."""
    empty = x <= 0
    return jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, x)))


def power_of_two(x) -> Array:
    """The largest power of two that is at most x, a unit that rounds nothing; x where not > 0."""
    x = jax.lax.stop_gradient(x)
    unit = jnp.ldexp(jnp.ones_like(x), jnp.frexp(x)[1] - 1)
    return jnp.where((x > 0) & jnp.isfinite(x), unit, x)


def is_constant(deviation: Float[Array, "*s"], magnitude: Float[Array, "*s"], dtype) -> Array:
    """Whether a deviation from the center is no more than the rounding of values so large.

    The threshold is 8 eps max|x|: what a constant leaves behind when it was itself the result of a
    few roundings. Features with std/mean below 1e-6 in float32 are thus called constant.
    """
    return deviation <= 8 * jnp.finfo(dtype).eps * magnitude


def mirror(upper: Shaped[Array, "*b E E"]) -> Shaped[Array, "*b E E"]:
    """The symmetric matrix with this upper triangle."""
    return jnp.triu(upper) + jnp.swapaxes(jnp.triu(upper, 1), -1, -2)


class MeshAxes(NamedTuple):
    """Mesh axes that the rows and the features of every encoder are sharded over, None if not."""

    rows: Any = None
    features: Any = None


def psum(x: Tree, axis_name) -> Tree:
    """Sum over the shards."""
    if axis_name is None:
        return x
    axis_size(axis_name)  # refuses one that is not mapped
    return jax.lax.psum(x, axis_name)


def pmax(x: Tree, axis_name) -> Tree:
    """Maximum over the shards; a constant to differentiation."""
    x = jax.lax.stop_gradient(x)
    if axis_name is None:
        return x
    axis_size(axis_name)
    return jax.lax.pmax(x, axis_name)


@overload
def gather_rows(x: None, axis_name, axis: int = 0) -> None: ...
@overload
def gather_rows(x: Array | np.ndarray, axis_name, axis: int = 0) -> Array: ...
def gather_rows(x, axis_name, axis=0):
    """The shards of all devices side by side, as an array of JAX; None stays None."""
    if x is None:
        return None
    x = jnp.asarray(x)
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=axis, tiled=True)


def from_first(x: Tree, axis_name) -> Tree:
    """What the first device holds, as a value that all devices are known to share."""
    if axis_name is None:
        return x
    here = jax.lax.axis_index(axis_name) == 0
    return psum(jax.tree.map(lambda a: jnp.where(here, a, 0), x), axis_name)


def count_rows(local_rows: int, mask, axis_name) -> Int[Array, ""]:
    """How many rows count, over all shards; all do without a mask."""
    local = jnp.asarray(local_rows, jnp.int32) if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return psum(local, axis_name)


def valid_rows(local_rows: int, mask, axis_name) -> Bool[Array, " m"]:
    """Which of the rows of all shards count; all do without a mask."""
    if mask is None:
        return jnp.ones(all_rows(local_rows, axis_name), bool)
    return gather_rows(mask, axis_name)
