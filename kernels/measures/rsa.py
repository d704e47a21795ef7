"""Representational similarity analysis: do two encoders rank all pairs of images alike?

Encoder e gives rows x_i, and the dissimilarity of two images is one less Pearson's correlation of
their features, or their distance,

    r_ij = 1 - corr(x_i, x_j),     corr over the d_e features, 0 if either row is constant,
    r_ij = ||x_i - x_j||           "euclidean"; or its square, "squared_euclidean".

RSA compares the dissimilarities of two encoders over the pairs i < j: by Spearman's correlation,
that of their ranks, ties taking their mean rank (Kriegeskorte, Mur, Bandettini 2008), or by another
of the `comparators`. Correlation removes each row's own mean and scale; it is thus blind to a
rescaling of single images but, unlike CKA, depends on the axes: rotating the features changes it,
and so does a shift. Distances change with neither.

Pairs are enumerated as (i, i + s mod n), s = 1 .. n/2, which is a full rectangle (half of the last
column if n is even), so that no index table of n^2 entries is needed.

Cost, D = sum d_e: 2 n^2 D flops, E sorts of n^2 / 2 values, and E^2 n^2 flops; for tau a sort and
2 log2(n) passes over n^2 / 2 numbers for each pair of encoders. Distances are n^2 D operations that
no matrix product does. Memory: E n^2 / 2 ranks, which is the price of Spearman (at n = 10,000,
200 MB per encoder); dissimilarities are made tile by tile. Sharded rows are gathered; devices share
the tiles, and each ranks everything.

Values that exact arithmetic has equal, as where the features are labels or rows are repeated, come
out a few eps apart. A run of sorted values, each within eps (4 + sqrt(d)) of the one before (of a
distance, this share of it), is therefore one tie if four times that holds all of it; a longer run,
as of many pairs whose values lie dense, is ranked as it is.

Not guaranteed: dissimilarities within rounding, about 1e-7, may be ranked either way, or as ties.
Duplicate images have dissimilarity 0 everywhere and raise the correlation. Ranks are 32-bit: n is
at most 46,340. Ranks are piecewise constant: their derivative is 0 and says nothing.

References:
    Kriegeskorte, Mur, Bandettini (2008), Representational similarity analysis. Frontiers in Systems
    Neuroscience 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import HIGHEST, AnyArray, from_first, gather_rows, mirror, valid_rows
from ..blocks import block_size, first_row
from ..jit_over import jit_over
from ..validate import (
    all_rows,
    axis_size,
    check_blocks,
    check_option,
    check_pairs,
    check_rows,
    compute_dtype,
)
from .comparators import (
    BY_ORDER,
    COMPARATORS,
    Pairs,
    Places,
    compared_vector,
    kendall,
    tied_places,
)
from .dissimilarities import (
    DISTANCES,
    common_scale,
    entries_per_row,
    pair_values,
    rounding,
    row_points,
)
from .shapes import every_pair, stack_padded


@jit_over("blocks", "mask")
def pairwise_rsa(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    distance: str = "correlation",
    comparator: str = "spearman",
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Agreement of the dissimilarities of all pairs of rows, for all pairs of encoders.

    By default Spearman's correlation of 1 - corr(x_i, x_j) over i < j.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      distance: "correlation", "euclidean" or "squared_euclidean".
      comparator: "spearman", "rho_a", "tau_a", "tau_b", "pearson", "cosine", "whitened_pearson" or
        "whitened_cosine", as `comparators` has them.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [-1, 1] up to rounding, 1 on the diagonal (less for "rho_a" and "tau_a"
      of dissimilarities that tie); 0 in the row and column of an encoder that is constant or, by
      correlation, of one feature, and but for cosines of any whose dissimilarities are all equal;
      NaN in those of an encoder with NaN or inf. Constant to differentiation where ranks are
      compared.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, an option is
        unknown, or there are fewer than 3 rows or more than 46,340.

    Example:
      >>> x = jnp.array([[1.0, 2.0, 4.0], [1.0, 3.0, 3.0], [5.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
      >>> compiled = jax.jit(pairwise_rsa, static_argnames=("distance", "comparator"))
      >>> compiled([x, 2 * x + 1, x[:, ::-1]])[0].round(4).tolist()
      [1.0, 1.0, 1.0]
      >>> found = compiled([x, x**2], distance="euclidean", comparator="tau_a")
      >>> f"{found[0, 1]:.3f}"
      '0.933'

    References:
      Kriegeskorte et al. 2008; Nili et al. 2014; Diedrichsen et al. 2021; Schuett et al. 2023.
    """
    check_blocks(blocks, mask)
    check_option("distance", distance, DISTANCES)
    check_option("comparator", comparator, COMPARATORS)
    local = blocks[0].shape[0]
    rows = all_rows(local, axis_name)
    check_rows(rows, 3, "RSA")
    check_pairs(rows)
    dtype = compute_dtype(*blocks)
    if comparator in BY_ORDER:
        blocks = [jax.lax.stop_gradient(x) for x in blocks]
    points = stack_padded([row_points(jnp.asarray(x, dtype), mask, distance) for x in blocks])
    everyone = gather_rows(points, axis_name, axis=1)
    per_row = entries_per_row(everyone[0], distance)
    error = {
        "rounding": rounding(points.shape[2], dtype),
        "relative": distance != "correlation",
    }

    def scaled(x, valid):
        return common_scale(x, valid, distance)

    def values(x, here, partners):
        return pair_values(x, here, partners, distance)

    return agreement(
        everyone, scaled, values, comparator, mask, axis_name, per_row=per_row, **error
    )


def agreement(
    everyone: Float[Array, "E *repeats N d"],
    scaled: Callable,
    values: Callable,
    comparator: str,
    mask: Bool[AnyArray, " n"] | None,
    axis_name,
    *,
    per_row: int,
    rounding: float,
    relative: bool,
) -> Float[Array, "E E"]:
    """A comparator of the dissimilarities of all encoders.

    Args:
      everyone: what they are made of, the rows of all devices.
      scaled: of an encoder's and which rows count, what `values` takes.
      values: of that, rows [r] and their partners [r, s], the dissimilarities [r, s].
      comparator: one of `COMPARATORS`.
      mask: of the local rows.
      axis_name: mesh axis the rows are sharded over, if any.
      per_row: entries of the largest array that `values` makes for a row.
      rounding: how far dissimilarities may be off.
      relative: whether that is a share of each.
    """
    rows, dtype = everyone.shape[-2], everyone.dtype
    local = rows // axis_size(axis_name)
    valid = valid_rows(local, mask, axis_name)
    counts = valid.reshape((1,) * (everyone.ndim - 2) + (-1, 1))
    finite = jnp.all(jnp.isfinite(everyone) | ~counts, axis=range(1, everyone.ndim))
    missing = jnp.where(finite, 0, jnp.nan)
    half = rows // 2
    steps = jnp.arange(1, half + 1)
    numbers = jnp.arange(rows)
    partners = (numbers[:, None] + steps[None, :]) % rows
    once = (2 * steps[None, :] < rows) | (numbers[:, None] < half)
    counted = (valid[:, None] & valid[partners] & once).reshape(-1)
    pairs = Pairs(jnp.repeat(numbers, half), partners.reshape(-1), counted, valid)
    error = {"rounding": rounding, "relative": relative}

    size = block_size(None, local, per_row)
    blocks_of_rows = jnp.minimum(jnp.arange(-(-local // size) * size), local - 1)
    queries = (first_row(local, axis_name) + blocks_of_rows).reshape(-1, size)

    def all_values(x):
        x = scaled(x, valid)
        mine = jax.lax.map(lambda here: values(x, here, partners[here]), queries)
        found = gather_rows(mine.reshape(-1, half)[:local], axis_name).reshape(-1)
        # Without features there are no dissimilarities, not even equal ones.
        return jnp.where(jnp.any(x != 0), found, 0)

    if comparator.startswith("tau"):
        places = jax.lax.map(lambda x: tied_places(all_values(x), pairs, **error), everyone)

        def tau(pair):
            a, b = (Places(places.first[e], places.last[e]) for e in pair)
            return kendall(a, b, pairs, corrected=comparator == "tau_b", dtype=dtype)

        result = mirror(every_pair(tau, len(everyone)))
    else:
        vectors = jax.lax.map(
            lambda x: compared_vector(comparator, all_values(x), pairs, **error), everyone
        )
        result = jnp.matmul(vectors, vectors.T, precision=HIGHEST)
    return from_first(nan_pairs(result, missing), axis_name)
