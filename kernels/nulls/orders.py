"""Random orders of the rows, and any statistic under them.

Each draw is one order of the rows, the same for all pairs, so that the joint null (of a maximum
over pairs, say) is kept. An order is a function of the key and its number alone: neither the number
of draws, nor the batch, nor the devices change it. With `strata` the rows are permuted within their
stratum (video, class, patient) only, which is the null when rows are exchangeable there and nowhere
else.

A statistic of the rows of several encoders at once takes an order for each of them instead
(`sides`): then any two are shuffled against each other in every draw.

Cost: a sort of n for a draw and side, and the statistic. The draws are split over the devices of a
mesh; no draw communicates.

References:
    Winkler, Webster, Vidaurre, Nichols, Smith (2015), Multi-level block permutation. NeuroImage
    123.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

from ..arithmetic import AnyArray
from ..validate import all_rows, check_at_least


def needs_arrays(summary: object) -> ValueError:
    """The refusal of sums of the features where only the features can be permuted."""
    return ValueError(
        f"blocks must be arrays for method 'permutation', got {type(summary).__name__}: give the "
        "features themselves."
    )


def check_draws(key: jax.Array | None, permutations: int, alpha: float) -> jax.Array:
    """The key; raises ValueError if there is none, or too few draws for the level."""
    if key is None:
        raise ValueError(
            "key must be a jax.random.key for method 'permutation', got None: give "
            "jax.random.key(0), say."
        )
    if (permutations + 1) * alpha < 1:
        raise ValueError(
            f"permutations must be at least 1 / alpha - 1 = {math.ceil(1 / alpha) - 1}, "
            f"got {permutations}: draw more, or tau is the observed maximum."
        )
    return key


def row_order(key, rows: int, mask=None, strata=None) -> Int[Array, " n"]:
    """A random order: uniform within each stratum of the rows that count, the others in place."""
    shuffled = jax.random.permutation(key, rows)
    if mask is None and strata is None:
        return shuffled
    groups = [] if strata is None else [jnp.asarray(strata)]
    groups += [] if mask is None else [~jnp.asarray(mask)]
    # The rows of each group, in random order, are dealt to the places of that group.
    dealt = shuffled[jnp.lexsort([group[shuffled] for group in groups])]
    order = jnp.zeros_like(dealt).at[jnp.lexsort(groups)].set(dealt)
    return order if mask is None else jnp.where(mask, order, jnp.arange(rows))


def row_orders(key, permutations: int, rows: int, mask=None, strata=None) -> Int[Array, "p n"]:
    """The orders of `sample_null`, all of them."""

    def order(number):
        return row_order(jax.random.fold_in(key, number), rows, mask, strata)

    return jax.lax.map(order, jnp.arange(permutations))


def sample_null(
    statistic: Callable[[Int[Array, " n"]], Shaped[Array, "*shape"]],
    key: jax.Array,
    permutations: int,
    rows: int,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    strata: Int[AnyArray, " n"] | None = None,
    axis_name=None,
    batch: int = 1,
    sides: int | None = None,
) -> Shaped[Array, " p *shape"]:
    """A statistic under random orders of the rows, the draws split over the devices.

    Args:
      statistic: of an order of all rows [rows], or of [sides, rows]; must not communicate over
        `axis_name`.
      key: a `jax.random.key`. Draw i depends on it, i, `rows`, `mask` and `strata` alone.
      permutations: draws, at least 1.
      rows: in all.
      mask: [rows] rows that count; the others stay in place.
      strata: [rows] labels; rows are permuted within their label only.
      axis_name: mesh axis the draws are split over, if any; everything else is replicated.
      batch: draws computed at once. On CPU 1 is fastest (2 to 3 times); accelerators want more.
      sides: how many independent orders the statistic takes; None for one.

    Returns:
      [permutations, *shape], the same on all devices.

    Raises:
      ValueError: if there is no draw or no batch, or `axis_name` is not bound.

    Example:
      >>> x = jnp.arange(4.0)
      >>> null = sample_null(lambda order: x @ x[order], jax.random.key(0), 100, 4)
      >>> null.shape, float(null.max())  # the identity is among the draws
      ((100,), 14.0)
    """
    check_at_least("permutations", permutations, 1)
    check_at_least("batch", batch, 1)
    if sides is not None:
        check_at_least("sides", sides, 1)
    devices = all_rows(1, axis_name)
    share = math.ceil(permutations / devices)
    first = 0 if axis_name is None else share * jax.lax.axis_index(axis_name)

    def order(key):
        return row_order(key, rows, mask, strata)

    def draw(number):
        own = jax.random.fold_in(key, number)
        if sides is None:
            return statistic(order(own))
        return statistic(jax.vmap(order)(jax.random.split(own, sides)))

    numbers = first + jnp.arange(share)
    null = jax.lax.map(draw, numbers, batch_size=None if batch == 1 else batch)
    if axis_name is not None:
        everyone = jnp.zeros((share * devices, *null.shape[1:]), null.dtype)
        placed = jax.lax.dynamic_update_slice_in_dim(everyone, null, first, 0)
        null = jax.lax.psum(placed, axis_name)
    return null[:permutations]
