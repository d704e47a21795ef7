"""Pairwise CKA with rows and features sharded over a mesh equals CKA on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from substrate_jax.kernels import StreamingCka, pairwise_hsic
from tests.helpers import long, relative_error, tolerance

ROWS, WIDTHS = 48, (8, 16, 24)
RNG = np.random.default_rng(0)
BLOCKS = [(RNG.normal(size=(ROWS, d)) + 3).astype(np.float32) for d in WIDTHS]
MASK = np.arange(ROWS) < 43


def mesh_of(rows, features):
    devices = jax.devices()[: rows * features]
    return jax.make_mesh(
        (rows, features), ("rows", "features"), axis_types=(AxisType.Auto,) * 2, devices=devices
    )


@functools.cache
def on_one_device(space):
    return pairwise_hsic(
        [jnp.asarray(b) for b in BLOCKS],
        mask=jnp.asarray(MASK),
        space=space,
        cubic=space == "gram",
    )


# An odd and an even ring on either axis, and both at once.
@pytest.mark.parametrize("shape", [(8, 1), long((1, 8)), long((3, 1)), (2, 4)])
@pytest.mark.parametrize("space", ["feature", "gram"])
def test_every_sum_is_that_of_one_device(space, shape):
    def sums(blocks, mask):
        return pairwise_hsic(
            blocks,
            mask=mask,
            space=space,
            cubic=space == "gram",
            axis_name="rows",
            feature_axis_name="features",
        )

    mapped = jax.shard_map(
        sums,
        mesh=mesh_of(*shape),
        in_specs=(PartitionSpec("rows", "features"), PartitionSpec("rows")),
        out_specs=PartitionSpec(),
    )
    got = jax.jit(mapped)([jnp.asarray(b) for b in BLOCKS], jnp.asarray(MASK))
    want = on_one_device(space)
    for name in ("inner", "diagonal", "trace", "scale", "count"):
        error = relative_error(getattr(got, name), getattr(want, name))
        assert error <= tolerance(ROWS + max(WIDTHS)), name
    if space == "gram":
        for mine, theirs in zip(got.cubic, want.cubic, strict=True):
            assert relative_error(mine, theirs) <= tolerance(ROWS, condition=8)


def test_a_stream_keeps_its_state_spread_over_devices():
    mesh = mesh_of(2, 4)
    state = StreamingCka.init(WIDTHS)
    shardings = state.shardings(mesh, "features")
    update = jax.jit(StreamingCka.update, out_shardings=shardings)
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    state = jax.device_put(state, shardings)
    plain = StreamingCka.init(WIDTHS)
    for start in range(0, ROWS, 16):
        batch = [jnp.asarray(b[start : start + 16]) for b in BLOCKS]
        state = update(state, jax.device_put(batch, rows))
        plain = StreamingCka.update(plain, batch)
    for product in state.products:
        assert product.addressable_shards[0].data.size == product.size // 4
    for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(plain), strict=True):
        assert relative_error(got, want) <= tolerance(ROWS, condition=4)
