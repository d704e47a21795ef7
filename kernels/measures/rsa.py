"""Representational similarity analysis: do two encoders rank all pairs of images alike?

Encoder e gives rows x_i, and the dissimilarity of two images is one less Pearson's correlation of
their features,

    r_ij = 1 - corr(x_i, x_j),     corr over the d_e features, 0 if either row is constant.

RSA is Spearman's correlation of the dissimilarities of two encoders over the pairs i < j: Pearson's
correlation of their ranks, ties taking their mean rank (Kriegeskorte, Mur, Bandettini 2008).
Correlation removes each row's own mean and scale; it is thus blind to a rescaling of single images
but, unlike CKA, depends on the axes: rotating the features changes it, and so does a shift.

Pairs are enumerated as (i, i + s mod n), s = 1 .. n/2, which is a full rectangle (half of the last
column if n is even), so that no index table of n^2 entries is needed.

Cost, D = sum d_e: 2 n^2 D flops, E sorts of n^2 / 2 values, and E^2 n^2 flops. Memory: E n^2 / 2
ranks, which is the price of Spearman (at n = 10,000, 200 MB per encoder); dissimilarities are made
tile by tile. Sharded rows are gathered; devices share the tiles, and each ranks everything.

Values that exact arithmetic has equal, as where the features are labels or rows are repeated, come
out a few eps apart. A run of sorted values, each within eps (4 + sqrt(d)) of the one before, is
therefore one tie if four times that holds all of it; a longer run, as of many pairs whose values
lie dense, is ranked as it is.

Not guaranteed: dissimilarities within rounding, about 1e-7, may be ranked either way, or as ties.
Duplicate images have dissimilarity 0 everywhere and raise the correlation. Ranks are 32-bit: n is
at most 46,340. Ranks are piecewise constant: the derivative is 0 and says nothing.

References:
    Kriegeskorte, Mur, Bandettini (2008), Representational similarity analysis. Frontiers in Systems
    Neuroscience 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import HIGHEST, AnyArray, divide, from_first, gather_rows, is_constant, valid_rows
from ..blocks import block_size, first_row
from ..validate import all_rows, check_blocks, check_pairs, check_rows, compute_dtype
from .shapes import stack_padded


def pairwise_rsa(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Spearman's correlation of the dissimilarities 1 - corr(x_i, x_j) of all pairs of encoders.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [-1, 1] up to rounding, 1 on the diagonal; 0 in the row and column of an
      encoder whose dissimilarities are all equal (one that is constant, or of one feature), NaN in
      those of an encoder with NaN or inf. Constant to differentiation.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are
        fewer than 3 rows or more than 46,340.

    Example:
      >>> x = jnp.array([[1.0, 2.0, 4.0], [1.0, 3.0, 3.0], [5.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
      >>> pairwise_rsa([x, 2 * x + 1, x[:, ::-1]])[0].round(4).tolist()
      [1.0, 1.0, 1.0]

    References:
      Kriegeskorte et al. 2008.
    """
    check_blocks(blocks, mask)
    local = blocks[0].shape[0]
    rows = all_rows(local, axis_name)
    check_rows(rows, 3, "RSA")
    check_pairs(rows)
    dtype = compute_dtype(*blocks)
    unit = [_unit_rows(jax.lax.stop_gradient(x).astype(dtype), mask) for x in blocks]
    unit = stack_padded(unit)
    everyone = gather_rows(unit, axis_name, axis=1)
    valid = valid_rows(local, mask, axis_name)
    unit_row = jnp.where(valid[None], jnp.sum(everyone, axis=2), 0)
    missing = jnp.where(jnp.any(jnp.isnan(unit_row), axis=1), jnp.nan, 0)
    near = jnp.finfo(dtype).eps * (4 + math.sqrt(unit.shape[2]))
    half = rows // 2
    steps = jnp.arange(1, half + 1)
    numbers = jnp.arange(rows)
    partners = (numbers[:, None] + steps[None, :]) % rows
    once = (2 * steps[None, :] < rows) | (numbers[:, None] < half)
    counted = (valid[:, None] & valid[partners] & once).reshape(-1)

    size = block_size(None, local, rows)
    blocks_of_rows = jnp.minimum(jnp.arange(-(-local // size) * size), local - 1)
    queries = (first_row(local, axis_name) + blocks_of_rows).reshape(-1, size)

    def ranks(x):
        def tile(here):
            similarity = _products(x[here], x)
            return 1 - jnp.take_along_axis(similarity, partners[here], axis=1)

        mine = jax.lax.map(tile, queries).reshape(-1, half)[:local]
        return _normalized_ranks(gather_rows(mine, axis_name).reshape(-1), counted, near)

    ranked = jax.lax.map(ranks, everyone)
    result = jnp.matmul(ranked, ranked.T, precision=HIGHEST)
    return from_first(nan_pairs(result, missing), axis_name)


def _unit_rows(x, mask):
    """Rows less their own mean, of norm 1; 0 where they are constant or masked."""
    if mask is not None:
        x = jnp.where(mask[:, None], x, 0)
    largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    x = divide(x, largest)  # at most 1: sums cannot overflow
    deviation = x - jnp.mean(x, axis=1, keepdims=True)
    reach = jnp.max(jnp.abs(deviation), axis=1, keepdims=True)
    constant = is_constant(reach, jnp.ones_like(reach), x.dtype)
    deviation = divide(deviation, jnp.where(constant, 0, reach))
    squares = sum(jnp.sum(part**2, axis=1, keepdims=True) for part in _parts(deviation))
    squares = jnp.asarray(squares, x.dtype)  # of no columns
    return divide(deviation, jnp.sqrt(squares))


def _parts(x):
    """Columns in 32 parts or fewer, so that sums over them err by the length of a part.

    Where features take few values, one rounding repeats in the same direction: a sum of 1,000 such
    terms, one after another, is off by 80 eps.
    """
    width = max(64, -(-x.shape[1] // 32))
    return [x[:, start : start + width] for start in range(0, x.shape[1], width)]


def _products(a, b):
    """a b', summed over parts of the columns."""
    parts = zip(_parts(a), _parts(b), strict=True)
    return sum(jnp.matmul(one, two.T, precision=HIGHEST) for one, two in parts)


def _normalized_ranks(values, counted, near):
    """Mean ranks of the values that count, less their mean, of norm 1; 0 for the others."""
    total = jnp.sum(counted, dtype=jnp.int32)
    values = jnp.where(counted, values, jnp.inf)
    order = jnp.argsort(values)
    ascending = values[order]
    places = jnp.arange(len(values), dtype=jnp.int32)
    gap = jnp.diff(ascending, prepend=ascending[:1])

    def runs(new):
        """First and last place of the run that each place is in."""
        new = new.at[0].set(True) & (places < total)
        ends = jnp.append(new[1:], True) | (places + 1 == total)
        last = jnp.where(ends, places, len(values) - 1)
        return jax.lax.cummax(jnp.where(new, places, 0)), jax.lax.cummin(last, reverse=True)

    first, last = runs(gap > near)
    short = ascending[last] - ascending[first] <= 4 * near
    first, last = runs(jnp.where(short, gap > near, gap != 0))
    # Twice the centered mean rank, a whole number, as a share of all ranks.
    centered = (first + last - (total - 1)).astype(values.dtype) / total.astype(values.dtype)
    ranks = jnp.zeros_like(values).at[order].set(jnp.where(places < total, centered, 0))
    return divide(ranks, jnp.linalg.norm(ranks))
