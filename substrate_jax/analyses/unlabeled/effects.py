"""From single fine-tunings to outcomes: the chosen rate, and differences paired by seed."""

from collections.abc import Sequence

import numpy as np

from substrate_jax.analyses.effects import effect
from substrate_jax.analyses.rates import best_rate
from substrate_jax.analyses.unlabeled.plan import SCRATCH, Condition, Plan
from substrate_jax.analyses.unlabeled.results import Outcome, Pooled, Tuned


def outcomes(plan: Plan, sets: Sequence[str], tuned: Sequence[Tuned], level: float):
    """Every condition, with its paired differences.

    Args:
        plan: what was trained.
        sets: names of the labeled sets.
        tuned: all fine-tunings, in any order.
        level: of the intervals.

    Returns:
        list[Outcome], by set, number of labels and way to pretrain.
    """
    by_condition: dict[Condition, list[Tuned]] = {}
    for one in tuned:
        by_condition.setdefault(one.condition, []).append(one)
    found: list[Outcome] = []
    for name in sets:
        for labels in plan.labels:
            conditions = plan.conditions(name, labels)
            same = {
                condition.pretraining: _chosen(by_condition[condition], plan)
                for condition in conditions
            }
            accuracy = {way: values for way, (_, _, values) in same.items()}
            for condition in conditions:
                rate, validation, values = same[condition.pretraining]
                gain, ahead = _effects(condition.pretraining, accuracy, plan, level)
                found.append(Outcome(condition, rate, validation, values, gain, ahead))
    return found


def pooled(plan: Plan, found: Sequence[Outcome], level: float) -> list[Pooled]:
    """Means over all sets, seed by seed.

    Args:
        plan: what was trained.
        found: all outcomes.
        level: of the intervals.
    """
    result = []
    for labels in plan.labels:
        accuracy = {
            way: np.mean(
                [
                    one.accuracy
                    for one in found
                    if one.condition.pretraining == way and one.condition.labels == labels
                ],
                axis=0,
            )
            for way in plan.pretrainings
        }
        for way, values in accuracy.items():
            gain, ahead = _effects(way, accuracy, plan, level)
            result.append(Pooled(way, labels, float(values.mean()), gain, ahead))
    return result


def _chosen(tuned: Sequence[Tuned], plan: Plan):
    """The rate, what it was chosen by, and accuracies of all seeds at it."""
    first = plan.seeds[0]
    tried = [one for one in tuned if one.rate in plan.rates]
    rate = best_rate(tried, first)
    chosen = {one.seed: one.accuracy for one in tried if one.rate == rate}
    validation = {
        f"{one.rate:g}": one.validation
        for one in sorted(tried, key=lambda one: one.rate)
        if one.seed == first
    }
    return rate, validation, np.array([chosen[seed] for seed in plan.seeds])


def _effects(way: str, accuracy: dict[str, np.ndarray], plan: Plan, level: float):
    """Over no pretraining, and of the main way over this one."""
    gain = ahead = None
    if way != SCRATCH:
        gain = effect(accuracy[way] - accuracy[SCRATCH], level)
    if plan.main is not None and way != plan.main:
        ahead = effect(accuracy[plan.main] - accuracy[way], level)
    return gain, ahead
