"""Nulls by sampling: a statistic of all pairs under random permutations of the rows of one side.

Each draw is one order of the rows, the same for all pairs, so that the joint null (of a maximum
over pairs, say) is kept. An order is a function of the key and its number alone: neither the number
of draws, nor the batch, nor the devices change it. With `strata` the rows are permuted within their
stratum (video, class, patient) only, which is the null when rows are exchangeable there and nowhere
else.

CKA needs <K_i, P K_j P'> only, as no permutation changes a norm. For E encoders, D = sum d_e:

    gram:    the E Gram matrices held, once n^2 D flops; a draw gathers E n^2 / 2 entries (an entry
             and its mirror image count together) and takes n^2 E^2 flops
    feature: a draw gathers n D entries and takes n (D^2 + sum d_e^2) flops

The entry gathered is what a draw costs in Gram space: about 3.4 ns on one AVX2 core at E = 14,
n = 500, product included, which is as much as 256 flops. (Scores in n - 1 principal components
would shorten the features without error, but E^2 n^3 flops a draw stay far above this.) Rows
sharded over a mesh are gathered on every device, and the draws are split over the devices instead:
no draw communicates.

p-values are shares of draws, the observed score being one: valid at every number of draws K
(Phipson, Smyth 2010), and no less than 1 / (K + 1). The p-value of a maximum over a family adjusts
every member of it (single step; Westfall, Young 1993). Draws within rounding of the observed score
count as ties, as they must where strata leave few orders.

Not guaranteed: memory of 1.6 E n^2 numbers in Gram space, or n D more than the blocks.

References:
    Westfall, Young (1993), Resampling-based multiple testing. Wiley.
    Phipson, Smyth (2010), Permutation p-values should never be zero. Statistical Applications in
    Genetics and Molecular Biology 9.
    Winkler, Webster, Vidaurre, Nichols, Smith (2015), Multi-level block permutation. NeuroImage
    123.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..alignment.linear_cka import SPACES
from ..alignment.normalization import normalized_blocks
from ..arithmetic import HIGHEST, divide, from_first, gather_rows, mirror
from ..validate import all_rows, check_at_least, check_blocks, check_option, check_strata

GATHER = 256  # flops in the time that one entry takes to gather (measured on AVX2)
HELD_BYTES = 1 << 32  # of Gram matrices that "auto" may hold
ROUNDING = 16  # eps that a score of at most 1 may be off
BANDS = 8  # of rows: a draw touches 1/2 + 1/16 of each Gram matrix


def check_draws(blocks, summary: type, key, permutations: int, alpha: float) -> None:
    """Raises ValueError unless a null can be sampled: from arrays, with a key, finely enough."""
    if isinstance(blocks, summary):
        raise ValueError(
            f"blocks must be arrays for method 'permutation', got {summary.__name__}: give the "
            "features themselves."
        )
    if key is None:
        raise ValueError(
            "key must be a jax.random.key for method 'permutation', got None: give "
            "jax.random.key(0), say."
        )
    if (permutations + 1) * alpha < 1:
        raise ValueError(
            f"permutations must be at least 1 / alpha - 1 = {math.ceil(1 / alpha) - 1}, "
            f"got {permutations}: draw more, or tau is the observed maximum."
        )


def row_order(key, rows: int, mask=None, strata=None) -> Int[Array, " n"]:
    """A random order: uniform within each stratum of the rows that count, the others in place."""
    shuffled = jax.random.permutation(key, rows)
    if mask is None and strata is None:
        return shuffled
    groups = [] if strata is None else [jnp.asarray(strata)]
    groups += [] if mask is None else [~jnp.asarray(mask)]
    # The rows of each group, in random order, are dealt to the places of that group.
    dealt = shuffled[jnp.lexsort([group[shuffled] for group in groups])]
    order = jnp.zeros_like(dealt).at[jnp.lexsort(groups)].set(dealt)
    return order if mask is None else jnp.where(mask, order, jnp.arange(rows))


def row_orders(key, permutations: int, rows: int, mask=None, strata=None) -> Int[Array, "p n"]:
    """The orders of `sample_null`, all of them."""

    def order(number):
        return row_order(jax.random.fold_in(key, number), rows, mask, strata)

    return jax.lax.map(order, jnp.arange(permutations))


def sample_null(
    statistic: Callable[[Int[Array, " n"]], Shaped[Array, "*shape"]],
    key: jax.Array,
    permutations: int,
    rows: int,
    *,
    mask: Bool[Array, " n"] | None = None,
    strata: Int[Array, " n"] | None = None,
    axis_name=None,
    batch: int = 1,
) -> Shaped[Array, p * shape]:
    """A statistic under random orders of the rows, the draws split over the devices.

    Args:
      statistic: of an order of all rows [rows]; must not communicate over `axis_name`.
      key: a `jax.random.key`. Draw i depends on it, i, `rows`, `mask` and `strata` alone.
      permutations: draws, at least 1.
      rows: in all.
      mask: [rows] rows that count; the others stay in place.
      strata: [rows] labels; rows are permuted within their label only.
      axis_name: mesh axis the draws are split over, if any; everything else is replicated.
      batch: draws computed at once. On CPU 1 is fastest (2 to 3 times); accelerators want more.

    Returns:
      [permutations, *shape], the same on all devices.

    Raises:
      ValueError: if there is no draw or no batch, or `axis_name` is not bound.

    Example:
      >>> x = jnp.arange(4.0)
      >>> null = sample_null(lambda order: x @ x[order], jax.random.key(0), 100, 4)
      >>> null.shape, float(null.max())  # the identity is among the draws
      ((100,), 14.0)
    """
    check_at_least("permutations", permutations, 1)
    check_at_least("batch", batch, 1)
    devices = all_rows(1, axis_name)
    share = math.ceil(permutations / devices)
    first = 0 if axis_name is None else share * jax.lax.axis_index(axis_name)

    def draw(number):
        return statistic(row_order(jax.random.fold_in(key, number), rows, mask, strata))

    numbers = first + jnp.arange(share)
    null = jax.lax.map(draw, numbers, batch_size=None if batch == 1 else batch)
    if axis_name is not None:
        everyone = jnp.zeros((share * devices, *null.shape[1:]), null.dtype)
        placed = jax.lax.dynamic_update_slice_in_dim(everyone, null, first, 0)
        null = jax.lax.psum(placed, axis_name)
    return null[:permutations]


def permuted_products(
    left: Float[Array, "E n n"], right: Float[Array, "F n n"], precision=HIGHEST
) -> Callable[[Int[Array, " n"]], Float[Array, "E F"]]:
    """The function order -> <K_i, P L_j P'>, of symmetric matrices; what it needs is made once."""
    rows = left.shape[1]
    edges = np.linspace(0, rows, min(BANDS, rows) + 1).astype(int)
    bands = [slice(low, high) for low, high in itertools.pairwise(edges.tolist())]
    weighted = []
    for band in bands:  # an entry right of its band stands for its mirror image too
        weight = np.full(rows - band.start, 2)
        weight[: band.stop - band.start] = 1
        part = left[:, band, band.start :]
        weighted.append(part * jnp.asarray(weight, part.dtype)[None, None, :])

    def products(order):
        parts = []
        for band, part in zip(bands, weighted, strict=True):
            gathered = right[:, order[band][:, None], order[band.start :][None, :]]
            parts.append(jnp.einsum("iab,jab->ij", part, gathered, precision=precision))
        return jnp.sum(jnp.stack(parts), axis=0)

    return products


def choose_space(space: str, blocks, axis_name, permutations: int) -> str:
    """The space named, or for "auto" the one with fewer operations, Grams held within reason."""
    check_option("space", space, SPACES)
    if space != "auto":
        return space
    rows = all_rows(blocks[0].shape[0], axis_name)
    widths, encoders = [block.shape[1] for block in blocks], len(blocks)
    total, squares = sum(widths), sum(width**2 for width in widths)
    flops = {
        "feature": permutations * rows * (total**2 + squares + GATHER * total),
        "gram": rows**2 * (2 * total + permutations * encoders * (encoders + GATHER / 2)),
    }
    held = {"feature": 4 * (rows * total + max(widths) ** 2), "gram": 6.4 * encoders * rows**2}
    fitting = [name for name in flops if held[name] <= HELD_BYTES]
    return min(fitting or flops, key=(flops if fitting else held).__getitem__)


def permutation_null(
    blocks: Sequence[Float[Array, "n _"]],
    key: jax.Array,
    *,
    permutations: int = 200,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
    strata: Int[Array, " n"] | None = None,
    axis_name=None,
    batch: int = 1,
    precision=HIGHEST,
) -> tuple[Float[Array, "p E E"], Float[Array, "E E"]]:
    """CKA of all pairs after permuting the rows of one side, the same permutations for all pairs.

    Args:
      blocks: E arrays [n, d_e] with the same rows.
      key: a `jax.random.key`. The draws depend on it, on n (padding included), the mask and the
        strata, not on the number of draws, the batch or the devices.
      permutations: draws.
      space: "feature", "gram", or "auto" for the one with fewer operations that fits 4 GiB.
      mask: [n] rows that count; only these are permuted.
      strata: [n] integer labels; rows are permuted within their label only.
      axis_name: mesh axis the rows are sharded over, if any. Every device gathers all rows and
        computes its share of the draws.
      batch: draws computed at once (`sample_null`).
      precision: of the matrix products.

    Returns:
      [permutations, E, E] null scores (for i > j mirrored from j < i), and [E, E] observed CKA.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `mask` or
        `strata` does not fit them, or `permutations` or `batch` is below 1.

    Example:
      >>> x = jnp.arange(12.0).reshape(6, 2) ** 2
      >>> null, observed = permutation_null([x, x + 1], jax.random.key(0), permutations=5)
      >>> null.shape, float(observed[0, 1].round(4))
      ((5, 2, 2), 1.0)
    """
    check_blocks(blocks, mask)
    check_strata(strata, blocks[0].shape[0])
    rows = all_rows(blocks[0].shape[0], axis_name)
    space = choose_space(space, blocks, axis_name, permutations)
    scaled, _, _ = normalized_blocks(blocks, mask, axis_name)
    everyone = [gather_rows(block, axis_name) for block in scaled]
    upper = np.triu_indices(len(everyone))
    if space == "gram":
        pairs = zip(scaled, everyone, strict=True)
        grams = jnp.stack([jnp.matmul(x, all_x.T, precision=precision) for x, all_x in pairs])
        grams = gather_rows(grams, axis_name, axis=1)
        statistic = permuted_products(grams, grams, precision)
    else:
        columns = [block.T for block in everyone]

        def statistic(order):
            right = [block[order] for block in everyone]
            norms = [
                jnp.sum(jnp.sum(jnp.matmul(columns[i], right[j], precision=precision) ** 2, axis=0))
                for i, j in zip(*upper, strict=True)
            ]
            empty = jnp.zeros((len(everyone),) * 2, everyone[0].dtype)
            return empty.at[upper].set(jnp.stack(norms))

    inner = sample_null(
        statistic,
        key,
        permutations,
        rows,
        mask=gather_rows(mask, axis_name),
        strata=gather_rows(strata, axis_name),
        axis_name=axis_name,
        batch=batch,
    )
    observed = mirror(from_first(statistic(jnp.arange(rows)), axis_name))
    square = jnp.diagonal(observed)
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    norm = root[:, None] * root[None, :]
    return divide(mirror(inner), norm[None]), divide(observed, norm)


def reached(observed, null):
    """Number of draws that reach the observed score; rounding of a score of at most 1 is a tie."""
    slack = 0
    if jnp.issubdtype(null.dtype, jnp.floating):
        slack = ROUNDING * float(jnp.finfo(null.dtype).eps)
    return jnp.sum(null >= observed[None] - slack, axis=0, dtype=float)


def tail_from_sample(
    observed: Shaped[Array, "*shape"], null: Shaped[Array, p * shape], alpha: float
) -> tuple[Shaped[Array, "*shape"], Float[Array, "*shape"]]:
    """tau, the ceil((1-alpha)(p+1))-th smallest of observed and null, and p, without gradients."""
    observed, null = jax.lax.stop_gradient((jnp.asarray(observed), jnp.asarray(null)))
    draws = null.shape[0]
    pooled = jnp.sort(jnp.concatenate([null, observed[None]]), axis=0)
    # Less 1e-9, so that 0.95 * 200 is 190 and not the float just above it.
    tau = pooled[math.ceil((1 - alpha) * (draws + 1) - 1e-9) - 1]
    return tau, (1 + reached(observed, null)) / (draws + 1)


def max_null(
    null: Float[Array, p * shape], family: Bool[Array, "*shape"] | None = None
) -> Float[Array, " p"]:
    """The largest score of a family in each draw.

    Args:
      null: [p, *shape] draws, the same permutation for all scores of a draw.
      family: [*shape] scores that belong to it; all by default. For pairs of encoders take those
        above the diagonal, `np.triu(np.ones((E, E), bool), 1)`.

    Returns:
      [p] maxima; -inf for an empty family.

    Example:
      >>> max_null(jnp.array([[0.1, 0.3], [0.2, 0.0]])).tolist() == jnp.array([0.3, 0.2]).tolist()
      True
    """
    null = jnp.asarray(null)
    where = None if family is None else jnp.asarray(family)[None]
    return jnp.max(null, axis=tuple(range(1, null.ndim)), initial=-jnp.inf, where=where)


def family_p_values(
    observed: Float[Array, "*shape"], maxima: Float[Array, " p"]
) -> Float[Array, "*shape"]:
    """p-values adjusted for the whole family: (1 + #{max null >= s}) / (p + 1).

    The chance of one false rejection or more in the family is at most the level.

    Args:
      observed: scores of the family.
      maxima: [p] of `max_null`.

    Returns:
      Adjusted p-values, of the shape of `observed`.

    Example:
      >>> family_p_values(jnp.array([0.5, 0.2]), jnp.array([0.3, 0.1, 0.4])).tolist()
      [0.25, 0.75]

    References:
      Westfall and Young 1993 (single step).
    """
    observed, maxima = jnp.asarray(observed), jnp.asarray(maxima)
    null = maxima.reshape(maxima.shape + (1,) * observed.ndim)
    return (1 + reached(observed, null)) / (maxima.shape[0] + 1)
