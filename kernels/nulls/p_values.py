"""p-values and thresholds from a sample of the null.

p-values are shares of draws, the observed score being one: valid at every number of draws K
(Phipson, Smyth 2010), and no less than 1 / (K + 1). The p-value of a maximum over a family adjusts
every member of it (single step; Westfall, Young 1993). Draws within rounding of the observed score
count as ties, as they must where strata leave few orders. NaN has the p-value NaN, and is no member
of a family. Cost: a sort of the draws.

References:
    Westfall, Young (1993), Resampling-based multiple testing. Wiley.
    Phipson, Smyth (2010), Permutation p-values should never be zero. Statistical Applications in
    Genetics and Molecular Biology 9.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from ..arithmetic import AnyArray
from ..jit_over import jit_over
from ..validate import check_array, check_floating, compute_dtype

ROUNDING = 16  # eps that a score of at most 1 may be off


def reached(observed, null):
    """Number of draws that reach the observed score; rounding of a score of at most 1 is a tie.

    NaN where the score or a draw is.
    """
    if not jnp.issubdtype(null.dtype, jnp.floating):
        return jnp.sum(null >= observed[None], axis=0, dtype=float)
    slack = ROUNDING * float(jnp.finfo(null.dtype).eps)
    count = jnp.sum(null >= observed[None] - slack, axis=0, dtype=float)
    return jnp.where(jnp.isnan(observed) | jnp.any(jnp.isnan(null), axis=0), jnp.nan, count)


def tail_from_sample(
    observed: Shaped[Array, "*shape"], null: Shaped[Array, " p *shape"], alpha: float
) -> tuple[Shaped[Array, "*shape"], Float[Array, "*shape"]]:
    """tau, the ceil((1-alpha)(p+1))-th smallest of observed and null, and p, without gradients."""
    observed, null = jax.lax.stop_gradient((jnp.asarray(observed), jnp.asarray(null)))
    draws = null.shape[0]
    pooled = jnp.sort(jnp.concatenate([null, observed[None]]), axis=0)
    # Less 1e-9, so that 0.95 * 200 is 190 and not the float just above it.
    tau = pooled[math.ceil((1 - alpha) * (draws + 1) - 1e-9) - 1]
    p_value = (1 + reached(observed, null)) / (draws + 1)
    if jnp.issubdtype(tau.dtype, jnp.floating):
        tau = jnp.where(jnp.isnan(p_value), jnp.nan, tau)
    return tau, p_value


@jit_over("null", "family")
def max_null(
    null: Float[AnyArray, " p *shape"], family: Bool[AnyArray, "*shape"] | None = None
) -> Float[Array, " p"]:
    """The largest score of a family in each draw.

    Args:
      null: [p, *shape] draws, the same permutation for all scores of a draw.
      family: [*shape] scores that belong to it; all by default. For pairs of encoders take those
        above the diagonal, `np.triu(np.ones((E, E), bool), 1)`.

    Returns:
      [p] maxima over the scores that are not NaN; -inf for an empty family.

    Raises:
      ValueError: if `null` is no floating-point array, or `family` no array.

    Example:
      >>> max_null(jnp.array([[0.1, 0.3], [0.2, 0.0]])).tolist() == jnp.array([0.3, 0.2]).tolist()
      True
    """
    check_floating("null", null)
    if family is not None:
        check_array("family", family)
    null = jnp.asarray(null, compute_dtype(null))
    where = ~jnp.isnan(null)
    if family is not None:
        where &= jnp.asarray(family)[None]
    return jnp.max(null, axis=tuple(range(1, null.ndim)), initial=-jnp.inf, where=where)


@jit_over("observed", "maxima")
def family_p_values(
    observed: Float[AnyArray, "*shape"], maxima: Float[AnyArray, " p"]
) -> Float[Array, "*shape"]:
    """p-values adjusted for the whole family: (1 + #{max null >= s}) / (p + 1).

    The chance of one false rejection or more in the family is at most the level.

    Args:
      observed: scores of the family.
      maxima: [p] of `max_null`.

    Returns:
      Adjusted p-values, of the shape of `observed`; NaN where that is, or if one of the maxima is.

    Raises:
      ValueError: if an argument is no floating-point array.

    Example:
      >>> family_p_values(jnp.array([0.5, 0.2]), jnp.array([0.3, 0.1, 0.4])).tolist()
      [0.25, 0.75]

    References:
      Westfall and Young 1993 (single step).
    """
    check_floating("observed", observed)
    check_floating("maxima", maxima)
    dtype = compute_dtype(observed, maxima)
    observed, maxima = jnp.asarray(observed, dtype), jnp.asarray(maxima, dtype)
    null = maxima.reshape(maxima.shape + (1,) * observed.ndim)
    return (1 + reached(observed, null)) / (maxima.shape[0] + 1)
