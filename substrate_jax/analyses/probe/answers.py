"""Does a substrate of few dimensions beat one encoder at full width?

The question is asked at 50 labels per class, or at the number nearest below that a target supplies,
of two encoders: the best, chosen by the very accuracy that is compared, which favors the encoder,
and the widest, which is chosen without it. Three pairs of heads answer: a tuned head on both, the
paper's head on both, and the paper's on the substrate against a tuned one at full width.

Intervals over episodes are Student's t of paired differences, and once more at Bonferroni's level
for all answers of a run. Over targets they are Student's t of the targets' means: other images, not
other draws of labels.

Not guaranteed: that few targets are a sample of anything.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from substrate_jax.analyses.intervals import t_interval
from substrate_jax.analyses.probe.methods import HEADS
from substrate_jax.analyses.probe.results import Answer, Overall, ProbeComparison, Target

ASKED = 50
PAPER = "paper"
TUNED = ("ridge, tuned", "logistic, tuned", "logistic, averaged", "ridge, averaged")


def asked_shots(shots: Sequence[int]) -> int:
    """Labels per class at which the question is asked.

    Example:
        >>> asked_shots((1, 10, 50, 100)), asked_shots((1, 10)), asked_shots((100, 200))
        (50, 10, 100)
    """
    below = [number for number in shots if number <= ASKED]
    return max(below) if below else min(shots)


def head_pairs(heads: Sequence[str], shots: int) -> list[tuple[str, str]]:
    """Heads of the substrate and of the encoder that answer, the fairest pair first.

    Args:
        heads: that were fitted.
        shots: labels per class.

    Example:
        >>> head_pairs(["paper", "ridge, tuned"], 50)
        [('ridge, tuned', 'ridge, tuned'), ('paper', 'paper'), ('paper', 'ridge, tuned')]
        >>> head_pairs(["neighbors"], 50), head_pairs(["ridge, tuned"], 1)
        ([('neighbors', 'neighbors')], [])
    """
    usable = [name for name in heads if shots > 1 or name not in HEADS or not HEADS[name].chooses]
    tuned = next((name for name in TUNED if name in usable), None)
    paper = PAPER if PAPER in usable else None
    pairs = [(one, other) for one, other in ((tuned, tuned), (paper, paper), (paper, tuned))]
    found = [(one, other) for one, other in pairs if one and other]
    return found or [(name, name) for name in usable[:1]]


def answers(
    comparisons: Mapping[str, ProbeComparison], *, level: float = 0.95
) -> dict[str, list[Answer]]:
    """Every comparison of the substrate with an encoder at full width, on every target.

    Args:
        comparisons: target -> accuracy of methods, inputs of kinds "substrate" and "encoder" among
            them.
        level: of the intervals.

    Returns:
        Target -> its answers: none where no head has a value at the number of labels.
    """
    asked = {name: list(_asked(found)) for name, found in comparisons.items()}
    number = max(sum(map(len, asked.values())), 1)
    return {
        name: [_answer(comparisons[name], *one, level, number) for one in found]
        for name, found in asked.items()
    }


def _asked(found: ProbeComparison):
    shots = asked_shots(found.shots)
    column = list(found.shots).index(shots)
    encoders = [one for one in found.methods if one.kind == "encoder"]
    heads = list(dict.fromkeys(one.head for one in found.methods if one.kind != "average"))
    for head, rival_head in head_pairs(heads, shots):
        rivals = [one for one in encoders if one.head == rival_head]
        best = max(rivals, key=lambda one: found.mean[found.place(one.input, one.head), column])
        for rival, method in (("best", best), ("widest", max(rivals, key=lambda m: m.width))):
            yield rival, method, head, column


def _answer(found, rival, method, head, column, level, number) -> Answer:
    (substrate,) = [m for m in found.methods if m.kind == "substrate" and m.head == head]
    ours = found.accuracy[found.place(substrate.input, head), column]
    theirs = found.accuracy[found.place(method.input, method.head), column]
    difference = ours - theirs
    low, high = t_interval(difference, level)
    low_of_all, high_of_all = t_interval(difference, 1 - (1 - level) / number)
    return Answer(
        rival=rival,
        encoder=method.input,
        width=method.width,
        head=head,
        rival_head=method.head,
        shots=found.shots[column],
        accuracy=float(ours.mean()),
        rival_accuracy=float(theirs.mean()),
        difference=difference,
        mean=float(difference.mean()),
        low=float(low),
        high=float(high),
        low_of_all=float(low_of_all),
        high_of_all=float(high_of_all),
    )


def over_targets(targets: Mapping[str, Target], *, level: float = 0.95) -> list[Overall]:
    """Means over the targets whose labels came with their images, of each comparison.

    Args:
        targets: what was found; those whose label is the domain do not count.
        level: of the intervals.

    Returns:
        None of fewer than two targets.
    """
    labeled = [one for one in targets.values() if not one.by_domain and one.answers]
    if len(labeled) < 2:
        return []
    pairs = dict.fromkeys(answer.pair for one in labeled for answer in one.answers)
    found = []
    for rival, head, rival_head in pairs:
        same = [
            answer
            for one in labeled
            for answer in one.answers
            if answer.pair == (rival, head, rival_head)
        ]
        means = np.array([answer.mean for answer in same])
        low, high = t_interval(means, level)
        better = sum(answer.low_of_all > 0 for answer in same)
        worse = sum(answer.high_of_all < 0 for answer in same)
        found.append(
            Overall(
                rival=rival,
                head=head,
                rival_head=rival_head,
                targets=len(same),
                mean=float(means.mean()),
                low=float(low),
                high=float(high),
                better=better,
                worse=worse,
            )
        )
    return found
