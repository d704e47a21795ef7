"""RSA against SciPy."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from substrate_jax.kernels import pairwise_rsa
from substrate_jax.kernels.reference import measures as reference_measures
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


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("width", [4, 1000])
def test_ties_of_exact_arithmetic_are_ties(x64, width):
    """Labels as features, at two widths, and next to features without ties."""
    rng = np.random.default_rng(0)
    centers = np.eye(4) if width == 4 else rng.normal(size=(4, width))
    with jax.enable_x64(x64):
        dtype = np.float64 if x64 else np.float32
        labels = centers[np.arange(60) % 4].astype(dtype)
        order = [0, 2, 3, 1] if width == 4 else rng.permutation(width)
        dense = rng.normal(size=(60, 5)).astype(dtype)
        blocks = [labels, labels[:, order], np.round(labels + 2), dense]
        got = np.asarray(jax.jit(pairwise_rsa)(blocks))
    np.testing.assert_allclose(got[0, 1], 1, atol=1e-5)
    for j in (2, 3):
        want = reference_measures.rsa(blocks[0], blocks[j])
        np.testing.assert_allclose(got[0, j], want, atol=helpers.tolerance(60 + width))


def test_repeated_rows_are_ties_and_dense_values_are_ranked():
    """In 400 rows there are pairs closer than rounding, which must not run together."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    y = (x + rng.normal(size=x.shape)).astype(np.float32)
    x[200:], y[100:200] = x[:200], y[:100]
    got = jax.jit(pairwise_rsa)([x, y])[0, 1]
    want = stats.spearmanr(*(reference_measures.dissimilarities(z) for z in (x, y))).statistic
    np.testing.assert_allclose(got, want, atol=1e-5)
