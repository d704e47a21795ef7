"""Rows in blocks that fit into memory, and the place of this shard's rows among all.

What a kernel makes of a row, such as its similarities to all rows, may be far larger than the row:
it is made for some rows at a time, as many as keep the largest array within `BLOCK_ENTRIES`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

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


def split_rows(lists: Shaped[Array, "E n k"], size: int, fill) -> Shaped[Array, "b E r k"]:
    """Blocks of `size` rows of each encoder, the last one filled up."""
    encoders, local, width = lists.shape
    padded = jnp.pad(lists, ((0, 0), (0, -local % size), (0, 0)), constant_values=fill)
    return padded.reshape(encoders, -1, size, width).swapaxes(0, 1)
