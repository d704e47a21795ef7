"""Meshes, padding and placement on 8 simulated devices."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from substrate_jax import mesh as meshes


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (None, {"data": 8}),
        ("data=8", {"data": 8}),
        ("data=4,model=2", {"data": 4, "model": 2}),
        (" model = 2 , data = 2 ", {"model": 2, "data": 2}),
        ("data=3", {"data": 3}),
    ],
)
def test_make_mesh(spec, shape):
    mesh = meshes.make_mesh(spec)
    assert dict(mesh.shape) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("data=16", "needs 16 devices and there are 8"),
        ("data=8,model=2", "needs 16 devices and there are 8"),
        ("data=0", "needs 0 devices and there are 8"),
        ("model=8", "name the axis 'data' once"),
        ("data=2,data=2", "no axis twice"),
        ("data", "write axis=size"),
        ("data=-1", "write axis=size"),
        ("", "write axis=size"),
    ],
)
def test_impossible_meshes(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        meshes.make_mesh(spec)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["data=8", "data=4,model=2", "model=4,data=2", "data=1"])
def test_rows_are_split_over_data_and_copied_over_the_rest(spec):
    mesh = meshes.make_mesh(spec)
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    placed = meshes.place_rows(rows, mesh, 8)
    assert placed.sharding.spec == PartitionSpec("data")
    size = 8 // mesh.shape["data"]
    for shard in placed.addressable_shards:
        assert shard.data.shape == (size, 2)
        np.testing.assert_array_equal(shard.data, rows[shard.index])
    assert meshes.local_rows(mesh, 8).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("rows", "n", "message"), [(6, 6, "6 rows do not divide over 4"), (4, 8, "holds 8 of n=8")]
)
def test_place_rows_refuses(rows, n, message):
    with pytest.raises(ValueError, match=message):
        meshes.place_rows(np.ones((rows, 1)), meshes.make_mesh("data=4"), n)


def test_replicate_puts_a_whole_copy_on_every_device():
    tree = meshes.replicate({"w": np.arange(3.0), "key": jax.random.key(0)}, meshes.make_mesh())
    assert len(tree["w"].addressable_shards) == 8
    assert all(shard.data.shape == (3,) for shard in tree["w"].addressable_shards)
    assert tree["key"].sharding.is_fully_replicated


@pytest.mark.parametrize(("n", "m"), [(1, 8), (8, 8), (9, 16)])
def test_shard_rows_pads_and_masks(n, m):
    block = np.arange(1, 2 * n + 1, dtype=np.float32).reshape(n, 2)
    rows, mask = meshes.shard_rows(block, meshes.make_mesh())
    assert rows.sharding.spec == mask.sharding.spec == PartitionSpec("data")
    np.testing.assert_array_equal(rows, np.pad(block, ((0, m - n), (0, 0))))
    np.testing.assert_array_equal(mask, np.arange(m) < n)


def test_blocks_of_the_same_rows_have_one_mask():
    mesh, rng = meshes.make_mesh(), np.random.default_rng(0)
    given = [rng.normal(size=(11, width)).astype(np.float32) for width in (2, 5)]
    placed, mask = meshes.shard_blocks(iter(given), mesh)
    for block, rows in zip(placed, given, strict=True):
        np.testing.assert_array_equal(np.asarray(block)[np.asarray(mask)], rows)
        assert block.sharding.spec == meshes.ROWS
    assert mask.sum() == 11


@pytest.mark.parametrize("lengths", [(), (3, 4)])
def test_blocks_of_other_rows_are_refused(lengths):
    blocks = [np.ones((n, 2), np.float32) for n in lengths]
    with pytest.raises(ValueError, match="give at least one, all with the same rows"):
        meshes.shard_blocks(blocks, meshes.make_mesh())


@pytest.mark.parametrize("spec", ["data=8", "data=4,model=2", "data=1"])
def test_a_function_over_rows_sees_its_shard_and_gives_what_all_give(spec):
    mesh, x = meshes.make_mesh(spec), np.arange(24, dtype=np.float32).reshape(8, 3)
    seen = []

    def compute(rows, scale):
        seen.append(rows.shape)
        return jax.lax.psum((scale * rows).sum(0), meshes.DATA_AXIS), rows + scale

    specs = (meshes.ROWS, meshes.EVERYWHERE), (meshes.EVERYWHERE, meshes.ROWS)
    total, shifted = meshes.over_rows(compute, mesh, *specs)(x, np.float32(2))
    assert seen == [(8 // mesh.shape["data"], 3)]
    np.testing.assert_allclose(total, 2 * x.sum(0))
    np.testing.assert_array_equal(shifted, x + 2)
    assert shifted.sharding.is_equivalent_to(NamedSharding(mesh, meshes.ROWS), 2)
