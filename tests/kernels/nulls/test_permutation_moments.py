"""Moments of the permutation null against all n! permutations and float64 sums over entries."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import cka_null_moments, pairwise_hsic, third_moment
from substrate_jax.kernels.nulls.partitions import distinct_sums, partitions
from substrate_jax.kernels.nulls.permutation_moments import _kind
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers


def sample(n, widths, skewed=False, ratio=0.0, seed=0):
    """Independent float32 encoders; `skewed` gives a few rows of large norm."""
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(n, d)) for d in widths]
    if skewed:
        blocks = [np.abs(block) ** 3 for block in blocks]
    return [(block + ratio).astype(np.float32) for block in blocks]


def summed(blocks, mask=None):
    arrays = [jnp.asarray(block) for block in blocks]
    return pairwise_hsic(arrays, cubic=True, mask=None if mask is None else jnp.asarray(mask))


def unit_grams(blocks):
    grams = [reference.gram(block) for block in blocks]
    return [gram / np.trace(gram) for gram in grams]


def cubic_sums(gram):
    """The five sums of a Gram matrix of trace 1, entry by entry in float64."""
    n = len(gram)
    centering = np.eye(n) - 1 / n
    centered = gram - np.trace(gram) / (n - 1) * centering
    k = np.diag(centered)
    square = centered @ centered
    return [
        np.trace(square @ centered),
        np.sum(k**3),
        k @ np.diag(square),
        k @ centered @ k,
        np.sum(centered**3),
    ]


@pytest.mark.parametrize("ratio", [0.0, 100.0])
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("n", "widths"), [(4, (1, 5)), (5, (2, 3)), (6, (1, 2, 9)), (7, (3, 2))])
def test_third_moment_is_that_of_all_permutations(n, widths, skewed, ratio):
    blocks = sample(n, widths, skewed, ratio)
    hsic = summed(blocks)
    got, skewness = third_moment(hsic), cka_null_moments(hsic)[2]
    grams = unit_grams(blocks)
    for i, j in itertools.combinations_with_replacement(range(len(widths)), 2):
        null = reference.every_permutation(grams[i], grams[j])
        deviations = null - null.mean()
        # The sums are known to eps of those of |K|, which bound the moment by <K, K> <L, L> ^1.5.
        scale = (np.sum(grams[i] ** 2) * np.sum(grams[j] ** 2)) ** 1.5
        bound = helpers.tolerance(n * max(widths)) * scale
        np.testing.assert_allclose(got[i, j], np.mean(deviations**3), atol=4 * bound)
        want = np.mean(deviations**3) / np.std(null) ** 3
        np.testing.assert_allclose(skewness[i, j], want, atol=12 * bound / np.std(null) ** 3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("skewed", [False, True])
def test_sums_are_those_over_entries(skewed, masked):
    n = 300
    blocks = sample(n, (5, 40, 400), skewed)  # the last has more features than rows
    mask = np.arange(n) % 7 > 0 if masked else None
    kept = [block[mask] for block in blocks] if masked else blocks
    got = np.asarray(summed(blocks, mask).cubic)
    want = np.array([cubic_sums(gram) for gram in unit_grams(kept)]).T
    # Relative to the same sums with the trace left in, from which it is subtracted.
    whole = np.array([np.trace(gram @ gram @ gram) for gram in unit_grams(kept)])
    np.testing.assert_allclose(got, want, atol=helpers.tolerance(n) * whole.max())
    largest = np.abs(want).max(axis=1)
    np.testing.assert_allclose(got, want, atol=helpers.tolerance(n, condition=8) * largest.max())


def test_skewness_in_float32_stays_accurate_for_many_rows():
    n = 2000
    blocks = sample(n, (30, 60), skewed=True)
    sums = np.array([cubic_sums(gram) for gram in unit_grams(blocks)])
    third = sum(
        count * np.prod(sums @ np.array(factors)) / math.perm(n, v)
        for v, factors, count in distinct_sums(_kind, 5)
    )
    np.testing.assert_allclose(
        third_moment(summed(blocks))[0, 1], third, rtol=helpers.tolerance(n, condition=8)
    )


def test_sums_over_distinct_rows_follow_from_unrestricted_ones():
    assert len(set(partitions(tuple(range(6))))) == 203  # the sixth Bell number
    matrix = np.random.default_rng(0).normal(size=(7, 7))
    matrix = reference.gram(matrix)
    sums = np.array(cubic_sums(matrix))
    centered = matrix - np.trace(matrix) / 6 * (np.eye(7) - 1 / 7)
    # v = 6: three edges over six distinct rows, by brute force.
    want = sum(
        centered[a, b] * centered[c, d] * centered[e, f]
        for a, b, c, d, e, f in itertools.permutations(range(7), 6)
    )
    ((_, factors, count),) = [kind for kind in distinct_sums(_kind, 5) if kind[0] == 6]
    assert count == 1
    np.testing.assert_allclose(np.dot(factors, sums), want, rtol=1e-9)


def test_a_constant_encoder_has_no_moments():
    constant = jnp.ones((6, 2), jnp.float32)
    hsic = pairwise_hsic([constant, jnp.asarray(sample(6, (3,))[0])], cubic=True)
    for moment in (third_moment(hsic), *cka_null_moments(hsic)):
        assert np.all(np.asarray(moment)[0] == 0)
        assert np.all(np.isfinite(moment))


def test_the_third_moment_needs_its_sums():
    x = jnp.asarray(sample(6, (3,))[0])
    with pytest.raises(ValueError, match="cubic=True"):
        third_moment(pairwise_hsic([x]))
    with pytest.raises(ValueError, match="'feature'"):
        pairwise_hsic([x], cubic=True, space="feature")


def test_gradients_pass_the_sums_by():
    x, y = (jnp.asarray(block) for block in sample(12, (3, 4)))

    def score(x, cubic):
        return pairwise_hsic([x, y], cubic=cubic, space="gram").cka()[0, 1]

    with_sums, without = (jax.grad(score)(x, cubic) for cubic in (True, False))
    np.testing.assert_array_equal(with_sums, without)
