"""Intervals: coverage of a known value, the same draws everywhere, and what each draw may hold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from substrate_jax.kernels import MEASURES, bootstrap, pairwise_measure, resampled
from substrate_jax.kernels.alignment.weighted_cka import weighted_cka
from substrate_jax.kernels.neighbors.subset_knn import list_length, subset_recall
from substrate_jax.kernels.reference import statistics as reference
from tests import helpers

# Two features a side, mixed and noisy; CKA of the population is ||C_xy||^2 / (||C_x|| ||C_y||).
MIX = np.array([[1.0, 0.5], [-0.3, 0.8]])
NOISE = 0.7


def population_cka():
    cross, own, plain = MIX, MIX @ MIX.T + NOISE**2 * np.eye(2), (1 + NOISE**2) * np.eye(2)
    return np.sum(cross**2) / (np.linalg.norm(own) * np.linalg.norm(plain))


def sample(n, seed=0, repeats=1):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(repeats, n, 2))
    return [
        (z @ side + NOISE * rng.normal(size=z.shape)).astype(np.float32)
        for side in (MIX.T, np.eye(2))
    ]


@pytest.mark.parametrize("name", [helpers.long("debiased_cka"), "cka"])
def test_intervals_cover_the_known_value(name):
    """Two of them: rows drawn with and without replacement."""
    repeats, n = 200, 100

    def one(pair):
        key, x, y = pair
        found = bootstrap(name, [x, y], key, draws=80, level=0.9)
        return found.value[0, 1], found.low[0, 1], found.high[0, 1], found.error[0, 1]

    keys = jax.random.split(jax.random.key(0), repeats)
    run = jax.jit(lambda *pairs: jax.lax.map(one, pairs, batch_size=20))
    value, low, high, error = map(np.asarray, run(keys, *sample(n, repeats=repeats)))
    want = population_cka()
    covered = np.mean((low <= want) & (want <= high))
    # Three binomial deviations about 0.9, and 0.03 for 100 rows being few.
    deviation = np.sqrt(0.9 * 0.1 / repeats)
    assert 0.9 - 0.03 - 3 * deviation < covered < 0.9 + 3 * deviation
    # The spread of 200 values has a relative deviation of 5 %.
    assert 0.8 < error.mean() / value.std() < 1.25


@pytest.mark.parametrize("name", ["cka", helpers.long("mutual_knn")])
def test_eight_devices_draw_the_rows_of_one(name):
    blocks = [b[0] for b in sample(37)]
    padded = [np.concatenate([b, np.full((3, 2), np.nan, np.float32)]) for b in blocks]
    padded, mask = [jnp.asarray(b) for b in padded], jnp.arange(40) < 37
    draw = partial(bootstrap, name, draws=10)
    want = jax.jit(draw)(blocks, jax.random.key(1))

    def compute(blocks, mask, key, axis_name):
        return draw(blocks, key, mask=mask, axis_name=axis_name)

    got = helpers.transforms()["shard_map"](compute, (padded, mask), jax.random.key(1))
    limit = 10 * helpers.tolerance(37)
    jax.tree.map(partial(np.testing.assert_allclose, atol=limit), got, want)
    np.testing.assert_allclose(want.value, pairwise_measure(name, blocks), atol=limit)
    assert (want.low <= want.value + limit).all()
    assert (want.value <= want.high + limit).all()
    assert want.error[0, 1] > 0.001
    np.testing.assert_allclose(jnp.diagonal(want.error), 0, atol=limit)


def views(n, seed=0):
    """Encoders of which one is constant and one is so but for its last row."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 4))
    blocks = [base @ rng.normal(size=(4, d)) + rng.normal(size=(n, d)) + 2 for d in (3, 7, 5)]
    return [b.astype(np.float32) for b in [*blocks, np.full((n, 2), 0.3), np.eye(n)[:, -1:]]]


@pytest.mark.parametrize("debiased", [False, True])
def test_one_pass_gives_the_cka_of_the_rows_of_each_draw(debiased):
    n = 347  # several tiles
    blocks, rng = views(n), np.random.default_rng(1)
    rows = rng.integers(0, n - 1, size=(3, n))  # never the last
    weights = np.stack([np.bincount(r, minlength=n) for r in rows], axis=1).astype(np.float32)
    compiled = jax.jit(partial(weighted_cka, debiased=debiased))
    got = np.asarray(compiled([jnp.asarray(b) for b in blocks], weights), np.float64)
    want = [reference.pairwise_cka([b[r] for b in blocks[:3]], debiased=debiased) for r in rows]
    np.testing.assert_allclose(got[:, :3, :3], want, atol=helpers.tolerance(n * n))
    assert 0.1 < got[0, 0, 1] < 0.9
    assert (got[:, 3:] == 0).all()
    assert (got[:, :, 3:] == 0).all()
    if debiased:
        few = np.eye(n)[:, :3].sum(axis=1, keepdims=True)  # three rows
        assert np.isnan(np.asarray(compiled([jnp.asarray(b) for b in blocks[:2]], few))).all()


def test_one_search_gives_the_recall_of_every_subset():
    n, ks = 60, (2, 5, 11)
    blocks, rng = views(n)[:4], np.random.default_rng(2)
    subsets = np.stack([rng.permutation(n) < 45 for _ in range(3)], axis=1)
    found = jax.jit(partial(subset_recall, share=0.75), static_argnums=1)
    got = found([jnp.asarray(b) for b in blocks], ks, subsets)
    for draw, taken in zip(got, subsets.T, strict=True):
        rows = [b[taken] for b in blocks[:3]]
        want = [[[reference.mutual_knn(x, y, k) for x in rows] for y in rows] for k in ks]
        want = np.pad(want, ((0, 0), (0, 1), (0, 1)))  # the constant one has no neighbors
        np.testing.assert_allclose(draw, want, atol=helpers.tolerance(1))


@pytest.mark.parametrize("share", [0.2, 0.8])
@pytest.mark.parametrize("n", [40, 1000, 8000])
@pytest.mark.parametrize("k", [1, 6, 100])
def test_lists_hold_enough_members_of_any_subset(n, k, share):
    length, size = list_length(k, n, share), int(share * n)
    if k >= size:
        return
    assert k < length < n
    short = stats.hypergeom.cdf(k - 1, n - 1, size - 1, length)
    assert short < 1e-15


@pytest.mark.parametrize("name", ["cka", "debiased_cka"])
def test_draws_are_about_the_value_and_scaled(name):
    """A pass for all draws against one for each, which an option of the measure asks for."""
    blocks = [jnp.asarray(b[0]) for b in sample(37)]
    run = jax.jit(resampled, static_argnums=0, static_argnames=("draws", "space", "resampling"))
    for resampling in ("bootstrap", "subsample"):
        options = {"draws": 6, "resampling": resampling}
        value, got = run(name, blocks, jax.random.key(1), **options)
        same, want = run(name, blocks, jax.random.key(1), space="gram", **options)
        limit = 10 * helpers.tolerance(37)
        np.testing.assert_allclose(value, same, atol=limit)
        np.testing.assert_allclose(got, want, atol=limit)
        np.testing.assert_allclose(got.mean(0), value, atol=limit)
        assert got[:, 0, 1].std() > 0.01


@pytest.mark.parametrize("name", list(MEASURES))
def test_every_measure_can_be_resampled_on_a_mesh(name):
    """Types only, which is where loops on devices that differ go wrong."""
    blocks = [jnp.asarray(b[0]) for b in sample(40)]

    def compute(blocks, key, axis_name):
        return bootstrap(name, blocks, key, draws=3, axis_name=axis_name)

    mapped = helpers.transforms()["shard_map"]
    found = jax.eval_shape(lambda b, key: mapped(compute, (b,), key), blocks, jax.random.key(0))
    assert {leaf.shape for leaf in jax.tree.leaves(found)} == {(2, 2)}


BAD = {
    "unknown": (("rsb", {}), "rsb"),
    "level": (("cka", {"level": 1.0}), "level.*1.0"),
    "share": (("rsa", {"share": 0.0}), "share.*0.0"),
    "draws": (("cka", {"draws": 1}), "draws.*1"),
    "resampling": (("cka", {"resampling": "jackknife"}), "resampling.*jackknife"),
    "rows": (("mutual_knn", {"k": 10}), "11 rows, got 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_named(case):
    (name, options), message = BAD[case]
    blocks = [jnp.asarray(b[0]) for b in sample(12)]
    with pytest.raises(ValueError, match=message) as caught:
        bootstrap(name, blocks, jax.random.key(0), **options)
    assert "\n" not in str(caught.value)
