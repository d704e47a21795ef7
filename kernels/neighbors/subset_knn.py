"""Mutual kNN recall on many subsets of the rows, from one neighbor search.

The k nearest rows of a subset are the first k of its members in the list of all rows by distance,
so that one list, somewhat longer than k, serves every subset. With p_e(i, j) the place of row j in
row i's list of encoder e, and t_e(i) the place of the k-th member of the subset in it, row i has

    #{j in subset: p_e(i, j) <= t_e(i) and p_f(i, j) <= t_f(i)}

neighbors in common, which is counted for all subsets side by side. Recall is the mean over the
rows of the subset over k, as `mutual_knn` has it of the subset alone, ties by the lower index.

A list is long enough for every subset if it holds k rows beyond those left out. Beyond a few
hundred rows fewer do: of the first l places a random share p has less than k members with
probability below exp(-2 (l p - k)^2 / l) (Hoeffding 1963, section 6), and l is such that this is
1e-18. A row with too short a list has the neighbors that are on it.

Cost, for E encoders and b subsets: 2 n^2 D flops for the search, and E^2 n l b / 2 comparisons of
16 bits for each k; memory for E n l indices and n b truth values.

References:
    Hoeffding (1963), Probability inequalities for sums of bounded random variables. JASA 58.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs, normalized_blocks
from ..arithmetic import AnyArray, psum
from ..blocks import block_size, first_row
from ..validate import all_rows
from .search import check_k, neighbor_lists

LOG_MISS = math.log(1e18)


def subset_recall(
    blocks: Sequence[Float[AnyArray, "n _"]],
    ks: Sequence[int],
    subsets: Bool[Array, "m b"],
    *,
    share: float,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "b K E E"]:
    """Mutual kNN recall of all pairs of encoders within each of `b` random subsets of the rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows.
      ks: numbers of neighbors, each less than the rows of every subset.
      subsets: [m, b] whether each row of all shards is in each subset; never where it is masked.
      share: the smallest share of the rows that a subset has, in (0, 1].
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [b, K, E, E], the same on all devices: 1 on the diagonals, 0 where an encoder is constant over
      all rows, NaN where a subset has k or fewer.

    Raises:
      ValueError: if one of `ks` is out of range, or as `nearest_neighbors`.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> three = jnp.array([True, True, True, False])[:, None]
      >>> compiled = jax.jit(subset_recall, static_argnums=1, static_argnames="share")
      >>> compiled([x, x[:, ::-1]], (1,), three, share=0.75)[0, 0].tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    local, rows = blocks[0].shape[0], all_rows(blocks[0].shape[0], axis_name)
    for k in ks:
        check_k("each of ks", k, rows)
    depths = [list_length(k, rows, share) for k in ks]
    lists = neighbor_lists(blocks, max(depths), mask=mask, axis_name=axis_name)
    lists = jnp.where(lists < 0, rows, lists)  # nobody, and in no subset
    members = jnp.pad(subsets, ((0, 1), (0, 0)))
    own = jax.lax.dynamic_slice_in_dim(subsets, first_row(local, axis_name), local)
    encoders, draws = len(blocks), subsets.shape[1]
    # Encoder e meets e + 1, .., e + half round the circle: every pair, by shifts of whole arrays.
    half = encoders // 2
    partner = (np.arange(encoders) + np.arange(1, half + 1)[:, None]) % encoders  # [half, E]
    number = jnp.int16 if max(depths) < 1 << 15 else jnp.int32

    def block(given):
        lists, own = given  # [E, r, l], [r, b]
        here = jnp.arange(lists.shape[1])
        places = jnp.full((*lists.shape[:2], rows + 1), max(depths), number)
        each = jnp.arange(encoders)[:, None, None], here[None, :, None]
        places = places.at[*each, lists].set(jnp.arange(max(depths), dtype=number)[None, None])
        none = 0 * own.astype(number)

        def common(k, depth):
            listed = jnp.moveaxis(lists[:, :, :depth], 2, 0)

            def reach(state, names):
                found, last = state
                found += members[names].astype(number)
                return (found, last + (found < k).astype(number)), None

            start = jnp.broadcast_to(none[None], (encoders, *none.shape))
            (_, last), _ = jax.lax.scan(reach, (start, start), listed)
            others = last[partner]

            def count(total, place):
                place, names = place
                mine = members[names] & (place <= last)
                there = places[partner[:, :, None], here[None, None], names[None]]
                both = mine[None] & (there[..., None] <= others)
                return total + both.astype(number), None

            start = jnp.broadcast_to(none[None, None], others.shape)
            total, _ = jax.lax.scan(count, start, (jnp.arange(depth, dtype=number), listed))
            return jnp.sum(jnp.where(own[None, None], total, 0), axis=2, dtype=jnp.int32)

        return jnp.stack([common(k, depth) for k, depth in zip(ks, depths, strict=True)])

    size = block_size(None, local, 256 * max(1, half) * encoders * draws)
    padding = -local % size
    lists = jnp.pad(lists, ((0, 0), (0, padding), (0, 0)), constant_values=rows)
    lists = jnp.moveaxis(lists.reshape(encoders, -1, size, max(depths)), 1, 0)
    rows_of = jnp.pad(own, ((0, padding), (0, 0))).reshape(-1, size, draws)
    counts = jnp.sum(jax.lax.map(block, (lists, rows_of)), axis=0)  # [K, half, E, b]
    taken = psum(jnp.sum(own, axis=0, dtype=jnp.int32), axis_name)
    size_of = taken.astype(jnp.float32)[:, None] * jnp.asarray(ks, jnp.float32)[None]
    recall = psum(jnp.moveaxis(counts, 3, 0), axis_name).astype(jnp.float32)
    recall = recall / size_of[:, :, None, None]
    first = np.broadcast_to(np.arange(encoders), partner.shape)
    matrix = jnp.ones((draws, len(ks), encoders, encoders), jnp.float32)
    matrix = matrix.at[:, :, first, partner].set(recall)
    matrix = matrix.at[:, :, partner, first].set(recall)
    scales = normalized_blocks(blocks, mask, axis_name)[1]
    varied = scales != 0
    matrix = jnp.where((varied[:, None] & varied[None, :])[None, None], matrix, 0)
    fits = jnp.asarray(ks, jnp.int32)[None, :] < taken[:, None]
    return nan_pairs(jnp.where(fits[:, :, None, None], matrix, jnp.nan), scales)


def list_length(k: int, rows: int, share: float) -> int:
    """Places of a row's list that hold the `k` nearest members of any subset of a share of rows."""
    every = k + rows - math.floor(share * rows)
    spare = math.sqrt(LOG_MISS / 2)
    likely = math.ceil(((spare + math.sqrt(spare**2 + 4 * share * k)) / (2 * share)) ** 2)
    return min(rows - 1, every, likely)
