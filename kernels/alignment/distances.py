"""Squared distances of all pairs of rows, by the tile, and their exact median.

The median needs no sort and no stored distances: squared distances are ordered like the integers
of their bits, and the middle one is found digit by digit (base 16) from counts over tiles, exactly.
It is that of all n (n-1) / 2 pairs, and the mean of the two middle ones where their number is even.

Cost, D = sum d_e: 2 n^2 D flops per pass over the tiles; 9 passes (float32) or 17 (float64) for the
medians. Memory is n D plus tiles of rows of all encoders; n x n is never held. Of sharded rows a
device holds its own and those of one other, which go round all devices in every pass
(`blocks.visit_all`), and does the tiles of its own rows.

Differences of norms and products lose digits where rows are far from the origin. It is put at the
row nearest to the mean: one outlying row moves the mean away from all others, but not that row.

Not guaranteed: distances below sqrt(8 eps) of the rows' norms (from that row), which float32 cannot
tell from 0 and which count as 0. Counts are 32-bit: n is at most 46,340.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, psum
from ..blocks import block_size, first_row, visit_all
from ..jit_over import jit_over
from ..validate import all_rows, check_blocks, check_pairs, check_rows
from .normalization import normalized_blocks

DIGIT = 4  # bits found per pass


@jit_over("blocks", "mask")
def median_distance(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, " E"]:
    """Median Euclidean distance over all pairs of different rows, exact, for each encoder.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E] medians, in the unit of the features; the mean of the middle two of an even number.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are
        fewer than 2 rows or more than 46,340.

    Example:
      >>> median_distance([jnp.array([[0.0], [1.0], [5.0]])]).round(4).tolist()
      [4.0]
    """
    tiles, count = distance_tiles(blocks, mask, axis_name)
    return tile_median(tiles, count, axis_name) * tiles.scales


class Rows(NamedTuple):
    """What tiles are made of: the rows of one device.

    Attributes:
      blocks: of all encoders, less one row of each.
      numbers: of the rows, over all devices.
      valid: whether they count.
      beside: values of the rows that a function of the tiles needs, [E, n].
    """

    blocks: list[Float[Array, "n _"]]
    numbers: Int[Array, " n"]
    valid: Bool[Array, " n"]
    beside: Float[Array, "E n"] | None = None


class DistanceTiles:
    """Squared distances of some local rows to those of a device, for all encoders, when needed."""

    def __init__(
        self,
        scaled: list[Float[Array, "n _"]],
        scales: Float[Array, " E"],
        mask: Bool[AnyArray, " n"] | None,
        axis_name=None,
    ):
        self.local, self.dtype, self.scales = scaled[0].shape[0], scaled[0].dtype, scales
        self.axis_name = axis_name
        first = first_row(self.local, axis_name)
        self.unlike = 0 * jnp.asarray(first, jnp.int32)  # 0, but to jax not the same on all devices
        numbers = first + jnp.arange(self.local)
        valid = jnp.ones(self.local, bool) if mask is None else jnp.asarray(mask)
        valid &= self.unlike == 0
        scaled = [x + self.unlike.astype(x.dtype) for x in scaled]
        blocks = [_from_a_row(x, numbers, valid, axis_name) for x in scaled]
        self.rows = Rows(blocks, numbers, valid)
        self.size = block_size(None, self.local, len(scaled) * self.local)
        self.starts = jnp.arange(0, self.local, self.size)

    def _tile(self, start, others: Rows) -> tuple[Float[Array, "E t n"], Bool[Array, "t n"]]:
        """Squared distances of the tile, and the pairs that count (self included)."""
        within = start + jnp.arange(self.size)
        here = jnp.minimum(within, self.local - 1)
        floor = 8 * jnp.finfo(self.dtype).eps
        same = self.rows.numbers[here][:, None] == others.numbers[None, :]
        squares = []
        for x, y in zip(self.rows.blocks, others.blocks, strict=True):
            sums = jnp.sum(x**2, axis=1)[here][:, None] + jnp.sum(y**2, axis=1)[None, :]
            square = sums - 2 * jnp.matmul(x[here], y.T, precision=HIGHEST)
            squares.append(jnp.where(same | (square <= floor * sums), 0, square))
        inside = (within < self.local) & self.rows.valid[here]
        return jnp.stack(squares), inside[:, None] & others.valid[None, :]

    def joined(self, function: Callable, join: Callable, start, beside=None):
        """What `function` gives of every tile, those of all devices joined: [tiles, ...].

        Args:
          function: (squares [E, t, n], which count [t, n], numbers of the tile's rows [t], numbers
            of the others [n], `beside` of the tile [E, t], that of the others [E, n]) -> arrays.
          join: what was found and what is new -> both, over the devices.
          start: arrays of one tile to begin with.
          beside: [E, n] values of the local rows, if `function` needs some; else it is given None.
        """
        own = self.rows._replace(beside=beside)
        padding = ((0, 0), (0, -self.local % self.size))

        def meet(found, others):
            def of_tile(first):
                squares, keep = self._tile(first, others)
                within = jnp.minimum(first + jnp.arange(self.size), self.local - 1)
                mine = beside
                if mine is not None:
                    mine = jax.lax.dynamic_slice_in_dim(
                        jnp.pad(mine, padding), first, self.size, axis=1
                    )
                numbers = self.rows.numbers[within]
                return function(squares, keep, numbers, others.numbers, mine, others.beside)

            return join(found, jax.lax.map(of_tile, self.starts))

        def of_all_tiles(leaf):
            leaf = jnp.broadcast_to(leaf, (len(self.starts), *jnp.shape(leaf)))
            return leaf + self.unlike.astype(leaf.dtype)

        return visit_all(meet, jax.tree.map(of_all_tiles, start), own, self.axis_name)

    def row_sums(self, function: Callable) -> Float[Array, "E n"]:
        """Sums over all rows, for the local ones, of what `function(squares)` gives where pairs
        count."""

        def sums(squares, keep, *_):
            return jnp.sum(jnp.where(keep[None], function(squares), 0), axis=2)

        start = jnp.zeros((len(self.rows.blocks), self.size), self.dtype)
        parts = self.joined(sums, jnp.add, start)
        return parts.swapaxes(0, 1).reshape(parts.shape[1], -1)[:, : self.local]

    def total(self, function: Callable, start, beside=None) -> Array:
        """Sum over the tiles of this device and all of `function`, as `joined` takes it."""
        parts = self.joined(function, jnp.add, start, beside)
        return jnp.sum(parts, axis=0, dtype=parts.dtype)  # under x64 counts would be 64-bit


def _from_a_row(x: Float[Array, "n d"], numbers, valid, axis_name) -> Float[Array, "n d"]:
    """Rows less the one of all devices nearest to the origin, which is the mean."""
    squares = jax.lax.stop_gradient(jnp.where(valid, jnp.sum(x**2, axis=1), jnp.inf))
    if axis_name is None:
        origin = x[jnp.argmin(squares)]
    else:
        nearest = jax.lax.pmin(jnp.min(squares), axis_name)
        none = all_rows(len(numbers), axis_name)
        first = jnp.min(jnp.where(squares == nearest, numbers, none))
        chosen = numbers == jax.lax.pmin(first, axis_name)
        held = jax.lax.stop_gradient(x)
        origin = psum(jnp.sum(jnp.where(chosen[:, None], held, 0), axis=0), axis_name)
    return x - jax.lax.stop_gradient(origin)[None, :]


def distance_tiles(
    blocks: Sequence[Float[AnyArray, "n _"]], mask: Bool[AnyArray, " n"] | None, axis_name=None
) -> tuple[DistanceTiles, Int[Array, ""]]:
    """The tiles of the features scaled to unit trace, and how many rows count."""
    check_blocks(blocks, mask)
    rows = all_rows(blocks[0].shape[0], axis_name)
    check_rows(rows, 2, "a median distance")
    check_pairs(rows)
    scaled, scales, count = normalized_blocks(blocks, mask, axis_name)
    return DistanceTiles(scaled, scales, mask, axis_name), count


def tile_median(tiles: DistanceTiles, count: Int[Array, ""], axis_name=None) -> Float[Array, " E"]:
    """Median distance of each encoder in the scaled features."""
    bits = jnp.uint64 if tiles.dtype == jnp.float64 else jnp.uint32
    length = 64 if tiles.dtype == jnp.float64 else 32
    middle = count * (count - 1) // 2 - 1  # of the ordered pairs, which hold each value twice
    most = jnp.asarray(jnp.iinfo(bits).max, bits)
    encoders = len(tiles.rows.blocks)

    def ordered(square, keep, rows, columns):
        keep = keep & (rows[:, None] != columns[None, :])
        values = jax.lax.bitcast_convert_type(square, bits)
        return jnp.where(keep[None], values, most)

    def find_digit(index, low):
        shift = jnp.asarray(length - DIGIT * (index + 1), bits)
        digits = jnp.arange(1, 1 << DIGIT, dtype=bits)
        steps = low[:, None] + jnp.left_shift(digits, shift)[None, :]

        def below(square, keep, rows, columns, *_):
            values = ordered(square, keep, rows, columns)[:, :, :, None] < steps[:, None, None, :]
            return jnp.sum(values, axis=(1, 2), dtype=jnp.int32)

        found = tiles.total(below, jnp.zeros((encoders, len(digits)), jnp.int32))
        digit = jnp.sum(psum(found, axis_name) <= middle, axis=1, dtype=jnp.int32)
        return low + jnp.left_shift(digit.astype(bits), shift)

    zero = jnp.zeros((), bits)
    low = jnp.where(tiles.scales > 0, zero, zero)  # varies over a mesh where the features do
    low = jax.lax.fori_loop(0, length // DIGIT, find_digit, low)

    def above(square, keep, rows, columns, *_):
        """How many are at most `low`, and the least of the others."""
        values = ordered(square, keep, rows, columns)
        greater = values > low[:, None, None]
        least = jnp.min(jnp.where(greater, values, most), axis=(1, 2))
        return jnp.sum(~greater, axis=(1, 2), dtype=jnp.int32), least

    def join(found, new):
        return found[0] + new[0], jnp.minimum(found[1], new[1])

    start = jnp.zeros(encoders, jnp.int32), jnp.full(encoders, most)
    counts, least = tiles.joined(above, join, start)
    least = jnp.min(least, axis=0)
    if axis_name is not None:
        least = jax.lax.pmin(least, axis_name)
    high = jnp.where(
        psum(jnp.sum(counts, axis=0, dtype=jnp.int32), axis_name) > middle + 1, low, least
    )
    pair = jax.lax.bitcast_convert_type(jnp.stack([low, high]), tiles.dtype)
    median = jnp.mean(jnp.sqrt(pair), axis=0)
    return jnp.where(jnp.isnan(tiles.scales), jnp.nan, median)
