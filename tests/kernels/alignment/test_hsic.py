"""What debiasing leaves nothing of: one rule in all spaces, and no number that is only rounding."""

import jax
import numpy as np
import pytest

from substrate_jax.kernels import MEASURES
from substrate_jax.kernels.reference import statistics as reference
from tests.kernels.alignment.encoders import finalize, pairwise_cka, streamed


def by_space(blocks, space):
    if space == "stream":
        return np.asarray(finalize(streamed(blocks, (len(blocks[0]),)), debiased=True))
    return np.asarray(pairwise_cka(blocks, debiased=True, space=space))


def simplex(n, d=None):
    return np.eye(n, d, dtype=np.float32)


SPACES = pytest.mark.parametrize("space", ["feature", "gram", "stream"])


@SPACES
@pytest.mark.parametrize("n", [4, 24, 200])
def test_a_regular_simplex_is_nan_and_a_constant_zero(n, space):
    """K is a multiple of the centering matrix: the unbiased estimate is 0, and 0 / 0 no number."""
    other = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    got = by_space(
        [simplex(n), -3 * simplex(n)[::-1] + 5, other, np.ones((n, n), np.float32)], space
    )
    assert np.isnan(got[:2]).all()
    assert np.isnan(got[:, :2]).all()
    np.testing.assert_allclose(got[2:, 2:], [[1, 0], [0, 0]], atol=1e-5)


def test_debiased_rbf_cka_has_the_same_rule():
    """All distances are equal."""
    compute = jax.jit(MEASURES["debiased_rbf_cka"].compute)
    assert np.isnan(compute([simplex(24), 2 * simplex(24)[::-1]])).all()


@SPACES
@pytest.mark.parametrize("size", [1e1, 1e2, 3e3, 1e4, 1e6])
def test_an_outlying_row_leaves_the_true_value_or_nan(size, space):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 2))
    blocks = [shared @ rng.normal(size=(2, 5)) + rng.normal(size=(60, 5)) for _ in range(2)]
    blocks[0][0] *= size
    blocks = [x.astype(np.float32) for x in blocks]
    got = by_space(blocks, space)
    want = reference.pairwise_cka(blocks, True)
    if size > 1e3:
        assert np.isnan(got[0]).all()
        assert got[1, 1] == pytest.approx(1)
    else:
        np.testing.assert_allclose(got, want, atol=0.02)
