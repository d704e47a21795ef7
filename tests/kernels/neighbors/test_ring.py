"""Neighbors of sharded rows are those of one device, ties and copies included; no rows gather."""

import functools
from functools import partial

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from substrate_jax.kernels import (
    calibrate_mutual_knn,
    cycle_knn,
    mutual_knn,
    nearest_neighbors,
    neighborhood_jaccard,
    pairwise_cknna,
    second_order_cosine,
)
from substrate_jax.kernels.blocks import visit_all
from substrate_jax.kernels.neighbors.copies import find_copies, hash_rows
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import AXIS, tolerance, transforms

N, PADDED, WIDTH, K = 37, 40, 16, 9
ROWS = PartitionSpec(AXIS)


def over(function, devices, out_specs=ROWS):
    mesh = jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=ROWS, out_specs=out_specs))


def exact_rows(kind, seed=0):
    """Rows of +-1, 16 of them to a row: their similarities are exact in float32, and tie."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], size=(N, WIDTH)).astype(np.float32)
    if kind == "copies":  # of few kinds, so that each has copies on most devices; and zero rows
        x = x[rng.integers(6, size=N)]
        x[[3, 20, 21]] = 0
    elif kind == "one kind":
        x[:] = x[0]
    return x


def padded(x):
    """The rows with padding that must not count, and the mask."""
    rows = np.full((PADDED, x.shape[1]), np.nan, np.float32)
    rows[:N] = x
    return jnp.asarray(rows), jnp.arange(PADDED) < N


@functools.lru_cache
def searching(devices, block_rows):
    search = partial(nearest_neighbors, k=K, axis_name=AXIS, block_rows=block_rows)
    return over(lambda x, mask: search(x, mask=mask), devices)


@pytest.mark.parametrize("kind", ["ties", "copies", "one kind"])
def test_lists_are_the_oracle_s_on_any_number_of_devices(kind):
    x = exact_rows(kind)
    want = reference.neighbors(x, K)
    rows, mask = padded(x)
    for devices, block_rows in ((1, None), (8, None), (8, 2)):
        got = np.asarray(searching(devices, block_rows)(rows, mask))
        assert (got[:N] == want).all(), (devices, block_rows)
        assert (got[N:] == -1).all()


@pytest.mark.parametrize("k", [1, N - 1])
def test_more_neighbors_than_a_device_has_rows(k):
    x = exact_rows("copies", seed=1)
    rows, mask = padded(x)
    got = over(lambda x, m: nearest_neighbors(x, k, mask=m, axis_name=AXIS), 8)(rows, mask)
    assert (np.asarray(got)[:N] == reference.neighbors(x, k)).all()


def everything(x, y, mask, axis_name):
    """All that is made of neighbors, the sampled null included."""
    options = {"mask": mask, "axis_name": axis_name}
    recall = mutual_knn([x, y], (2, K), **options)
    sampled = calibrate_mutual_knn(
        [x, y], (2, K), method="permutation", permutations=19, key=jax.random.key(0), **options
    )
    exact = recall, sampled.tau, sampled.p_value, cycle_knn([x, y], k=K, **options)
    return exact, pairwise_cknna([x, y], k=K, **options)


@pytest.mark.long
def test_measures_have_the_bits_of_one_device():
    rows = [padded(exact_rows(kind))[0] for kind in ("ties", "copies")]
    rows.append(padded(exact_rows("ties"))[1])
    (want, cknna), (got, its_cknna) = (
        transforms()[name](everything, rows) for name in ("jit", "shard_map")
    )
    for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.array_equal(mine, theirs)
    assert np.abs(its_cknna - cknna).max() < tolerance(N * K)  # sums in another order


def collectives(jaxpr):
    """Name and shape of what each collective of a program is given."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("all_gather", "ppermute", "all_to_all"):
            for operand in equation.invars:
                yield equation.primitive.name, operand.aval.shape, operand.aval.dtype
        for part in jax.extend.core.jaxprs_in_params(equation.params):
            yield from collectives(part)


@pytest.mark.parametrize(
    "measure",
    [
        lambda blocks: mutual_knn(blocks, (2, 3), axis_name=AXIS).recall,
        lambda blocks: (
            calibrate_mutual_knn(
                blocks,
                (2, 3),
                method="permutation",
                permutations=19,
                key=jax.random.key(0),
                axis_name=AXIS,
            ).tau
        ),
        partial(pairwise_cknna, k=3, axis_name=AXIS),
        partial(cycle_knn, k=3, axis_name=AXIS),
        partial(neighborhood_jaccard, k=3, axis_name=AXIS),
        partial(second_order_cosine, k=3, axis_name=AXIS),
    ],
    ids=["mutual kNN", "its null", "CKNNA", "cycle kNN", "Jaccard", "second-order cosine"],
)
def test_rows_are_never_gathered(measure):
    """They go round; what is gathered is a number or a list of neighbors per row."""
    n, d = 64, 24
    blocks = [jnp.zeros((n, d))] * 2
    program = over(measure, 8, PartitionSpec())
    found = list(collectives(jax.make_jaxpr(program)(blocks).jaxpr))
    gathered = [np.prod(shape) for name, shape, _ in found if name != "ppermute"]
    assert max(gathered) <= n // 8 * 4
    assert ("ppermute", (n // 8, d), jnp.float32) in found


def test_visits_reach_all_devices_once():
    def numbers(x):
        return visit_all(lambda seen, share: seen + 10.0 ** share[0], 0 * x, x, AXIS)

    got = over(numbers, 8)(jnp.arange(8.0))
    assert got.tolist() == [11111111.0] * 8


def test_copies_are_found_across_devices():
    x = exact_rows("copies")
    want = [np.flatnonzero((x == row).all(1)) for row in x]
    rows, mask = padded(x)

    def find(x, mask):
        found = find_copies(hash_rows(jnp.where(mask[:, None], x, 0), mask), AXIS)
        return found.own, found.following[None]

    own, following = map(np.asarray, over(find, 8)(rows, mask))
    assert (own[:N] == [group[0] for group in want]).all()
    after = [(*group[group > i], PADDED)[0] for i, group in enumerate(want)]
    for each in following:
        assert (each[:N] == after).all()
        assert each[PADDED] == PADDED


@pytest.mark.long
def test_a_block_may_be_the_same_on_all_devices():
    """As where each device compares one encoder with its own draws of another."""
    x, y = np.random.default_rng(0).normal(size=(2, 20, 4)).astype(np.float32)
    orders = np.stack([np.random.default_rng(seed).permutation(20) for seed in range(2)])

    def measured(order):
        blocks = [x, jnp.asarray(y)[order]]
        return jnp.stack(
            [
                mutual_knn(blocks, (3,)).recall[0, 0, 1],
                pairwise_cknna(blocks, k=3)[0, 1],
                second_order_cosine(blocks, k=3)[0, 1],
            ]
        )

    def every(orders):
        return jax.lax.map(measured, orders)

    np.testing.assert_array_equal(over(every, 2)(orders), jax.jit(every)(orders))
