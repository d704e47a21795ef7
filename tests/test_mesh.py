"""Meshes, padding and placement on 8 simulated devices."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from substrate_jax import mesh as meshes
from substrate_jax.processes import initialize_distributed


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "coordinator=None with num_processes=2"),
        (("localhost", 2, 0), "coordinator='localhost': give host:port"),
        (("localhost:1", 2, 2), "0 <= process_id < num_processes"),
        (("localhost:1", None, 0), "give both"),
    ],
)
def test_initialize_distributed_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        initialize_distributed(*arguments)
