"""From single trainings to outcomes: the chosen rate, accuracies by seed, paired differences."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses.distill.plan import LABELS_ALONE, Condition, Plan
from substrate_jax.analyses.distill.results import Outcome, Training
from substrate_jax.analyses.effects import Effect, effect
from substrate_jax.analyses.rates import best_rate


def outcomes(plan: Plan, trainings: Sequence[Training], level: float) -> list[Outcome]:
    """Every condition, with its paired differences.

    Args:
        plan: what was trained; every condition at every rate for the first seed, and at the chosen
            one for all.
        trainings: all of them, in any order.
        level: of the intervals.
    """
    found = {
        condition: _outcome(
            condition, [one for one in trainings if one.condition == condition], plan
        )
        for fraction in plan.fractions
        for condition in plan.conditions(fraction)
    }
    return [_compared(one, found, plan, level) for one in found.values()]


def _outcome(condition: Condition, trainings: Sequence[Training], plan: Plan) -> Outcome:
    rate = best_rate(trainings, plan.seeds[0])
    chosen = {one.seed: one for one in trainings if one.rate == rate}
    kept = [chosen[seed] for seed in plan.seeds]
    speeds = [one.images_per_second for one in kept if np.isfinite(one.images_per_second)]
    return Outcome(
        condition=condition,
        rate=rate,
        validation={
            f"{one.rate:g}": one.validation
            for one in sorted(trainings, key=lambda one: one.rate)
            if one.seed == plan.seeds[0]
        },
        accuracy=np.array([one.accuracy for one in kept]),
        images_per_second=float(np.median(speeds)) if speeds else float("nan"),
        memory=max(one.memory for one in kept),
    )


def _compared(outcome: Outcome, found: dict[Condition, Outcome], plan: Plan, level: float):
    condition = outcome.condition
    alone = {"method": LABELS_ALONE, "target": "", "weight": 0.0}
    base = found.get(dataclasses.replace(condition, **alone))
    gain = over = None
    if base is not None and base is not outcome:
        gain = effect(outcome.accuracy - base.accuracy, level)
    rival = found.get(dataclasses.replace(condition, target=plan.targets[0]))
    if condition.target in plan.targets[1:] and rival is not None:
        over = effect(rival.accuracy - outcome.accuracy, level)
    return dataclasses.replace(outcome, gain=gain, over_control=over)


def gains(found: Sequence[Outcome]) -> Iterator[tuple[Outcome, Effect]]:
    """Outcomes that have a gain, with it."""
    for one in found:
        if one.gain is not None:
            yield one, one.gain
