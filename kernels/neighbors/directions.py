"""Directions of rows, relative to one of them where most point nearly the same way.

Rows x_i = o + e_i whose common offset o is R times their spread have cosines 1 - O(1/R^2), of which
float32 keeps 1e-7: at R = 3,000 nothing is left. But differences of directions survive. With unit
rows u_i = x_i / ||x_i||, one of them as the center c, w_i = u_i - c and the depth z_i = -c'w_i,

    u_i'u_j - 1 = w_i'w_j - z_i - z_j,     z_i = ||w_i||^2 / 2, and 1 for a zero row,

holds exactly and has a rounding error of eps ||w||^2 rather than eps. `Directions` holds w and z,
scaled; where rows point all ways it holds c = 0, w = u and z = 0, the cosines as they are.

Computing w. Dividing first would round u_i to eps and lose w as well. With N_i = ||x_i||,
c = x_m / N_m and t_i = N_i / N_m rounded to half of the digits,

    d_i = x_i - t_i x_m,     w_i = (d_i - c (2 t_i x_m'd_i + d_i'd_i) / (t_i N_m + N_i)) / N_i.

t_i times either half of the digits of x_m is exact, and so is the first of the two subtractions
where x_i is near t_i x_m: the error of w is about eps^1.5 + eps ||w||, whatever the norms.

The center is the row nearest to the mean direction, so that outlying rows do not move it. It is
taken where more than half of the rows have a cosine with it above 15/16: below that, cosines lose
no more than a digit. The depth of an outlying row would hide how its similarities differ: its
neighbors are those by `row_similarities`, which leave it out.

Not guaranteed: digits that the input does not have. A float32 row at mean/spread R carries its
deviation to 1e-7 R, so beyond R = 1e6 neighbors are those of rounded rows, and several tight groups
of rows far apart from each other keep 1e-7 for cosines in all but the largest.

Cost: two products of the rows with a vector, and where a center is taken some ten passes over them
and 32 over their depths. Rows may be sharded: sums and one row travel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import divide, matmul, pmax, psum, root
from ..blocks import first_row

NEAR = 15 / 16  # the cosine with the center from which differences are taken
MOST = jnp.iinfo(jnp.int32).max


class Directions(NamedTuple):
    """Rows on the unit sphere as seen from a center.

    Attributes:
      points: w_i times the scale; 0 for rows that do not count.
      depths: z_i times the scale squared, 0 or more.
      zeros: rows of norm 0, where there is a center.
      outlying: rows four times as far from the center as most, where there is one.
      scale: the factor, 1 where there is none. It is such that `pair_similarities` are in [-1, 0].
      centered: whether there is a center.
    """

    points: Float[Array, "n d"]
    depths: Float[Array, " n"]
    zeros: Bool[Array, " n"]
    outlying: Bool[Array, " n"]
    scale: Float[Array, ""]
    centered: Bool[Array, ""]


def directions(
    x: Float[Array, "n d"],
    unit: Float[Array, "n d"],
    counts: Bool[Array, " n"],
    k: int,
    axis_name=None,
) -> Directions:
    """The directions of the rows, seen from one center for all shards.

    Args:
      x: finite rows, of any norms.
      unit: the same with norm 1, or 0 where they are.
      counts: rows that count; the others are 0 in both.
      k: neighbors that are looked for.
      axis_name: mesh axis the rows are sharded over, if any.
    """
    center, centered = center_of(unit, counts, axis_name)
    return seen_from(center, centered, lambda: x, unit, counts, k, axis_name)


def center_of(
    unit: Float[Array, "n d"], counts: Bool[Array, " n"], axis_name=None
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
    """Number, over all shards, of the row that directions are seen from, and whether they are."""
    fixed = jax.lax.stop_gradient(unit)
    total = psum(matmul(counts.astype(unit.dtype)[None], fixed)[0], axis_name)
    pull = matmul(fixed, total)
    center = _first_largest(jnp.where(counts, pull, -jnp.inf), axis_name)
    close = counts & (matmul(fixed, _one_row(fixed, center, axis_name)) > NEAR)
    enough = 2 * jnp.sum(close, dtype=jnp.int32) - jnp.sum(counts, dtype=jnp.int32)
    return center, psum(enough, axis_name) > 0


def seen_from(
    center: Int[Array, ""],
    centered: Bool[Array, ""],
    rows: Callable[[], Float[Array, "n d"]],
    unit: Float[Array, "n d"],
    counts: Bool[Array, " n"],
    k: int,
    axis_name=None,
) -> Directions:
    """`directions` with the center at hand; `rows` gives the rows, where they are needed."""

    def plain():
        none = 0 * unit[:, 0]
        one = psum(none[0], axis_name) + 1
        return unit, none, none != 0, none != 0, one

    points, depths, zeros, outlying, scale = jax.lax.cond(
        centered, lambda: _differences(rows(), counts, center, k, axis_name), plain
    )
    return Directions(points, depths, zeros, outlying, scale, centered)


def row_similarities(left: Directions, right: Directions) -> Float[Array, "m n"]:
    """What orders the rows of `right` as the cosines with a row of `left` do; or the cosines.

    (u_i'u_j - 1 + z_i) scale^2, right also for an outlying i, of which z_i would hide the rest.
    """
    value = matmul(left.points, right.points.T) - right.depths[None, :]
    level = left.depths[:, None] - right.scale**2  # of cosine 0: all that a zero row has
    return jnp.where(left.zeros[:, None] | right.zeros[None, :], level, value)


def pair_similarities(left: Directions, right: Directions) -> Float[Array, "m n"]:
    """(u_i'u_j - 1) scale^2, the same for i and j exchanged, but at least -1; or the cosines.

    At -1 and below are rows beyond the k nearest of any row that is not outlying.
    """
    value = matmul(left.points, right.points.T)
    value -= left.depths[:, None] + right.depths[None, :]
    zero = left.zeros[:, None] | right.zeros[None, :]
    value = jnp.where(zero, -(right.scale**2), value)
    return jnp.maximum(value, jnp.where(right.centered, -1, -2))


def some(found: Directions, take) -> Directions:
    """The rows that `take` takes of each array of rows."""
    return found._replace(
        points=take(found.points),
        depths=take(found.depths),
        zeros=take(found.zeros),
        outlying=take(found.outlying),
    )


def _first_largest(values, axis_name):
    """Number, over all shards, of the first row with the largest value."""
    numbers = first_row(len(values), axis_name) + jnp.arange(len(values), dtype=jnp.int32)
    largest = pmax(jnp.max(values), axis_name)
    return -pmax(-jnp.min(jnp.where(values == largest, numbers, MOST)), axis_name)


def _one_row(x, number, axis_name):
    """Row `number`, over all shards, on every device."""
    index = number - first_row(len(x), axis_name)
    here = (index >= 0) & (index < len(x))
    return psum(jnp.where(here, x[jnp.clip(index, 0, len(x) - 1)], 0), axis_name)


def _of_rank(values, rank, axis_name):
    """The value that `rank` others of all shards precede; none is negative."""
    word = jnp.uint64 if values.dtype == jnp.float64 else jnp.uint32
    keys = jax.lax.bitcast_convert_type(values, word)  # in the order of the values
    digits = jnp.iinfo(word).bits

    def with_digit(step, bound):
        raised = bound | jnp.left_shift(jnp.ones((), word), (digits - 1 - step).astype(word))
        below = psum(jnp.sum(keys < raised, dtype=jnp.int32), axis_name)
        return jnp.where(below <= rank, raised, bound)

    zero = psum(0 * keys[0], axis_name)  # varies over the axes that the counts vary over
    bound = jax.lax.fori_loop(0, digits, with_digit, zero)
    return jax.lax.bitcast_convert_type(bound, values.dtype)


def _differences(x, counts, center, k, axis_name):
    """The fields but the last of `Directions` as seen from one of the rows."""
    kind = jnp.finfo(x.dtype)
    half = (kind.nmant + 1) // 2 - 1  # of the digits, the leading one aside

    def rounded(a, digits):
        return jax.lax.reduce_precision(jax.lax.stop_gradient(a), kind.nexp, digits)

    reach = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=1, keepdims=True)
    x = divide(
        x, jnp.minimum(rounded(reach, 0), 2.0 ** (kind.maxexp - 1))
    )  # by a power of 2: exact
    norm = root(jnp.sum(x**2, axis=1))
    origin, length = (_one_row(jax.lax.stop_gradient(a), center, axis_name) for a in (x, norm))
    ratio = rounded(divide(norm, length), half)[:, None]
    high = rounded(origin, half)
    exact = (jax.lax.stop_gradient(x) - ratio * high[None]) - ratio * (origin - high)[None]
    away = exact + (x - jax.lax.stop_gradient(x))  # which is 0, with the slope of x
    ratio = ratio[:, 0]
    excess = 2 * ratio * matmul(away, origin) + jnp.sum(away**2, axis=1)
    along = divide(excess, ratio * length + norm)
    axis = divide(origin, length)
    points = divide(away - along[:, None] * axis[None], norm[:, None])
    zeros = counts & (norm == 0)
    points = jnp.where(zeros[:, None], -axis[None], points)
    depths = jnp.where(zeros, 1, jnp.sum(points**2, axis=1) / 2)
    # Half of the rows, and k beside any, are no deeper than this.
    fixed = jax.lax.stop_gradient(depths)
    count = psum(jnp.sum(counts, dtype=jnp.int32), axis_name)
    place = jnp.clip(k, (count - 1) // 2, count - 1)
    usual = _of_rank(jnp.where(counts, fixed, jnp.inf), place, axis_name)
    usual = jnp.maximum(usual, kind.eps**2)
    # 1 - u_i'u_j is at most (|w_i| + |w_j|)^2 / 2: 64 of these for rows that are not outlying.
    outlying = fixed > 16 * usual
    square = 1 / (72 * usual)
    scale = jnp.sqrt(square)
    return points * scale, depths * square, zeros, outlying, scale
