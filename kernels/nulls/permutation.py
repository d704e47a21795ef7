"""The null of CKA by sampling: all pairs under random permutations of the rows of one side.

The orders are those of `orders`, the same for all pairs. CKA needs <K_i, P K_j P'> only, as no
permutation changes a norm. For E encoders, D = sum d_e:

    gram:    the E Gram matrices held, once n^2 D flops; a draw gathers E n^2 / 2 entries (an entry
             and its mirror image count together) and takes n^2 E^2 flops
    feature: a draw gathers n D entries and takes n (D^2 + sum d_e^2) flops

The entry gathered is what a draw costs in Gram space: about 3.4 ns on one AVX2 core at E = 14,
n = 500, product included, which is as much as 256 flops. (Scores in n - 1 principal components
would shorten the features without error, but E^2 n^3 flops per draw stay far above this.) Rows
sharded over a mesh are gathered on every device, and the draws are split over the devices instead:
no draw communicates.

Not guaranteed: memory of 1.6 E n^2 numbers in Gram space, or n D more than the blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..alignment.linear_cka import SPACES
from ..alignment.normalization import normalized_blocks
from ..arithmetic import HIGHEST, AnyArray, divide, from_first, gather_rows, mirror, root
from ..jit_over import jit_over
from ..validate import all_rows, check_blocks, check_option, check_strata
from .orders import sample_null

GATHER = 256  # flops in the time that one entry takes to gather (measured on AVX2)
HELD_BYTES = 1 << 32  # of Gram matrices that "auto" may hold
BANDS = 8  # of rows: a draw touches 1/2 + 1/16 of each Gram matrix


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


def permuted_features(
    blocks: Sequence[Float[Array, "n _"]], precision=HIGHEST
) -> Callable[[Int[Array, " n"]], Float[Array, "E E"]]:
    """The function order -> ||X_i'P X_j||^2 = <K_i, P K_j P'> for i <= j, 0 below the diagonal."""
    upper = np.triu_indices(len(blocks))
    columns = [block.T for block in blocks]

    def products(order):
        right = [block[order] for block in blocks]
        norms = [
            jnp.sum(jnp.sum(jnp.matmul(columns[i], right[j], precision=precision) ** 2, axis=0))
            for i, j in zip(*upper, strict=True)
        ]
        empty = jnp.zeros((len(blocks),) * 2, blocks[0].dtype)
        return empty.at[upper].set(jnp.stack(norms))

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


@jit_over("blocks", "key", "mask", "strata")
def permutation_null(
    blocks: Sequence[Float[AnyArray, "n _"]],
    key: jax.Array,
    *,
    permutations: int = 200,
    space: str = "auto",
    mask: Bool[AnyArray, " n"] | None = None,
    strata: Int[AnyArray, " n"] | None = None,
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
    if space == "gram":
        pairs = zip(scaled, everyone, strict=True)
        grams = jnp.stack([jnp.matmul(x, all_x.T, precision=precision) for x, all_x in pairs])
        grams = gather_rows(grams, axis_name, axis=1)
        statistic = permuted_products(grams, grams, precision)
    else:
        statistic = permuted_features(everyone, precision)
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
    norm = root(jnp.diagonal(observed))
    norm = norm[:, None] * norm[None, :]
    return divide(mirror(inner), norm[None]), divide(observed, norm)
