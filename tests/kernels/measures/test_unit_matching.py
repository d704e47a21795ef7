"""Matching of units against every permutation, and its two solvers against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import unit_matching
from substrate_jax.kernels.measures.unit_matching import _transport
from tests.kernels.encoders import sample
from tests.kernels.stress import cells

# Programs are solved to 1e-7 of their constraints, correlations are sums of float64.
SOLVED, EXACT = 1e-6, 1e-12


def correlations(x, y):
    wide = np.corrcoef(np.float64(x).T, np.float64(y).T)
    return wide[: x.shape[1], x.shape[1] :]


def test_a_pairing_is_the_best_of_all():
    x, y = sample(widths=(4, 6))
    c = correlations(x, y)
    best = max(np.mean(c[range(4), p]) for p in itertools.permutations(range(6), 4))
    np.testing.assert_allclose(unit_matching([x, y], soft=False)[[0, 1], [1, 0]], best, atol=EXACT)


def test_a_plan_is_the_best_of_all_copies():
    """Units of 2 and 3 stand for 6 each, whose pairings can be gone through."""
    x, y = sample(widths=(2, 3))
    c = np.repeat(np.repeat(correlations(x, y), 3, axis=0), 2, axis=1)
    best = max(np.mean(c[range(6), p]) for p in itertools.permutations(range(6)))
    np.testing.assert_allclose(unit_matching([x, y])[0, 1], best, atol=EXACT)


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (12, 9), (1, 4)])
def test_copies_and_the_linear_program_agree(shape):
    c = np.random.default_rng(0).uniform(-1, 1, size=shape)
    np.testing.assert_allclose(_transport(c, 0), _transport(c), atol=SOLVED)


def test_it_is_blind_to_order_scale_shift_and_rows_that_do_not_count():
    x, y = sample(widths=(5, 8))
    rng = np.random.default_rng(0)
    moved = (1e20 * x[:, rng.permutation(5)] + 1e20).astype(np.float64)
    padded = [np.vstack([z, np.full((2, z.shape[1]), np.nan)]) for z in (x, moved, y)]
    for soft in (True, False):
        found = unit_matching(padded, soft=soft, mask=np.arange(39) < 37)
        np.testing.assert_allclose(np.diag(found), 1, atol=EXACT)
        np.testing.assert_allclose(found[0, 1], 1, atol=EXACT)
        np.testing.assert_allclose(found[0, 2], found[1, 2], atol=EXACT)
        np.testing.assert_array_equal(found, found.T)
    # One width: a pairing is a plan. And units of Y that X has not lower the plan alone.
    same = [x, sample(widths=(5, 5), seed=1)[1]]
    np.testing.assert_allclose(unit_matching(same), unit_matching(same, soft=False), atol=EXACT)
    assert unit_matching([x, np.hstack([x, y])])[0, 1] < 0.9
    assert unit_matching([x, np.hstack([x, y])], soft=False)[0, 1] > 1 - EXACT


def test_hard_features_have_the_right_value_or_nan():
    for cell in cells.VALUES:
        x, y = cells.blocks(cell)
        found = unit_matching([x, y])
        assert found[1, 1] == pytest.approx(1)
        if not np.isfinite(x).all():
            assert np.isnan(found[[0, 0, 1], [0, 1, 0]]).all(), cell
            continue
        varied = np.ptp(x, axis=0) > 0
        assert found[0, 0] == pytest.approx(varied.mean()), cell
        scaled = np.float64(x) / max(np.float64(np.abs(x).max()), 1e-300)
        c = np.zeros((8, 8))
        if varied.any():
            c[varied] = correlations(scaled[:, varied], y)
        assert found[0, 1] == pytest.approx(_transport(c, 0), abs=SOLVED), cell


def test_few_rows_and_traced_blocks_are_refused():
    x = sample(2)[0]
    assert np.isin(np.abs(unit_matching([x, x])), [0, 1]).all()
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        unit_matching([x[:1]])
    with pytest.raises(ValueError, match="got traced ones") as error:
        jax.jit(lambda x: unit_matching([x]))(jnp.asarray(x))
    assert "\n" not in str(error.value)
