"""p-values of few rows against every order of them."""

import functools

import jax
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.kernels.nulls.calibration import at_least_one_order
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import long

cka = jax.jit(kernels.calibrate_cka)
knn = jax.jit(kernels.calibrate_mutual_knn, static_argnums=1)


def encoders(n, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 2))
    blocks = [np.hstack([shared, rng.normal(size=(n, d))]) + 1 for d in (1, 3)]
    return [x.astype(np.float32) for x in (*blocks, 2 * blocks[0], np.ones((n, 2)))]


def tail(observed, null, alpha=0.05):
    rank = int(np.ceil(round((1 - alpha) * len(null), 9)))
    return np.sort(null)[rank - 1], np.mean(null >= observed - 1e-6)


@pytest.mark.parametrize("n", [long(4), 5, long(7)])
def test_cka_of_few_rows_is_calibrated_by_all_orders(n):
    blocks = encoders(n)
    grams = [reference.gram(np.float64(x)) for x in blocks[:2]]
    norm = np.prod([np.linalg.norm(k) for k in grams])
    null = reference.every_permutation(*grams) / norm
    tau, p = tail(np.sum(grams[0] * grams[1]) / norm, null)
    masked = [np.concatenate([x[:2], np.full((1, x.shape[1]), np.nan), x[2:]]) for x in blocks]
    mask = np.arange(n + 1) != 2
    for found in (cka(blocks), cka([x.astype(np.float32) for x in masked], mask=mask)):
        np.testing.assert_allclose(found.p_value[0, 1], p, rtol=1e-5)
        np.testing.assert_allclose(found.tau[0, 1], tau, rtol=1e-4)
        # A copy is reached by the order of the rows alone.
        np.testing.assert_allclose(found.p_value[0, 2], 1 / len(null), rtol=1e-5)
        np.testing.assert_array_equal(found.p_value[3], 1)
        np.testing.assert_array_equal(found.score[3], 0)


@pytest.mark.parametrize(("n", "k"), [(5, 2), long(7, 3), long(4, 1)])
def test_mutual_knn_of_few_rows_is_calibrated_by_all_orders(n, k):
    blocks = encoders(n)
    null = reference.mutual_knn_null(*map(np.float64, blocks[:2]), k)
    tau, p = tail(reference.mutual_knn(blocks[0], blocks[1], k), null)
    found = knn(blocks, (1, k))
    np.testing.assert_allclose(found.p_value[1, 0, 1], p, rtol=1e-5)
    np.testing.assert_allclose(found.tau[1, 0, 1], tau, rtol=1e-5)
    assert (np.asarray(found.p_value) >= 0.999 / len(null)).all()
    np.testing.assert_array_equal(found.p_value[:, 3], 1)


def test_p_of_more_rows_or_of_sums_is_no_less_than_one_order():
    rng = np.random.default_rng(0)
    x = (np.exp(np.arange(9))[:, None] * rng.normal(size=(9, 2))).astype(np.float32)
    for n, factorial in ((9, 362_880), (5, 120)):
        blocks = [x[:n], 2 * x[:n]]
        summary = jax.jit(kernels.pairwise_hsic)(blocks)
        graph = jax.jit(kernels.mutual_knn, static_argnums=1)(blocks, (2,))
        for found in (cka(summary), jax.jit(kernels.calibrate_mutual_knn)(graph)):
            assert (np.asarray(found.p_value) >= 0.999 / factorial).all()
            assert (np.asarray(found.log10_p_value) >= -np.log10(factorial) - 1e-4).all()


def test_p_of_sampled_orders_is_no_less_than_one_order():
    """These draws hold the best order less often than it is due, so that the bound decides."""

    def sampled(n, calibrate, seed):
        blocks = [x for x in encoders(n) if len(np.unique(x)) > 1]
        options = {"method": "permutation", "permutations": 200, "key": jax.random.key(seed)}
        return float(jax.jit(lambda b: calibrate(b, **options))(blocks).p_value.min())

    of_neighbors = functools.partial(kernels.calibrate_mutual_knn, ks=(2,))
    np.testing.assert_allclose(sampled(4, kernels.calibrate_cka, 6), 1 / 24, rtol=1e-5)
    np.testing.assert_allclose(sampled(5, of_neighbors, 4), 1 / 120, rtol=1e-5)


def test_a_tail_below_one_order_is_that_of_one():
    tail_of = functools.partial(kernels.tail_from_moments, mean=0.1, variance=1e-6)
    found = at_least_one_order(tail_of(np.float32([0.9, 0.1])), np.int32(5))
    np.testing.assert_allclose(found.p_value[0], 1 / 120, rtol=1e-5)
    np.testing.assert_allclose(found.log10_p_value[0], -np.log10(120), rtol=1e-5)
    assert 0.1 < found.p_value[1] < 0.9
