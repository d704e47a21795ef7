"""Neighborhoods compared as sets and as lists of similarities: Jaccard and second-order cosine.

N_X(i) are the k rows nearest to row i by cosine, i left out, as `search` finds and ranks them.

Neighborhood Jaccard similarity is the share of the neighbors of either that are neighbors of both,

    J(X, Y) = mean_i |N_X(i) & N_Y(i)| / |N_X(i) | N_Y(i)|,

which of c common ones is c / (2 k - c): mutual k-NN recall in another unit, row by row (Schumacher
et al. 2021).

Second-order cosine similarity compares how similar row i is to the neighbors of either. With the
cosines s_ij = x_i'x_j / (||x_i|| ||x_j||) of X and t_ij of Y, and U(i) = N_X(i) | N_Y(i),

    C(X, Y) = mean_i cos((s_ij)_(j in U(i)), (t_ij)_(j in U(i)))

(Hamilton, Leskovec, Jurafsky 2016). Where all cosines are near one value, as far from the origin,
it is near 1 whatever the encoders. A row without any similarity, which is more than 8 eps, counts
as 0. The ReSi benchmark takes cosine distances, 1 - s and 1 - t, in place of similarities.

Neither has moments over permutations in closed form, being no linear function of common neighbors;
`sample_null` draws from their null.

Cost, for E encoders, D = sum d_e: 2 n^2 D flops for the neighbors; for Jaccard E^2 n^2 / 32 word
operations; for the second order 2 n k E D flops for the cosines, and E^2 n k^2 comparisons. Memory:
n k E indices, for the second order n k E^2 cosines, and one block of rows. Sharded rows go round
the devices in a ring, twice for the second order.

Not guaranteed: the order of neighbors within rounding (see `search`). Duplicate images are
neighbors of each other in every encoder and raise both.

References:
    Hamilton, Leskovec, Jurafsky (2016), Cultural shift or linguistic drift? EMNLP.
    Schumacher, Wolf, Ritzert, Lemmerich, Grohe, Strohmaier (2021), The effects of randomness on the
    stability of node embeddings. ECML PKDD workshops.
    Klabunde et al. (2025), ReSi: a comprehensive benchmark for representational similarity
    measures. ICLR.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..arithmetic import HIGHEST, AnyArray, divide, mirror, psum, root
from ..blocks import at_one_width, block_size, first_row, split_rows, visit_all
from ..jit_over import jit_over
from ..validate import all_rows, compute_dtype
from .overlap import common_neighbors, mean_of_rows
from .search import checked_neighbors


@jit_over("blocks", "mask")
def neighborhood_jaccard(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    k: int = 10,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Mean Jaccard index of the k nearest neighbors of each row, for all pairs of encoders.

    mean_i |N_X(i) & N_Y(i)| / |N_X(i) | N_Y(i)|.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      k: neighbors, 1 <= k < n.
      mask: [n] rows that count; the others are neither queries nor neighbors.
      block_rows: rows handled at once; None for arrays within 2^24 entries.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [0, 1], 1 on the diagonal; 0 where an encoder is constant; NaN where one
      has NaN or inf, and if k or fewer rows count. Constant to differentiation.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or `k` or
        `block_rows` is out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> compiled = jax.jit(neighborhood_jaccard, static_argnames="k")
      >>> compiled([x, x[jnp.array([0, 2, 1, 3])]], k=2).tolist()
      [[1.0, 0.5], [0.5, 1.0]]

    References:
      Schumacher et al. 2021.
    """
    neighbors = checked_neighbors(blocks, k, mask, block_rows, axis_name)
    dtype = compute_dtype(*blocks)

    def index(common):
        common = common.astype(dtype)
        return common / (2 * k - common)

    rows = all_rows(neighbors.shape[1], axis_name)
    total = common_neighbors(neighbors, neighbors, (k,), rows, block_rows, of_row=index)[0]
    return mean_of_rows(psum(total, axis_name), blocks, k, mask, axis_name)


@jit_over("blocks", "mask")
def second_order_cosine(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    k: int = 10,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Mean cosine of each row's similarities to the neighbors of either of two encoders.

    mean_i cos((s_ij), (t_ij)) over j in N_X(i) | N_Y(i), s and t the cosines of X and of Y.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      k: neighbors, 1 <= k < n.
      mask: [n] rows that count; the others are neither queries nor neighbors.
      block_rows: rows handled at once; None for arrays within 2^24 entries.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [-1, 1] up to rounding; the diagonal is the share of rows that are
      similar to any neighbor, mostly 1. 0 where an encoder is constant; NaN where one has NaN or
      inf, and if k or fewer rows count.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or `k` or
        `block_rows` is out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> compiled = jax.jit(second_order_cosine, static_argnames="k")
      >>> found = compiled([x, x[jnp.array([0, 2, 1, 3])]], k=1)
      >>> f"{found[0, 1]:.3f}"
      '0.193'

    References:
      Hamilton et al. 2016; Klabunde et al. 2025.
    """
    neighbors = checked_neighbors(blocks, k, mask, block_rows, axis_name)
    encoders, local, _ = neighbors.shape
    dtype = compute_dtype(*blocks)
    encoder = at_one_width(blocks, dtype)
    cosines = jax.lax.map(
        lambda number: _cosines(encoder(number), neighbors, mask, block_rows, axis_name),
        jnp.arange(encoders),
    )
    left, right = np.triu_indices(encoders)

    def block(given):
        lists, values = given  # [E, b, k], and [E, E, b, k] cosines of the first by lists of second
        values = values.reshape(encoders, encoders, *lists.shape[1:])

        def of_pair(pair):
            x, y = pair
            # Neighbors of y that are neighbors of x have been counted with those.
            again = jnp.any(lists[y][:, :, None] == lists[x][:, None, :], axis=2)

            def both(a, b):
                theirs = jnp.where(again, 0, a[y] * b[y])
                return jnp.sum(a[x] * b[x], axis=1) + jnp.sum(theirs, axis=1)

            s, t = values[x], values[y]
            size = root(both(s, s)) * root(both(t, t))
            return jnp.sum(divide(both(s, t), size))

        return jax.lax.map(of_pair, (jnp.asarray(left), jnp.asarray(right)))

    size = block_size(block_rows, local, k * max(k, encoders**2))
    values = cosines.reshape(encoders**2, local, k)
    parts = jax.lax.map(block, (split_rows(neighbors, size, -1), split_rows(values, size, 0)))
    total = psum(jnp.sum(parts, axis=0), axis_name)
    total = mirror(jnp.zeros((encoders, encoders), dtype).at[left, right].set(total))
    return mean_of_rows(total, blocks, k, mask, axis_name)


def _cosines(x, lists, mask, block_rows, axis_name):
    """[E, local, k] cosines of the local rows with those of each list; 0 where absent."""
    encoders, local, k = lists.shape
    if mask is not None:
        x = jnp.where(mask[:, None], x, 0)
    x = jnp.where(jnp.all(jnp.isfinite(x), axis=1, keepdims=True), x, 0)
    reach = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1, keepdims=True))
    unit = divide(x, reach)  # at most 1: squares cannot overflow
    unit = divide(unit, root(jnp.sum(unit**2, axis=1, keepdims=True)))
    noise = 8 * jnp.finfo(x.dtype).eps
    size = block_size(block_rows, local, encoders * k * x.shape[1])
    everyone = lists.swapaxes(0, 1).reshape(1, local, encoders * k)
    queried = split_rows(unit[None], size, 0)[:, 0], split_rows(everyone, size, -1)[:, 0]

    def meet(total, share):  # adds the cosines with the rows of the share
        first, them = share

        def block(given):
            rows, near = given
            place = near - first
            inside = (near >= 0) & (place >= 0) & (place < local)
            there = them[jnp.clip(place, 0, local - 1)]
            value = jnp.einsum("bd,bkd->bk", rows, there, precision=HIGHEST)
            return jnp.where(inside & (jnp.abs(value) > noise), value, 0)

        return total + jax.lax.map(block, queried).reshape(-1, encoders * k)[:local]

    own = jnp.asarray(first_row(local, axis_name), jnp.int32), unit
    found = visit_all(meet, 0 * everyone[0].astype(x.dtype), own, axis_name)
    return found.reshape(local, encoders, k).swapaxes(0, 1)
