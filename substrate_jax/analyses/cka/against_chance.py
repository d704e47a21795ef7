"""Calibrations of pairs as they are written: no pair with itself, and q-values over all others."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.results import CalibratedPairs


def against_chance(
    found: kernels.Calibration, alpha: float, q_value: Float[np.ndarray, "E E"]
) -> CalibratedPairs:
    """A calibration as it is written, without p and q of an encoder with itself."""
    p_value, log10_p_value, q_value = (
        np.array(values) for values in (found.p_value, found.log10_p_value, q_value)
    )
    for values in (p_value, log10_p_value, q_value):
        np.fill_diagonal(values, np.nan)
    return CalibratedPairs(
        method=found.method,
        skewness=found.skewness,
        alpha=alpha,
        score=np.asarray(found.score),
        tau=np.asarray(found.tau),
        p_value=p_value,
        log10_p_value=log10_p_value,
        q_value=q_value,
    )


def pair_q_values(
    p_value: Float[Array, "*K E E"], symmetric: bool = True
) -> Float[Array, "*K E E"]:
    """Benjamini-Hochberg over all pairs, each once; of a measure that is not symmetric, both ways.

    NaN on the diagonal, which is no pair.
    """
    size = p_value.shape[-1]
    places = np.triu_indices(size, 1)
    if not symmetric:
        places = np.nonzero(~np.eye(size, dtype=bool))

    def of_matrix(p_value):
        q_value = kernels.benjamini_hochberg(p_value[places])
        full = jnp.full((size, size), jnp.nan, p_value.dtype).at[places].set(q_value)
        return full.at[places[::-1]].set(q_value) if symmetric else full

    return of_matrix(p_value) if p_value.ndim == 2 else jax.vmap(of_matrix)(p_value)
