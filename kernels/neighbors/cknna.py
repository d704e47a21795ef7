"""Two more measures of shared neighborhoods: CKNNA and cycle-kNN.

N_X(i) are the k rows nearest to row i by cosine, i left out, as `search` finds and ranks them.

CKNNA is CKA restricted to the neighbors that both encoders agree on (Huh et al. 2024, appendix).
With unit rows u_i = x_i / ||x_i|| and their similarities less the mean of each row,

    K_ij = u_i'u_j - mean_l u_i'u_l,     l over all rows, i included,
    A(X, Y) = sum_i sum_(j in N_X(i) & N_Y(i)) K_ij L_ij,
    CKNNA(X, Y) = A(X, Y) / sqrt(A(X, X) A(Y, Y)).

It is symmetric and, by the Cauchy-Schwarz inequality, in [-1, 1]. The program published with the
paper differs: it cuts the Gram matrices of the features as given (which its users normalize) to the
same neighbors and takes the unbiased HSIC of what is left, so that entries outside count as 0
rather than being left out, and the two values are not comparable.

Cycle-kNN asks whether a neighbor's neighbor leads back (same source, its order of arguments):

    cycle(X, Y) = share of rows i for which some j in N_Y(i) has i in N_X(j).

It is not symmetric, and cycle(X, X), the share of rows with a reciprocal neighbor, may be below 1.

Cost, for E encoders, D = sum d_e: 2 n^2 D flops for the neighbors, n k D for their similarities,
and E^2 n k^2 comparisons. Memory: n D, n k E indices, and one block of rows. The rows may be
sharded: they go round the devices in a ring, twice for CKNNA, which then takes n k d flops
per encoder on each device; cycle-kNN has the n k indices of one encoder in turn on each.

Where rows are far from the origin, K is formed of differences of directions (`directions`), as the
neighbors are: both measures are those of exact arithmetic at mean/spread of 1e4 too. Where all rows
have one direction, within 8 eps, an encoder is constant to CKNNA.

Not guaranteed: the order of neighbors within rounding (see `search`). Duplicate images are
neighbors of each other in every encoder and raise both measures. With k near n both tend to a
constant that says nothing.

References:
    Huh, Cheung, Wang, Isola (2024), The Platonic representation hypothesis. ICML.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import (
    HIGHEST,
    AnyArray,
    count_rows,
    divide,
    gather_rows,
    pmax,
    psum,
    root,
)
from ..blocks import at_one_width, block_size, first_row, split_rows, visit_all
from ..jit_over import jit_over
from ..validate import compute_dtype
from .directions import directions
from .overlap import mean_of_rows
from .search import checked_neighbors


@jit_over("blocks", "mask")
def pairwise_cknna(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    k: int = 10,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """CKA over the k nearest neighbors that both encoders agree on.

    A(X, Y) / sqrt(A(X, X) A(Y, Y)), A the sum of K_ij L_ij over j in N_X(i) & N_Y(i).

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      k: neighbors, 1 <= k < n.
      mask: [n] rows that count; the others are neither queries nor neighbors.
      block_rows: rows handled at once; None for arrays within 2^24 entries.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [-1, 1], 1 on the diagonal; 0 where an encoder is constant; NaN where one
      has NaN or inf, and if k or fewer rows count.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or `k` or
        `block_rows` is out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> pairwise_cknna([x, 2 * x, x[jnp.array([0, 2, 1, 3])]], k=1)[0].round(3).tolist()
      [1.0, 1.0, 0.0]

    References:
      Huh et al. 2024.
    """
    neighbors = checked_neighbors(blocks, k, mask, block_rows, axis_name)
    dtype = compute_dtype(*blocks)
    block = at_one_width(blocks, dtype)

    def similarities(given):
        number, indices = given
        return _similarities(block(number), indices, mask, block_rows, axis_name)

    weights, missing = jax.lax.map(similarities, (jnp.arange(len(blocks)), neighbors))

    def sums(indices, values):  # [E, b, k] each
        def against(one):
            match = (one[0][None, :, :, None] == indices[:, :, None, :]) & (
                one[0][None, :, :, None] >= 0
            )
            # Each neighbor of one list is in the other at most once.
            theirs = jnp.sum(jnp.where(match, values[:, :, None, :], 0), axis=3)
            return jnp.sum(jnp.sum(theirs * one[1][None], axis=2), axis=1)

        return jax.lax.map(against, (indices, values))

    size = block_size(block_rows, neighbors.shape[1], len(blocks) * k * k)
    parts = jax.lax.map(
        lambda pair: sums(*pair), (split_rows(neighbors, size, -1), split_rows(weights, size, 0))
    )
    inner = psum(jnp.sum(parts, axis=0), axis_name)
    norm = root(jnp.diagonal(inner))
    result = divide(inner, norm[:, None] * norm[None, :])
    result = (result + result.T) / 2  # the order of summation is all that differs
    result = nan_pairs(result, missing)
    return jnp.where(count_rows(blocks[0].shape[0], mask, axis_name) > k, result, jnp.nan)


@jit_over("blocks", "mask")
def cycle_knn(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    k: int = 10,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Share of rows to which a step among one encoder's neighbors and one back returns.

    Entry [x, y] is the share of rows i for which some j in N_Y(i) has i in N_X(j).

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      k: neighbors, 1 <= k < n.
      mask: [n] rows that count; the others are neither queries nor neighbors.
      block_rows: rows handled at once; None for arrays within 2^24 entries.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] in [0, 1], not symmetric; the diagonal is the share of rows with a reciprocal
      neighbor. 0 where an encoder is constant; NaN where one has NaN or inf, and if k or fewer rows
      count.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or `k` or
        `block_rows` is out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> cycle_knn([x, x[jnp.array([0, 2, 1, 3])]], k=1).tolist()
      [[1.0, 0.0], [0.0, 1.0]]

    References:
      Huh et al. 2024.
    """
    neighbors = checked_neighbors(blocks, k, mask, block_rows, axis_name)
    local = neighbors.shape[1]
    size = block_size(block_rows, local, k * k)
    numbers = jnp.pad(jnp.arange(local, dtype=jnp.int32), (0, -local % size)).reshape(-1, size)
    numbers = numbers + first_row(local, axis_name)

    def returning(lists, indices, numbers):  # of one pair, in one block of rows
        back = (lists[indices] == numbers[:, None, None]) & (indices >= 0)[:, :, None]
        return jnp.sum(jnp.any(back, axis=(1, 2)), dtype=jnp.int32)

    steps = split_rows(neighbors, size, -1), numbers  # [b, E, r, k], [b, r]

    def through(lists):  # steps of all encoders, and back by this one
        everyone = gather_rows(lists, axis_name)

        def block(pair):
            indices, numbers = pair
            return jax.lax.map(lambda one: returning(everyone, one, numbers), indices)

        return jnp.sum(jax.lax.map(block, steps), axis=0)

    total = psum(jax.lax.map(through, neighbors), axis_name).astype(compute_dtype(*blocks))
    return mean_of_rows(total, blocks, k, mask, axis_name)


def _similarities(x, indices, mask, block_rows, axis_name):
    """[local, k] cosines to the neighbors, less the row's mean cosine to all rows; 0 if absent.

    Up to a factor that CKNNA does not see. Values within rounding of 0 are 0, so that a constant
    encoder stays exactly so. And NaN if any row that counts has NaN or inf, else 0.
    """
    local, k = indices.shape
    if mask is not None:
        x = jnp.where(mask[:, None], x, 0)
    reach = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    unit = divide(x, reach)
    unit = divide(unit, root(jnp.sum(unit**2, axis=1, keepdims=True)))
    finite = jnp.all(jnp.isfinite(unit), axis=1)
    mark = pmax(jnp.any(~finite).astype(jnp.int32), axis_name)
    x, unit = (jnp.where(finite[:, None], a, 0) for a in (x, unit))
    valid = finite if mask is None else finite & mask
    points, depths, zeros, _, scale, centered = directions(x, unit, valid, k, axis_name)

    # u_i'(u_j - mean u) = (c + w_i)'(w_j - mean w), and c'w_j is less the depth of j.
    count = count_rows(local, mask, axis_name).astype(x.dtype)
    mean = psum(jnp.sum(points, axis=0), axis_name) / count
    depth = psum(jnp.sum(depths), axis_name) / count
    kept = (valid & ~zeros)[:, None]
    centered_points, depths = points - mean[None, :], depths - depth  # cancels less than later
    spread = psum(jnp.sum(jnp.where(kept, centered_points, 0) ** 2), axis_name) / count
    eps = jnp.finfo(x.dtype).eps
    least = 8 * eps * scale
    noise = jnp.where(centered, jnp.where(spread > least**2, 0, jnp.inf), least)
    size = block_size(block_rows, local, k * x.shape[1])
    queried = (
        split_rows(points[None], size, 0)[:, 0],
        split_rows(indices[None], size, -1)[:, 0],
        split_rows(kept[None], size, False)[:, 0],
    )

    def meet(total, share):  # adds the similarities to the neighbors that are in the share
        first, them, depths = share

        def block(given):
            rows, near, here = given
            place = near - first
            inside = here & (near >= 0) & (place >= 0) & (place < local)
            place = jnp.clip(place, 0, local - 1)
            value = jnp.einsum("bd,bkd->bk", rows, them[place], precision=HIGHEST) - depths[place]
            return jnp.where(inside & (jnp.abs(value) > noise), value, 0)

        return total + jax.lax.map(block, queried).reshape(-1, k)[:local]

    own = jnp.asarray(first_row(local, axis_name), jnp.int32), centered_points, depths
    values = visit_all(meet, 0 * indices.astype(x.dtype), own, axis_name)
    return values, jnp.where(mark > 0, jnp.nan, 0)
