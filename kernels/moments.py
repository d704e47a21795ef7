"""Centered moments of rows that arrive in batches, on one device or many.

Rows x_1..x_n in R^d have mean m and scatter C = sum_a (x_a - m)(x_a - m)'. The textbook shortcut
C = sum x x' - n m m' cancels: in float32 its relative error is eps (mean/std)^2, which is total at
mean/std = 3,000. Here every batch is centered first, and two summaries are joined by the update of
Chan, Golub and LeVeque,

    C = C_1 + C_2 + (n_1 n_2 / n) (m_2 - m_1)(m_2 - m_1)',

which only ever subtracts means. Even a mean is only known to eps |m|, so it is kept as `origin +
offset`: the origin is the first row of the first batch (exact, and the same on every device) and
the offset is the mean of what is left, small when the data are far from zero.

Cost: n d^2 multiply-adds and d^2 memory; n d and d when only the diagonal is kept. Across devices
each update sums one d x d array. Not guaranteed: the input's own rounding cannot be undone (float32
features at mean/std = 1e4 carry 3 digits of their deviation).

References:
    Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance. The American
    Statistician 37(3).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .arithmetic import HIGHEST, AnyArray, count_rows, divide, is_constant, matmul, pmax, psum
from .jit_over import jit_over
from .validate import axis_size, check_mask, check_matrix, compute_dtype


def center_rows(x, mask, axis_name):
    """Centered rows (0 where masked), their count, origin and offset: mean = origin + offset."""
    x = jnp.asarray(x).astype(compute_dtype(x))
    keep = None if mask is None else mask[:, None]
    count = count_rows(x.shape[0], mask, axis_name)
    weight = jnp.ones(x.shape[0], x.dtype) if mask is None else jnp.asarray(mask).astype(x.dtype)
    size = jnp.maximum(count, 1).astype(x.dtype)

    def kept(rows):
        return rows if keep is None else jnp.where(keep, rows, 0)

    def mean(rows):  # a product: four times as fast as a sum over rows on CPU
        return psum(matmul(weight[None, :], rows)[0], axis_name) / size

    origin = _first_row(jax.lax.stop_gradient(x), weight, axis_name)
    deviation = kept(x - origin[None, :])
    offset = mean(deviation)
    centered = kept(deviation - offset[None, :])
    # What the product's rounding left uncentered goes to the offset.
    return centered, count, origin, offset + mean(centered)


def _first_row(x, weight, axis_name):
    """The first row that counts, over all shards; 0 if none does."""
    if x.shape[0] == 0:
        return jnp.zeros(x.shape[1], x.dtype)
    place = jnp.argmax(weight)
    mine = weight[place] > 0
    if axis_name is not None:
        rank = jax.lax.axis_index(axis_name)
        mine &= rank == -pmax(jnp.where(mine, -rank, -axis_size(axis_name)), axis_name)
    return psum(jnp.where(mine, x[place], 0), axis_name)


def merge_centers(a, b):
    """Count, origin and offset of two summaries together, mean_b - mean_a, and b's share of rows.

    `a` and `b` have count, origin and offset; means are never added up, so that their difference is
    as accurate as the offsets are.
    """
    if a.offset.shape != b.offset.shape:
        raise ValueError(
            f"states of {a.offset.size} and {b.offset.size} features do not merge: give both the "
            "widths of one init."
        )
    dtype = a.offset.dtype
    count = a.count + b.count
    share = b.count.astype(dtype) / jnp.maximum(count, 1).astype(dtype)
    delta = (b.origin - a.origin) + (b.offset - a.offset)
    empty = a.count == 0
    origin = jnp.where(empty, b.origin, a.origin)
    offset = jnp.where(empty, b.offset, a.offset + share * delta)
    return count, origin, offset, delta, share


@jit_over("x", "mask")
def center(
    x: Float[AnyArray, "n d"], mask: Bool[AnyArray, " n"] | None = None, axis_name=None
) -> Float[Array, "n d"]:
    """Subtracts the mean over rows.

    Args:
      x: [n, d] rows; halves are upcast to float32.
      mask: [n] rows that count. The others come back as 0, and may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [n, d] rows with mean 0 over the rows that count.

    Raises:
      ValueError: if `x` is not a floating-point matrix, or `mask` does not fit it.

    Example:
      >>> center(jnp.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
      [[-1.0, 0.0], [1.0, 0.0]]
    """
    check_matrix("x", x)
    check_mask(mask, x.shape[0])
    return center_rows(x, mask, axis_name)[0]


def standardize_rows(x, mask, axis_name):
    """Standardized rows (0 where masked), origin, offset and scale: (x - origin - offset) scale.

    The scale is one over the standard deviation, and 0 for constant columns.
    """
    centered, count, origin, offset = center_rows(x, mask, axis_name)
    # Scaled to at most 1 first, so that squares neither overflow nor underflow.
    reach = pmax(jnp.max(jnp.abs(centered), axis=0, initial=0), axis_name)
    constant = is_constant(reach, jnp.abs(origin + offset) + reach, centered.dtype)
    reach = jnp.where(constant, 0, reach)
    unit = divide(centered, reach[None, :])
    square = psum(jnp.sum(unit**2, axis=0), axis_name) / jnp.maximum(count, 1).astype(unit.dtype)
    root = jnp.sqrt(jnp.where(constant, 1, square))
    return divide(unit, root[None, :]), origin, offset, divide(1, reach * root)


@jit_over("x", "mask")
def standardize(
    x: Float[AnyArray, "n d"], mask: Bool[AnyArray, " n"] | None = None, axis_name=None
) -> Float[Array, "n d"]:
    """Subtracts the mean over rows and divides by the standard deviation: (x - m) / std.

    The standard deviation divides by n (not n - 1). A column whose largest deviation from its mean
    is within rounding, at most 8 eps max|x|, is constant: it becomes 0, with a zero gradient.

    Args:
      x: [n, d] rows; halves are upcast to float32.
      mask: [n] rows that count. The others come back as 0, and may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [n, d] columns of mean 0 and mean square 1, or all 0.

    Raises:
      ValueError: if `x` is not a floating-point matrix, or `mask` does not fit it.

    Example:
      >>> standardize(jnp.array([[1.0, 5.0], [5.0, 5.0]])).tolist()
      [[-1.0, 0.0], [1.0, 0.0]]
    """
    check_matrix("x", x)
    check_mask(mask, x.shape[0])
    return standardize_rows(x, mask, axis_name)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamingMoments:
    """Count, mean and centered scatter of rows: a mergeable pytree.

    Attributes:
      count: rows seen (at most 2^31 - 1).
      origin: [d] fixed center, the first row of the first batch.
      offset: [d] mean of the rows minus the origin.
      scatter: [d, d] sum of outer products of centered rows, or [d] its diagonal.

    Example:
      >>> x = jnp.array([[0.0], [2.0], [4.0]])
      >>> first, rest = (StreamingMoments.init(1).update(part) for part in (x[:2], x[2:]))
      >>> state = first.merge(rest)
      >>> mean, covariance = state.finalize()
      >>> mean.tolist(), covariance.tolist()
      ([2.0], [[4.0]])
    """

    count: Int[Array, ""]
    origin: Float[Array, " d"]
    offset: Float[Array, " d"]
    scatter: Float[Array, "d d"] | Float[Array, " d"]

    @classmethod
    def init(cls, width: int, *, diagonal: bool = False, dtype=jnp.float32) -> StreamingMoments:
        """The summary of no rows, of `width` features; `diagonal` keeps variances only.

        Example:
          >>> StreamingMoments.init(3).scatter.shape
          (3, 3)
          >>> StreamingMoments.init(3, diagonal=True).scatter.shape
          (3,)
        """
        # Separate arrays, so that a state can be donated.
        origin, offset = jnp.zeros(width, dtype), jnp.zeros(width, dtype)
        scatter = jnp.zeros(width if diagonal else (width, width), dtype)
        return cls(jnp.zeros((), jnp.int32), origin, offset, scatter)

    @property
    def mean(self) -> Float[Array, " d"]:
        """Mean of the rows seen."""
        return self.origin + self.offset

    @jit_over("self", "batch", "mask")
    def update(
        self,
        batch: Float[AnyArray, "n d"],
        mask: Bool[AnyArray, " n"] | None = None,
        axis_name=None,
    ) -> StreamingMoments:
        """Adds the rows of a batch.

        Args:
          batch: [n, d] rows; halves are upcast to float32.
          mask: [n] rows that count; the others may hold anything.
          axis_name: mesh axis the rows of the batch are sharded over (the state is replicated).

        Returns:
          The summary of all rows so far.

        Raises:
          ValueError: if `batch` is not a floating-point matrix of width d, or `mask` does not fit.

        Example:
          >>> x = jnp.array([[0.0], [2.0], [jnp.nan]])
          >>> StreamingMoments.init(1).update(x, jnp.array([True, True, False])).mean.tolist()
          [1.0]
        """
        check_matrix("batch", batch)
        check_mask(mask, batch.shape[0])
        if batch.shape[1] != self.offset.shape[0]:
            raise ValueError(
                f"batch must have {self.offset.shape[0]} features, got {batch.shape[1]}: "
                "give the width that init was given."
            )
        centered, count, origin, offset = center_rows(batch, mask, axis_name)
        if self.scatter.ndim == 1:
            scatter = jnp.sum(centered**2, axis=0)
        else:
            scatter = jnp.matmul(centered.T, centered, precision=HIGHEST)
        dtype = self.scatter.dtype
        scatter = psum(scatter, axis_name).astype(dtype)
        return self.merge(
            StreamingMoments(count, origin.astype(dtype), offset.astype(dtype), scatter)
        )

    @jit_over("self", "other")
    def merge(self, other: StreamingMoments) -> StreamingMoments:
        """The summary of the rows of both; associative and commutative up to rounding.

        Raises:
          ValueError: if the states differ in width, or one keeps variances only.

        Example:
          >>> x = jnp.array([[0.0], [2.0], [4.0]])
          >>> first, rest = (StreamingMoments.init(1).update(part) for part in (x[:1], x[1:]))
          >>> first.merge(rest).mean.tolist()
          [2.0]
        """
        if self.scatter.ndim != other.scatter.ndim:
            raise ValueError(
                "one state keeps a covariance, the other variances only: give both one `diagonal`."
            )
        count, origin, offset, delta, share = merge_centers(self, other)
        gap = self.count.astype(delta.dtype) * share
        outer = delta**2 if self.scatter.ndim == 1 else delta[:, None] * delta[None, :]
        return StreamingMoments(count, origin, offset, self.scatter + other.scatter + gap * outer)

    @jit_over("self")
    def finalize(self, ddof: int = 1) -> tuple[Float[Array, " d"], Float[Array, "*shape"]]:
        """Mean and covariance (or variances): scatter / (count - ddof), 0 where that is not > 0.

        A feature with NaN or inf makes its own mean and covariances NaN. Squares of distances from
        the mean beyond the range of the dtype (1e19 in float32) make covariances inf or NaN.

        Example:
          >>> state = StreamingMoments.init(1).update(jnp.array([[0.0], [2.0]]))
          >>> state.finalize()[1].tolist(), state.finalize(ddof=0)[1].tolist()
          ([[2.0]], [[1.0]])
        """
        degrees = jnp.maximum(self.count - ddof, 0).astype(self.scatter.dtype)
        return self.mean, divide(self.scatter, degrees)
