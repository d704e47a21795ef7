"""Dissimilarities of pairs of rows, by the tile: 1 - Pearson's correlation, or Euclidean distances.

Correlations are products of rows of mean 0 and norm 1, off by some eps. Distances are sums of
squared differences, each of which float32 rounds once, so that the sums are right to some eps of
themselves, however far the rows are from the origin and from other rows: n^2 d operations that no
matrix product does.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, divide, is_constant, power_of_two, root

DISTANCES = ("correlation", "euclidean", "squared_euclidean")


def row_points(x: Float[Array, "n d"], mask, distance: str) -> Float[Array, "n d"]:
    """What dissimilarities of these rows are made of; 0 where masked."""
    if mask is not None:
        x = jnp.where(mask[:, None], x, 0)
    return _unit_rows(x) if distance == "correlation" else x


def common_scale(
    points: Float[Array, "*repeats n d"], valid: Bool[Array, " n"], distance: str
) -> Float[Array, "*repeats n d"]:
    """The points of all rows, differences in the order of 1, and 0 where they are constant."""
    if distance == "correlation":
        return points
    points = divide(points, power_of_two(jnp.max(jnp.abs(points))))
    counts = valid.reshape((1,) * (points.ndim - 2) + (-1, 1))
    fixed = jax.lax.stop_gradient(jnp.where(counts, points, 0))
    first = jax.lax.dynamic_index_in_dim(fixed, jnp.argmax(valid), axis=-2)
    apart = jnp.max(jnp.where(counts, jnp.abs(fixed - first), 0))
    constant = is_constant(apart, jnp.max(jnp.abs(fixed)), points.dtype)
    return divide(points, jnp.where(constant, 0, power_of_two(apart)))


def pair_values(
    points: Float[Array, "n d"],
    rows: Int[Array, " r"],
    partners: Int[Array, "r s"],
    distance: str,
) -> Float[Array, "r s"]:
    """Dissimilarities of some rows with their partners."""
    if distance == "correlation":
        return 1 - jnp.take_along_axis(_products(points[rows], points), partners, axis=1)
    parts = parts_of_columns(points)
    square = sum(jnp.sum((part[rows][:, None] - part[partners]) ** 2, axis=2) for part in parts)
    square = jnp.asarray(square, points.dtype)
    return root(square) if distance == "euclidean" else square


def entries_per_row(points: Float[Array, "n d"], distance: str) -> int:
    """Of the largest array that `pair_values` makes for a row."""
    rows = points.shape[0]
    return rows if distance == "correlation" else (rows // 2 + 1) * _part_width(points)


def rounding(width: int, dtype) -> float:
    """How far a dissimilarity may be off: a correlation so much, a distance this share of it."""
    return float(jnp.finfo(dtype).eps) * (4 + math.sqrt(width))


def _unit_rows(x):
    """Rows less their own mean, of norm 1; 0 where they are constant."""
    largest = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    x = divide(x, largest)  # at most 1: sums cannot overflow
    deviation = x - jnp.mean(x, axis=1, keepdims=True)
    reach = jnp.max(jnp.abs(deviation), axis=1, keepdims=True)
    constant = is_constant(reach, jnp.ones_like(reach), x.dtype)
    deviation = divide(deviation, jnp.where(constant, 0, reach))
    squares = sum(jnp.sum(part**2, axis=1, keepdims=True) for part in parts_of_columns(deviation))
    squares = jnp.asarray(squares, x.dtype)  # of no columns
    return divide(deviation, jnp.sqrt(squares))


def parts_of_columns(x: Float[Array, "*shape d"]) -> list[Float[Array, "*shape _"]]:
    """Columns in 32 parts or fewer, so that sums over them err by the length of a part.

    Where features take few values, one rounding repeats in the same direction: a sum of 1,000 such
    terms, one after another, is off by 80 eps.
    """
    width = _part_width(x)
    return [x[..., start : start + width] for start in range(0, x.shape[-1], width)]


def _products(a, b):
    """a b', summed over parts of the columns."""
    parts = zip(parts_of_columns(a), parts_of_columns(b), strict=True)
    return sum(jnp.matmul(one, two.T, precision=HIGHEST) for one, two in parts)


def _part_width(x):
    return max(64, -(-x.shape[-1] // 32))
