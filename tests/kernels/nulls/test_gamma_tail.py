"""Tail and quantile of the Pearson type III law against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from substrate_jax.kernels.nulls.gamma_tail import log_tail_and_quantile
from tests import helpers

standard_tail = jax.jit(log_tail_and_quantile, static_argnames="alpha")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_tail_and_quantile_match_scipy_to_the_far_end(dtype, alpha):
    skews = np.array([0.02, 0.3, 0.6, 1, 2, 3, 8, -0.02, -0.6, -2]).astype(dtype)
    z = np.concatenate([np.linspace(-8, 8, 33), [15, 30, 60]]).astype(dtype)
    z, skews = np.meshgrid(z, skews)
    with jax.enable_x64(dtype == np.float64):
        log_tail, quantile = standard_tail(jnp.asarray(z), alpha, jnp.asarray(skews))
        log_tail, quantile = np.asarray(log_tail, np.float64), np.asarray(quantile, np.float64)
    z, g = z.astype(np.float64), skews.astype(np.float64)
    shape = 4 / g**2
    x = np.maximum(shape * (1 + z * g / 2), 0)
    side = scipy.special.gammaincc(shape, x), scipy.special.gammainc(shape, x)
    want = np.where(g > 0, *side)
    known = want > 1e-250
    want = np.log(np.where(known, want, 1))
    # The quadrature is exact to 1e-3 of the logarithm at a skewness of 8, to 1e-8 up to 3.
    bound = np.where(np.abs(g) > 3, 1e-3, max(1e-8, helpers.tolerance(32, dtype)))
    error = np.abs(log_tail - want) / np.maximum(1, np.abs(want))
    assert (error <= bound)[known].all()
    inverse = scipy.special.gammainccinv(shape, alpha), scipy.special.gammaincinv(shape, alpha)
    point = (np.where(g > 0, *inverse) / shape - 1) * 2 / g
    assert (np.abs(quantile - point) <= bound).all()
