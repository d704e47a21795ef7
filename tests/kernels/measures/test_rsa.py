"""RSA against SciPy."""

import jax
import numpy as np
from scipy import stats
from scipy.spatial import distance

from substrate_jax.kernels import pairwise_rsa
from tests import helpers
from tests.kernels.encoders import ROWS, sample


def test_rsa_is_scipys():
    x, y = sample()[:2]
    x[5] = x[9]  # ties
    y[5] = y[9]
    want = stats.spearmanr(
        *(distance.pdist(z.astype(np.float64), "correlation") for z in (x, y))
    ).statistic
    # The ties at 0 are broken by rounding; n pairs of one rank each move the value by 1 / n^3.
    got = jax.jit(pairwise_rsa)([x, y, sample()[2]])[0, 1]
    np.testing.assert_allclose(got, want, atol=helpers.tolerance(ROWS + 60) + 8 / ROWS**3)
