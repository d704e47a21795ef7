"""Sampled permutations against enumeration, one draw at a time, SciPy and NumPy sorting."""

from itertools import permutations as every_order

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from substrate_jax.kernels import calibrate_cka, pairwise_cka, permutation_null, sample_null
from substrate_jax.kernels.nulls.orders import row_orders
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

null_of = jax.jit(permutation_null, static_argnames=("permutations", "space", "axis_name", "batch"))
calibrated = jax.jit(
    calibrate_cka, static_argnames=("method", "permutations", "alpha", "axis_name")
)
orders_of = jax.jit(row_orders, static_argnums=(1, 2))


def sample(n, widths, seed=0, skewed=False):
    """Independent float32 encoders; `skewed` gives a few rows of large norm."""
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(n, d)) for d in widths]
    if skewed:
        blocks = [np.abs(block) ** 3 for block in blocks]
    return [block.astype(np.float32) for block in blocks]


@pytest.mark.parametrize("space", ["feature", "gram"])
def test_null_is_uniform_over_permutations_of_the_rows_that_count(space):
    n, draws = 5, 4000
    blocks = sample(n, (1, 2), skewed=True)
    padded = [np.insert(b, [1, 3], np.nan, axis=0) for b in blocks]
    mask = jnp.array([True, False, True, True, False, True, True])
    null, observed = null_of(padded, jax.random.key(0), permutations=draws, space=space, mask=mask)
    k, m = (reference.gram(b) for b in blocks)
    every = reference.every_permutation(k, m) / np.sqrt(np.sum(k * k) * np.sum(m * m))
    np.testing.assert_allclose(observed, pairwise_cka(blocks), atol=helpers.tolerance(n))
    # Each draw is one of the 120 values, and each value is drawn about equally often.
    distance = np.abs(np.asarray(null[:, 0, 1])[:, None] - every[None])
    assert distance.min(1).max() < helpers.tolerance(n)
    counts = np.bincount(distance.argmin(1), minlength=120)
    assert scipy.stats.chisquare(counts).pvalue > 1e-6
    np.testing.assert_array_equal(null, np.swapaxes(null, 1, 2))


def test_both_spaces_and_all_transforms_draw_the_same_null():
    blocks = sample(37, (3, 5))
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    mask, key = np.arange(40) < 37, jax.random.key(3)
    want, _ = null_of(padded, key, permutations=8, space="feature", mask=jnp.asarray(mask))
    for space in ("feature", "gram"):

        def compute(blocks, mask, axis_name, space=space):
            return permutation_null(
                blocks, key, permutations=8, space=space, mask=mask, axis_name=axis_name
            )[0]

        for name, call in helpers.transforms().items():
            got = call(compute, (padded, mask))
            np.testing.assert_allclose(
                got, want, atol=helpers.tolerance(40), err_msg=f"{space} {name}"
            )


def test_restricted_draws_are_uniform_over_the_restricted_permutations():
    strata = np.array([7, -2, 7, 7, -2, 5, 7])  # 4! 2! 1! = 48 orders
    padded = jnp.asarray(np.insert(strata, 3, 7))
    mask = np.insert(np.ones(7, bool), 3, False)
    draws = 4800
    orders = np.asarray(orders_of(jax.random.key(0), draws, 8, jnp.asarray(mask), padded))
    # Each draw maps each stratum onto itself, and the row that does not count onto itself.
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(8), (draws, 1)))
    np.testing.assert_array_equal(np.asarray(padded)[orders], np.tile(padded, (draws, 1)))
    assert (orders[:, 3] == 3).all()
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 48
    assert scipy.stats.chisquare(counts).pvalue > 1e-6


def test_restricted_null_has_the_moments_of_the_enumerated_one():
    strata = np.array([0, 1, 0, 1, 0, 1, 2])  # 3! 3! 1! = 36 orders
    blocks = sample(7, (2, 3), skewed=True)
    draws = 4000
    null, _ = null_of(blocks, jax.random.key(1), permutations=draws, strata=jnp.asarray(strata))
    k, m = (reference.gram(b) for b in blocks)
    orders = [list(o) for o in every_order(range(7)) if (strata[list(o)] == strata).all()]
    norm = np.sqrt(np.sum(k * k) * np.sum(m * m))
    want = np.array([np.sum(k * m[np.ix_(o, o)]) for o in orders]) / norm
    assert len(orders) == 36
    # Four standard errors of a mean of independent draws.
    for power in (1, 2):
        bound = 4 * np.std(want**power) / np.sqrt(draws)
        assert (
            abs(np.mean(np.asarray(null[:, 0, 1], float) ** power) - np.mean(want**power)) < bound
        )


def test_strata_and_draws_are_those_of_one_device_on_eight():
    blocks = sample(37, (3, 5))
    padded = [np.concatenate([b, np.full((3, b.shape[1]), np.nan, np.float32)]) for b in blocks]
    strata, mask = np.arange(40) % 4 - 1, np.arange(40) < 37

    def compute(blocks, strata, mask, axis_name):
        return permutation_null(
            blocks,
            jax.random.key(3),
            permutations=8,
            strata=strata,
            mask=mask,
            space="gram",
            axis_name=axis_name,
        )[0]

    one, eight = (
        helpers.transforms()[name](compute, (padded, strata, mask)) for name in ("jit", "shard_map")
    )
    assert helpers.relative_error(eight, one) < 1e-5
    free = null_of(padded, jax.random.key(3), permutations=8, space="gram", mask=jnp.asarray(mask))
    assert helpers.relative_error(free[0], one) > 1e-2


def test_strata_of_one_row_leave_nothing_to_test():
    blocks = sample(40, (3, 5))
    blocks[1][:, 0] = blocks[0][:, 0]
    got = calibrated(
        blocks,
        method="permutation",
        permutations=19,
        key=jax.random.key(0),
        strata=jnp.arange(40),
    )
    np.testing.assert_array_equal(got.p_value, 1)
    np.testing.assert_array_equal(got.log10_p_value, 0)


@pytest.mark.parametrize("space", ["feature", "gram"])
def test_a_draw_depends_on_its_number_alone(space):
    blocks, key = sample(21, (3, 4)), jax.random.key(0)
    want, _ = null_of(blocks, key, permutations=9, space=space)
    for permutations, batch in ((4, 1), (9, 4), (9, 16)):
        got, _ = null_of(blocks, key, permutations=permutations, space=space, batch=batch)
        np.testing.assert_allclose(got, want[:permutations], atol=helpers.tolerance(21))
    order = orders_of(key, 9, 21)[5]
    alone = pairwise_cka([blocks[0], blocks[1][order]])
    np.testing.assert_allclose(want[5, 0, 1], alone[0, 1], atol=helpers.tolerance(21))


def test_devices_share_the_draws_and_change_none():
    key, weights = jax.random.key(0), jnp.arange(11.0)

    def compute(_, axis_name):
        return sample_null(lambda order: weights[order] * 1, key, 13, 11, axis_name=axis_name)

    for name, call in helpers.transforms().items():
        got = call(compute, (jnp.zeros(8),))
        np.testing.assert_array_equal(got, weights[orders_of(key, 13, 11)], err_msg=name)


def test_permutation_calibration_is_the_order_statistic():
    blocks = sample(20, (3, 4, 2))
    blocks[1][:, :2] += blocks[0][:, :2]
    key = jax.random.key(1)
    for permutations, alpha in ((19, 0.05), (199, 0.05), (50, 0.1)):
        null, observed = null_of(blocks, key, permutations=permutations)
        got = calibrated(
            blocks, method="permutation", permutations=permutations, alpha=alpha, key=key
        )
        score, tau, p_value = reference.permutation_calibration(
            np.asarray(observed), np.asarray(null), alpha
        )
        off = ~np.eye(3, dtype=bool)  # on the diagonal the observed score is 1 up to rounding
        bound = helpers.tolerance(20)
        np.testing.assert_allclose(got.tau, tau, atol=bound)
        np.testing.assert_allclose(got.p_value[off], p_value[off], atol=bound)
        np.testing.assert_allclose(got.score[off], score[off], atol=4 * bound)
        assert got.method == "permutation"


BLOCKS = [jnp.ones((6, 2)), jnp.ones((6, 3))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"permutations": 0}, "permutations must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"strata": np.zeros(5, int)}, r"strata must be integers of shape \(6,\), got int"),
        ({"strata": np.zeros(6)}, r"strata must be integers of shape \(6,\), got float"),
        ({"mask": np.ones(6)}, r"mask must be bool of shape \(6,\), got float"),
        ({"space": "both"}, "space must be one of"),
        ({"axis_name": "rows"}, "'rows' is not a mapped axis"),
    ],
)
def test_bad_input_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        permutation_null(BLOCKS, jax.random.key(0), **options)
    assert "\n" not in str(error.value)
