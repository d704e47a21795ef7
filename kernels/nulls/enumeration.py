"""The null of few rows from all their orders, instead of its moments.

Up to `MOST_ROWS` = 8 rows have at most 40,320 orders, and a tail of three moments may say less than
one order's share of them. Then p is the share of all orders that reach the observed score, and tau
the ceil((1 - alpha) n!)-th smallest of their scores. Cost: n! n^2 E^2 flops for E encoders; memory
for n! E scores. Beyond 8 rows p is no less than 1 / n!, which is what it is of the best score.
"""

from __future__ import annotations

from itertools import permutations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST
from .p_values import ROUNDING

MOST_ROWS = 8
BATCH = 5040  # orders at once


def tail_of_every_order(
    matrices: Float[Array, "E n n"], valid: Bool[Array, " n"], alpha: float
) -> tuple[Float[Array, "E E"], Float[Array, "E E"]]:
    """tau and p of <A_i, P A_j P'>, in the units of that, over all orders of the rows that count.

    Args:
      matrices: one for each encoder, of entries that are at most 1 in sum; 0 in rows and columns
        that do not count.
      valid: rows that count; the others stay in place.
      alpha: level of tau.
    """
    rows = matrices.shape[1]
    orders = jnp.asarray(list(permutations(range(rows))), jnp.int32)
    fixed = valid[None, :] | (orders == jnp.arange(rows, dtype=jnp.int32)[None, :])
    counted = jnp.all(fixed, axis=1)[:, None]
    total = jnp.sum(counted, dtype=jnp.int32)
    # The product is the least whole number that is at least (1 - alpha) n!, but for rounding.
    rank = jnp.ceil((1 - alpha) * total.astype(matrices.dtype) * (1 - 1e-6)).astype(jnp.int32)
    slack = ROUNDING * float(jnp.finfo(matrices.dtype).eps)

    def of_encoder(matrix):
        def score(order):
            permuted = matrix[order][:, order]
            return jnp.einsum("ab,jab->j", permuted, matrices, precision=HIGHEST)

        scores = jax.lax.map(score, orders, batch_size=min(BATCH, len(orders)))
        observed = scores[0]  # the first order is that of the rows as given
        reached = counted & (scores >= observed[None] * (1 - slack))
        ascending = jnp.sort(jnp.where(counted, scores, jnp.inf), axis=0)
        tau = jnp.take(ascending, jnp.maximum(rank, 1) - 1, axis=0)
        return tau, jnp.sum(reached, axis=0).astype(tau.dtype) / total.astype(tau.dtype)

    return jax.lax.map(of_encoder, matrices)


def log_least_p(count: Int[Array, ""], dtype) -> Float[Array, ""]:
    """log(1 / n!), which no p-value over the orders of n rows is below."""
    return -jax.lax.lgamma(count.astype(dtype) + 1)


def log_least_p_of_strata(
    strata: Int[Array, " n"], valid: Bool[Array, " n"], dtype
) -> Float[Array, ""]:
    """log of one over the orders that keep every row in its stratum: of the product of all n_s!."""
    order = jnp.lexsort((strata, ~valid))
    places = jnp.arange(len(strata))
    ordered, counted = strata[order], valid[order]
    new = jnp.append(True, ordered[1:] != ordered[:-1])
    place = places - jax.lax.cummax(jnp.where(new, places, 0)) + 1  # within the stratum, from 1
    return -jnp.sum(jnp.where(counted, jnp.log(place.astype(dtype)), 0))
