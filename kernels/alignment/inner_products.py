"""Frobenius inner products of the linear kernels of several encoders, each entry formed once.

Problem
    Blocks X_e [n, d_e], centered, and K_e = X_e X_e'. All <K_i, K_j> = tr K_i K_j, and on request
    the sums over entries that third moments need, without n x n x E or D x D (D = sum d_e).

Method
    Gram space: tiles of all K_e at once, of which only one half is formed, K being symmetric. The
    rows are halved and halved again, and at each level the left half of every part meets the right
    half; what remains are the 2^L parts of the last level, each with itself.
    Feature space: <K_i, K_j> = ||X_i' X_j||^2. Of the D x D products of all features the same half
    of the tiles is formed, squared, and summed by encoder.

    Over a mesh a device does so with its own rows, and shards go half round the ring of devices, so
    that each holds two at most and every two meet once. In Gram space the ring is `axis_name`;
    tiles are summed over `feature_axis_name`, and each device there keeps a share of their columns.
    In feature space the axes change places: shards of features go round, and tiles are summed over
    `axis_name`.

Cost, with L levels, of which the last has 80 to 160 rows
    gram:    n^2 (D + E^2) (1 + 1/2^L) flops; memory 3 n D and 2 E tiles of 1,024 x 2,048.
    feature: n D^2 (1 + 1/2^L) flops; memory 4 n D and a tile.
    Each of m devices does 1/m of it, whatever the axes. A ring of p devices sends half of the
    blocks of a device p times; sums over an axis take E n^2 / 2 or D^2 / 2 numbers in all.

Not guaranteed
    Sums are in the dtype of the blocks: over n^2 entries the relative error is about eps sqrt(n),
    tiles being summed one by one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arithmetic import HIGHEST, gather_rows, mirror, psum
from ..validate import all_rows, axis_size

LEAST_ROWS = 160  # at most so many in the last level; fewer are slower than they save
TILE = (1024, 2048)  # rows and columns, at most; (512, 2048) is 1 to 5 % slower on Zen 5
LEAST_TILE = 64 * 64  # entries of tiles that a bound on memory leaves
# Copies of the blocks that a program holds, by the compiler's plan (XLA on CPU): what is centered
# and scaled, and padded or transposed; on a ring also the visitor, the next, and half of either.
COPIES = {"gram": 3, "feature": 4}
RING_COPIES = 3


class Halving(NamedTuple):
    """How rows are halved: `unit` rows in each of 2^`levels` parts, and the shape of tiles."""

    levels: int
    unit: int
    tile: tuple[int, int]

    @property
    def rows(self) -> int:
        """All rows, padding included."""
        return self.unit << self.levels

    @property
    def entries(self) -> int:
        """Of the largest tile there is."""
        return math.prod(min(side, self.rows) for side in self.tile)


def halve(length: int, multiple: int = 1, most: int | None = None) -> Halving:
    """Parts whose rows are a multiple, and tiles of `most` entries at most, if that is possible."""
    most = most or math.prod(TILE)
    levels = max(0, math.ceil(math.log2(max(length, 1) / LEAST_ROWS)))
    while True:
        unit = math.ceil(length / (multiple << levels)) * multiple
        if unit**2 <= most or unit == multiple:
            break
        levels += 1
    side = [unit, unit]
    for axis in (0, 1):  # both are the unit times a power of two, so that they divide every part
        while 2 * side[axis] <= TILE[axis] and 2 * math.prod(side) <= most:
            side[axis] *= 2
    return Halving(levels, unit, tuple(side))


def gram_halving(
    blocks, axis_name, feature_axis_name, itemsize: int, *, cubic: bool, memory: int | None
) -> tuple[Halving, int]:
    """The largest tiles of Gram space within `memory` bytes, or the least, and the bytes held."""
    encoders, local = len(blocks), blocks[0].shape[0]
    widths = [block.shape[1] for block in blocks]
    shards = axis_size(feature_axis_name)
    copies = COPIES["gram"] + (RING_COPIES + cubic if axis_size(axis_name) > 1 else 0)
    extra = 0
    if cubic:  # of `trace_of_cube`: the rows with all features, and three squares
        widest = shards * max(widths)
        extra = 2 * local * widest + 3 * min(all_rows(local, axis_name), widest) ** 2
    most = math.prod(TILE)
    while True:
        halving = halve(local, 2 * shards, most)
        tiles = (3 if cubic else 2) * encoders * halving.entries
        held = itemsize * (copies * halving.rows * sum(widths) + tiles + extra)
        if memory is None or held <= memory or most <= LEAST_TILE:
            return halving, held
        most //= 2


def feature_bytes(blocks, axis_name, feature_axis_name, itemsize: int) -> int:
    """Bytes that feature space holds beyond the blocks."""
    halving = halve(sum(block.shape[1] for block in blocks), 2)
    copies = COPIES["feature"] + (RING_COPIES if axis_size(feature_axis_name) > 1 else 0)
    tiles = (2 if axis_size(axis_name) > 1 else 1) * halving.entries
    return itemsize * (copies * blocks[0].shape[0] * halving.rows + tiles)


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
    itemsize = blocks[0].dtype.itemsize
    axes = axis_name, feature_axis_name
    halving, _ = gram_halving(blocks, *axes, itemsize, cubic=cubic, memory=memory)
    own = [jnp.pad(x, ((0, halving.rows - local), (0, 0))) for x in blocks]  # zeros add nothing

    def tile_sums(left, right):
        # Encoders come last: the fastest of the layouts for the sums over entries, by 10 %.
        gram = jnp.stack(
            [jnp.matmul(x, y.T, precision=precision) for x, y in zip(left, right, strict=True)],
            axis=-1,
        )
        columns = gram.shape[1]
        if feature_axis_name is not None:
            gram = jax.lax.psum_scatter(gram, feature_axis_name, scatter_dimension=1, tiled=True)
        entries = gram.reshape(-1, encoders)
        inner = jnp.matmul(entries.T, entries, precision=HIGHEST)
        if not cubic:
            return (inner, ()), (), ()
        gram = jax.lax.stop_gradient(gram)
        square = gram**2
        here = jnp.sum(square, axis=0)  # of this device's share of the columns
        of_columns = jnp.zeros((columns, encoders), here.dtype)
        first = 0
        if feature_axis_name is not None:
            first = jax.lax.axis_index(feature_axis_name) * here.shape[0]
        of_columns = jax.lax.dynamic_update_slice_in_dim(of_columns, here, first, 0)
        cubes = jnp.sum(jnp.sum(square * gram, axis=1), axis=0)
        return (inner, cubes), jnp.sum(square, axis=1), of_columns

    (inner, cubes), squares = symmetric_sums(own, tile_sums, halving, axis_name)
    inner = mirror(psum(psum(inner, axis_name), feature_axis_name))
    if not cubic:
        zeros = jnp.zeros(encoders, inner.dtype)
        return inner, jnp.zeros((local, encoders), inner.dtype), zeros
    squares = psum(squares, feature_axis_name)[:local]
    return inner, squares, psum(psum(cubes, axis_name), feature_axis_name)


def feature_inner(
    blocks: list[Float[Array, "n _"]], axis_name=None, feature_axis_name=None, precision=HIGHEST
) -> Float[Array, "E E"]:
    """||X_i' X_j||^2 of all pairs."""
    widths = [block.shape[1] for block in blocks]
    halving = halve(sum(widths), 2)
    padding = halving.rows - sum(widths)
    # Transposed once: a product that contracts the rows of both runs at half the rate on CPU.
    own = jnp.pad(jnp.concatenate([block.T for block in blocks]), ((0, padding), (0, 0)))
    owner = np.pad(np.repeat(np.eye(len(widths)), widths, axis=0), ((0, padding), (0, 0)))
    # It goes round with the shard, so it must vary over the ring as that does.
    varying = psum(0 * jax.lax.stop_gradient(own[:, :1]), axis_name)
    owner = jnp.asarray(owner, own.dtype) + varying

    def tile_sums(left, right):
        product = jnp.matmul(left[0], right[0].T, precision=precision)
        square = psum(product, axis_name) ** 2
        rows = jnp.matmul(left[1].T, square, precision=HIGHEST)
        return jnp.matmul(rows, right[1], precision=HIGHEST), (), ()

    inner, _ = symmetric_sums((own, owner), tile_sums, halving, feature_axis_name)
    return psum((inner + inner.T) / 2, feature_axis_name)


def symmetric_sums(rows, tile_sums: Callable, halving: Halving, axis_name) -> tuple[Any, Any]:
    """Sums over all pairs of rows, of this device's with its own and with half of the ring's.

    Args:
      rows: arrays [halving.rows, ...] of this device.
      tile_sums: (some rows, others) -> sums over their pairs; sums for each of the first rows;
        sums for each of the others. The first counts twice where the two differ.
      halving: of `rows`.
      axis_name: the ring; None for one device.

    Returns:
      The first of the three, to be summed over the ring, and the sums for each row of this device.
    """
    tile_sums = jax.checkpoint(tile_sums)
    add = functools.partial(jax.tree.map, jnp.add)
    total, mine = _own_sums(rows, tile_sums, halving)
    size = axis_size(axis_name)
    if size == 1:
        return total, mine

    def step(state, _):
        visitor, total, mine, theirs = state
        both, of_own, of_visitor = _pair_sums(rows, visitor, tile_sums, halving)
        total, mine, theirs = add((total, mine, theirs), (_twice(both), of_own, of_visitor))
        visitor, theirs = shift((visitor, theirs), axis_name, 1)
        return (visitor, total, mine, theirs), None

    steps = (size - 1) // 2
    start = shift(rows, axis_name, 1), total, mine, jax.tree.map(lambda leaf: 0 * leaf, mine)
    (visitor, total, mine, theirs), _ = jax.lax.scan(step, start, None, length=steps)
    if size % 2 == 0:
        # Two devices at opposite sides see each other: each takes one half of the first one's rows.
        half = halving.rows // 2
        first = jax.lax.axis_index(axis_name) < size // 2

        def choose(a, b):
            return jax.tree.map(functools.partial(jnp.where, first), a, b)

        def place(leaf, before):
            return jnp.pad(leaf, ((before, half - before), *[(0, 0)] * (leaf.ndim - 1)))

        left = choose(visitor, rows)
        right = choose(_rows(rows, 0, half), _rows(visitor, half, half))
        both, of_left, of_right = _pair_sums(left, right, tile_sums, halving)
        top, bottom = (jax.tree.map(lambda leaf, b=b: place(leaf, b), of_right) for b in (0, half))
        found = _twice(both), choose(top, of_left), choose(of_left, bottom)
        total, mine, theirs = add((total, mine, theirs), found)
    return total, add(mine, shift(theirs, axis_name, -(steps + 1)))


def _own_sums(rows, tile_sums, halving: Halving):
    """Sums over all pairs of these rows, and for each of them."""
    add = functools.partial(jax.tree.map, jnp.add)

    def alone(part):
        block = _rows(rows, part * halving.unit, halving.unit)
        total, of_rows, _ = tile_sums(block, block)
        return total, of_rows

    total, of_rows = _mapped(alone, 1 << halving.levels)
    total, of_rows = _total(total), jax.tree.map(_merged, of_rows)
    for level in range(halving.levels):
        half = halving.rows >> (level + 1)

        def halves(part, half=half):
            left, right = (_rows(rows, (2 * part + side) * half, half) for side in (0, 1))
            both, *sides = _pair_sums(left, right, tile_sums, halving)
            return both, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *sides)

        both, of_halves = _mapped(halves, 1 << level)
        found = _twice(_total(both)), jax.tree.map(_merged, of_halves)
        total, of_rows = add((total, of_rows), found)
    return total, of_rows


def _pair_sums(left, right, tile_sums, halving: Halving):
    """Sums over all pairs of a row on the left and one on the right, tile by tile."""
    lengths = [jax.tree.leaves(side)[0].shape[0] for side in (left, right)]
    tall, wide = (min(*both) for both in zip(halving.tile, lengths, strict=True))

    def column(b):
        some = _rows(right, b * wide, wide)
        total, of_left, of_right = _mapped(
            lambda a: tile_sums(_rows(left, a * tall, tall), some), lengths[0] // tall
        )
        return _total(total), jax.tree.map(_merged, of_left), _total(of_right)

    total, of_left, of_right = _mapped(column, lengths[1] // wide)
    return _total(total), _total(of_left), jax.tree.map(_merged, of_right)


def _mapped(function, count: int):
    return jax.lax.map(function, jnp.arange(count))


def _rows(tree, first, count: int):
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), tree)


def _total(tree):
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tree)


def _twice(tree):
    return jax.tree.map(lambda leaf: 2 * leaf, tree)


def _merged(leaf):
    """[a, b, ...] -> [a b, ...]."""
    return leaf.reshape(-1, *leaf.shape[2:])


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
    gathered = gather_rows(x, feature_axis_name, axis=1)
    columns = jax.lax.optimization_barrier(gathered.T)
    own = psum(jnp.matmul(columns, x, precision=precision), axis_name)
    whole = gather_rows(own, feature_axis_name, axis=1)
    # `whole` is symmetric. Transposed, XLA's CPU product is 17 times as fast here (jax 0.10).
    square = jnp.matmul(whole.T, own, precision=precision)
    cube = jnp.sum(square * own, axis=0)
    return psum(jnp.sum(cube), feature_axis_name)
