"""Options of SVCCA, PWCCA and Procrustes similarity."""

import jax.numpy as jnp
import numpy as np

from substrate_jax.kernels import pairwise_procrustes, pairwise_pwcca, pairwise_svcca
from tests import helpers
from tests.kernels.encoders import sample


def test_pwcca_means_both_sides_and_svcca_keeps_all():
    blocks = sample()[:2]
    row = np.asarray(pairwise_pwcca(blocks))
    np.testing.assert_allclose(pairwise_pwcca(blocks, side="mean"), (row + row.T) / 2, atol=1e-6)
    turned = [blocks[0], blocks[0] @ np.diag([1, 2, 3, 4, 5]).astype(np.float32)]
    np.testing.assert_allclose(pairwise_svcca(turned, variance=1.0), 1, atol=helpers.tolerance(60))


def test_the_angle_is_that_of_the_similarity():
    blocks = sample()[:2]
    angle = pairwise_procrustes(blocks, angle=True)
    np.testing.assert_allclose(jnp.cos(angle), pairwise_procrustes(blocks), atol=1e-6)
    np.testing.assert_array_equal(jnp.diagonal(angle), 0)
