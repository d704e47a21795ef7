"""Gaussian kernels and the median distance against SciPy and float64 formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance

from substrate_jax.kernels import median_distance, pairwise_rbf_cka
from substrate_jax.kernels.reference import measures as reference_measures
from tests import helpers
from tests.kernels.encoders import ROWS, sample


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_the_median_is_that_of_all_pairs(n):
    blocks = [*sample(n), np.repeat(sample(n)[0][:1], n, axis=0)]
    got = jax.jit(median_distance)(blocks)
    for block, value in zip(blocks, got, strict=True):
        want = np.median(distance.pdist(block.astype(np.float64)))
        np.testing.assert_allclose(value, want, rtol=helpers.tolerance(60), atol=1e-6)


def test_mostly_equal_rows_have_the_kernel_of_equality():
    x = np.zeros((9, 2), np.float32)
    x[:2] = [[1, 0], [0, 3]]
    assert float(median_distance([x])[0]) == 0
    y = sample(9)[0]
    kernel = (distance.cdist(x, x) == 0).astype(float)
    h = np.eye(9) - 1 / 9
    other = np.exp(
        -(reference_measures.distances(y) ** 2) / (2 * reference_measures.median_distance(y) ** 2)
    )
    a, b = h @ kernel @ h, h @ other @ h
    want = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    np.testing.assert_allclose(pairwise_rbf_cka([x, y])[0, 1], want, atol=helpers.tolerance(81))


def test_a_wide_kernel_is_linear():
    blocks = [b.astype(np.float64) for b in sample()[:2]]
    want = reference_measures.cka(*blocks)
    near, nearer = (reference_measures.rbf_cka(*blocks, bandwidth=s) for s in (5, 20))
    got = pairwise_rbf_cka([jnp.asarray(b, jnp.float32) for b in blocks], bandwidth=5.0)[0, 1]
    assert abs(nearer - want) < abs(near - want) / 4
    # 1 - K is of order 1 / (2 s^2) = 0.02 and all that centering leaves.
    assert abs(got - near) < helpers.tolerance(ROWS, condition=50)
