"""Neighbors and CKNNA far from the origin, against float64 on the same float32 rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from substrate_jax.kernels import cycle_knn, mutual_knn, nearest_neighbors, pairwise_cknna
from substrate_jax.kernels.neighbors.subset_knn import subset_recall
from substrate_jax.kernels.reference import measures as oracle
from substrate_jax.kernels.reference import statistics
from tests.helpers import AXIS, long, tolerance

N, D, K = 64, 8, 5
OFFSETS = (1, 100, 1e3, 3e3, 1e4)
neighbors = jax.jit(nearest_neighbors, static_argnums=1)
cknna = jax.jit(partial(pairwise_cknna, k=K))
recalls = jax.jit(partial(mutual_knn, ks=(K,)))
cycles = jax.jit(partial(cycle_knn, k=K))


def views(offsets, n=N, seed=0):
    """Two views of one configuration, each with the offset named, in units of the spread."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, D - 2))
    spread = [base @ rng.normal(size=(D - 2, D)) + rng.normal(size=(n, D)) for _ in offsets]
    return [(x / x.std() + at).astype(np.float32) for x, at in zip(spread, offsets, strict=True)]


def changed(x, kind):
    x, rng = x.astype(np.float64), np.random.default_rng(1)
    if kind == "norms":
        x *= rng.uniform(0.3, 3, size=(len(x), 1))
    elif kind == "powers of two":
        x *= 2.0 ** rng.integers(-60, 60, size=(len(x), 1))
    elif kind == "outlying":
        x[3] *= -5
        x[7] = 1e8 * rng.normal(size=D)
    elif kind == "zero":
        x[[5, 9]] = 0
    elif kind == "tiny":
        x *= 1e-25
    elif kind == "large":
        x *= 1e16
    elif kind == "not finite":
        x[2, 1], x[8, 0] = np.nan, np.inf
    return x.astype(np.float32)


def check(got, x):
    """Each neighbor is as near as the right one, up to rounding, which scales with differences."""
    got, x = np.asarray(got), np.asarray(x, np.float64)
    finite = np.isfinite(x).all(1)
    assert (got[~finite] == -1).all()
    norm = np.linalg.norm(x[finite], axis=1, keepdims=True)
    unit = np.zeros_like(x)
    unit[finite] = np.divide(x[finite], norm, out=np.zeros_like(x[finite]), where=norm > 0)
    similarity = unit @ unit.T
    similarity[:, ~finite] = -np.inf
    np.fill_diagonal(similarity, -np.inf)
    best = -np.sort(-similarity, axis=1)[:, : got.shape[1]]
    found = np.take_along_axis(similarity, got, axis=1)
    typical = np.median(unit[finite], axis=0)
    away = np.linalg.norm(unit - typical / np.linalg.norm(typical), axis=1)
    radius = 2 * np.median(away[finite])
    allowed = tolerance(D) * radius * np.maximum(radius, away)
    assert (np.abs(found - best)[finite] < allowed[finite, None]).all()
    assert (np.diff(np.sort(got[finite], axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(
    "kind",
    ["as is", "norms", "powers of two", "outlying", "zero", "tiny", "large", "not finite"],
)
def test_neighbors_are_those_of_float64(kind, offset):
    x = changed(views([offset])[0], kind)
    check(neighbors(x, K), x)


def test_zero_rows_tie_with_all_and_equal_rows_with_each_other():
    x = changed(views([1e3])[0], "zero")
    x[12] = x[11]
    got = np.asarray(neighbors(x, K))
    assert got[5].tolist() == [0, 1, 2, 3, 4]
    assert got[9].tolist() == [0, 1, 2, 3, 4]
    assert got[11, 0] == 12
    assert got[12, 0] == 11
    assert not np.isin(np.delete(got, [5, 9], axis=0), [5, 9]).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_halves_are_compared_as_the_float32_that_they_are(dtype):
    x = jnp.asarray(views([30])[0]).astype(dtype)
    check(neighbors(x, K), x.astype(jnp.float32))


@pytest.mark.parametrize("kind", ["as is", "outlying", "zero"])
def test_tiles_give_the_same(kind):
    x = changed(views([3e3], n=544)[0], kind)
    check(neighbors(x, K), x)


@pytest.mark.parametrize("offsets", [long((1e3, 1e3)), (3e3, 3e3), long((0, 1e4))])
def test_measures_are_those_of_float64(offsets):
    x, y = views(offsets)
    want = oracle.cknna(x, y, K)
    got = cknna([x, y])
    assert (np.abs(np.diagonal(got) - 1) < tolerance(1)).all()
    assert abs(got[0, 1] - want) < tolerance(N * K)
    got = recalls([x, y]).recall[0]
    assert abs(got[0, 1] - statistics.mutual_knn(x, y, K)) < tolerance(1)
    got = cycles([x, y])
    assert abs(got[0, 1] - oracle.cycle_knn(x, y, K)) < tolerance(1)


def test_subsets_are_those_of_float64():
    x, y = views((3e3, 3e3))
    subsets = np.arange(N)[:, None] % 4 < np.array([4, 3])
    got = jax.jit(partial(subset_recall, ks=(K,), share=0.75))([x, y], subsets=subsets)
    for mine, kept in zip(got, subsets.T, strict=True):
        want = statistics.mutual_knn(x[kept], y[kept], K)
        assert abs(mine[0, 0, 1] - want) < tolerance(1)


def test_eight_devices_give_the_same():
    mesh = jax.make_mesh((8,), (AXIS,), axis_types=(AxisType.Auto,))
    rows = PartitionSpec(AXIS)

    def both(x, y):
        lists = nearest_neighbors(x, K, axis_name=AXIS)
        return lists, pairwise_cknna([x, y], k=K, axis_name=AXIS)

    program = jax.shard_map(both, mesh=mesh, in_specs=rows, out_specs=(rows, PartitionSpec()))
    program = jax.jit(program)
    for kind in ("as is", "outlying"):
        x, y = (changed(x, kind) for x in views((3e3, 1e4)))
        lists, value = program(x, y)
        assert (lists == neighbors(x, K)).all()
        assert np.abs(value - cknna([x, y])).max() < tolerance(N * K)


def test_rows_of_one_direction_are_constant():
    x = views([3e3])[0]
    ray = np.random.default_rng(0).uniform(0.5, 2, size=(N, 1)) * np.linspace(1, 2, D)
    for constant in (ray, np.full((N, D), 0.1)):
        got = cknna([x, constant.astype(np.float32)])
        assert got[0, 1] == got[1, 0] == got[1, 1] == 0


def test_the_gradient_is_that_of_float64():
    x, y = views((300, 1))
    slope = jax.jit(jax.grad(lambda x, y: pairwise_cknna([x, y], k=K)[0, 1]))(x, y)
    way, step = np.random.default_rng(2).normal(size=x.shape), 1e-6
    want = (oracle.cknna(x + step * way, y, K) - oracle.cknna(x - step * way, y, K)) / (2 * step)
    terms = np.asarray(slope, np.float64) * way
    assert abs(terms.sum() - want) < tolerance(N * K) * np.abs(terms).sum()
