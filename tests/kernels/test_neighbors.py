"""Cosine neighbours, mutual kNN recall and its permutation null."""

import math
import re
from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from sklearn.neighbors import NearestNeighbors

from substrate_jax.kernels import (
    calibrate_mutual_knn,
    mutual_knn,
    nearest_neighbors,
    reference,
)
from tests.helpers import AXIS, random_orthogonal, relative_error, tolerance, transforms

N, D = 40, 6
KS = (2, 5, 11)
neighbors = jax.jit(nearest_neighbors, static_argnums=1, static_argnames=("block_rows",))
recalls = jax.jit(mutual_knn, static_argnums=1, static_argnames=("block_rows",))


def cosine(x):
    x = np.asarray(x, np.float64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit @ unit.T


def encoders(n=N, seed=0, widths=(D, 9, 4)):
    """Views of one configuration, drawn until no two similarities of a row are within rounding."""
    rng = np.random.default_rng(seed)
    while True:
        base = rng.normal(size=(n, D))
        views = [base @ rng.normal(size=(D, d)) + rng.normal(size=(n, d)) for d in widths]
        gaps = [np.diff(np.sort(cosine(view), axis=1), axis=1).min() for view in views]
        if min(gaps) > 2 * tolerance(max(widths)):
            return [view.astype(np.float32) for view in views]


def arrays(blocks):
    return [jnp.asarray(block) for block in blocks]


@pytest.mark.parametrize("block_rows", [None, 1, 7])
def test_neighbors_match_oracle_and_sklearn(block_rows):
    x = encoders()[0]
    got = neighbors(jnp.asarray(x), 11, block_rows=block_rows)
    assert (got == reference.neighbors(x, 11)).all()
    judge = NearestNeighbors(n_neighbors=11, metric="cosine").fit(x.astype(np.float64))
    assert (got == judge.kneighbors(return_distance=False)).all()


@pytest.mark.parametrize("block_rows", [None, 7])
@pytest.mark.parametrize("n", [16, 45])
def test_ties_go_to_the_lower_index_and_self_is_left_out(n, block_rows):
    """Rows repeat in blocks of 5 kinds; each finds all its copies first, in order."""
    kinds = encoders(5)[0]
    owner = np.arange(n) % 5
    got = np.asarray(neighbors(jnp.asarray(kinds[owner]), n - 1, block_rows=block_rows))
    for i, row in enumerate(got):
        assert i not in row
        copies = [j for j in range(n) if owner[j] == owner[i] and j != i]
        assert list(row[: len(copies)]) == copies
        for kind in range(5):
            same = row[owner[row] == kind]
            assert (np.diff(same) > 0).all()
            assert np.ptp(np.flatnonzero(owner[row] == kind)) == len(same) - 1


def test_equal_rows_all_tie():
    got = neighbors(jnp.full((9, 3), 0.1), 4)
    want = [[j for j in range(9) if j != i][:4] for i in range(9)]
    assert got.tolist() == want
    assert neighbors(jnp.zeros((9, 3)), 4).tolist() == want
    signed = jnp.where(jnp.arange(9)[:, None] % 2 == 0, 0.0, -0.0) * jnp.ones((9, 3))
    assert neighbors(signed, 4).tolist() == want


def test_neighbors_see_directions_only():
    x = encoders()[0]
    rng = np.random.default_rng(1)
    want = reference.neighbors(x, 5)
    scale = 2.0 ** rng.integers(-60, 60, size=(N, 1))
    assert (neighbors(jnp.asarray(x * scale, jnp.float32), 5) == want).all()
    turned = x @ random_orthogonal(rng, D)
    assert (neighbors(jnp.asarray(turned, jnp.float32), 5) == want).all()
    order = rng.permutation(N)
    assert (order[neighbors(jnp.asarray(x[order]), 5)] == want[order]).all()


def test_half_precision_is_ranked_in_float32():
    x = jnp.asarray(encoders()[0], jnp.bfloat16)
    want = reference.neighbors(np.asarray(x.astype(jnp.float32)), 3)
    assert (neighbors(x, 3) == want).all()


@pytest.mark.parametrize("places", ["end", "between"])
def test_masked_rows_are_neither_queries_nor_neighbours(places):
    x = encoders()[0]
    kept = np.arange(N) if places == "end" else np.arange(N) + np.arange(N) // 3
    rows = kept[-1] + 6
    padded = np.full((rows, D), np.nan, np.float32)
    padded[kept] = x
    mask = np.isin(np.arange(rows), kept)
    got = neighbors(jnp.asarray(padded), 5, mask=jnp.asarray(mask))
    assert (np.asarray(got)[kept] == kept[reference.neighbors(x, 5)]).all()
    assert (np.asarray(got)[~mask] == -1).all()
    few = neighbors(jnp.asarray(padded), 5, mask=jnp.arange(rows) < 3)
    assert (few[:3, 2:] == -1).all()
    assert (few[:3, :2] >= 0).all()


@pytest.mark.parametrize("block_rows", [None, 2])
def test_neighbors_of_sharded_rows_are_global(block_rows):
    x = encoders()[0]
    mesh = jax.make_mesh((8,), (AXIS,), axis_types=(AxisType.Auto,))
    spec = PartitionSpec(AXIS)
    search = partial(nearest_neighbors, k=7, axis_name=AXIS, block_rows=block_rows)
    got = jax.jit(jax.shard_map(search, mesh=mesh, in_specs=spec, out_specs=spec))(jnp.asarray(x))
    assert (got == reference.neighbors(x, 7)).all()


def test_no_n_by_n_array_is_held():
    n, block_rows = 300, 16

    def search(x):
        return mutual_knn([x, x], (2, 3), block_rows=block_rows).recall

    text = str(jax.make_jaxpr(search)(jnp.zeros((n, 8))))
    shapes = re.findall(r"[fi]32\[([\d,]+)\]", text)
    largest = max(math.prod(map(int, dims.split(","))) for dims in shapes)
    assert largest == 2 * block_rows * (n + 1)


@pytest.mark.parametrize("block_rows", [None, 7])
def test_recall_matches_oracle(block_rows):
    blocks = encoders()
    result = recalls(arrays(blocks), KS, block_rows=block_rows)
    want = [[[reference.mutual_knn(x, y, k) for x in blocks] for y in blocks] for k in KS]
    assert result.recall.shape == (3, 3, 3)
    assert relative_error(result.recall, want) < tolerance(1)
    edges = np.array([[reference.adjacency(x, k) for x in blocks] for k in KS])
    assert (result.reciprocal == (edges * edges.swapaxes(-1, -2)).sum((-1, -2))).all()
    spread = ((edges.sum(-2) - np.array(KS)[:, None, None]) ** 2).sum(-1)
    assert (result.spread == spread).all()
    assert result.count == N


def test_recall_of_one_encoder_and_invariances():
    blocks = encoders()
    assert (jnp.abs(recalls(arrays(blocks[:1]), (3, 8)).recall - 1) < tolerance(1)).all()
    base = recalls(arrays(blocks), KS).recall
    assert (base == jnp.swapaxes(base, 1, 2)).all()
    order = np.random.default_rng(2).permutation(N)
    assert (recalls(arrays([4 * x[order] for x in blocks]), KS).recall == base).all()
    assert (recalls(arrays(blocks), (KS[2], KS[0])).recall == base[jnp.array([2, 0])]).all()


@pytest.mark.parametrize("n", [3, 6])
def test_null_moments_match_all_permutations(n):
    blocks = encoders(n)
    ks = tuple(range(1, n))
    mean, variance, _ = recalls(arrays(blocks), ks).null_moments()
    for i, k in enumerate(ks):
        for e, f in ((0, 0), (0, 1), (1, 2), (2, 0)):
            null = reference.mutual_knn_null(blocks[e], blocks[f], k)
            assert abs(mean[i, e, f] - null.mean()) < tolerance(n)
            assert abs(variance[i, e, f] - null.var()) < tolerance(n)


def test_null_moments_match_all_permutations_of_hubs():
    """In-degrees as uneven as they get: every row points at rows 0 and 1."""
    n, k = 7, 2
    x = np.full((n, 3), 0.0, np.float32)
    x[:, 0], x[2:, 1] = 1, np.linspace(-1, 1, n - 2)
    y = encoders(n)[0]
    mean, variance, _ = recalls(arrays([x, y]), (k,)).null_moments()
    a, b = reference.adjacency(x, k), reference.adjacency(y, k)
    null = [(a * b[np.ix_(o, o)]).sum() / (n * k) for o in map(list, permutations(range(n)))]
    assert abs(mean[0, 0, 1] - np.mean(null)) < tolerance(n)
    assert abs(variance[0, 0, 1] - np.var(null)) < tolerance(n)


def summary(x, y, mask, axis_name):
    """Everything that is the same on all devices, for rows split over them."""
    options = {"mask": mask, "axis_name": axis_name, "block_rows": 3}
    result = mutual_knn([x, y], KS, **options)
    sampled = calibrate_mutual_knn(
        [x, y], KS, method="permutation", permutations=19, key=jax.random.key(0), **options
    )
    return result, result.null_moments(), (sampled.tau, sampled.p_value)


@pytest.fixture(scope="module")
def padded():
    """Rows with padding that holds NaN, and the summaries without padding and in one piece."""
    blocks = encoders(37)[:2]
    rows = [np.concatenate([x, np.full((3, x.shape[1]), np.nan, np.float32)]) for x in blocks]
    rows = [*arrays(rows), jnp.arange(40) < 37]
    return rows, recalls(arrays(blocks), KS), jax.jit(partial(summary, axis_name=None))(*rows)[2]


@pytest.mark.parametrize("transform", transforms())
def test_same_numbers_under_every_transform_with_padding(transform, padded):
    rows, want, sampled = padded
    got, moments, got_sampled = transforms()[transform](summary, rows)
    for name in ("count", "reciprocal", "spread"):
        assert (getattr(got, name) == getattr(want, name)).all(), name
    pairs = zip((got.recall, *moments), (want.recall, *want.null_moments()), strict=True)
    assert all(relative_error(mine, theirs) < tolerance(1) for mine, theirs in pairs)
    for mine, theirs in zip(got_sampled, sampled, strict=True):
        assert relative_error(mine, theirs) < tolerance(1)


@pytest.fixture(scope="module")
def calibrations():
    rng = np.random.default_rng(3)
    first, second, _ = encoders()
    blocks = arrays([first, second, rng.normal(size=(N, D)).astype(np.float32)])
    result = recalls(blocks, KS)
    sample = jax.jit(partial(calibrate_mutual_knn, ks=KS, method="permutation", permutations=299))
    return {
        "result": result,
        "closed_form": calibrate_mutual_knn(result),
        "permutation": sample(blocks, key=jax.random.key(0)),
    }


def test_closed_form_agrees_with_permutations(calibrations):
    exact, sampled = calibrations["closed_form"], calibrations["permutation"]
    assert (exact.method, sampled.method) == ("closed_form", "permutation")
    assert (exact.observed == sampled.observed).all()
    # The 95 % quantile of p draws has a standard error of sqrt(.05 .95 / p) / .103 = 0.12 standard
    # deviations; recall moves in steps of 1 / (n k), by one of which any quantile may be off.
    std = np.sqrt(np.asarray(calibrations["result"].null_moments()[1]))
    step = 1 / (N * np.array(KS))[:, None, None]
    assert (np.abs(np.asarray(exact.tau - sampled.tau)) < 4 * 0.12 * std + step).all()


@pytest.mark.parametrize("method", ["closed_form", "permutation"])
def test_calibration_tells_alike_from_unrelated(calibrations, method):
    result = calibrations[method]
    for field in (result.score, result.tau, result.p_value):
        assert field.shape == (3, 3, 3)
        assert (field == jnp.swapaxes(field, 1, 2)).all()
    for i in range(3):
        assert (jnp.abs(result.score[:, i, i] - 1) < tolerance(1)).all()
    assert (result.p_value[:, 0, 1] < 0.02).all()
    assert (result.score[:, 0, 1] > 0).all()
    assert (result.p_value[:, :2, 2] > 0.02).all()
    assert (result.score < 1 + tolerance(1)).all()


def test_vmap_equals_a_loop():
    x = np.stack([encoders(seed=s)[0] for s in (0, 1)])
    got = jax.vmap(partial(nearest_neighbors, k=4))(jnp.asarray(x))
    assert (got == np.stack([reference.neighbors(one, 4) for one in x])).all()


def test_traced_once_for_one_shape():
    traces = []

    @jax.jit
    def compare(blocks):
        traces.append(None)
        return mutual_knn(blocks, (2,)).recall

    for seed in (0, 1, 2):
        compare(arrays(encoders(seed=seed)))
    assert len(traces) == 1


def few(**options):
    return calibrate_mutual_knn([jnp.ones((5, 2))], (2,), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(nearest_neighbors, jnp.ones((5, 2)), 5), "n = 5 rows, got 5"),
        (partial(nearest_neighbors, jnp.ones((5, 2)), 0), "n = 5 rows, got 0"),
        (partial(nearest_neighbors, jnp.ones((5, 2)), 2, block_rows=0), "block_rows .* got 0"),
        (partial(mutual_knn, [jnp.ones((5, 2))], (2, 10)), "each of ks .* n = 5 rows, got 10"),
        (partial(mutual_knn, [jnp.ones((5, 2))], ()), "ks is empty"),
        (partial(mutual_knn, [jnp.ones((5, 2)), jnp.ones((4, 2))], (2,)), r"\[5, 4\] rows"),
        (partial(few, method="bootstrap"), "closed_form, permutation"),
        (partial(few, alpha=1.5), "alpha must lie strictly between"),
        (partial(few, method="permutation"), "key must be"),
        (partial(few, method="permutation", permutations=9, key=0), "permutations .* got 9"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
