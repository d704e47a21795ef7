"""Choosing a model in two steps: keep a part by a score without labels, then choose by another.

arXiv:2606.07882 keeps the quarter of the encoders with the highest subs-rank and chooses among
them by LogME. Two plain choices stand beside it: LogME among all, and LogME among a random quarter,
which loses only what trying fewer models loses.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.transferability.rankings import (
    filtered,
    filtered_by_chance,
    regret,
)


@dataclasses.dataclass(frozen=True)
class Gain:
    """Points of accuracy that the filtered choice has over another, mean over targets.

    Attributes:
        value: above 0 where the filtered choice is better.
        low: lower end of its interval under resampled targets; None below three targets.
        high: upper end.
    """

    value: float
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class FilteredChoice:
    """A choice in two steps beside two in one, on t targets.

    Attributes:
        first: score of the filter.
        second: score of the choice.
        share: of the models that are kept.
        regret: [t] accuracy lost by the filtered choice, in points.
        alone: [t] by the second score among all models.
        random: [t] by the second score among a random part, on average.
        over_alone: gain over the second score among all.
        over_random: gain over it among a random part.
    """

    first: str
    second: str
    share: float
    regret: Float[np.ndarray, " t"]
    alone: Float[np.ndarray, " t"]
    random: Float[np.ndarray, " t"]
    over_alone: Gain
    over_random: Gain


def judge_filter(
    accuracy: Float[np.ndarray, "m t"],
    first: Float[np.ndarray, "m t"],
    second: Float[np.ndarray, "m t"],
    *,
    names: tuple[str, str] = ("subs_rank", "logme"),
    share: float = 0.25,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> FilteredChoice:
    """The regret of a choice in two steps, and of the plain choices beside it.

    Args:
        accuracy: of m models on t targets.
        first: score of the filter, higher is better.
        second: score of the choice, higher is better.
        names: of the two scores.
        share: of the models that are kept, rounded up.
        draws: resamples of the targets; 0 for no intervals.
        level: of the intervals.
        seed: of the draws.

    Raises:
        ValueError: share is outside (0, 1].

    Example:
        >>> accuracy = np.array([[90.0], [80.0], [70.0], [60.0]])
        >>> found = judge_filter(accuracy, accuracy, -accuracy, draws=0)
        >>> found.regret.tolist(), found.alone.tolist(), found.random.tolist()
        ([0.0], [30.0], [15.0])
    """
    truth, one, two = (np.asarray(x, np.float64).T for x in (accuracy, first, second))
    ours = regret(filtered(one, two, share), truth)
    alone = regret(two, truth)
    random = truth.max(axis=1) - filtered_by_chance(two, truth, share)
    picked = np.random.default_rng(seed).integers(len(truth), size=(draws, len(truth)))

    def gain(other: np.ndarray) -> Gain:
        difference = other - ours
        if draws == 0 or len(truth) < 3:
            return Gain(float(difference.mean()), None, None)
        ends = np.quantile(difference[picked].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
        return Gain(float(difference.mean()), float(ends[0]), float(ends[1]))

    return FilteredChoice(*names, share, ours, alone, random, gain(alone), gain(random))
