"""RSA against SciPy and, by its other distances and comparators, against formed matrices."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from substrate_jax.kernels import pairwise_cka, pairwise_distance_correlation, pairwise_rsa
from substrate_jax.kernels.measures.comparators import COMPARATORS, Pairs, kendall, tied_places
from substrate_jax.kernels.measures.dissimilarities import DISTANCES
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


KINDS = list(itertools.product(DISTANCES, COMPARATORS))
FEW = [
    kind for kind in KINDS if kind[0] == "euclidean" or kind[1] in ("spearman", "whitened_cosine")
]


def every_kind(blocks):
    return {
        f"{distance} {comparator}": pairwise_rsa(blocks, distance=distance, comparator=comparator)
        for distance, comparator in (KINDS if helpers.ALL else FEW)
    }


def tied_sample():
    """12 rows, of which two are equal, of labels and of features; and one that is constant."""
    x, y = (z.copy() for z in sample(12)[:2])
    x[5], y[5] = x[9], y[9]
    labels = np.eye(4, dtype=np.float32)[np.arange(12) % 4]
    return [x, y, labels, np.full((12, 2), 0.1, np.float32)]


@functools.cache
def found_of_all():
    return jax.jit(every_kind)(tied_sample())


@pytest.mark.parametrize(
    ("distance", "comparator"), [kind if kind in FEW else helpers.long(*kind) for kind in KINDS]
)
def test_every_distance_and_comparator_is_that_of_the_oracle(distance, comparator):
    blocks = tied_sample()
    got = np.asarray(found_of_all()[f"{distance} {comparator}"])
    kind = {"distance": distance, "comparator": comparator}
    want = [[reference_measures.rsa(a, b, **kind) for b in blocks[:3]] for a in blocks[:3]]
    np.testing.assert_allclose(got[:3, :3], want, atol=helpers.tolerance(66 + 9))
    np.testing.assert_array_equal(got[3], 0)
    if comparator in ("rho_a", "tau_a"):
        assert got[2, 2] < 0.8  # of ties, which are not rewarded


def test_whitened_cosines_are_cka_and_distance_correlation():
    blocks, found = tied_sample(), found_of_all()
    limit = helpers.tolerance(66 + 9)
    for kind, want in (
        ("squared_euclidean", pairwise_cka(blocks)),
        ("euclidean", pairwise_distance_correlation(blocks) ** 2),
    ):
        np.testing.assert_allclose(found[f"{kind} whitened_cosine"], want, atol=limit)


def test_every_kind_is_the_same_on_eight_devices():
    """A few that go through all lines."""
    padded = [np.concatenate([b, np.full((4, b.shape[1]), np.nan, "f4")]) for b in tied_sample()]

    def some(blocks, mask, axis_name):
        kinds = ("euclidean", "tau_b"), ("squared_euclidean", "whitened_cosine")
        options = {"mask": mask, "axis_name": axis_name}
        return [pairwise_rsa(blocks, distance=d, comparator=c, **options) for d, c in kinds]

    arrays = [jnp.asarray(b) for b in padded], jnp.arange(16) < 12
    got = helpers.transforms()["shard_map"](some, arrays)
    for one, kind in zip(
        got, ("euclidean tau_b", "squared_euclidean whitened_cosine"), strict=True
    ):
        np.testing.assert_allclose(one, found_of_all()[kind], atol=helpers.tolerance(66 + 9))


def test_tau_of_many_pairs_is_scipys():
    """Numbers of pairs of pairs beyond 2^31, with ties and without."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 300, size=80_000).astype(np.float32)
    b = (a + rng.integers(0, 400, size=len(a))).astype(np.float32)
    c = rng.permutation(len(a)).astype(np.float32)
    everywhere = jnp.ones(len(a), bool)
    pairs = Pairs(everywhere, everywhere, everywhere, everywhere)

    @jax.jit
    def tau(*both):
        places = [tied_places(values, pairs, 0.0, relative=False) for values in both]
        return kendall(*places, pairs, corrected=True, dtype=jnp.float32)

    got = [tau(a, other) for other in (a, b, c)]
    want = [1, *(stats.kendalltau(a, other).statistic for other in (b, c))]
    np.testing.assert_allclose(got, want, atol=helpers.tolerance(17))  # sums of 17 bits


def test_distances_are_right_far_from_the_origin_and_beside_an_outlier():
    """Orders of distances that differ by 1e-3 of themselves, at 1e4 of the spread."""
    rng = np.random.default_rng(3)
    x, y = (rng.integers(-9, 9, size=(20, 5)).astype(np.float32) for _ in "xy")
    far, out = x + 2.0**15, x.copy()
    out[3] *= 2.0**12
    blocks = [x, y, far.astype(np.float32), out]
    got = jax.jit(functools.partial(pairwise_rsa, distance="euclidean"))(blocks)
    want = [reference_measures.rsa(block, y, "euclidean") for block in blocks]
    np.testing.assert_allclose(got[:, 1], want, atol=helpers.tolerance(190))
