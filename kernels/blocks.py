"""Rows of a block in pieces that fit into memory, and where this shard's begin."""

from __future__ import annotations

import jax

BLOCK_ENTRIES = 1 << 24  # of the largest array held at once: 64 MiB of float32


def block_size(block_rows, local, entries_per_row):
    """Rows handled at once, so that their entries stay within `BLOCK_ENTRIES`."""
    if block_rows is None:
        block_rows = BLOCK_ENTRIES // entries_per_row
    elif block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}: use None.")
    return max(1, min(block_rows, local))


def first_row(local, axis_name):
    """Index over all shards of the first local row."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * local
