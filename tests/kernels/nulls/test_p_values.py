"""p-values of a family against sorting in NumPy."""

import jax.numpy as jnp
import numpy as np

from substrate_jax.kernels import family_p_values, max_null
from tests import helpers


def test_family_p_value_is_that_of_the_maximum():
    rng = np.random.default_rng(0)
    null, observed = rng.uniform(size=(99, 3, 3)), rng.uniform(0.5, 1, size=(3, 3))
    family = np.triu(np.ones((3, 3), bool), 1)
    maxima = max_null(jnp.asarray(null, jnp.float32), family)
    want = np.array([max(draw[family]) for draw in null])
    np.testing.assert_array_equal(maxima, want.astype(np.float32))
    adjusted = np.asarray(family_p_values(jnp.asarray(observed, jnp.float32), maxima))
    expected = (1 + (want[:, None, None] >= observed).sum(0)) / 100
    np.testing.assert_allclose(adjusted, expected, rtol=helpers.tolerance(1))
    alone = (1 + (null >= observed).sum(0)) / 100
    assert (adjusted >= alone - 1e-6)[family].all()
    np.testing.assert_array_equal(max_null(jnp.zeros((2, 3)), np.zeros(3, bool)), -np.inf)
