"""Sums over all pairs of rows, each pair seen once, on one device or round a ring of them.

Problem
    Sums of a function that is symmetric in a pair of rows, such as products of entries of a Gram
    matrix, in tiles of rows by rows. Half of the tiles would only repeat the other half.

Method
    The rows are halved and halved again, and at each level the left half of every part meets the
    right half; what remains are the 2^L parts of the last level, each with itself. Over a mesh a
    device does so with its own rows, and shards go half round the ring of devices, so that each
    holds two at most and every two meet once.

Cost, for n rows and L levels, of which the last has 80 to 160 rows
    n^2 (1 + 1/2^L) / 2 pairs, a p-th of them on each of p devices. The ring sends half of the rows
    of a device p times. Memory: a tile of 1,024 x 2,048, and on a ring the visitor and the next.

Not guaranteed
    Sums are in the dtype of the rows, tile by tile: over n^2 terms the relative error is about
    eps sqrt(n).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..validate import axis_size

LEAST_ROWS = 160  # at most so many in the last level; fewer are slower than they save
TILE = (1024, 2048)  # rows and columns, at most; (512, 2048) is 1 to 5 % slower on Zen 5


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
    most = math.prod(TILE) if most is None else min(most, math.prod(TILE))
    length = max(length, 1)  # sides of 0 would be doubled for ever
    levels = max(0, math.ceil(math.log2(length / LEAST_ROWS)))
    while True:
        unit = math.ceil(length / (multiple << levels)) * multiple
        if unit**2 <= most or unit == multiple:
            break
        levels += 1
    side = [unit, unit]
    for axis in (0, 1):  # both are the unit times a power of two, so that they divide every part
        while 2 * side[axis] <= TILE[axis] and 2 * math.prod(side) <= most:
            side[axis] *= 2
    return Halving(levels, unit, (side[0], side[1]))


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
