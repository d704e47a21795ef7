"""q-values against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from substrate_jax.kernels import benjamini_hochberg
from tests import helpers


@pytest.mark.parametrize("count", [1, 3, 7, 41, 91])
def test_no_q_is_below_its_p(count):
    p = np.random.default_rng(0).random((200, count), np.float32) * np.float32(1e-18)
    q = np.asarray(jax.jit(jax.vmap(benjamini_hochberg))(p))
    assert (q >= p).all()


def test_benjamini_hochberg_matches_scipy():
    rng = np.random.default_rng(0)
    for p in (rng.uniform(size=50) ** 3, np.repeat([0.01, 0.2], 4), np.array([0.7])):
        got = benjamini_hochberg(jnp.asarray(p, jnp.float32))
        want = scipy.stats.false_discovery_control(p.astype(np.float32))
        np.testing.assert_allclose(got, want, rtol=helpers.tolerance(len(p)))
        assert (np.diff(np.asarray(got)[np.argsort(p)]) >= 0).all()
    p = rng.uniform(size=9).astype(np.float32)
    holes = np.insert(p, [0, 4, 9], np.nan)
    got = np.asarray(benjamini_hochberg(holes))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(holes))
    np.testing.assert_allclose(
        got[~np.isnan(holes)], benjamini_hochberg(p), rtol=helpers.tolerance(9)
    )
    square = jnp.asarray(rng.uniform(size=(3, 3)), jnp.float32)
    np.testing.assert_array_equal(
        benjamini_hochberg(square).ravel(), benjamini_hochberg(square.ravel())
    )
