"""Meshes, padding and placement on 8 simulated devices."""

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

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


@pytest.mark.parametrize(("n", "multiple", "m"), [(5, 8, 8), (8, 8, 8), (9, 8, 16), (0, 4, 0)])
def test_pad_rows(n, multiple, m):
    array = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    padded, mask = meshes.pad_rows(array, multiple)
    assert padded.shape == (m, 3)
    assert padded.dtype == np.float32
    np.testing.assert_array_equal(padded[mask], array)
    assert not padded[~mask].any()
    assert mask.sum() == n


def test_pad_rows_refuses():
    with pytest.raises(ValueError, match="multiple=0"):
        meshes.pad_rows(np.ones(3), 0)


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
    np.testing.assert_array_equal(meshes.gather_rows(placed), rows)
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


def test_broadcast_in_one_process_is_the_array():
    array = np.array([[-0.0, np.nan]], np.float32)
    assert meshes.broadcast(array).tobytes() == array.tobytes()


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
        meshes.initialize_distributed(*arguments)
