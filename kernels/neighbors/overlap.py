"""Common neighbors of every pair of encoders, counted by the word.

A row's neighbors are a set of bits, 32 rows to a word, and the bits of a common word are counted by
one instruction. Cost: E F n^2 / 32 word operations for each k; the sets of one block of rows are
held at a time, never those of all.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ..alignment.normalization import marks, nan_pairs
from ..arithmetic import count_rows
from ..blocks import block_size, split_rows


def common_neighbors(
    left: Int[Array, "E n k"],
    right: Int[Array, "F n k"],
    ks: tuple[int, ...],
    rows: int,
    block_rows: int | None,
    of_row: Callable[[Int[Array, "K F r"]], Shaped[Array, "K F r"]] | None = None,
) -> Shaped[Array, "K E F"]:
    """Numbers of common neighbors of every pair, summed over the local rows.

    Args:
      left: lists of the local rows, nearest first, -1 where absent.
      right: those of the other side; the same array where the sides are the same.
      ks: numbers of neighbors, each at most k.
      rows: of all shards.
      block_rows: rows handled at once; None for arrays within 2^24 entries.
      of_row: of the number of each row, what is summed in its place; 0 of 0.
    """
    words = -(-rows // 32)

    def block(pair):
        mine = _bitsets(pair[0], ks, words)
        theirs = mine if right is left else _bitsets(pair[1], ks, words)

        def against(sets):  # [K, words] of one encoder, with all encoders of `right`
            common = jax.lax.population_count(sets[:, None] & theirs)
            if of_row is None:
                return jnp.sum(common, axis=-1, dtype=jnp.int32)
            common = common.reshape(*common.shape[:2], -1, words)
            return jnp.sum(of_row(jnp.sum(common, axis=-1, dtype=jnp.int32)), axis=-1)

        return jax.lax.map(against, mine.swapaxes(0, 1)).swapaxes(0, 1)

    # They are read once for every encoder: a sixteenth of the largest array allowed stays in cache.
    size = block_size(block_rows, left.shape[1], 16 * len(ks) * right.shape[0] * words)
    pairs = tuple(split_rows(side, size, -1) for side in (left, right))
    return jnp.sum(jax.lax.map(block, pairs), axis=0)


def mean_of_rows(
    total: Float[Array, "E E"], blocks, k: int, mask, axis_name
) -> Float[Array, "E E"]:
    """Sums over rows as means; 0 of a constant encoder, NaN of one with NaN or without k others."""
    scales = marks(blocks, mask, axis_name)
    varied = scales != 0
    total = nan_pairs(jnp.where(varied[:, None] & varied[None, :], total, 0), scales)
    count = count_rows(blocks[0].shape[0], mask, axis_name)
    return total / jnp.where(count > k, count.astype(total.dtype), jnp.nan)


def _bitsets(lists, ks, words):
    """[E, n, k] -> [K, E, n words]: bit j of row i's words says whether j is in its list."""
    word = jnp.where(lists < 0, words, lists // 32)  # an absent neighbor falls off the end
    bit = jnp.left_shift(jnp.uint32(1), (lists % 32).astype(jnp.uint32))
    empty = jnp.zeros(words, jnp.uint32)
    fill = jax.vmap(jax.vmap(lambda at, bits: empty.at[at].add(bits, mode="drop")))
    sets = [fill(word[:, :, :k], bit[:, :, :k]) for k in ks]
    return jnp.stack(sets).reshape(len(ks), lists.shape[0], -1)
