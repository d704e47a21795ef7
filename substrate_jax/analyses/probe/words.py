"""What a low-shot probe comes to, in a sentence and in a table for the terminal."""

from collections.abc import Iterator, Sequence

from substrate_jax.analyses.probe.answers import PAPER
from substrate_jax.analyses.probe.results import Answer, Overall, ProbeResult, Target
from substrate_jax.report.drawing import drawable
from substrate_jax.report.text import counted, points, text_table


def interval_in_words(low: float, high: float) -> str:
    """An interval as text.

    Example:
        >>> interval_in_words(-2.0, 0.5)
        '−2.0 to 0.5'
    """
    return f"{points(low)} to {points(high)}"


def heads_in_words(head: str, rival_head: str) -> str:
    """Which heads two sides of a comparison have.

    Example:
        >>> heads_in_words("paper", "ridge, tuned"), heads_in_words("ridge, tuned", "ridge, tuned")
        ("the paper's head against tuned ridge", 'tuned ridge on both')
        >>> heads_in_words("neighbors", "neighbors")
        'neighbors on both'
    """
    if head == rival_head:
        return f"{head_title(head)} on both"
    return f"{head_title(head)} against {head_title(rival_head)}"


def head_title(head: str) -> str:
    """A head's name within a sentence.

    Example:
        >>> [head_title(name) for name in ("paper", "ridge, tuned", "ridge, 2^10", "neighbors")]
        ["the paper's head", 'tuned ridge', 'ridge of 2^10', 'neighbors']
    """
    if head == PAPER:
        return "the paper's head"
    kind, comma, how = head.partition(", ")
    if not comma:
        return head
    return f"{how} {kind}" if how.isalpha() else f"{kind} of {how}"


def finding(result: ProbeResult) -> str:
    """Does the substrate beat the best single encoder at full width? The answer and its interval.

    Over two labeled targets or more, intervals are over targets; of one, over draws of labels.
    """
    if result.overall:
        return " ".join(_over_targets(result))
    one = next((one for one in result.targets.values() if one.answers), None)
    if one is None:
        return "No head has a value at the numbers of labels asked for."
    return " ".join(_of_target(result, one))


def _over_targets(result: ProbeResult) -> Iterator[str]:
    labeled = [one for one in result.targets.values() if not one.by_domain and one.answers]
    best = [one for one in result.overall if one.rival == "best"]
    first, shots = best[0], sorted({one.answers[0].shots for one in labeled})
    labels = f"{shots[0]}" if len(shots) == 1 else f"{shots[0]} to {shots[-1]}"
    noun = "label" if shots[-1] == 1 else "labels"
    where = f"on {counted(first.targets, 'target')} with {labels} {noun} per class"
    yield (
        f"{_verdict(first.low, first.high)}: {where}, {result.components} substrate scores are "
        f"{_difference(first.mean)} than the best single encoder at full width, "
        f"{heads_in_words(first.head, first.rival_head)} "
        f"({result.level:.0%} interval over targets {interval_in_words(first.low, first.high)})."
    )
    yield f"By target they are {_counts(first)}."
    yield from _other_heads([one for one in best[1:] if one.head == one.rival_head])
    for one in result.targets.values():
        if one.by_domain and one.answers:
            found = one.answers[0]
            domains = counted(len(one.classes), "domain")
            ends = interval_in_words(found.low, found.high)
            yield f"Telling {domains} apart: {_signed(found.mean)} points ({ends})."


def _of_target(result: ProbeResult, target: Target) -> Iterator[str]:
    best = [one for one in target.answers if one.rival == "best"]
    first = best[0]
    yield (
        f"{_verdict(first.low, first.high)}: with {counted(first.shots, 'label')} per class, "
        f"{result.components} substrate scores are {_difference(first.mean)} than the best single "
        f"encoder at full width, {first.encoder} with {counted(first.width, 'feature')}, "
        f"{heads_in_words(first.head, first.rival_head)} ({result.level:.0%} interval over "
        f"{counted(len(first.difference), 'draw')} of labels "
        f"{interval_in_words(first.low, first.high)})."
    )
    yield from _other_heads([one for one in best[1:] if one.head == one.rival_head])


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "Yes"
    return "No" if high < 0 else "Undecided"


def _difference(mean: float) -> str:
    return f"{points(abs(mean))} points {'better' if mean > 0 else 'worse'}"


def _signed(mean: float) -> str:
    return f"{'+' if mean > 0 else ''}{points(mean)}"


def _counts(one: Overall) -> str:
    undecided = one.targets - one.better - one.worse
    return f"surely better on {one.better}, surely worse on {one.worse}, undecided on {undecided}"


def _other_heads(others: Sequence[Overall | Answer]) -> Iterator[str]:
    said = [
        f"{heads_in_words(one.head, one.rival_head)}: {_signed(one.mean)} "
        f"({interval_in_words(one.low, one.high)})"
        for one in others
    ]
    if said:
        text = "; ".join(said)
        yield f"{text[0].upper()}{text[1:]}."


def probe_summary(result: ProbeResult) -> str:
    """The answers of every target, as lines for a terminal."""
    rows = [("target", "labels", "heads", "substrate", "best encoder", "", "points", "interval")]
    for name, target in result.targets.items():
        for one in target.answers:
            if one.rival == "best":
                rows.append(
                    (
                        drawable(name),
                        str(one.shots),
                        f"{one.head} / {one.rival_head}",
                        points(one.accuracy),
                        one.encoder,
                        points(one.rival_accuracy),
                        _signed(one.mean),
                        interval_in_words(one.low, one.high),
                    )
                )
    table = text_table(rows) if len(rows) > 1 else []
    return "\n".join([*table, "", f"Do {result.components} beat full width? {finding(result)}"])
