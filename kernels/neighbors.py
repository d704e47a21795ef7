"""Exact nearest neighbours by cosine similarity.

The neighbours of row i are the k rows j != i of largest cosine x_i'x_j / (||x_i|| ||x_j||). Row i
is excluded by its index, not its rank, as a duplicate may come before it. Similarities are float32
or wider at the highest precision: the 3 digits of bfloat16 cannot order the 100 nearest of 10,000.

Ties go to the lower index, and rows that are equal always tie. A matrix product alone does not
ensure that, for it may round two equal columns differently: so repeated rows are found first (by a
64-bit hash, then compared) and all take the similarity of the first of them.

Cost: 2 n^2 d flops and memory for one block of query rows by n; n x n is never held. With
`axis_name` each device gathers the candidates and keeps its own queries. On CPU the matrix product
is four fifths of the work at n = 13,394, d = 768, k = 100. Its symmetry is not used: half of the
tiles, merged into a running top k, saved a sixth of the CPU time, and would leave equal rows in
different tiles to be tied.

Not guaranteed: the order of different rows whose similarities are within rounding, about 1e-7 (it
may vary with the block size and the device). NaN is not looked for.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .moments import HIGHEST, divide
from .validate import all_rows, check_mask, check_matrix, compute_dtype

BLOCK_ENTRIES = 1 << 24  # of the largest array held at once: 64 MiB of float32


def nearest_neighbors(
    x: Float[Array, "n d"],
    k: int,
    *,
    mask: Bool[Array, " n"] | None = None,
    block_rows: int | None = None,
    axis_name=None,
) -> Int[Array, "n k"]:
    """The `k` rows most similar to each row, by cosine, nearest first.

    Args:
      x: [n, d] rows; halves are upcast to float32. A zero row has similarity 0 to every row.
      k: neighbours, 1 <= k < n.
      mask: [n] rows that count; the others are nobody's neighbours.
      block_rows: queries compared with all rows at once; None for 64 MiB of float32 similarities.
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
    local, rows = x.shape[0], all_rows(x.shape[0], axis_name)
    check_k("k", k, rows)
    size = block_size(block_rows, local, rows)
    everyone = gather_rows(x, axis_name).astype(compute_dtype(x))
    valid = jnp.ones(rows, bool) if mask is None else gather_rows(mask, axis_name)
    everyone = jnp.where(valid[:, None], everyone, 0)
    twins, repeated = _twins(everyone)
    reach = jnp.max(jnp.abs(everyone), axis=1, keepdims=True)
    unit = divide(everyone, reach)  # at most 1, so that squares neither overflow nor underflow
    unit = divide(unit, jnp.linalg.norm(unit, axis=1, keepdims=True))
    columns = jnp.arange(rows)

    def search(queries):
        similarity = jnp.matmul(unit[queries], unit.T, precision=HIGHEST)
        similarity = jax.lax.cond(
            repeated, lambda a: jnp.take(a, twins, axis=1), lambda a: a, similarity
        )
        allowed = valid[None, :] & (columns[None, :] != queries[:, None])
        similarity, indices = jax.lax.top_k(jnp.where(allowed, similarity, -jnp.inf), k)
        return jnp.where(valid[queries][:, None] & (similarity > -jnp.inf), indices, -1)

    blocks = -(-local // size)
    queries = jnp.minimum(jnp.arange(blocks * size), local - 1) + first_row(local, axis_name)
    return jax.lax.map(search, queries.reshape(blocks, size)).reshape(-1, k)[:local]


def _twins(x):
    """Lowest index of a row equal to each row, and whether any row repeats.

    Rows are sorted by a 64-bit hash, and each is compared with the first of its hash.
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0, x), jnp.uint32)  # -0 is 0
    bits = _mix(bits.reshape(x.shape[0], -1))
    weights = _mix(jnp.arange(1, 2 * bits.shape[1] + 1, dtype=jnp.uint32)).reshape(2, -1)
    hashes = [jnp.sum(bits * weight[None, :], axis=1, dtype=jnp.uint32) for weight in weights]
    order = jnp.lexsort(hashes)  # stable: the lowest index of equal hashes comes first
    numbers = jnp.arange(x.shape[0])
    starts = jnp.zeros(x.shape[0], bool).at[0].set(True)
    for values in hashes:
        starts |= jnp.diff(values[order], prepend=values[order[:1]]) != 0
    heads = order[jax.lax.cummax(jnp.where(starts, numbers, 0))]
    twins = jnp.zeros_like(order).at[order].set(heads)
    twins = jnp.where(jnp.all(x[twins] == x, axis=1), twins, numbers)
    return twins, jnp.any(twins != numbers)


def _mix(bits):
    """A bijection of 32-bit words under which every bit depends on every other."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)


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


def gather_rows(x, axis_name, axis=0):
    """The rows of all shards; None stays None."""
    if axis_name is None or x is None:
        return x
    return jax.lax.all_gather(x, axis_name, axis=axis, tiled=True)


def check_k(name, k, rows):
    """Raises ValueError unless every row has `k` other rows."""
    if not 1 <= k < rows:
        raise ValueError(
            f"{name} must be in 1..{rows - 1} = n - 1 for n = {rows} rows, got {k}: "
            "ask for fewer neighbours or give more rows."
        )
