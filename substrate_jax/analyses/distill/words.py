"""What distillation comes to, in sentences and in a table for the terminal."""

import math
from collections.abc import Iterator

from substrate_jax.analyses.distill.plan import ENCODER, TARGETS, Condition
from substrate_jax.analyses.distill.results import DistillResult, Outcome
from substrate_jax.analyses.effects import signed
from substrate_jax.report.text import counted, points, text_table
from substrate_jax.training.distillation import METHODS


def target_title(name: str) -> str:
    """What features are compared with, in words.

    Example:
        >>> target_title("shuffled"), target_title("encoder:mini_clip_base"), target_title("")
        ('the substrate of other images', 'components of mini_clip_base', '')
    """
    if name.startswith(ENCODER):
        return f"components of {name.removeprefix(ENCODER)}"
    return TARGETS.get(name, name)


def condition_title(condition: Condition) -> str:
    """How a student was trained, in words.

    Example:
        >>> condition_title(Condition("debiased_cka", "labels", 1.0, 0.1, 40))
        'debiased CKA to one-hot labels'
        >>> condition_title(Condition("cka", "substrate", 3.0, 0.1, 40))
        "CKA, biased, to the panel's substrate, weight 3"
    """
    method = METHODS[condition.method]
    if not condition.target:
        return method.title
    comma = "," if "," in method.title else ""
    weight = "" if condition.weight == method.weight else f", weight {condition.weight:g}"
    return f"{method.title}{comma} to {target_title(condition.target)}{weight}"


def main_outcome(result: DistillResult) -> Outcome | None:
    """The substrate's: the first method on the first target, at the main share of the labels."""
    plan = result.plan
    if plan.on_target is None:
        return None
    return next(
        (
            one
            for one in result.outcomes
            if one.condition.method == plan.on_target
            and one.condition.target == plan.targets[0]
            and one.condition.fraction == plan.main
            and one.condition.weight == METHODS[plan.on_target].weight
        ),
        None,
    )


def finding(result: DistillResult) -> str:
    """What the first target gains over labels alone, and what its controls do."""
    return " ".join(_finding(result))


def _finding(result: DistillResult) -> Iterator[str]:
    one = main_outcome(result)
    if one is None or one.gain is None:
        yield "No method compared features with a target: accuracies stand in the table."
        return
    gain, seeds = one.gain, len(one.accuracy)
    labels = f"{one.condition.fraction:.0%} of the labels"
    alone = f"labels alone ({points(float(one.accuracy.mean()) - gain.mean)}%)"
    which = condition_title(one.condition)
    ends = f"({points(gain.low)} to {points(gain.high)}, {counted(seeds, 'seed')})"
    if gain.low > 0 or gain.high < 0:
        verb, to = ("gains", "over") if gain.mean > 0 else ("loses", "to")
        yield f"With {labels}, {which} {verb} {points(abs(gain.mean))} points {to} {alone} {ends}."
    else:
        yield (
            f"With {labels}, {which} shows no difference from {alone}: {points(gain.mean)} points "
            f"{ends}. Less than "
            f"{points(gain.least)} points could not have been shown."
        )
    even = []
    for other in result.outcomes:
        over, title = other.over_control, target_title(other.condition.target)
        if over is None or other.condition.fraction != one.condition.fraction:
            continue
        if over.low > 0:
            yield f"That is {points(over.mean)} more than with {title} as the target."
        elif over.high < 0:
            yield f"With {title} as the target it is {points(-over.mean)} more."
        else:
            even.append(title)
    if even:
        listed = even[0] if len(even) == 1 else f"{'; '.join(even[:-1])}; or {even[-1]}"
        yield f"It is not told apart from other targets: {listed}."


def distill_summary(result: DistillResult) -> str:
    """The outcomes as a table for the terminal, and the finding."""
    rows = [["labels", "learned from", "accuracy", "over labels alone", "images/s"]]
    rows += [
        [
            f"{one.condition.fraction:.0%}",
            condition_title(one.condition),
            f"{float(one.accuracy.mean()):.1f}",
            signed(one.gain),
            f"{one.images_per_second:.0f}" if math.isfinite(one.images_per_second) else "–",
        ]
        for one in result.outcomes
    ]
    return "\n".join([*text_table(rows), finding(result)])
