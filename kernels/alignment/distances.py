"""Squared distances of all pairs of rows, by the tile, and their exact median.

The median needs no sort and no stored distances: squared distances are ordered like the integers
of their bits, and the middle one is found digit by digit (base 16) from counts over tiles, exactly.
It is that of all n (n-1) / 2 pairs, and the mean of the two middle ones where their number is even.

Cost, D = sum d_e: 2 n^2 D flops per pass over the tiles; 9 passes (float32) or 17 (float64) for the
medians. Memory is n D plus tiles of rows of all encoders; n x n is never held. The rows may be
sharded: every device does the tiles of its own rows.

Differences of norms and products lose digits where rows are far from the origin. It is put at the
row nearest to the mean: one outlying row moves the mean away from all others, but not that row.

Not guaranteed: distances below sqrt(8 eps) of the rows' norms (from that row), which float32 cannot
tell from 0 and which count as 0. Counts are 32-bit: n is at most 46,340.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, gather_rows, psum, valid_rows
from ..blocks import block_size, first_row
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


class DistanceTiles:
    """Squared distances of a tile of local rows to all rows, for all encoders, made when needed."""

    def __init__(
        self,
        scaled: list[Float[Array, "n _"]],
        scales: Float[Array, " E"],
        mask: Bool[AnyArray, " n"] | None,
        axis_name=None,
    ):
        self.local, self.dtype, self.scales = scaled[0].shape[0], scaled[0].dtype, scales
        self.valid = valid_rows(self.local, mask, axis_name)
        self.everyone = [_from_a_row(gather_rows(x, axis_name), self.valid) for x in scaled]
        self.norms = [jnp.sum(x**2, axis=1) for x in self.everyone]
        rows = self.everyone[0].shape[0]
        self.first = first_row(self.local, axis_name)
        self.size = block_size(None, self.local, len(scaled) * rows)
        self.starts = jnp.arange(0, self.local, self.size)

    def pad(self, x: Float[Array, "E n"]) -> Float[Array, "E m"]:
        """Values of the local rows, filled up with zeros to whole tiles."""
        return jnp.pad(x, ((0, 0), (0, -self.local % self.size)))

    def __call__(self, start) -> tuple[Float[Array, "E t N"], Bool[Array, "t N"]]:
        """Squared distances of the tile, and the pairs that count (self included)."""
        within = start + jnp.arange(self.size)
        rows = self.first + jnp.minimum(within, self.local - 1)
        floor = 8 * jnp.finfo(self.dtype).eps
        squares = []
        for x, norm in zip(self.everyone, self.norms, strict=True):
            sums = norm[rows][:, None] + norm[None, :]
            square = sums - 2 * jnp.matmul(x[rows], x.T, precision=HIGHEST)
            same = rows[:, None] == jnp.arange(len(norm))[None, :]
            squares.append(jnp.where(same | (square <= floor * sums), 0, square))
        inside = (within < self.local) & self.valid[rows]
        return jnp.stack(squares), inside[:, None] & self.valid[None, :]

    def rows_of(self, function: Callable[..., Array]) -> Float[Array, "E n"]:
        """Values of the local rows, which `function(squares, keep, start)` gives by the tile."""
        parts = jax.lax.map(lambda start: function(*self(start), start), self.starts)
        return parts.swapaxes(0, 1).reshape(parts.shape[1], -1)[:, : self.local]

    def total(self, function: Callable[..., Array]) -> Array:
        """Sum over the tiles of `function(squares, keep, start)`."""
        parts = jax.lax.map(lambda start: function(*self(start), start), self.starts)
        return jnp.sum(parts, axis=0, dtype=parts.dtype)  # under x64 counts would be 64-bit


def _from_a_row(x: Float[Array, "N d"], valid: Bool[Array, " N"]) -> Float[Array, "N d"]:
    """Rows less the one nearest to the origin, which is the mean."""
    row = jnp.argmin(jnp.where(valid, jnp.sum(x**2, axis=1), jnp.inf))
    return x - jax.lax.stop_gradient(x[row])[None, :]


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
    columns = jnp.arange(tiles.valid.shape[0])
    most = jnp.asarray(jnp.iinfo(bits).max, bits)

    def ordered(square, keep, start):
        rows = tiles.first + start + jnp.arange(tiles.size)
        keep = keep & (rows[:, None] != columns[None, :])
        values = jax.lax.bitcast_convert_type(square, bits)
        return jnp.where(keep[None], values, most)

    def find_digit(index, low):
        shift = jnp.asarray(length - DIGIT * (index + 1), bits)
        digits = jnp.arange(1, 1 << DIGIT, dtype=bits)
        steps = low[:, None] + jnp.left_shift(digits, shift)[None, :]

        def below(square, keep, start):
            values = ordered(square, keep, start)[:, :, :, None] < steps[:, None, None, :]
            return jnp.sum(values, axis=(1, 2), dtype=jnp.int32)

        digit = jnp.sum(psum(tiles.total(below), axis_name) <= middle, axis=1, dtype=jnp.int32)
        return low + jnp.left_shift(digit.astype(bits), shift)

    zero = jnp.zeros((), bits)
    low = jnp.where(tiles.scales > 0, zero, zero)  # varies over a mesh where the features do
    low = jax.lax.fori_loop(0, length // DIGIT, find_digit, low)

    def above(start):  # how many are at most `low`, and the least of the others
        square, keep = tiles(start)
        values = ordered(square, keep, start)
        greater = values > low[:, None, None]
        least = jnp.min(jnp.where(greater, values, most), axis=(1, 2))
        return jnp.sum(~greater, axis=(1, 2), dtype=jnp.int32), least

    counts, least = jax.lax.map(above, tiles.starts)
    least = jnp.min(least, axis=0)
    if axis_name is not None:
        least = jax.lax.pmin(least, axis_name)
    high = jnp.where(
        psum(jnp.sum(counts, axis=0, dtype=jnp.int32), axis_name) > middle + 1, low, least
    )
    pair = jax.lax.bitcast_convert_type(jnp.stack([low, high]), tiles.dtype)
    median = jnp.mean(jnp.sqrt(pair), axis=0)
    return jnp.where(jnp.isnan(tiles.scales), jnp.nan, median)
