"""Rows in blocks that fit into memory, and the place of this shard's rows among all.

What a kernel makes of a row, such as its similarities to all rows, may be far larger than the row:
it is made for some rows at a time, as many as keep the largest array within `BLOCK_ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from .validate import axis_size

State = TypeVar("State")
Share = TypeVar("Share")
BLOCK_ENTRIES = 1 << 24  # of the largest array held at once: 64 MiB of float32


def block_size(block_rows: int | None, local_rows: int, entries_per_row: int) -> int:
    """Rows handled at once: those asked for, or with None the most within `BLOCK_ENTRIES`.

    Raises:
      ValueError: if `block_rows` is below 1.
    """
    if block_rows is None:
        block_rows = BLOCK_ENTRIES // entries_per_row
    elif block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}: use None.")
    return max(1, min(block_rows, local_rows))


def first_row(local_rows: int, axis_name) -> int | Int[Array, ""]:
    """Index over all shards of the first local row."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * local_rows


def varied_alike(blocks: Sequence[Float[Array | np.ndarray, "n _"]]) -> list[Array]:
    """The blocks, all varying over the mesh axes that any of them varies over.

    Inside a map over devices a block may be the same on all while another is not, and what is to
    be a branch for each must have one type. XLA sees that nothing is done.
    """
    arrays = [jnp.asarray(x) for x in blocks]
    never = jnp.any(jnp.stack([jnp.any(x[:1, :1].astype(bool)) for x in arrays])) & False
    return [jnp.where(never, 0, x) for x in arrays]


def at_one_width(
    blocks: Sequence[Float[Array | np.ndarray, "n _"]], dtype
) -> Callable[[int | Int[Array, ""]], Float[Array, "n d"]]:
    """A function that gives the block of a number at the largest width, 0 beyond its own.

    What `jax.lax.map` does to these is compiled once for all blocks.

    Example:
      >>> block = at_one_width([jnp.ones((1, 1)), jnp.ones((1, 3))], jnp.float32)
      >>> jax.lax.map(block, jnp.arange(2)).tolist()
      [[[1.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]
    """
    widest = max(x.shape[1] for x in blocks)

    def widened(x):
        return jnp.pad(jnp.asarray(x, dtype), ((0, 0), (0, widest - x.shape[1])))

    branches = [partial(widened, x) for x in varied_alike(blocks)]
    return lambda number: jax.lax.switch(number, branches)


def split_rows(lists: Shaped[Array, "E n k"], size: int, fill) -> Shaped[Array, "b E r k"]:
    """Blocks of `size` rows of each encoder, the last one filled up."""
    encoders, local, width = lists.shape
    padded = jnp.pad(lists, ((0, 0), (0, -local % size), (0, 0)), constant_values=fill)
    return padded.reshape(encoders, -1, size, width).swapaxes(0, 1)


def visit_all(
    meet: Callable[[State, Share], State], start: State, own: Share, axis_name=None
) -> State:
    """What is left of `start` when `meet` has been given the shares of all devices in turn.

    Args:
      meet: (state, share of a device) -> state.
      start: varied over the devices, as its successors are.
      own: share of this device, arrays of one shape on all.
      axis_name: mesh axis the devices are on; None for one.

    Example:
      >>> mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
      >>> rows = jax.sharding.PartitionSpec("rows")
      >>> def total(x):
      ...     return visit_all(lambda state, share: state + share.sum(), 0 * x, x, "rows")
      >>> jax.shard_map(total, mesh=mesh, in_specs=rows, out_specs=rows)(jnp.arange(3.0)).tolist()
      [3.0, 3.0, 3.0]
    """
    devices = axis_size(axis_name)
    if devices == 1:
        return meet(start, own)
    onward = [(device, (device + 1) % devices) for device in range(devices)]

    def visit(_, state):
        found, share = state
        # Sent before it is looked at, so that both may happen at once.
        return meet(found, share), jax.lax.ppermute(share, axis_name, onward)

    return jax.lax.fori_loop(0, devices, visit, (start, own))[0]
