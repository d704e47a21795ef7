"""CKA with Gaussian (RBF) kernels whose width is a multiple of the median distance.

Encoder e gives rows x_i and the kernel

    K_ij = exp(-||x_i - x_j||^2 / (2 (s m_e)^2)),     m_e = median of ||x_i - x_j|| over i < j,

with one multiple s for all encoders. The median is that of all n (n-1) / 2 pairs, and the mean of
the two middle ones where their number is even. RBF CKA is the ratio of `cka` with K centered,
H K H; the unbiased estimate of HSIC (Song et al. 2012, eq. 5) depends on the off-diagonal entries
only up to a_i + a_j, which centering adds, so that `PairwiseHsic` serves here as it stands. As s
grows, K tends to a linear function of squared distances, and CKA to that of linear kernels.

The median needs no sort and no stored distances: squared distances are ordered like the integers
of their bits, and the middle one is found digit by digit (base 16) from counts over tiles, exactly.

Cost, D = sum d_e: 2 n^2 D flops a pass over the tiles; 2 passes for the kernels, and 9 (float32) or
17 (float64) for the medians. Memory is n D plus tiles of rows of all encoders; n x n is never held.
The rows may be sharded: every device does the tiles of its own rows.

A constant encoder gives 0 throughout. If more than half of the pairs coincide, m_e = 0, and K is
its limit: 1 for equal rows, else 0.

Not guaranteed: distances below sqrt(8 eps) of the rows' norms (from the mean), which float32 cannot
tell from 0 and which count as 0. Counts are 32-bit: n is at most 46,340.

References:
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
    Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence maximization.
    JMLR 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..arithmetic import HIGHEST, divide, gather_rows, mirror, psum, valid_rows
from ..blocks import block_size, first_row
from ..validate import all_rows, check_blocks, check_pairs, check_rows
from .hsic import PairwiseHsic
from .normalization import normalized_blocks

DIGIT = 4  # bits found in a pass


def pairwise_rbf_cka(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    bandwidth: float = 1.0,
    debiased: bool = False,
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """CKA of Gaussian kernels, for all pairs of encoders.

    K_ij = exp(-||x_i - x_j||^2 / (2 (s m)^2)), with m the median distance of the encoder.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      bandwidth: s > 0, the width of the kernel in median distances.
      debiased: use the unbiased estimate of HSIC (never clamped, so it can be negative).
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, 1 on the diagonal; 0 in the row and column of a constant encoder.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `bandwidth` is
        not positive, or there are too few rows (2; 4 for `debiased`) or more than 46,340.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0], [6.0]])
      >>> [f"{value:.3f}" for value in pairwise_rbf_cka([x, 3 - 2 * x, x**2])[0]]
      ['1.000', '1.000', '0.984']

    References:
      Kornblith et al. 2019.
    """
    if debiased:
        check_blocks(blocks, mask)
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "debiased RBF CKA")
    hsic = pairwise_rbf_hsic(blocks, bandwidth=bandwidth, mask=mask, axis_name=axis_name)
    return hsic.cka(debiased=debiased)


def pairwise_rbf_hsic(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    bandwidth: float = 1.0,
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
) -> PairwiseHsic:
    """The sums behind CKA and debiased CKA of centered Gaussian kernels.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      bandwidth: s > 0, the width of the kernel in median distances.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `PairwiseHsic` of kernels H K H scaled to unit trace.

    Raises:
      ValueError: as `pairwise_rbf_cka`.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> bool(jnp.allclose(pairwise_rbf_hsic([x, -2 * x]).trace, 1))
      True
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}: use 1, the median.")
    tiles, count = _distance_tiles(blocks, mask, axis_name)
    n = count.astype(tiles.dtype)
    width = 2 * (bandwidth * _median(tiles, count, axis_name)) ** 2

    def kernel(square, keep):
        ratio = jnp.where(square == 0, 0, square / width[:, None, None])
        return jnp.where(keep[None], jnp.exp(-ratio), 0)

    def row_means(square, keep, _):
        return jnp.sum(kernel(square, keep), axis=2) / n

    means = tiles.rows_of(row_means)  # [E, local]
    everyone = gather_rows(means, axis_name, axis=1)
    total = psum(jnp.sum(means, axis=1), axis_name) / n

    def sums(square, keep, start):
        here = jax.lax.dynamic_slice_in_dim(tiles.pad(means), start, tiles.size, axis=1)
        centered = kernel(square, keep) - here[:, :, None] - everyone[:, None, :]
        centered = jnp.where(keep[None], centered + total[:, None, None], 0)
        return jnp.einsum("iab,jab->ij", centered, centered, precision=HIGHEST)

    inner = mirror(psum(tiles.total(sums), axis_name))  # symmetric to the bit
    counts = jnp.ones(tiles.local, bool) if mask is None else mask
    norms = jnp.where(counts[None, :], 1 - 2 * means + total[:, None], 0)  # diagonal of H K H
    diagonal = psum(jnp.matmul(norms, norms.T, precision=HIGHEST), axis_name)
    trace = psum(jnp.sum(norms, axis=1), axis_name)
    product = trace[:, None] * trace[None, :]
    return PairwiseHsic(
        divide(inner, product),
        divide(diagonal, product),
        divide(trace, trace),
        jnp.sqrt(trace),
        count,
    )


def median_distance(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    mask: Bool[Array, " n"] | None = None,
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
    tiles, count = _distance_tiles(blocks, mask, axis_name)
    return _median(tiles, count, axis_name) * tiles.scales


class _Tiles:
    """Squared distances of a tile of local rows to all rows, for all encoders, made when needed."""

    def __init__(self, scaled, scales, mask, axis_name):
        self.local, self.dtype, self.scales = scaled[0].shape[0], scaled[0].dtype, scales
        self.everyone = [gather_rows(x, axis_name) for x in scaled]
        self.norms = [jnp.sum(x**2, axis=1) for x in self.everyone]
        rows = self.everyone[0].shape[0]
        self.valid = valid_rows(self.local, mask, axis_name)
        self.first = first_row(self.local, axis_name)
        self.size = block_size(None, self.local, len(scaled) * rows)
        self.starts = jnp.arange(0, self.local, self.size)

    def pad(self, x):
        return jnp.pad(x, ((0, 0), (0, -self.local % self.size)))

    def __call__(self, start):
        """[E, t, n] squared distances, and [t, n] the pairs that count (self included)."""
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

    def rows_of(self, function):
        """[E, local] values that `function(squares, keep, start)` gives a tile at a time."""
        parts = jax.lax.map(lambda start: function(*self(start), start), self.starts)
        return parts.swapaxes(0, 1).reshape(parts.shape[1], -1)[:, : self.local]

    def total(self, function):
        """Sum over the tiles of `function(squares, keep, start)`."""
        return jnp.sum(
            jax.lax.map(lambda start: function(*self(start), start), self.starts), axis=0
        )


def _distance_tiles(blocks, mask, axis_name):
    check_blocks(blocks, mask)
    rows = all_rows(blocks[0].shape[0], axis_name)
    check_rows(rows, 2, "a median distance")
    check_pairs(rows)
    scaled, scales, count = normalized_blocks(blocks, mask, axis_name)
    return _Tiles(scaled, scales, mask, axis_name), count


def _median(tiles, count, axis_name):
    """[E] median distances in the scaled features."""
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
        values = ordered(*tiles(start), start)
        greater = values > low[:, None, None]
        least = jnp.min(jnp.where(greater, values, most), axis=(1, 2))
        return jnp.sum(~greater, axis=(1, 2), dtype=jnp.int32), least

    counts, least = jax.lax.map(above, tiles.starts)
    least = jnp.min(least, axis=0)
    if axis_name is not None:
        least = jax.lax.pmin(least, axis_name)
    high = jnp.where(psum(jnp.sum(counts, axis=0), axis_name) > middle + 1, low, least)
    pair = jax.lax.bitcast_convert_type(jnp.stack([low, high]), tiles.dtype)
    return jnp.mean(jnp.sqrt(pair), axis=0)
