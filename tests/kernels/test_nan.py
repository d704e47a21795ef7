"""NaN and inf spoil the pairs of the encoder that has them, and no other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.kernels import MEASURES
from substrate_jax.kernels.alignment.weighted_cka import weighted_cka
from substrate_jax.kernels.neighbors.subset_knn import subset_recall
from tests.helpers import long

ROWS = 24
KEY = jax.random.key(0)


def streamed(blocks, **options):
    state = kernels.StreamingCka.init([x.shape[1] for x in blocks])
    for start in range(0, ROWS, 8):
        state = state.update([x[start : start + 8] for x in blocks])
    return state.finalize(**options)


def merged(blocks):
    init = kernels.StreamingCka.init([x.shape[1] for x in blocks])
    parts = [init.update([x[rows] for x in blocks]) for rows in (slice(0, 10), slice(10, ROWS))]
    return parts[1].merge(parts[0]).finalize()


def calibrated(blocks, calibrate=kernels.calibrate_cka, **options):
    found = calibrate(blocks, **options)
    return jnp.stack([found.score, found.tau, found.p_value, found.observed, found.log10_p_value])


BY_DRAWS = {"method": "permutation", "permutations": 19, "key": KEY}
HALVES = jnp.arange(ROWS)[:, None] % 3 != jnp.arange(2)[None, :]
KINDS = {
    **{name: measure.compute for name, measure in MEASURES.items()},
    "cka feature": functools.partial(kernels.pairwise_cka, space="feature"),
    "cka gram": functools.partial(kernels.pairwise_cka, space="gram"),
    "debiased cka feature": functools.partial(kernels.pairwise_cka, space="feature", debiased=True),
    "streamed": streamed,
    "streamed debiased": functools.partial(streamed, debiased=True),
    "merged": merged,
    "weighted": lambda blocks: weighted_cka(blocks, HALVES.astype(jnp.float32)),
    "weighted debiased": lambda blocks: weighted_cka(
        blocks, HALVES.astype(jnp.float32), debiased=True
    ),
    "subsets": lambda blocks: subset_recall(blocks, (2,), HALVES, share=0.6),
    "angle": functools.partial(kernels.pairwise_procrustes, angle=True),
    "pwcca mean": functools.partial(kernels.pairwise_pwcca, side="mean"),
    "null": lambda blocks: kernels.permutation_null(blocks, KEY, permutations=3)[0],
    "null feature": lambda blocks: kernels.permutation_null(
        blocks, KEY, permutations=3, space="feature"
    )[0],
    "calibrated": functools.partial(calibrated, skewness="exact"),
    "calibrated gamma": functools.partial(calibrated, skewness="gamma"),
    "calibrated by draws": functools.partial(calibrated, **BY_DRAWS),
    "knn": functools.partial(calibrated, calibrate=kernels.calibrate_mutual_knn, ks=(2, 3)),
    "knn by draws": functools.partial(
        calibrated, calibrate=kernels.calibrate_mutual_knn, ks=(2, 3), **BY_DRAWS
    ),
    "resampled": lambda blocks: kernels.resampled("procrustes", blocks, KEY, draws=2)[1],
    "median": lambda blocks: kernels.median_distance(blocks)[:, None] + jnp.zeros((1, 4)),
    "pcka": lambda blocks: kernels.pairwise_pcka(
        blocks, [jnp.eye(4)[:, :2] + 0.1 * i for i in range(len(blocks))]
    ),
}


def encoders():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(ROWS, 2))
    blocks = [shared @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(ROWS, 4)) for _ in "abc"]
    return [*(x.astype(np.float32) for x in blocks), np.full((ROWS, 4), 2, np.float32)]


# The same sums in the other space or without the diagonal, draws of what is calibrated, and the
# same lists of neighbors.
ALIKE = {"cka feature", "debiased cka feature", "streamed debiased", "merged", "null feature"}
ALIKE |= {"calibrated gamma", "knn by draws", "debiased_rbf_cka", "debiased_distance_correlation"}
ALIKE |= {"cka gram", "calibrated by draws", "cycle_knn", "neighborhood_jaccard", "resampled"}
ALIKE |= {"pwcca mean", "subsets"}


@pytest.mark.parametrize("kind", [long(k) if k in ALIKE else k for k in sorted(KINDS)])
def test_nan_and_inf_spoil_their_pairs_and_no_other(kind):
    compute = jax.jit(KINDS[kind])
    clean = encoders()
    want = np.asarray(compute(clean))
    assert np.isfinite(want[..., :3, :3]).all()
    spoiled = np.zeros(want.shape, bool)
    spoiled[..., 1, :] = True
    if kind != "median":
        spoiled[..., :, 1] = True
    for value, row in ((np.nan, 5), (np.inf, 0), (-np.inf, ROWS - 1)):
        blocks = encoders()
        blocks[1][row, 2] = value
        got = np.asarray(compute(blocks))
        assert np.isnan(got[spoiled]).all(), (value, got)
        np.testing.assert_allclose(got[~spoiled], want[~spoiled], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["cka feature", "mutual_knn", "rsa", "svcca"])
def test_masked_rows_may_hold_anything(kind):
    blocks = encoders()
    blocks[1][3] = np.nan
    mask = np.arange(ROWS) != 3
    assert np.isfinite(KINDS[kind](blocks, mask=mask)).all()


def test_the_p_value_of_nan_is_nan():
    draws = jnp.linspace(0, 1, 99)
    p = kernels.family_p_values(jnp.array([jnp.nan, 2.0]), draws)
    np.testing.assert_array_equal(p, np.array([np.nan, 0.01], np.float32))
    np.testing.assert_array_equal(kernels.family_p_values(jnp.ones(2), draws * jnp.nan), np.nan)
    # A score that is NaN is no member of the family.
    null = jnp.stack([draws, draws * jnp.nan], axis=1)
    np.testing.assert_array_equal(kernels.max_null(null), draws)
    tail = kernels.tail_from_moments(jnp.array([jnp.nan, 0.5]), jnp.array(0.1), jnp.array(0.01))
    for values in (tail.score, tail.tau, tail.p_value, tail.log10_p_value):
        np.testing.assert_array_equal(np.isnan(values), [True, False])
    q = kernels.benjamini_hochberg(jnp.array([jnp.nan, 0.01]))
    np.testing.assert_array_equal(np.isnan(q), [True, False])


@pytest.mark.long
def test_a_row_that_is_not_finite_is_nobodys_neighbor():
    x = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    mask = np.arange(600) % 7 != 0
    for rows in (slice(0, 20), slice(None)):  # by rows, and by tiles
        want = kernels.nearest_neighbors(x[rows], 3, mask=mask[rows])
        spoiled = x.copy()
        spoiled[~mask] = [np.nan, 0, np.inf]
        np.testing.assert_array_equal(kernels.nearest_neighbors(spoiled[rows], 3), want)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: kernels.pca(x, 2, method="exact").components,
        lambda x: kernels.pca(x, 2, method="subspace").explained_variance,
        lambda x: kernels.StreamingPca.init(3, 2).update(x).finalize().explained_variance,
        lambda x: kernels.generalized_procrustes([x, x[::-1]]).loss,
        lambda x: kernels.procrustes_disparity(x, x[::-1]),
        lambda x: kernels.polar(x[:3]),
        lambda x: kernels.principal_angles(x, x[::-1, :2]),
        lambda x: kernels.grassmann_similarity(x, x[::-1, :2]),
        lambda x: kernels.standardize(x)[:, 1],
        lambda x: kernels.center(x)[:, 1],
        lambda x: kernels.StreamingMoments.init(3).update(x).finalize()[1][1],
    ],
)
def test_other_kernels_give_nan(compute):
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    assert np.isfinite(jax.jit(compute)(x)).all()
    x[1, 1] = np.nan
    assert np.isnan(jax.jit(compute)(x)).all()
