"""Differences of accuracies that are paired by seed, with their intervals, in numbers and words."""

import dataclasses

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.intervals import t_interval
from substrate_jax.report.text import points


@dataclasses.dataclass(frozen=True)
class Effect:
    """A difference of accuracies, paired by seed.

    Attributes:
        differences: [seeds] points.
        mean: of them.
        low: end of the t interval over seeds; NaN of one seed.
        high: its upper end.
        least: half of the interval's width: a mean difference below it would have been compatible
            with none.
    """

    differences: Float[np.ndarray, " seeds"]
    mean: float
    low: float
    high: float
    least: float

    @property
    def settled(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def effect(differences: Float[np.ndarray, " seeds"], level: float) -> Effect:
    """A mean difference and its t interval over seeds.

    Example:
        >>> one = effect(np.array([1.0, 2.0, 3.0]), 0.95)
        >>> one.mean, round(one.least, 2), one.settled
        (2.0, 2.48, False)
    """
    low, high = (float(end) for end in t_interval(differences, level))
    return Effect(differences, float(differences.mean()), low, high, (high - low) / 2)


def signed(found: Effect | None) -> str:
    """A mean difference with its interval, or "–".

    Example:
        >>> signed(Effect(np.array([1.0, 2.0]), 1.5, -0.5, 3.5, 2.0)), signed(None)
        ('+1.5 (−0.5 to 3.5)', '–')
    """
    if found is None:
        return "–"
    sign = "+" if found.mean > 0 else ""
    return f"{sign}{points(found.mean)} ({points(found.low)} to {points(found.high)})"
