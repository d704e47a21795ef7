"""The learning rate of what is trained: the first seed chooses it, the others take it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np


class Tried(Protocol):
    """A training as the choice sees it."""

    @property
    def seed(self) -> int:
        """Of the training."""
        ...

    @property
    def rate(self) -> float:
        """Learning rate."""
        ...

    @property
    def validation(self) -> float:
        """Accuracy on the images that choose; NaN where there are none."""
        ...


_Condition = TypeVar("_Condition", bound=Hashable)


def best_rate(trainings: Sequence[Tried], seed: int) -> float:
    """The rate of highest accuracy on the validation images; the lowest such rate.

    Args:
        trainings: of one condition.
        seed: of those that choose.
    """
    tried = [one for one in trainings if one.seed == seed]
    return min(tried, key=lambda one: (-np.nan_to_num(one.validation), one.rate)).rate


def train_at_best_rate(
    conditions: Sequence[_Condition],
    rates: Sequence[float],
    seeds: Sequence[int],
    train: Callable[[Sequence[tuple[_Condition, float, int]]], None],
    found: Mapping[tuple[_Condition, float, int], Tried],
) -> list[tuple[_Condition, float, int]]:
    """Train conditions: the first seed at every rate, the others at the best for it.

    Args:
        conditions: that may train side by side.
        rates: to choose among; a single one is no choice, and all seeds train at once.
        seeds: of the trainings.
        train: trains what it is given and is not yet in `found`, where it puts it.
        found: all trainings by condition, rate and seed.

    Returns:
        What was asked for.
    """
    first = seeds[:1] if len(rates) > 1 else seeds
    tried = [(one, rate, seed) for one in conditions for rate in rates for seed in first]
    train(tried)
    chosen = {
        one: best_rate([found[one, rate, seeds[0]] for rate in rates], seeds[0])
        for one in conditions
    }
    rest = [(one, chosen[one], seed) for one in conditions for seed in seeds[len(first) :]]
    train(rest)
    return tried + rest
