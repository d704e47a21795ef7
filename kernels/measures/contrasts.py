"""Which of two encoders is closer to a third: a paired test over resampled rows.

The difference of two entries of one matrix, m(z, x) - m(z, y), is taken in every draw of
`resampled`, in which both see the same rows: what the two share of the rows' luck cancels. With
the draws theta + c (theta_b - mean) of the difference,

    interval: their quantiles at a/2 and 1 - a/2,    a = 1 - level;
    p = min(1, 2 (1 + the lesser of #{draw <= 0} and #{draw >= 0}) / (b + 1)),

the smallest level whose interval would exclude 0, two-sided, and no less than 2 / (b + 1).

Cost: a sort of b E^3 numbers. Memory: b E^2 numbers, of one z at a time, and E^3.

Not guaranteed: any correction for several tests, nor for having picked x as the closest by the same
rows that are tested.

References:
    Efron, Tibshirani (1993), An introduction to the bootstrap, chapter 15. Chapman and Hall.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import AnyArray
from ..validate import check_floating, check_fraction


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Contrast:
    """Differences of a measure, entry [z, x, y] being m(z, x) - m(z, y).

    Attributes:
      difference: [E, E, E] on all rows; NaN where two of z, x, y are the same.
      low: lower end of its interval.
      high: upper end.
      p_value: two-sided, of no difference.

    Example:
      >>> found = Contrast(*jnp.array([0.2, 0.1, 0.3, 0.01]))
      >>> bool(found.low > 0)
      True
    """

    difference: Float[Array, "E E E"]
    low: Float[Array, "E E E"]
    high: Float[Array, "E E E"]
    p_value: Float[Array, "E E E"]


def closer(
    value: Float[AnyArray, "E E"], drawn: Float[AnyArray, "b E E"], *, level: float = 0.95
) -> Contrast:
    """Whether encoder x is closer to z than y is, for all three, by the draws of `resampled`.

    Args:
      value: [E, E] the measure on all rows, the first result of `resampled`.
      drawn: [b, E, E] its draws, the second.
      level: of the intervals, in (0, 1).

    Returns:
      A `Contrast`; NaN where the measure or a draw of it is.

    Raises:
      ValueError: if the arrays do not fit each other, or `level` is out of range.

    Example:
      >>> from substrate_jax.kernels import resampled
      >>> x, y = jax.random.normal(jax.random.key(0), (2, 60, 3))
      >>> found = closer(*resampled("cka", [x, x + y / 2, y], jax.random.key(1)))
      >>> bool(found.low[0, 1, 2] > 0), f"{found.p_value[0, 1, 2]:.3f}"
      (True, '0.010')
    """
    check_fraction("level", level)
    check_floating("value", value)
    check_floating("drawn", drawn)
    value, drawn = jnp.asarray(value), jnp.asarray(drawn)
    size = value.shape[0] if value.ndim else 0
    if value.shape != (size, size) or drawn.shape[1:] != value.shape or not len(drawn):
        raise ValueError(
            f"drawn must be [b, E, E] and value [E, E] of it, got {drawn.shape} and "
            f"{value.shape}: give both results of resampled."
        )
    tail = (1 - level) / 2
    ends = jnp.asarray([tail, 1 - tail], drawn.dtype)

    def of_encoder(row):
        difference, draws = row[0], row[1:]
        difference = difference[:, None] - difference[None, :]
        draws = draws[:, :, None] - draws[:, None, :]
        low, high = jnp.quantile(draws, ends, axis=0)
        sides = [jnp.sum(draws <= 0, axis=0), jnp.sum(draws >= 0, axis=0)]
        least = jnp.minimum(*sides).astype(draws.dtype)
        p_value = jnp.minimum(2 * (1 + least) / (len(draws) + 1), 1)
        return difference, low, high, p_value

    rows = jnp.moveaxis(jnp.concatenate([value[None], drawn]), 1, 0)
    found = jax.lax.map(of_encoder, rows)
    i = jnp.arange(size)
    z, x, y = i[:, None, None], i[None, :, None], i[None, None, :]
    unknown = (z == x) | (z == y) | (x == y) | jnp.isnan(found[1])
    return Contrast(*(jnp.where(unknown, jnp.nan, a) for a in found))
