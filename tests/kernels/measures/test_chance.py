"""Chance, ceilings and contrasts of any measure: against enumeration, oracles and closed cases."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from substrate_jax import kernels
from substrate_jax.kernels import MEASURES
from substrate_jax.kernels.reference import measures as reference
from tests import helpers

KEY = jax.random.key(3)


def encoders(n, widths=(3, 4, 5), seed=0, shared=1.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 2))
    blocks = [shared * z @ rng.normal(size=(2, d)) + rng.normal(size=(n, d)) for d in widths]
    return [x.astype(np.float32) for x in blocks]


@pytest.mark.parametrize(
    ("name", "oracle"), [("rsa", reference.rsa), helpers.long("pwcca", reference.pwcca)]
)
def test_sampled_p_is_that_of_all_orders(name, oracle):
    n, draws = 6, 1000
    blocks = encoders(n, (3, 4), seed=1)
    run = jax.jit(partial(kernels.calibrate_measure, name, permutations=draws))
    found = run(blocks, key=KEY)
    for i, j in ((0, 1), (1, 0)):
        x, y = blocks[i], blocks[j]
        observed = oracle(x, y)
        null = [oracle(x, y[list(order)]) for order in itertools.permutations(range(n))]
        share = np.mean(np.array(null) >= observed - 1e-6)
        # The count beside the observed one is binomial; five deviations and the one added.
        error = 5 * np.sqrt(share * (1 - share) / draws) + 1 / draws
        assert 0.01 < share < 0.99
        assert abs(found.p_value[i, j] - share) < error
        np.testing.assert_allclose(found.observed[i, j], observed, atol=1e-5)
        beyond = np.mean(np.array(null) > found.tau[i, j])
        assert abs(beyond - 0.05) < 5 * np.sqrt(0.05 * 0.95 / draws) + 2 / 720
    for values in (found.p_value, found.tau, found.score):
        assert np.isnan(np.diagonal(values)).all()


# Calibration of CKA and of recall has tests of its own.
CLOSED = [helpers.long("cka"), "rbf_cka"]
CLOSED += map(helpers.long, ("distance_correlation", "mutual_knn"))


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_agree_with_draws(name):
    blocks, draws = encoders(30, shared=0.45), 500
    options = {"k": 5} if name == "mutual_knn" else {}
    closed = kernels.calibrate_measure(name, blocks, method="closed_form", **options)
    drawn = jax.jit(partial(kernels.calibrate_measure, name, permutations=draws, **options))
    sampled = drawn(blocks, key=KEY)
    np.testing.assert_allclose(sampled.observed, closed.observed, atol=1e-5)
    for i, j in itertools.combinations(range(3), 2):
        p = float(closed.p_value[i, j])
        # Five binomial deviations, and .02 for a tail known by two or three moments only.
        error = 5 * np.sqrt(max(p, 0.01) / draws) + 0.02
        assert abs(sampled.p_value[i, j] - p) < error, (name, p, sampled.p_value[i, j])


def test_four_measures_have_a_closed_form():
    known = [name for name, entry in MEASURES.items() if entry.calibrate]
    assert known == ["cka", "rbf_cka", "distance_correlation", "mutual_knn"]


def test_devices_strata_and_masks():
    """Orders within strata, of rows that count, the same on eight devices."""
    blocks = encoders(29, shared=3.0)
    strata = jnp.asarray(np.repeat(np.arange(15), 2)[:29])
    run = jax.jit(partial(kernels.calibrate_measure, "procrustes", permutations=39))
    free, within = run(blocks, key=KEY), run(blocks, key=KEY, strata=strata)
    assert (np.asarray(free.p_value)[np.triu_indices(3, 1)] == np.float32(1 / 40)).all()
    # Pairs of rows change places at most: far more of the order is kept, and so is the score.
    assert (within.tau > free.tau + 0.05)[np.triu_indices(3, 1)].all()

    padded = [np.concatenate([x, np.full((3, x.shape[1]), np.nan, "f4")]) for x in blocks]
    padded = [jnp.asarray(x) for x in padded]
    labels = jnp.append(strata, jnp.zeros(3, strata.dtype))

    def compute(blocks, mask, strata, key, axis_name):
        found = kernels.calibrate_measure(
            "procrustes",
            blocks,
            permutations=39,
            key=key,
            mask=mask,
            strata=strata,
            axis_name=axis_name,
        )
        ceiling = kernels.split_half_ceiling(
            "procrustes", blocks, key, splits=2, mask=mask, axis_name=axis_name
        )
        return found.tau, found.p_value, ceiling

    arguments = padded, jnp.arange(32) < 29, labels
    one = jax.jit(partial(compute, axis_name=None))(*arguments, KEY)
    eight = helpers.transforms()["shard_map"](compute, arguments, KEY)
    for got, want in zip(eight, one, strict=True):
        np.testing.assert_allclose(got, want, atol=10 * helpers.tolerance(32))


def test_few_rows_cannot_give_a_small_p():
    x = encoders(3, (2,))[0]
    found = kernels.calibrate_measure("rsa", [x, x], permutations=99, key=KEY)
    assert found.p_value[0, 1] >= 1 / 6


def test_nan_spoils_its_own_pairs():
    blocks = encoders(12)
    blocks[1][2, 0] = np.nan
    found = kernels.calibrate_measure("procrustes", blocks, permutations=19, key=KEY)
    np.testing.assert_array_equal(
        np.isnan(found.p_value), ~np.isin(np.arange(9), [2, 6]).reshape(3, 3)
    )
    ceiling = kernels.split_half_ceiling("procrustes", blocks, KEY)
    np.testing.assert_array_equal(np.isnan(ceiling), [False, True, False])


def test_two_units_have_the_ceiling_of_one_against_the_other():
    x = encoders(20, (2,))[0]
    r = reference.procrustes(x[:, :1], x[:, 1:])
    found = kernels.split_half_ceiling("procrustes", [x, x[:, :1]], KEY, splits=3)
    np.testing.assert_allclose(found[0], 2 * r / (1 + r), rtol=1e-5)
    assert np.isnan(found[1])  # one unit has no halves
    assert np.isnan(kernels.split_half_ceiling("cka", [x[:, :1]], KEY)).all()


def test_two_samples_of_the_same_units_reach_the_ceiling():
    """Units that are noisy views of four dimensions, forty of them twice."""
    rng = np.random.default_rng(0)
    n, units = 200, 40
    views = rng.normal(size=(n, 4)) @ rng.normal(size=(4, 2 * units))
    noisy = (views + 2 * rng.normal(size=views.shape)).astype(np.float32)
    blocks = [noisy[:, :units], noisy[:, units:]]
    ceiling = np.asarray(kernels.split_half_ceiling("debiased_cka", blocks, KEY, splits=20))
    reached = float(kernels.pairwise_cka(blocks, debiased=True)[0, 1])
    half = float(kernels.pairwise_cka([b[:, : units // 2] for b in blocks], debiased=True)[0, 1])
    assert half < reached < 0.95  # so that there is something to correct
    # CKA is no correlation of sums of parallel parts, so the formula is not exact here; corrected,
    # halves have to say more of the whole than they do as they are.
    assert abs(np.sqrt(ceiling.prod()) - reached) < (reached - half)


def test_contrasts_are_differences_of_draws():
    blocks = [*encoders(40), encoders(40, (4,), seed=9)[0]]
    blocks.append(2 * blocks[1])
    value, drawn = jax.jit(partial(kernels.resampled, "cka", draws=50))(blocks, KEY)
    found = kernels.closer(value, drawn, level=0.9)
    z, x, y = 0, 1, 3
    np.testing.assert_allclose(found.difference[z, x, y], value[z, x] - value[z, y], atol=1e-6)
    draws = np.asarray(drawn[:, z, x] - drawn[:, z, y])
    np.testing.assert_allclose(found.low[z, x, y], np.quantile(draws, 0.05), atol=1e-6)
    least = min((draws <= 0).sum(), (draws >= 0).sum())
    np.testing.assert_allclose(found.p_value[z, x, y], min(1, 2 * (1 + least) / 51), rtol=1e-6)
    turned = [np.swapaxes(a, 1, 2) for a in (found.difference, found.low, found.p_value)]
    np.testing.assert_allclose(found.difference, -turned[0], atol=1e-6)
    np.testing.assert_allclose(found.high, -turned[1], atol=1e-6)
    np.testing.assert_array_equal(found.p_value, turned[2])
    known = [[[len({z, x, y}) == 3 for y in range(5)] for x in range(5)] for z in range(5)]
    np.testing.assert_array_equal(np.isfinite(found.p_value), known)
    # A copy is as close as what it copies, but for rounding.
    np.testing.assert_allclose(found.difference[0, 1, 4], 0, atol=1e-5)


def test_equally_close_encoders_differ_as_often_as_the_level_says():
    repeats, n = 200, 60
    rng = np.random.default_rng(5)
    z = rng.normal(size=(repeats, n, 3))
    views = [(z + rng.normal(size=z.shape)).astype(np.float32) for _ in range(3)]

    def one(pair):
        key, *blocks = pair
        value, drawn = kernels.resampled("cka", blocks, key, draws=80)
        return kernels.closer(value, drawn).p_value[0, 1, 2]

    keys = jax.random.split(KEY, repeats)
    p_values = jax.jit(lambda *of: jax.lax.map(one, of, batch_size=20))(keys, *views)
    rejected = int(np.sum(np.asarray(p_values) <= 0.1))
    # Central range of a binomial count that a right test leaves once in a million runs; 60 rows
    # leave the percentile method about .03 above its level, as `bootstrap` says of intervals.
    low = stats.binom.ppf(5e-7, repeats, 0.1)
    high = stats.binom.ppf(1 - 5e-7, repeats, 0.1 + 0.03)
    assert low <= rejected <= high
    assert np.nanmin(p_values) >= np.float32(2 / 81)


BAD = {
    "no closed form": (
        lambda x: kernels.calibrate_measure("rsa", x, method="closed_form"),
        "'closed_form' is not known for 'rsa'",
    ),
    "strata": (
        lambda x: kernels.calibrate_measure(
            "cka", x, method="closed_form", strata=jnp.zeros(12, int)
        ),
        "strata restrict",
    ),
    "no key": (lambda x: kernels.calibrate_measure("rsa", x), "key must be .*got None"),
    "few draws": (
        lambda x: kernels.calibrate_measure("rsa", x, permutations=5, key=KEY),
        "permutations must be at least .*19, got 5",
    ),
    "rows": (lambda x: kernels.calibrate_measure("mutual_knn", x, k=12, key=KEY), "13|12"),
    "measure": (lambda x: kernels.calibrate_measure("rsb", x, key=KEY), "'rsb'"),
    "splits": (lambda x: kernels.split_half_ceiling("cka", x, KEY, splits=0), "splits .*got 0"),
    "draws": (lambda x: kernels.closer(x[0], x[1]), r"\[b, E, E\]"),
    "level": (lambda x: kernels.closer(jnp.eye(3), jnp.ones((2, 3, 3)), level=1.5), "level .*1.5"),
    "sides": (lambda x: kernels.sample_null(lambda o: o, KEY, 3, 4, sides=0), "sides .*got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        call([jnp.asarray(x) for x in encoders(12)])
    assert "\n" not in str(error.value)
