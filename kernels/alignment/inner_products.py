"""Frobenius inner products of the linear kernels of several encoders, each entry formed once.

Problem
    Blocks X_e [n, d_e], centered, and K_e = X_e X_e'. All <K_i, K_j> = tr K_i K_j, and on request
    the sums over entries that third moments need, without n x n x E or D x D (D = sum d_e).

Method
    Gram space: tiles of all K_e at once, of which only one half is formed, K being symmetric
    (`row_pairs`).
    Feature space: <K_i, K_j> = ||X_i' X_j||^2. Of the D x D products of all features the same half
    of the tiles is formed, squared, and summed by encoder.

    In Gram space the ring of devices is the axis of the rows; tiles are summed over that of the
    features, and each device there keeps a share of their columns. In feature space the axes change
    places: shards of features go round, and tiles are summed over the axis of the rows.

Cost, with L levels, of which the last has 80 to 160 rows
    gram:    n^2 (D + E^2) (1 + 1/2^L) flops; memory 3 n D and 2 E tiles of 1,024 x 2,048.
    feature: n D^2 (1 + 1/2^L) flops; memory 4 n D and a tile.
    Each of m devices does 1/m of it, whatever the axes. A ring of p devices sends half of the
    blocks of a device p times; sums over an axis take E n^2 / 2 or D^2 / 2 numbers in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arithmetic import HIGHEST, MeshAxes, mirror, psum
from ..validate import all_rows, axis_size
from .row_pairs import TILE, Halving, halve, symmetric_sums

LEAST_TILE = 64 * 64  # entries of tiles that a bound on memory leaves
# Copies of the blocks that a program holds, by the compiler's plan (XLA on CPU): what is centered
# and scaled, and padded or transposed; on a ring also the visitor, the next, and half of either.
COPIES = {"gram": 3, "feature": 4}
RING_COPIES = 3


class GramSums(NamedTuple):
    """Sums over the entries of the kernels; all but the first are constants to differentiation.

    Attributes:
      inner: <K_i, K_j>.
      squares: sum_b K_ab^2 of the local rows a; zeros unless asked for.
      cubes: sum_ab K_ab^3; zeros unless asked for.
    """

    inner: Float[Array, "E E"]
    squares: Float[Array, "n E"]
    cubes: Float[Array, " E"]


def gram_halving(
    blocks: Sequence, axes: MeshAxes, itemsize: int, *, cubic: bool, memory: int | None
) -> tuple[Halving, int]:
    """The largest tiles of Gram space within `memory` bytes, or the least, and the bytes held."""
    encoders, local = len(blocks), blocks[0].shape[0]
    widths = [block.shape[1] for block in blocks]
    shards = axis_size(axes.features)
    copies = COPIES["gram"] + (RING_COPIES + cubic if axis_size(axes.rows) > 1 else 0)
    extra = 0
    if cubic:  # of `trace_of_cube`: the rows with all features, and three squares
        widest = shards * max(widths)
        extra = 2 * local * widest + 3 * min(all_rows(local, axes.rows), widest) ** 2
    most = math.prod(TILE)
    while True:
        halving = halve(local, 2 * shards, most)
        tiles = (3 if cubic else 2) * encoders * halving.entries
        held = itemsize * (copies * halving.rows * sum(widths) + tiles + extra)
        if memory is None or held <= memory or most <= LEAST_TILE:
            return halving, held
        most //= 2


def feature_bytes(blocks: Sequence, axes: MeshAxes, itemsize: int) -> int:
    """Bytes that feature space holds beyond the blocks."""
    halving = halve(sum(block.shape[1] for block in blocks), 2)
    copies = COPIES["feature"] + (RING_COPIES if axis_size(axes.features) > 1 else 0)
    tiles = (2 if axis_size(axes.rows) > 1 else 1) * halving.entries
    return itemsize * (copies * blocks[0].shape[0] * halving.rows + tiles)


def gram_sums(
    blocks: list[Float[Array, "n _"]],
    axes: MeshAxes,
    *,
    precision=HIGHEST,
    memory: int | None = None,
    cubic: bool = False,
) -> GramSums:
    """<K_i, K_j> in Gram space, and with `cubic` the other sums too."""
    encoders, local = len(blocks), blocks[0].shape[0]
    itemsize = blocks[0].dtype.itemsize
    halving, _ = gram_halving(blocks, axes, itemsize, cubic=cubic, memory=memory)
    own = [jnp.pad(x, ((0, halving.rows - local), (0, 0))) for x in blocks]  # zeros add nothing

    def tile_sums(left, right):
        # Encoders come last: the fastest of the layouts for the sums over entries, by 10 %.
        gram = jnp.stack(
            [jnp.matmul(x, y.T, precision=precision) for x, y in zip(left, right, strict=True)],
            axis=-1,
        )
        columns = gram.shape[1]
        if axes.features is not None:
            gram = jax.lax.psum_scatter(gram, axes.features, scatter_dimension=1, tiled=True)
        entries = gram.reshape(-1, encoders)
        inner = jnp.matmul(entries.T, entries, precision=HIGHEST)
        if not cubic:
            return (inner, ()), (), ()
        gram = jax.lax.stop_gradient(gram)
        square = gram**2
        here = jnp.sum(square, axis=0)  # of this device's share of the columns
        of_columns = jnp.zeros((columns, encoders), here.dtype)
        first = 0
        if axes.features is not None:
            first = jax.lax.axis_index(axes.features) * here.shape[0]
        of_columns = jax.lax.dynamic_update_slice_in_dim(of_columns, here, first, 0)
        cubes = jnp.sum(jnp.sum(square * gram, axis=1), axis=0)
        return (inner, cubes), jnp.sum(square, axis=1), of_columns

    (inner, cubes), squares = symmetric_sums(own, tile_sums, halving, axes.rows)
    inner = mirror(psum(psum(inner, axes.rows), axes.features))
    if not cubic:
        zeros = jnp.zeros(encoders, inner.dtype)
        return GramSums(inner, jnp.zeros((local, encoders), inner.dtype), zeros)
    squares = psum(squares, axes.features)[:local]
    return GramSums(inner, squares, psum(psum(cubes, axes.rows), axes.features))


def feature_inner(
    blocks: list[Float[Array, "n _"]], axes: MeshAxes, precision=HIGHEST
) -> Float[Array, "E E"]:
    """<K_i, K_j> in feature space, ||X_i' X_j||^2."""
    widths = [block.shape[1] for block in blocks]
    halving = halve(sum(widths), 2)
    padding = halving.rows - sum(widths)
    # Transposed once: a product that contracts the rows of both runs at half the rate on CPU.
    own = jnp.pad(jnp.concatenate([block.T for block in blocks]), ((0, padding), (0, 0)))
    owner = np.pad(np.repeat(np.eye(len(widths)), widths, axis=0), ((0, padding), (0, 0)))
    # It goes round with the shard, so it must vary over the ring as that does.
    varying = psum(0 * jax.lax.stop_gradient(own[:, :1]), axes.rows)
    owner = jnp.asarray(owner, own.dtype) + varying

    def tile_sums(left, right):
        product = jnp.matmul(left[0], right[0].T, precision=precision)
        square = psum(product, axes.rows) ** 2
        rows = jnp.matmul(left[1].T, square, precision=HIGHEST)
        return jnp.matmul(rows, right[1], precision=HIGHEST), (), ()

    inner, _ = symmetric_sums((own, owner), tile_sums, halving, axes.features)
    return psum((inner + inner.T) / 2, axes.features)
