"""Frobenius inner products of the linear kernels of several encoders, each entry formed once.

Problem
    Blocks X_e [n, d_e], centred, and K_e = X_e X_e'. All <K_i, K_j> = tr K_i K_j, and on request
    the sums over entries that third moments need, without n x n x E or D x D (D = sum d_e).

Method
    Gram space: tiles of all K_e at once. K is symmetric, so of the T x T tiles only those in a
    half are formed: tile row a meets tile rows a, a+1, .., a + (T-1)/2 (mod T, T odd), which
    covers every unordered pair once and gives every tile row the same work.
    Feature space: <K_i, K_j> = ||X_i' X_j||^2. Of the D x D products of all features the same half
    of the tiles is formed, squared, and summed by encoder.

    Over a mesh the same circle is walked by devices. In Gram space the rows sharded over
    `axis_name` go half round the ring, so that a device holds two shards of rows at most; tiles are
    summed over `feature_axis_name`, and each device there keeps a share of their columns. In
    feature space the axes change places: shards of features go round, and tiles are summed over
    `axis_name`.

Cost, with T >= 9 tiles a side where there are so many rows or features
    gram:    n^2 (D + E^2) (1 + 1/T) flops; memory E t^2 for tiles of t <= 512 rows.
    feature: n D^2 (1 + 1/T) flops; memory n D for the transposed blocks.
    Each of m devices does 1/m of it, whatever the axes. A ring of p devices sends half of the
    blocks of a device p times; sums over an axis take E n^2 / 2 or D^2 / 2 numbers in all.

Not guaranteed
    Sums are in the dtype of the blocks: over n^2 entries the relative error is about eps sqrt(n),
    tiles being summed one by one.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .moments import HIGHEST, psum
from .validate import all_rows

TILE_ROWS = 512  # at most; measured on AVX2: from 256 on tiles reach the rate of a large product
TILES = 9  # at least, where there are enough rows: 1/9 of the flops is spent twice


def axis_size(axis_name) -> int:
    """Devices along a mesh axis, 1 without one (static)."""
    return all_rows(1, axis_name)


def cut(length: int, multiple: int = 1, most: int | None = None) -> tuple[int, int]:
    """An odd number of tiles, and their length: a multiple, `most` if possible."""
    tile = min(TILE_ROWS, max(256, math.ceil(length / TILES)), most or TILE_ROWS, length)
    tiles = math.ceil(length / max(tile, 1)) // 2 * 2 + 1
    return tiles, math.ceil(math.ceil(length / tiles) / multiple) * multiple


def gram_sums(
    blocks: list[Float[Array, "n _"]],
    *,
    axis_name=None,
    feature_axis_name=None,
    precision=HIGHEST,
    memory: int | None = None,
    cubic: bool = False,
) -> tuple[Float[Array, "E E"], Float[Array, "n E"], Float[Array, " E"]]:
    """<K_i, K_j> and, if `cubic`, sum_b K_ab^2 of the local rows a and sum_ab K_ab^3 (else zeros).

    The last two are constants to differentiation.
    """
    encoders, local = len(blocks), blocks[0].shape[0]
    most = None
    if memory is not None:
        most = max(1, math.isqrt(memory // (encoders * blocks[0].dtype.itemsize)))
    tiles, tile = cut(local, axis_size(feature_axis_name), most)
    padding = tiles * tile - local
    own = [jnp.pad(block, ((0, padding), (0, 0))) for block in blocks]  # zero rows add nothing

    def grams(left, right, a, b):
        stack = jnp.stack(
            [
                jnp.matmul(
                    jax.lax.dynamic_slice_in_dim(x, a * tile, tile),
                    jax.lax.dynamic_slice_in_dim(y, b * tile, tile).T,
                    precision=precision,
                )
                for x, y in zip(left, right, strict=True)
            ]
        )
        if feature_axis_name is None:
            return stack
        return jax.lax.psum_scatter(stack, feature_axis_name, scatter_dimension=2, tiled=True)

    @jax.checkpoint
    def tile_sums(left, right, a, b):
        gram = grams(left, right, a, b)
        inner = jnp.einsum("iab,jab->ij", gram, gram, precision=HIGHEST)
        if not cubic:
            return inner, (), (), ()
        gram = jax.lax.stop_gradient(gram)
        square = gram**2
        here = jnp.sum(square, axis=1).T  # of this device's share of the columns
        of_columns = jnp.zeros((tile, encoders), here.dtype)
        first = 0
        if feature_axis_name is not None:
            first = jax.lax.axis_index(feature_axis_name) * here.shape[0]
        of_columns = jax.lax.dynamic_update_slice_in_dim(of_columns, here, first, 0)
        cubes = jnp.sum(jnp.sum(square * gram, axis=2), axis=1)
        return inner, jnp.sum(square, axis=2).T, of_columns, cubes

    def diagonal(right, offset, weight):
        """Tiles (a, a + offset) for all a."""
        inner, left_squares, right_squares, cubes = jax.lax.map(
            lambda a: tile_sums(own, right, a, (a + offset) % tiles), jnp.arange(tiles)
        )
        inner = weight * jnp.sum(inner, axis=0)
        if not cubic:
            return inner, (), (), ()
        right_squares = (weight - 1) * jnp.roll(right_squares, offset, axis=0)
        return inner, left_squares, right_squares, weight * jnp.sum(cubes, axis=0)

    # Zeros that vary over the mesh axes that the rows vary over.
    zero = 0 * sum(jax.lax.stop_gradient(block[0, 0]) for block in own)
    squares = zero + jnp.zeros((tiles, tile, encoders), zero.dtype) if cubic else ()
    cubes = zero + jnp.zeros(encoders, zero.dtype) if cubic else ()
    total = zero + jnp.zeros((encoders, encoders), zero.dtype), squares, squares, cubes
    inner, mine, theirs, cubes = circle(own, diagonal, tiles, total, axis_name)
    inner = psum(psum(inner, axis_name), feature_axis_name)
    if not cubic:
        zeros = jnp.zeros(encoders, inner.dtype)
        return inner, jnp.zeros((local, encoders), inner.dtype), zeros
    squares = psum(mine + theirs, feature_axis_name).reshape(tiles * tile, encoders)[:local]
    return inner, squares, psum(psum(cubes, axis_name), feature_axis_name)


def feature_inner(
    blocks: list[Float[Array, "n _"]], axis_name=None, feature_axis_name=None, precision=HIGHEST
) -> Float[Array, "E E"]:
    """||X_i' X_j||^2 of all pairs."""
    widths = [block.shape[1] for block in blocks]
    tiles, tile = cut(sum(widths))
    padding = tiles * tile - sum(widths)
    # Transposed once: a product that contracts the rows of both runs at half the rate on CPU.
    own = jnp.pad(jnp.concatenate([block.T for block in blocks]), ((0, padding), (0, 0)))
    owner = np.pad(np.repeat(np.eye(len(widths)), widths, axis=0), ((0, padding), (0, 0)))
    owner = jnp.asarray(owner.reshape(tiles, tile, -1), own.dtype)

    @jax.checkpoint
    def tile_sums(right, a, b):
        left = jax.lax.dynamic_slice_in_dim(own, a * tile, tile)
        right = jax.lax.dynamic_slice_in_dim(right, b * tile, tile)
        square = psum(jnp.matmul(left, right.T, precision=precision), axis_name) ** 2
        rows = jnp.matmul(owner[a].T, square, precision=HIGHEST)
        return jnp.matmul(rows, owner[b], precision=HIGHEST)

    def diagonal(right, offset, weight):
        sums = jax.lax.map(lambda a: tile_sums(right, a, (a + offset) % tiles), jnp.arange(tiles))
        inner = jnp.sum(sums, axis=0)
        return weight * (inner + inner.T) / 2, (), (), ()

    zero = psum(0 * jax.lax.stop_gradient(own[0, 0]), axis_name)
    total = zero + jnp.zeros((len(widths),) * 2, own.dtype), (), (), ()
    return psum(circle(own, diagonal, tiles, total, feature_axis_name)[0], feature_axis_name)


def circle(own, diagonal, tiles: int, total, axis_name):
    """Sums over every unordered pair of tiles, of this device's with those of half of the ring.

    Args:
      own: the tiles of this device, to be sent round.
      diagonal: (visitor, offset, weight) -> sums of the pairs of own tile a and the visitor's tile
        a + offset, for all a: a tuple of which the third stays with the visitor.
      tiles: of a device, an odd number.
      total: zeros to start from.
      axis_name: the ring; None for one device.
    """
    half = (tiles + 1) // 2

    def meet(visitor, all_tiles, total):
        def add(offset, total):
            mirrored = all_tiles | (offset > 0)  # counts for (b, a) too
            weight = jnp.where(mirrored, 2, 1).astype(total[0].dtype)
            return jax.tree.map(jnp.add, total, diagonal(visitor, offset, weight))

        if all_tiles is False:
            return jax.lax.fori_loop(0, half, add, total)

        def add_if(offset, total):
            skip = ~all_tiles & (offset >= half)
            return jax.lax.cond(skip, lambda _, total: total, add, offset, total)

        return jax.lax.fori_loop(0, tiles, add_if, total)

    size = axis_size(axis_name)
    if size == 1:
        return meet(own, False, total)
    # Two devices meet once, except at the far side of an even ring: there each takes half.
    steps = size // 2 + 1
    all_tiles = np.ones(steps, bool)
    all_tiles[0] = False
    all_tiles[-1] &= size % 2 == 1

    def step(state, all_tiles):
        visitor, total = state
        first, second, theirs, last = meet(visitor, all_tiles, total)
        visitor, theirs = shift((visitor, theirs), axis_name, 1)
        return (visitor, (first, second, theirs, last)), None

    (_, total), _ = jax.lax.scan(step, (own, total), all_tiles)
    first, second, theirs, last = total
    return first, second, shift(theirs, axis_name, -steps), last


def shift(tree, axis_name, steps: int):
    """What the device `steps` further along the ring holds."""
    size = axis_size(axis_name)
    ring = [((device + steps) % size, device) for device in range(size)]
    return jax.tree.map(lambda leaf: jax.lax.ppermute(leaf, axis_name, ring), tree)


def trace_of_cube(x: Float[Array, "n d"], axis_name, feature_axis_name, precision):
    """tr (X X')^3 from the smaller of X'X and XX', which every device holds whole."""
    rows = x.shape[0] * axis_size(axis_name)
    if rows < x.shape[1] * axis_size(feature_axis_name):
        x, axis_name, feature_axis_name = x.T, feature_axis_name, axis_name
    gathered = gather(x, feature_axis_name, 1)
    columns = jax.lax.optimization_barrier(gathered.T)
    own = psum(jnp.matmul(columns, x, precision=precision), axis_name)
    whole = gather(own, feature_axis_name, 1)
    # `whole` is symmetric. Transposed, XLA's CPU product is 17 times as fast here (jax 0.10).
    square = jnp.matmul(whole.T, own, precision=precision)
    cube = jnp.sum(square * own, axis=0)
    return psum(jnp.sum(cube), feature_axis_name)


def gather(x, axis_name, axis: int):
    """The shards of all devices side by side."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=axis, tiled=True)


def mirror(upper: Float[Array, "*b E E"]) -> Float[Array, "*b E E"]:
    """The symmetric matrix with this upper triangle."""
    return jnp.triu(upper) + jnp.swapaxes(jnp.triu(upper, 1), -1, -2)
