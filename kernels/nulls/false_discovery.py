"""False discovery rate of a family of hypotheses.

With the p-values sorted, Benjamini and Hochberg reject the first i for which p_(i) <= q i / m. That
holds the expected share of false rejections to q if the hypotheses are independent or positively
dependent (Benjamini, Yekutieli 2001), which pairs that share an encoder are believed, not proven,
to be. Cost: one sort.

References:
    Benjamini, Hochberg (1995), Controlling the false discovery rate. JRSS B 57.
    Benjamini, Yekutieli (2001), The control of the false discovery rate in multiple testing under
    dependency. Annals of Statistics 29.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import AnyArray
from ..jit_over import jit_over
from ..validate import check_floating, compute_dtype


@jit_over("p_values")
def benjamini_hochberg(p_values: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
    """q-values: the lowest false discovery rate at which each hypothesis is rejected.

    With p sorted, q_(i) = min over j >= i of m p_(j) / j, capped at 1.

    Args:
      p_values: the family, of any shape. For pairs give each pair once: of an [E, E] matrix, the
        entries above the diagonal (`p[jnp.triu_indices(E, 1)]`). NaN is no member of the family.

    Returns:
      q-values of the same shape, NaN where p is.

    Raises:
      ValueError: if `p_values` is no floating-point array.

    Example:
      >>> [f"{q:.4f}" for q in benjamini_hochberg(jnp.array([0.01, 0.5, 0.02, 0.04]))]
      ['0.0400', '0.5000', '0.0400', '0.0533']

    References:
      Benjamini and Hochberg 1995.
    """
    check_floating("p_values", p_values)
    p_values = jnp.asarray(p_values, compute_dtype(p_values))
    flat = p_values.ravel()
    missing = jnp.isnan(flat)
    size = jnp.sum(~missing).astype(flat.dtype)
    known = jnp.where(missing, jnp.inf, flat)
    order = jnp.argsort(known)
    ranks = jnp.arange(1, flat.size + 1).astype(flat.dtype)
    sorted_q = jax.lax.cummin(known[order] * size / ranks, reverse=True)
    q = jnp.zeros_like(flat).at[order].set(jnp.minimum(sorted_q, 1))
    q = jnp.maximum(q, flat)  # where rounding puts it below
    return jnp.where(missing, jnp.nan, q).reshape(p_values.shape)
