"""Exact nearest neighbors by cosine similarity.

The neighbors of row i are the k rows j != i of largest cosine x_i'x_j / (||x_i|| ||x_j||). Row i
is excluded by its index, not its rank, as a duplicate may come before it. Similarities are float32
or wider at the highest precision: the 3 digits of bfloat16 cannot order the 100 nearest of 10,000.

Ties go to the lower index, and rows that are equal always tie. A matrix product alone does not
ensure that, for it may round two equal columns differently: so repeated rows are found first (by a
96-bit hash) and all take the similarity of the first of them (`copies`).

Far from the origin all cosines are within rounding of 1 and still the neighbors are those of exact
arithmetic: where more than half of the rows have a cosine above 15/16 with one of them, differences
from that row are compared (`directions`).

Cost: 2 n^2 d flops, and memory for one block of query rows by n. With `axis_name` the rows of the
p devices go round in a ring (`ring`): each holds its own and one visitor's, n d / p values both,
and a block of queries by n / p, and every row travels once to every device. The lists are those of
one device. On CPU, for 512 to 16,000 rows on one device and unless
`block_rows` says otherwise, each similarity is formed once (`tiles`): n^2 d flops, and
memory for n^2 / 2 similarities, at most 512 MiB of float32. n x n is never held.

Not guaranteed: the order of different rows whose similarities are within rounding (it may vary
with the block size and the device): about 1e-7, and 1e-7 of 1 less the typical cosine where rows
share one direction. Tight groups of rows that are far apart keep 1e-7, but for a group that has
more than half of the rows. Float32 rows with mean/spread beyond 1e6 are mostly rounding themselves.
A row that is not finite counts for nothing, as if masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import AnyArray, divide
from ..blocks import at_one_width, block_size, first_row, varied_alike
from ..jit_over import jit_over
from ..validate import all_rows, check_blocks, check_mask, check_matrix, compute_dtype
from .copies import find_copies, hash_rows, with_copies
from .directions import center_of, seen_from, some
from .ring import most_similar
from .tiles import largest_of_tiles, search_again, similarity_tiles, tile_grid


@jit_over("x", "mask")
def nearest_neighbors(
    x: Float[AnyArray, "n d"],
    k: int,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Int[Array, "n k"]:
    """The `k` rows most similar to each row, by cosine, nearest first.

    Args:
      x: [n, d] rows; halves are upcast to float32. A zero row has similarity 0 to every row.
      k: neighbors, 1 <= k < n.
      mask: [n] rows that count; the others are nobody's neighbors, nor are rows with NaN or inf.
      block_rows: queries compared at once with all rows of a device; None for 64 MiB of float32
        similarities, or for half of all on CPU, up to 512 MiB.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [n, k] row indices (over all shards), ties by lower index; -1 for masked rows, and where
      fewer than k other rows count.

    Raises:
      ValueError: if `x` is not a floating-point matrix, `mask` does not fit, `k` or `block_rows` is
        out of range.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 1.0]])
      >>> nearest_neighbors(x, 2).tolist()
      [[1, 2], [0, 2], [3, 1], [2, 1]]
    """
    check_matrix("x", x)
    check_mask(mask, x.shape[0])
    return neighbor_lists([x], k, mask=mask, block_rows=block_rows, axis_name=axis_name)[0]


def neighbor_lists(
    blocks: Sequence[Float[AnyArray, "n _"]],
    k: int,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Int[Array, "E n k"]:
    """`nearest_neighbors` of each of the blocks, by one program for all of them on CPU."""
    local, rows = blocks[0].shape[0], all_rows(blocks[0].shape[0], axis_name)
    check_k("k", k, rows)
    size = block_size(block_rows, local, local)
    valid = jnp.ones(local, bool) if mask is None else jnp.asarray(mask)
    numbers = first_row(local, axis_name) + jnp.arange(local, dtype=jnp.int32)
    dtype = compute_dtype(*blocks)
    blocks = [jax.lax.stop_gradient(x) for x in varied_alike(blocks)]
    widths = sorted({x.shape[1] for x in blocks})
    width_of = jnp.array([widths.index(x.shape[1]) for x in blocks])

    # Compiling is most of the time of few rows: what is long to compile is so once, at the largest
    # width, and what is done to all values for each block.
    def units_of(x):
        """Rows of norm 1 that the other fields are of; which count; their hashes and center."""
        x = jnp.where(valid[:, None], x.astype(dtype), 0)
        reach = jnp.max(jnp.abs(x), axis=1, keepdims=True)
        unit = divide(x, reach)  # at most 1, so that squares neither overflow nor underflow
        norm = jnp.linalg.norm(unit, axis=1, keepdims=True)
        finite = jnp.isfinite(norm)
        unit = jnp.where(finite, divide(unit, norm), 0)
        counts = valid & finite[:, 0]
        center = center_of(unit, counts, axis_name)
        unit = jnp.pad(unit, ((0, 0), (0, widths[-1] - x.shape[1])))
        return unit, counts, hash_rows(x, counts), center

    def rows_of(number):
        """Directions of the rows of a block, 0 beyond its width; which rows count; their hashes."""
        branches = [partial(units_of, x) for x in blocks]
        unit, counts, hashes, (center, centered) = jax.lax.switch(number, branches)

        def finite():
            return jnp.where(counts[:, None], at_one_width(blocks, dtype)(number), 0)

        found = seen_from(center, centered, finite, unit, counts, k, axis_name)
        return found, counts, hashes

    def at_width(number, function, found):
        """`function` of the directions without what is 0 beyond the block's width."""

        def narrowed(width):
            return function(found._replace(points=found.points[:, :width]))

        return jax.lax.switch(width_of[number], [partial(narrowed, width) for width in widths])

    def searching(number, found, counts, copies):
        """A function of local rows, or of all, that gives the neighbors of each: [q] -> [q, k]."""
        # One row of each kind is looked for, the row itself among them: k + 1 kinds hold k others.
        names = jnp.where(counts & (copies.own == numbers), numbers, rows)

        def search(queries=None):
            def asked(a):
                return a if queries is None else a[queries]

            def nearest(found):
                return most_similar(some(found, asked), found, names, k + 1, rows, size, axis_name)

            values, kinds = at_width(number, nearest, found)
            lists = with_copies(values, kinds, asked(numbers), copies)
            return jnp.where(asked(counts)[:, None] & (lists < rows), lists, -1)

        return search

    def by_rows(number):
        found, counts, hashes = rows_of(number)
        return searching(number, found, counts, find_copies(hashes, axis_name))()

    def by_tiles(grid, number):
        found, counts, hashes = rows_of(number)
        values = at_width(number, lambda found: similarity_tiles(found, counts, grid), found)
        copies = find_copies(hashes)
        lists = largest_of_tiles(values, copies.first, copies.repeated, grid)
        return search_again(searching(number, found, counts, copies), lists, found.outlying)

    def each(search):  # one after another, so that memory is that of one
        return jax.lax.map(search, jnp.arange(len(blocks)))

    grid = tile_grid(rows, k) if axis_name is None and block_rows is None else None
    if grid is None:
        return each(by_rows)
    return jax.lax.platform_dependent(
        cpu=lambda: each(partial(by_tiles, grid)), default=lambda: each(by_rows)
    )


def checked_neighbors(blocks, k, mask, block_rows, axis_name) -> Int[Array, "E n k"]:
    """`neighbor_lists` of what a user gave."""
    check_blocks(blocks, mask)
    check_k("k", k, all_rows(blocks[0].shape[0], axis_name))
    return neighbor_lists(blocks, k, mask=mask, block_rows=block_rows, axis_name=axis_name)


def check_k(name, k, rows):
    """Raises ValueError unless every row has `k` other rows."""
    if not 1 <= k < rows:
        raise ValueError(
            f"{name} must be in 1..{rows - 1} = n - 1 for n = {rows} rows, got {k}: "
            "ask for fewer neighbors or give more rows."
        )
