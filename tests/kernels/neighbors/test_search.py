"""Cosine neighbors: exact, in order, ties by index."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from sklearn.neighbors import NearestNeighbors

from substrate_jax.kernels import nearest_neighbors
from substrate_jax.kernels.neighbors.search import neighbor_lists
from substrate_jax.kernels.neighbors.tiles import largest_of_tiles, tile_grid
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import AXIS, long, random_orthogonal, tolerance

N, D = 40, 6
neighbors = jax.jit(nearest_neighbors, static_argnums=1, static_argnames=("block_rows",))


def directions(n=N, seed=0):
    """[n, D] rows, drawn until no two similarities of a row are within rounding."""
    rng = np.random.default_rng(seed)
    while True:
        x = rng.normal(size=(n, D)).astype(np.float32)
        unit = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        if np.diff(np.sort(unit @ unit.T, axis=1), axis=1).min() > 2 * tolerance(D):
            return x


@pytest.mark.parametrize("block_rows", [None, 1, 7])
def test_neighbors_match_oracle_and_sklearn(block_rows):
    x = directions()
    got = neighbors(jnp.asarray(x), 11, block_rows=block_rows)
    assert (got == reference.neighbors(x, 11)).all()
    judge = NearestNeighbors(n_neighbors=11, metric="cosine").fit(x.astype(np.float64))
    assert (got == judge.kneighbors(return_distance=False)).all()


@pytest.mark.parametrize("block_rows", [None, 7])
@pytest.mark.parametrize("n", [16, 45])
def test_ties_go_to_the_lower_index_and_self_is_left_out(n, block_rows):
    """Rows repeat in blocks of 5 kinds; each finds all its copies first, in order."""
    kinds = directions(5)
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
    x = directions()
    rng = np.random.default_rng(1)
    want = reference.neighbors(x, 5)
    scale = 2.0 ** rng.integers(-60, 60, size=(N, 1))
    assert (neighbors(jnp.asarray(x * scale, jnp.float32), 5) == want).all()
    turned = x @ random_orthogonal(rng, D)
    assert (neighbors(jnp.asarray(turned, jnp.float32), 5) == want).all()
    order = rng.permutation(N)
    assert (order[neighbors(jnp.asarray(x[order]), 5)] == want[order]).all()


def test_half_precision_is_ranked_in_float32():
    x = jnp.asarray(directions(), jnp.bfloat16)
    want = reference.neighbors(np.asarray(x.astype(jnp.float32)), 3)
    assert (neighbors(x, 3) == want).all()


@pytest.mark.parametrize("places", ["end", "between"])
def test_masked_rows_are_neither_queries_nor_neighbors(places):
    x = directions()
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
    x = directions()
    mesh = jax.make_mesh((8,), (AXIS,), axis_types=(AxisType.Auto,))
    spec = PartitionSpec(AXIS)
    search = partial(nearest_neighbors, k=7, axis_name=AXIS, block_rows=block_rows)
    got = jax.jit(jax.shard_map(search, mesh=mesh, in_specs=spec, out_specs=spec))(jnp.asarray(x))
    assert (got == reference.neighbors(x, 7)).all()


def test_vmap_equals_a_loop():
    x = np.stack([directions(seed=s) for s in (0, 1)])
    got = jax.vmap(partial(nearest_neighbors, k=4))(jnp.asarray(x))
    assert (got == np.stack([reference.neighbors(one, 4) for one in x])).all()


MANY, FEW, WIDTHS = 544, 8, (256, 64)  # rows enough for tiles
lists = jax.jit(partial(neighbor_lists, k=FEW))


def signs(kind, width, rng):
    """Rows of +-1 in 4^m columns, whose similarities are exact in float32, and tie."""
    x = np.zeros((MANY, width), np.float32)
    used = 16 if kind == "more ties than candidates" else width
    x[:, :used] = rng.choice([-1, 1], size=(MANY, used))
    if kind == "repeated and zero rows":
        x = x[rng.integers(MANY // 2, size=MANY)]
        x[rng.permutation(MANY)[:40]] = 0
    return x


@pytest.mark.parametrize("masked", [long(0), MANY // 5, long(MANY - 5)])
@pytest.mark.parametrize(
    "kind", ["few ties", "more ties than candidates", "repeated and zero rows"]
)
def test_tiles_give_what_the_oracle_gives(kind, masked):
    assert tile_grid(MANY, FEW) is not None
    rng = np.random.default_rng(masked)
    mask = np.arange(MANY) >= 0
    mask[rng.permutation(MANY)[:masked]] = False
    blocks = [signs(kind, width, rng) for width in WIDTHS]
    want = [np.flatnonzero(mask)[reference.neighbors(x[mask], FEW)] for x in blocks]
    got = np.asarray(lists([np.where(mask[:, None], x, np.nan) for x in blocks], mask=mask))
    assert (got[:, ~mask] == -1).all()
    assert (got[:, mask, : mask.sum() - 1] == want).all()
    assert (got[:, mask, mask.sum() - 1 :] == -1).all()


def test_tiles_rank_what_is_within_rounding_as_well_as_it_can_be():
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(MANY, width)).astype(np.float32) for width in WIDTHS]
    for x, got in zip(blocks, lists(blocks, mask=np.ones(MANY, bool)), strict=True):
        unit = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -np.inf)
        best = -np.sort(-similarity, axis=1)[:, :FEW]
        found = np.take_along_axis(similarity, np.asarray(got), axis=1)
        assert np.abs(found - best).max() < 2 * tolerance(x.shape[1])
        assert (np.diff(np.sort(got, axis=1), axis=1) > 0).all()


def test_rows_with_a_twin_take_its_values():
    rng = np.random.default_rng(1)
    rows, grid = 512, tile_grid(512, FEW)
    values = rng.uniform(-1, 1, size=(rows, rows)).astype(np.float32)
    values = np.triu(values) + np.triu(values, 1).T
    owner = rng.integers(200, size=rows)
    twins = np.array([np.flatnonzero(owner == mine)[0] for mine in owner])
    blocks = values.reshape(grid.parts, grid.unit, grid.parts, grid.unit).swapaxes(1, 2)
    got = jax.jit(partial(largest_of_tiles, grid=grid))(blocks[grid.pairs], twins, True)
    tied = values[twins][:, twins]
    np.fill_diagonal(tied, -np.inf)
    assert (got == np.argsort(-tied, axis=1, kind="stable")[:, :FEW]).all()


def test_tiles_may_be_inside_a_map_or_a_gradient():
    x = jnp.ones((512, 4))
    mesh = jax.make_mesh((8,), (AXIS,), axis_types=(AxisType.Auto,))
    spec = PartitionSpec(AXIS)
    search = partial(nearest_neighbors, k=2)
    search = jax.shard_map(search, mesh=mesh, in_specs=spec, out_specs=spec)
    jax.eval_shape(search, jnp.ones((8 * 512, 4)))
    slope = jax.grad(lambda x: jnp.sum(x[nearest_neighbors(x, 2)]))
    assert jax.eval_shape(slope, x).shape == x.shape


def test_tiles_are_left_where_they_cannot_serve():
    """Few rows, many neighbors, tiles beyond 512 MiB, blocks of rows or shards asked for."""
    assert tile_grid(511, 8) is tile_grid(1000, 251) is tile_grid(17_000, 8) is None
    for rows in (512, 1000, 4096, 5000, 13_394, 16_000):
        grid = tile_grid(rows, 100)
        assert rows <= grid.rows < 1.1 * rows
        assert grid.parts <= 32
        assert grid.unit % (64 * grid.chunk // min(grid.chunk, 64)) == 0
        assert len(grid.pairs[0]) * grid.unit**2 <= 2**27
    text = str(jax.make_jaxpr(partial(nearest_neighbors, k=2, block_rows=8))(jnp.ones((512, 4))))
    assert "population_count" not in text


@pytest.mark.parametrize("block_rows", [None, 11])
def test_no_n_by_n_array_is_held(block_rows, monkeypatch):
    n, d, k = 300, 8, 3
    monkeypatch.setattr("substrate_jax.kernels.blocks.BLOCK_ENTRIES", 16 * n)
    search = partial(nearest_neighbors, k=k, block_rows=block_rows)
    shapes = re.findall(r"[fiu]32\[([\d,]+)\]", str(jax.make_jaxpr(search)(jnp.zeros((n, d)))))
    assert max(math.prod(map(int, dims.split(","))) for dims in shapes) == (block_rows or 16) * n


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 5}, r"k must be in 1\.\.4 = n - 1 for n = 5 rows, got 5"),
        ({"k": 0}, "n = 5 rows, got 0"),
        ({"k": 2, "block_rows": 0}, "block_rows .* got 0"),
        ({"k": 2, "mask": jnp.ones(4, bool)}, r"mask must be bool of shape \(5,\)"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        nearest_neighbors(jnp.ones((5, 2)), **options)
    assert "\n" not in str(caught.value)
