"""Mutual kNN recall and its permutation null."""

import dataclasses
import math
import re
from functools import partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax.kernels import calibrate_mutual_knn, mutual_knn
from substrate_jax.kernels.neighbors.subset_knn import subset_recall
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import long, relative_error, tolerance, transforms

N, D = 40, 6
KS = (2, 5, 11)
recalls = jax.jit(mutual_knn, static_argnums=1, static_argnames=("block_rows",))
sampled = jax.jit(partial(calibrate_mutual_knn, ks=KS, method="permutation", permutations=299))


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


def test_no_n_by_n_array_is_held():
    n, block_rows = 300, 16

    def search(x):
        return mutual_knn([x, x], (2, 3), block_rows=block_rows).recall

    shapes = re.findall(r"[fiu]32\[([\d,]+)\]", str(jax.make_jaxpr(search)(jnp.zeros((n, 8)))))
    assert max(math.prod(map(int, dims.split(","))) for dims in shapes) == block_rows * (n + 1)


@pytest.mark.parametrize("block_rows", [long(None), 7])
def test_recall_matches_oracle(block_rows):
    blocks = encoders()
    result = recalls(arrays(blocks), KS, block_rows=block_rows)
    want = [[[reference.mutual_knn(x, y, k) for x in blocks] for y in blocks] for k in KS]
    assert result.recall.shape == (3, 3, 3)
    assert relative_error(result.recall, want) < tolerance(1)
    edges = np.array([[reference.adjacency(x, k) for x in blocks] for k in KS])
    assert result.count == N
    excess = edges.sum(-2) - np.array(KS)[:, None, None]
    back = edges * edges.swapaxes(-1, -2)
    two_steps = edges @ edges
    counts = {
        "spread": (excess**2).sum(-1),
        "skew": (excess**3).sum(-1),
        "reciprocal": back.sum((-1, -2)),
        "hub_reciprocal": (excess * back.sum(-1)).sum(-1),
        "hub_chain": np.einsum("kea,keab,keb->ke", excess, edges, excess),
        "cyclic": (two_steps * edges.swapaxes(-1, -2)).sum((-1, -2)),
        "transitive": (two_steps * edges).sum((-1, -2)),
    }
    assert dataclasses.asdict(result.graph).keys() == counts.keys()
    for name, want in counts.items():
        assert (getattr(result.graph, name) == want).all(), name


def test_recall_of_one_encoder_and_invariances():
    blocks = encoders()
    assert (jnp.abs(recalls(arrays(blocks[:1]), (3, 8)).recall - 1) < tolerance(1)).all()
    base = recalls(arrays(blocks), KS).recall
    assert (base == jnp.swapaxes(base, 1, 2)).all()
    order = np.random.default_rng(2).permutation(N)
    assert (recalls(arrays([4 * x[order] for x in blocks]), KS).recall == base).all()
    assert (recalls(arrays(blocks), (KS[2], KS[0])).recall == base[jnp.array([2, 0])]).all()


@pytest.mark.parametrize("n", [long(4), 5, long(6)])
def test_null_moments_match_all_permutations(n):
    blocks = encoders(n)
    ks = tuple(range(1, n))
    mean, variance, skewness = recalls(arrays(blocks), ks).null_moments()
    for i, k in enumerate(ks):
        for e, f in ((0, 0), (0, 1), (1, 2), (2, 0)):
            null = reference.mutual_knn_null(blocks[e], blocks[f], k)
            assert abs(mean[i, e, f] - null.mean()) < tolerance(n)
            assert abs(variance[i, e, f] - null.var()) < tolerance(n)
            third = np.mean((null - null.mean()) ** 3)
            assert abs(skewness[i, e, f] * variance[i, e, f] ** 1.5 - third) < tolerance(n)


@pytest.mark.long
def test_null_moments_match_all_permutations_of_hubs():
    """In-degrees as uneven as they get: every row points at rows 0 and 1."""
    n, k = 7, 2
    x = np.full((n, 3), 0.0, np.float32)
    x[:, 0], x[2:, 1] = 1, np.linspace(-1, 1, n - 2)
    y = encoders(n)[0]
    mean, variance, skewness = recalls(arrays([x, y]), (k,)).null_moments()
    a, b = reference.adjacency(x, k), reference.adjacency(y, k)
    null = [(a * b[np.ix_(o, o)]).sum() / (n * k) for o in map(list, permutations(range(n)))]
    assert abs(mean[0, 0, 1] - np.mean(null)) < tolerance(n)
    assert abs(variance[0, 0, 1] - np.var(null)) < tolerance(n)
    want = np.mean((null - np.mean(null)) ** 3) / np.std(null) ** 3
    assert abs(skewness[0, 0, 1] - want) < tolerance(n, condition=4)


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


@pytest.mark.parametrize("transform", ["shard_map", long("jit"), long("pmap")])
def test_same_numbers_under_every_transform_with_padding(transform, padded):
    rows, want, sampled = padded
    got, moments, got_sampled = transforms(every=True)[transform](summary, rows)
    assert got.count == want.count
    for name, counts in dataclasses.asdict(want.graph).items():
        assert (getattr(got.graph, name) == counts).all(), name
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
    return {
        "result": result,
        "closed_form": calibrate_mutual_knn(result),
        "permutation": sampled(blocks, key=jax.random.key(0)),
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


def test_a_constant_encoder_has_no_neighbors_in_common_with_any():
    first, second, _ = encoders()
    blocks = arrays([first, second, np.full((N, 4), 0.1, np.float32)])
    result = recalls(blocks, KS)
    want = recalls(arrays(encoders()), KS)
    assert (result.recall[:, 2] == 0).all()
    assert (result.recall[:, :, 2] == 0).all()
    assert (result.recall[:, :2, :2] == want.recall[:, :2, :2]).all()
    wide = [blocks[0], blocks[1], jnp.full((N, D), 0.1)]
    for null in (calibrate_mutual_knn(result), sampled(wide, key=jax.random.key(0))):
        for values, point in ((null.p_value, 1), (null.tau, 0), (null.score, 0)):
            assert (values[:, 2] == point).all()
        assert (null.p_value[:, 0, 1] < 1).all()


def test_without_k_other_rows_there_is_no_value():
    few = jax.jit(mutual_knn, static_argnums=1)
    result = few(arrays(encoders()), KS, mask=jnp.arange(N) < 5)
    null = calibrate_mutual_knn(result)
    for values in (result.recall, *result.null_moments(), null.tau, null.p_value, null.score):
        assert np.isfinite(values[0]).all()  # k = 2 of 4 others
        assert np.isnan(values[1:]).all()  # k = 5, 11


def test_subsets_follow_the_same_rules():
    first, *_ = encoders()
    subsets = np.arange(N)[:, None] < np.array([N, 5])[None, :]
    program = jax.jit(subset_recall, static_argnums=1, static_argnames="share")
    blocks = arrays([first, np.full((N, 2), 0.1, np.float32)])
    got = program(blocks, (2, 5), jnp.asarray(subsets), share=0.1)
    assert np.isnan(got[1, 1]).all()
    for recall in (got[0, 0], got[0, 1], got[1, 0]):
        assert recall.tolist() == [[1, 0], [0, 0]]


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
