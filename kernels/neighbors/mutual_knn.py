"""Mutual nearest-neighbor recall: do two encoders agree on which images are alike?

With N_k^X(i) the k rows nearest to row i in cosine similarity, i itself excluded,

    recall_k(X, Y) = mean_i |N_k^X(i) & N_k^Y(i)| / k,

symmetric and in [0, 1]. Unlike CKA it sees only the local geometry. `search` says how ties and
duplicates are ranked.

Null. Under a random relabeling of one side, n k recall counts the common edges of two directed
graphs of out-degree k. Mean k / (n-1), variance and third moment over all n! relabelings are exact
(`graph_moments`), from a few counts of each graph, so that calibrating all pairs costs nothing
more. The tail is Pearson type III; as the recall moves in steps of 1 / (n k), p is taken half a
step below the observed value.

An encoder that is constant, within rounding, has no neighbors: its recall with every encoder is 0
and its null a point at 0, so that p = 1. Where k or fewer rows count, or an encoder has NaN or
inf, recall and null are NaN.

Cost, for E encoders: 2 n^2 D flops (D = sum d_e) for the neighbors, half of that on CPU, found
once at the largest k; E^2 n^2 / 32 word operations for each k for the overlap of all pairs; E n k^2
look-ups for the null; and memory for n k E indices and what `search` holds of one encoder. No
n x n array is held, not even of bits. n k must stay below 2^31. Over p devices all of this is
divided by p, but that each holds the n k indices of one encoder for the null, in turn.

Not guaranteed: the tail beyond its three moments. Hubs make recall at small k noisy.

References:
    Huh, Cheung, Wang, Isola (2024), The Platonic representation hypothesis. ICML.
    Groeger, Wen, Brbic (2026), Revisiting the Platonic Representation Hypothesis: an Aristotelian
    view. arXiv:2602.14486.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..alignment.normalization import marks, nan_pairs
from ..arithmetic import AnyArray, count_rows, from_first, gather_rows, mirror, psum, valid_rows
from ..blocks import first_row
from ..jit_over import jit_over
from ..nulls.calibration import (
    METHODS,
    Calibration,
    at_least_one_order,
    by_every_order,
    rescale,
    tail_from_moments,
)
from ..nulls.enumeration import MOST_ROWS, tail_of_every_order
from ..nulls.orders import check_draws, needs_arrays, row_order
from ..nulls.p_values import tail_from_sample
from ..validate import all_rows, check_blocks, check_fraction, check_option
from .graph_moments import GraphSums, graph_sums
from .overlap import common_neighbors
from .search import check_k, neighbor_lists


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MutualKnn:
    """Mutual kNN recall of all pairs of encoders, and what its null depends on.

    Attributes:
      recall: [K, E, E] for each of `ks`; 1 on the diagonal, 0 where an encoder is constant, NaN
        where k or fewer rows count, or an encoder has NaN or inf.
      count: rows that count, n.
      graph: edge and triangle counts of each encoder's neighbor graph, [K, E] each.
      ks: the numbers of neighbors.
    """

    recall: Float[Array, "K E E"]
    count: Int[Array, ""]
    graph: GraphSums
    ks: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def null_moments(self) -> tuple[Float[Array, "K E E"], ...]:
        """Exact mean, variance and skewness of `recall` over all n! permutations of one side.

        Example:
          >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
          >>> search = jax.jit(mutual_knn, static_argnums=1)
          >>> mean, variance, _ = search([x], (1,)).null_moments()
          >>> f"{mean[0, 0, 0]:.3f} {variance[0, 0, 0]:.3f}"  # 1 of 3 pairings is the same: 1 or 0
          '0.333 0.222'
        """
        dtype = self.recall.dtype
        moments = self.graph.common_edges(self.count.astype(dtype), jnp.asarray(self.ks, dtype))
        varied = jnp.diagonal(self.recall, axis1=1, axis2=2) != 0
        varied = varied[:, :, None] & varied[:, None, :]
        missing = jnp.isnan(self.recall)
        moments = (jnp.where(varied, moment, 0) for moment in moments)
        return tuple(jnp.where(missing, jnp.nan, moment) for moment in moments)

    @property
    def step(self) -> Float[Array, "K 1 1"]:
        """What the recall moves in: 1 / (n k)."""
        k = jnp.asarray(self.ks, self.recall.dtype)
        return 1 / (self.count.astype(k.dtype) * k)[:, None, None]


@jit_over("blocks", "mask")
def mutual_knn(
    blocks: Sequence[Float[AnyArray, "n _"]],
    ks: Sequence[int] = (10, 30, 100),
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> MutualKnn:
    """Mutual kNN recall of every pair of encoders, for every k.

    Args:
      blocks: E arrays [n, d_e] with the same rows.
      ks: numbers of neighbors, each 1 <= k < n (and less than the rows that count).
      mask: [n] rows that count; the others are neither queries nor neighbors.
      block_rows: rows handled at once; None for the most that keep arrays within 2^24 entries, and
        on CPU for up to half of the similarities of one encoder, as `nearest_neighbors` says.
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


@jit_over("blocks", "key", "mask")
def calibrate_mutual_knn(
    blocks: Sequence[Float[AnyArray, "n _"]] | MutualKnn,
    ks: Sequence[int] = (10, 30, 100),
    *,
    method: str = "closed_form",
    permutations: int = 200,
    alpha: float = 0.05,
    key: jax.Array | None = None,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Calibration:
    """Mutual kNN recall of all pairs of encoders, calibrated against the permutation of rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows, or their `MutualKnn` for the closed form (which
        then says the `ks`).
      ks: numbers of neighbors, each 1 <= k < n.
      method: "closed_form" (moments over all permutations, or of 8 rows and fewer all of them) or
        "permutation" (a sample of them, the same for all pairs and all k).
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
      Groeger, Wen and Brbic 2026.
    """
    check_option("method", method, METHODS)
    check_fraction("alpha", alpha)
    if method == "closed_form":
        if isinstance(blocks, MutualKnn):
            return at_least_one_order(_closed_form(blocks, alpha), blocks.count)
        result, neighbors, _, scales = _mutual_knn(blocks, ks, mask, block_rows, axis_name)
        found = _closed_form(result, alpha)
        if all_rows(len(blocks[0]), axis_name) > MOST_ROWS:
            return at_least_one_order(found, result.count)
        tails = [_tail_of_every_order(neighbors, k, mask, alpha, axis_name) for k in result.ks]
        tau, p_value = (
            jnp.where(_varied(scales)[None], jnp.stack(each), other)
            for each, other in zip(zip(*tails, strict=True), (0, 1), strict=True)
        )
        tau = _recall(tau, result.count, result.ks)
        return by_every_order(found, tau, p_value)
    if isinstance(blocks, MutualKnn):
        raise needs_arrays(blocks)
    key = check_draws(key, permutations, alpha)
    result, neighbors, overlap, scales = _mutual_knn(blocks, ks, mask, block_rows, axis_name)
    local = neighbors.shape[1]
    rows, first = all_rows(local, axis_name), first_row(local, axis_name)
    valid = gather_rows(mask, axis_name)

    def null_counts(number):  # row order[i] takes the name i, as a row and as a neighbor
        order = row_order(jax.random.fold_in(key, number), rows, valid)
        names = jnp.argsort(order)
        here = jax.lax.dynamic_slice_in_dim(order, first, local)
        renamed = jax.lax.map(lambda lists: gather_rows(lists, axis_name)[here], neighbors)
        renamed = jnp.where(renamed < 0, -1, names[renamed])
        return psum(common_neighbors(neighbors, renamed, result.ks, rows, block_rows), axis_name)

    # Whole numbers are ranked, as ties are many and the division rounds.
    null = mirror(jax.lax.map(null_counts, jnp.arange(permutations)))
    null = jnp.where(_varied(scales)[None, None], null, 0)
    tau, p_value = tail_from_sample(overlap, null, alpha)
    tau = nan_pairs(_recall(tau, result.count, result.ks), scales)
    p_value = jnp.where(jnp.isnan(tau), tau, p_value)
    found = Calibration(rescale(result.recall, tau), tau, p_value, result.recall, method)
    return at_least_one_order(found, result.count)


def _mutual_knn(blocks, ks, mask, block_rows, axis_name):
    """The result; neighbors [E, n, max k]; common ones in all [K, E, E]; scales [E]."""
    check_blocks(blocks, mask)
    local = blocks[0].shape[0]
    rows, ks = all_rows(local, axis_name), tuple(ks)
    if not ks:
        raise ValueError("ks is empty: give at least one number of neighbors.")
    for k in ks:
        check_k("each of ks", k, rows)
    neighbors = neighbor_lists(
        blocks, max(ks), mask=mask, block_rows=block_rows, axis_name=axis_name
    )
    scales = marks(blocks, mask, axis_name)
    overlap = psum(common_neighbors(neighbors, neighbors, ks, rows, block_rows), axis_name)
    overlap = jnp.where(_varied(scales)[None], overlap, 0)
    graph = graph_sums(neighbors, ks, mask=mask, axis_name=axis_name, block_rows=block_rows)
    count = count_rows(local, mask, axis_name)
    recall = nan_pairs(_recall(overlap, count, ks), scales)
    return MutualKnn(recall, count, graph, ks), neighbors, overlap, scales


def _recall(overlap, count, ks):
    """[K, E, E] common neighbors as a share of n k; NaN where there are no k others."""
    ks = jnp.asarray(ks, jnp.int32)
    total = count.astype(jnp.float32) * ks.astype(jnp.float32)
    total = jnp.where(ks < count, total, jnp.nan)
    return overlap.astype(jnp.float32) / total[:, None, None]


def _closed_form(result, alpha):
    mean, variance, skewness = result.null_moments()
    return tail_from_moments(result.recall, mean, variance, alpha, skewness, step=result.step)


def _tail_of_every_order(neighbors, k, mask, alpha, axis_name):
    """tau, as common neighbors, and p over all orders of few rows."""
    everyone = gather_rows(neighbors[:, :, :k], axis_name, axis=1)
    rows = everyone.shape[1]
    edges = jnp.any(everyone[..., None] == jnp.arange(rows)[None, None, None, :], axis=2)
    valid = valid_rows(neighbors.shape[1], mask, axis_name)
    tail = tail_of_every_order(edges.astype(jnp.float32), valid, alpha)
    return from_first(tail, axis_name)


def _varied(scales):
    """[E, E] whether neither encoder is constant."""
    varied = scales != 0
    return varied[:, None] & varied[None, :]
