"""Intervals of means that several analyses give."""

import numpy as np
from jaxtyping import Float
from scipy import stats


def t_interval(
    values: Float[np.ndarray, "*s n"], level: float
) -> tuple[Float[np.ndarray, "*s"], Float[np.ndarray, "*s"]]:
    """Student's t interval of a mean over the last axis; NaN of a single value.

    Example:
        >>> low, high = t_interval(np.array([1.0, 2.0, 3.0]), 0.95)
        >>> round(float(low), 3), round(float(high), 3)
        (-0.484, 4.484)
    """
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    half = np.full(mean.shape, np.nan)
    if n > 1:
        spread = values.std(axis=-1, ddof=1) / np.sqrt(n)
        half = stats.t.ppf((1 + level) / 2, n - 1) * spread
    return mean - half, mean + half
