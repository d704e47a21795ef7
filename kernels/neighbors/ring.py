"""The rows of all devices that are most similar to each row, as those rows go round in a ring.

Each device keeps its own rows, and those of the others come by in turn (`blocks.visit_all`), in an
order that is another on every device. So what one visit finds is merged with what earlier ones
found by value and then by number, and lists are the same for any number of devices.

Cost, on each device: 2 n^2 d / p flops; n d values received, in p parts that travel while
the part before is compared; and memory for two shares of n d / p values, n k / p values and
numbers, and a block of rows by n / p.

Not guaranteed: the same rounding for another number of devices or another size of the blocks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..blocks import visit_all
from ..validate import axis_size
from .directions import Directions, row_similarities
from .top_k import top_k


def most_similar(
    queries: Directions,
    candidates: Directions,
    names: Int[Array, " m"],
    k: int,
    rows: int,
    block_rows: int,
    axis_name=None,
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The `k` candidates of all shards most similar to each query: values, descending, and names.

    Args:
      queries: local rows.
      candidates: the local share of what they are compared with.
      names: of the candidates, 0 to rows - 1; `rows` for one that does not count.
      k: at most `rows`.
      rows: candidates in all.
      block_rows: queries compared at once with one share.
      axis_name: mesh axis the candidates are sharded over, if any.

    Returns:
      Ties by lower name; -inf and `rows` where there are no more.
    """
    count = queries.depths.shape[0]
    size = min(block_rows, count)

    def in_blocks(a):  # the last one is filled up with the last row
        if count % size:
            a = a[jnp.minimum(jnp.arange(-(-count // size) * size), count - 1)]
        return a.reshape(-1, size, *a.shape[1:])

    of_row = ("points", "depths", "zeros")
    blocks = {name: in_blocks(getattr(queries, name)) for name in of_row}

    def meet(state, share):
        fields, names = share
        them = candidates._replace(**fields)

        def block(fields):
            similarity = row_similarities(queries._replace(**fields), them)
            similarity = jnp.where(names[None, :] < rows, similarity, -jnp.inf)
            values, columns = top_k(similarity, min(k, names.shape[0]))
            return values, jnp.where(values > -jnp.inf, names[columns], rows)

        found = (a.reshape(-1, a.shape[2])[:count] for a in jax.lax.map(block, blocks))
        if axis_size(axis_name) == 1:
            return tuple(found)
        values, found = (jnp.concatenate(pair, axis=1) for pair in zip(state, found, strict=True))
        least, found = jax.lax.sort((-values, found), dimension=1, num_keys=2)
        return -least[:, :k], found[:, :k]

    nothing = jnp.broadcast_to((0 * queries.depths)[:, None], (count, k))
    nothing = nothing - jnp.inf, nothing.astype(jnp.int32) + rows
    own = {name: getattr(candidates, name) for name in of_row}, names
    return visit_all(meet, nothing, own, axis_name)
