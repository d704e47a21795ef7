"""Mutual nearest-neighbour recall: do two encoders agree on which images are alike?

With N_k^X(i) the k rows nearest to row i in cosine similarity, i itself excluded,

    recall_k(X, Y) = mean_i |N_k^X(i) & N_k^Y(i)| / k,

symmetric and in [0, 1]. Unlike CKA it sees only the local geometry. `neighbors` says how ties and
duplicates are ranked.

Null. Under a random relabelling of one side, n k recall counts the common edges of two directed
graphs of out-degree k, a Mantel statistic. Its mean is E recall = k / (n-1). For the variance, the
ordered pairs of edges fall into six classes (same, reciprocal, common source, common target, chain
in two orders, disjoint). Of the adjacency less its mean k / (n-1), the sums over the classes are

    s,   r,   -s,   v - s,   -r twice,   s + r - v,       s = n k (1 - k/(n-1)),
    r = sum_ij A_ij A_ji - n k^2 / (n-1),   v = sum_j (in-degree_j - k)^2,

and each class of one graph meets its like in the other, evenly spread:

    (n k)^2 Var = (s s' + r r') / (n (n-1)) + [s s' + (v-s)(v'-s') + 2 r r'] / (n (n-1)(n-2))
                + (s+r-v)(s'+r'-v') / (n (n-1)(n-2)(n-3)).

It takes two scalars of each encoder and k, so that calibrating all pairs costs nothing. The tail is
Pearson type III with the skewness std / mean of a count of rare coincidences.

Cost, for E encoders: 2 n^2 D flops (D = sum d_e) for the neighbours, found once at the largest k;
E^2 n k look-ups for the overlap of all pairs and all k; E n k^2 comparisons for r; and memory for
n k E indices. No n x n array is held. n k must stay below 2^31.

Not guaranteed: the tail, of which only two moments are exact; the recall moves in steps of
1 / (n k), which matters if n k recall is small. Hubs make recall at small k noisy.

References:
    Huh, Cheung, Wang, Isola (2024), The Platonic representation hypothesis. ICML.
    Mantel (1967), The detection of disease clustering and a generalized regression approach.
    Groeger, Wen, Brbic (2026), Revisiting the Platonic Representation Hypothesis: an Aristotelian
    view. arXiv:2602.14486.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .cka import mirror
from .moments import count_rows, divide, psum
from .neighbors import block_size, check_k, first_row, gather_rows, nearest_neighbors
from .null import (
    METHODS,
    Calibration,
    check_draws,
    rescale,
    row_orders,
    tail_from_moments,
    tail_from_sample,
)
from .validate import all_rows, check_blocks, check_fraction, check_option


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MutualKnn:
    """Mutual kNN recall of all pairs of encoders, and what its null depends on.

    Attributes:
      recall: [K, E, E] for each of `ks`; ones on the diagonal.
      count: rows that count, n.
      reciprocal: [K, E] ordered pairs (i, j) that are neighbours of each other.
      spread: [K, E] sum over rows of (in-degree - k)^2, the hubness.
      ks: the numbers of neighbours.
    """

    recall: Float[Array, "K E E"]
    count: Int[Array, ""]
    reciprocal: Float[Array, "K E"]
    spread: Float[Array, "K E"]
    ks: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def null_moments(self) -> tuple[Float[Array, "K E E"], ...]:
        """Mean, variance and skewness of `recall` over all n! permutations of one side's rows.

        The first two are exact; the skewness is that of a count of rare coincidences.
        """
        n = self.count.astype(self.recall.dtype)
        k = jnp.asarray(self.ks, self.recall.dtype)[:, None]
        share = k / (n - 1)
        v = self.spread
        s = jnp.broadcast_to(n * k * (1 - share), v.shape)
        r = self.reciprocal - n * k * share

        def pairs(a):
            return a[:, :, None] * a[:, None, :]

        # Each factor is divided by n k first: their products would pass the range of float32.
        s, r, v = (divide(a, n * k) for a in (s, r, v))
        variance = divide(pairs(s) + pairs(r), n * (n - 1))
        variance += divide(pairs(s) + pairs(v - s) + 2 * pairs(r), n * (n - 1) * (n - 2))
        variance += divide(pairs(s + r - v), n * (n - 1) * (n - 2) * (n - 3))
        variance = jnp.maximum(variance, 0)
        mean = jnp.broadcast_to(share[:, :, None], variance.shape)
        return mean, variance, jnp.sqrt(variance) / mean


def mutual_knn(
    blocks: Sequence[Float[Array, "n _"]],
    ks: Sequence[int] = (10, 30, 100),
    *,
    mask: Bool[Array, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> MutualKnn:
    """Mutual kNN recall of every pair of encoders, for every k.

    Args:
      blocks: E arrays [n, d_e] with the same rows.
      ks: numbers of neighbours, each 1 <= k < n (and less than the rows that count).
      mask: [n] rows that count; the others are neither queries nor neighbours.
      block_rows: rows handled at once; None for the most that keep arrays within 2^24 entries.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `MutualKnn`, the same on all devices.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `mask` does not
        fit, or one of `ks` or `block_rows` is out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> mutual_knn([x, -x, x[:, ::-1]], ks=(1,)).recall[0].tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    References:
      Huh et al. 2024.
    """
    return _mutual_knn(blocks, ks, mask, block_rows, axis_name)[0]


def calibrate_mutual_knn(
    blocks: Sequence[Float[Array, "n _"]] | MutualKnn,
    ks: Sequence[int] = (10, 30, 100),
    *,
    method: str = "closed_form",
    permutations: int = 200,
    alpha: float = 0.05,
    key: jax.Array | None = None,
    mask: Bool[Array, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Calibration:
    """Mutual kNN recall of all pairs of encoders, calibrated against the permutation of rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows, or their `MutualKnn` for the closed form (which
        then says the `ks`).
      ks: numbers of neighbours, each 1 <= k < n.
      method: "closed_form" (moments over all permutations) or "permutation" (a sample of them, the
        same for all pairs and all k).
      permutations: draws, at least 1 / alpha - 1; for "permutation" only.
      alpha: level of tau, in (0, 1).
      key: a `jax.random.key`; for "permutation" only.
      mask: [n] rows that count; the others may hold anything.
      block_rows: as for `mutual_knn`.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `Calibration` with [K, E, E] arrays.

    Raises:
      ValueError: as `mutual_knn`, or if an option is out of range, or "permutation" lacks its key
        or its blocks.

    Example:
      >>> x, y = jax.random.normal(jax.random.key(0), (2, 50, 3))
      >>> result = calibrate_mutual_knn([x, 2 * x, y], ks=(5,))
      >>> float(result.score[0, 0, 1].round(3)), bool(result.p_value[0, 0, 2] > 0.05)
      (1.0, True)

    References:
      Groeger, Wen and Brbic 2026; the closed form follows Mantel 1967.
    """
    check_option("method", method, METHODS)
    check_fraction("alpha", alpha)
    if method == "closed_form":
        result = blocks
        if not isinstance(blocks, MutualKnn):
            result = mutual_knn(blocks, ks, mask=mask, block_rows=block_rows, axis_name=axis_name)
        mean, variance, skewness = result.null_moments()
        return tail_from_moments(result.recall, mean, variance, alpha, skewness)
    check_draws(blocks, MutualKnn, key, permutations, alpha)
    result, neighbors, overlap = _mutual_knn(blocks, ks, mask, block_rows, axis_name)
    local = neighbors.shape[1]
    rows, first = all_rows(local, axis_name), first_row(local, axis_name)
    everyone = gather_rows(neighbors, axis_name, axis=1)
    orders = row_orders(key, permutations, rows, gather_rows(mask, axis_name))

    def null_counts(order):  # row order[i] takes the name i, as a row and as a neighbour
        names = jnp.argsort(order)
        here = jax.lax.dynamic_slice_in_dim(order, first, local)
        renamed = everyone[:, here]
        renamed = jnp.where(renamed < 0, -1, names[renamed])
        return psum(_overlap(neighbors, renamed, result.ks, rows, block_rows), axis_name)

    # Whole numbers are ranked, as ties are many and the division rounds.
    null = mirror(jax.lax.map(null_counts, orders))
    tau, p_value = tail_from_sample(overlap, null, alpha)
    tau = _recall(tau, result.count, result.ks)
    return Calibration(rescale(result.recall, tau), tau, p_value, result.recall, method)


def _mutual_knn(blocks, ks, mask, block_rows, axis_name):
    """The result, [E, n, max k] neighbours of the local rows, and [K, E, E] common ones in all."""
    check_blocks(blocks, mask)
    local = blocks[0].shape[0]
    rows, ks = all_rows(local, axis_name), tuple(ks)
    if not ks:
        raise ValueError("ks is empty: give at least one number of neighbours.")
    for k in ks:
        check_k("each of ks", k, rows)
    neighbors = jnp.stack(
        [
            nearest_neighbors(x, max(ks), mask=mask, block_rows=block_rows, axis_name=axis_name)
            for x in blocks
        ]
    )
    everyone = gather_rows(neighbors, axis_name, axis=1)

    def in_degree(indices):  # [n, k]; -1 is counted in a column of its own
        return jnp.zeros(rows + 1, jnp.int32).at[_absent_last(indices, rows)].add(1)[:rows]

    overlap, reciprocal, degrees = psum(
        (
            _overlap(neighbors, neighbors, ks, rows, block_rows),
            _reciprocal(neighbors, everyone, ks, axis_name, block_rows),
            jnp.stack([jax.vmap(in_degree)(neighbors[:, :, :k]) for k in ks]),
        ),
        axis_name,
    )
    first = first_row(local, axis_name)
    excess = jax.lax.dynamic_slice_in_dim(degrees, first, local, axis=2)
    excess = excess - jnp.asarray(ks, jnp.int32)[:, None, None]
    if mask is not None:
        excess = jnp.where(mask[None, None, :], excess, 0)
    count = count_rows(local, mask, axis_name)
    recall = _recall(overlap, count, ks)
    spread = psum(jnp.sum(excess.astype(recall.dtype) ** 2, axis=-1), axis_name)
    result = MutualKnn(recall, count, reciprocal.astype(recall.dtype), spread, ks)
    return result, neighbors, overlap


def _recall(overlap, count, ks):
    """[K, E, E] common neighbours as a share of n k."""
    total = count.astype(jnp.float32) * jnp.asarray(ks, jnp.float32)
    return overlap.astype(jnp.float32) / total[:, None, None]


def _overlap(left, right, ks, rows, block_rows):
    """[K, E, F] numbers of common neighbours, summed over the local rows.

    A block of `right` is spread out to the rank of every row in every list; `left` looks its
    neighbours up in it. A row is in both lists cut to k if the larger of its two ranks is below k.
    """
    k = left.shape[2]
    places = jnp.arange(k)

    def block(pair):
        mine, theirs = (_absent_last(indices, rows) for indices in pair)
        ranks = jnp.full((*theirs.shape[:2], rows + 1), k)
        ranks = jax.vmap(jax.vmap(lambda row, at: row.at[at].set(places)))(ranks, theirs)
        ranks = ranks.at[:, :, rows].set(k)

        def against(indices):  # [b, k] of one encoder, with all encoders of `right`
            found = jax.vmap(lambda row: jnp.take_along_axis(row, indices, axis=1))(ranks)
            later = jnp.maximum(found, places[None, None, :])
            return jnp.stack([jnp.sum(later < k, axis=(1, 2), dtype=jnp.int32) for k in ks])

        return jax.lax.map(against, mine).swapaxes(0, 1)

    size = block_size(block_rows, left.shape[1], right.shape[0] * (rows + 1))
    return jnp.sum(jax.lax.map(block, (_blocks(left, size), _blocks(right, size))), axis=0)


def _reciprocal(neighbors, everyone, ks, axis_name, block_rows):
    """[K, E] numbers of local rows' neighbours that have the row among their own."""
    _, local, k = neighbors.shape
    places = jnp.arange(k)
    numbers = first_row(local, axis_name) + jnp.arange(local)
    size = block_size(block_rows, local, k * k)
    numbers = jnp.pad(numbers, (0, -local % size)).reshape(-1, size)

    def encoder(pair):
        lists, all_lists = pair

        def block(pair):
            indices, numbers = pair
            match = all_lists[indices] == numbers[:, None, None]  # an absent neighbour reads row -1
            found = jnp.min(jnp.where(match, places[None, None, :], k), axis=2)
            later = jnp.maximum(jnp.where(indices < 0, k, found), places[None, :])
            return jnp.stack([jnp.sum(later < k, dtype=jnp.int32) for k in ks])

        return jnp.sum(jax.lax.map(block, (_blocks(lists[None], size)[:, 0], numbers)), axis=0)

    return jax.lax.map(encoder, (neighbors, everyone)).T


def _absent_last(indices, rows):
    """Indices with -1 replaced by `rows`, one past the end."""
    return jnp.where(indices < 0, rows, indices)


def _blocks(lists, size):
    """[E, n, k] -> [blocks, E, size, k], padded with -1."""
    encoders, local, k = lists.shape
    padded = jnp.pad(lists, ((0, 0), (0, -local % size), (0, 0)), constant_values=-1)
    return padded.reshape(encoders, -1, size, k).swapaxes(0, 1)
