r"""When a curve has risen half of its way, and by how much one leads another.

A curve v over steps t begins at v_0 and reaches its top v* (the largest value, or for a curve that
may fall the one farthest from v_0). The time of half rise is the first t at which v has come half
of the way, v_0 + (v* - v_0) / 2, read off the straight line between the two steps around it, in
u = log2(1 + t). One curve leads another by

    lead = u_other - u_one = log2((1 + t_other) / (1 + t_one))    doublings of the step count,

0 for curves that rise together. A lead is taken of two curves of the same training, so that what is
common to a seed cancels, and its interval over seeds is Student's t.

Not guaranteed: a time between two watched steps is known no better than they lie apart. A curve
that rises by less than `LEAST` has no time: noise alone would set it.

References: none; the rule is ours, and the same for every curve.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.intervals import t_interval

LEAST = 0.05  # of the quantity's unit; of its start where that is above 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: over those that have a value; NaN if none has.
        low: of Student's t interval; NaN of fewer than two values.
        high: its upper end.
        seeds: how many have a value.
    """

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def over(cls, values: Float[np.ndarray, " s"], level: float) -> "Estimate":
        """The mean of the values that are no NaN, and its interval.

        Example:
            >>> found = Estimate.over(np.array([1.0, 2.0, 3.0, np.nan]), 0.95)
            >>> found.mean, round(found.low, 3), found.seeds
            (2.0, -0.484, 3)
        """
        values = np.asarray(values, np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(np.nan, np.nan, np.nan, 0)
        low, high = t_interval(values, level)
        return cls(float(values.mean()), float(low), float(high), len(values))

    @property
    def settled(self) -> bool:
        """Whether the interval leaves out 0."""
        return bool(self.low > 0 or self.high < 0)


def half_rise(
    steps: Sequence[int], values: Float[np.ndarray, " t"], *, falls: bool = False
) -> float:
    """The step at which a curve has come half of its way.

    Args:
        steps: ascending, from 0.
        values: of the curve; NaN where it has none.
        falls: whether the curve may go either way.

    Returns:
        A step, with a fraction; NaN for a curve without a first value, or that rises by less than
        `LEAST`.

    Raises:
        ValueError: other numbers of steps and values, or steps that do not ascend from 0.

    Example:
        >>> round(half_rise([0, 1, 3, 7], np.array([0.0, 0.25, 0.75, 1.0])), 4)
        1.8284
        >>> half_rise([0, 1, 3], np.array([0.5, 0.4, 0.1]))
        nan
    """
    u, v = np.log2(1.0 + np.asarray(steps)), np.asarray(values, np.float64)
    if u.shape != v.shape or not len(u) or steps[0] != 0 or (np.diff(u) <= 0).any():
        raise ValueError(f"{len(v)} values at steps {list(steps)}; give one each, from step 0 up")
    known = np.isfinite(v)
    if not known[0]:
        return float("nan")
    u, v = u[known], v[known]
    way = v - v[0]
    top = way[np.argmax(np.abs(way) if falls else way)]
    if abs(top) < LEAST * max(1.0, abs(v[0])) or (top < 0 and not falls):
        return float("nan")
    share = way / top
    after = int(np.argmax(share >= 0.5))
    part = (0.5 - share[after - 1]) / (share[after] - share[after - 1])
    return float(2 ** (u[after - 1] + part * (u[after] - u[after - 1])) - 1)


def lead(one: Float[np.ndarray, " s"], other: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """Doublings of the step count by which one curve rises before another, for every seed.

    Example:
        >>> lead(np.array([1.0, 7.0]), np.array([7.0, 7.0]))
        array([2., 0.])
    """
    return np.log2((1 + np.asarray(other)) / (1 + np.asarray(one)))
