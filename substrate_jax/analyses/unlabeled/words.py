"""What pretraining without labels comes to, in sentences and in a table for the terminal."""

from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses.effects import signed
from substrate_jax.analyses.unlabeled.plan import ALL, SCRATCH, way
from substrate_jax.analyses.unlabeled.results import Pretrained, UnlabeledResult
from substrate_jax.report.text import counted, points, text_table


def labels_title(labels: int) -> str:
    """A number of labels in words.

    Example:
        >>> labels_title(1), labels_title(20), labels_title(0)
        ('1 label per class', '20 labels per class', 'all labels')
    """
    return "all labels" if labels == ALL else f"{counted(labels, 'label')} per class"


def mean_of(result: UnlabeledResult, name: str, value: str) -> float:
    """Mean over seeds of what was measured of pretrained networks; NaN where all are.

    Args:
        result: of the run.
        name: of the way to pretrain.
        value: a field of `Pretrained`.
    """
    found = [getattr(one, value) for one in of_way(result, name)]
    known = [one for one in found if np.isfinite(one)]
    return float(np.mean(known)) if known else float("nan")


def of_way(result: UnlabeledResult, name: str) -> list[Pretrained]:
    """The networks of a way, by seed."""
    return [one for one in result.pretrained if one.pretraining == name]


def finding(result: UnlabeledResult) -> str:
    """What the main way gains over no pretraining, against the others, and its collapse."""
    return " ".join(_finding(result))


def _finding(result: UnlabeledResult) -> Iterator[str]:
    plan, labels = result.plan, result.plan.labels[0]
    if plan.main is None:
        yield "Nothing was pretrained on a target: accuracies stand in the table."
        return
    one = result.at(plan.main, labels)
    assert one.gain is not None
    over = counted(len(plan.seeds), "seed")
    if len(result.sets) > 1:
        over += f", mean of {len(result.sets)} sets"
    title, scratch = way(plan.main).title, points(result.at(SCRATCH, labels).accuracy)
    ends = f"({points(one.gain.low)} to {points(one.gain.high)}; {over})"
    if one.gain.settled:
        verb, to = ("gains", "over") if one.gain.mean > 0 else ("loses", "to")
        yield (
            f"With {labels_title(labels)}, pretraining on {title} {verb} "
            f"{points(abs(one.gain.mean))} points {to} none at all ({scratch}%) {ends}."
        )
    else:
        yield (
            f"With {labels_title(labels)}, pretraining on {title} shows no difference from none at "
            f"all ({scratch}%): {points(one.gain.mean)} points {ends}. Less than "
            f"{points(one.gain.least)} points could not have been shown."
        )
    yield from _rivals(result, labels)
    yield _collapse(result, plan.main)


def _rivals(result: UnlabeledResult, labels: int) -> Iterator[str]:
    """What the main way is ahead of and behind of."""
    words: dict[str, list[str]] = {"ahead of": [], "behind": [], "": []}
    for other in result.plan.pretrainings:
        found = result.at(other, labels).ahead
        if other == SCRATCH or found is None:
            continue
        title = way(other).title
        if found.settled:
            word = "ahead of" if found.mean > 0 else "behind"
            words[word].append(f"{title} ({points(abs(found.mean))} points)")
        else:
            words[""].append(title)
    for word, titles in words.items():
        if titles and word:
            yield f"It is {word} {_listed(titles)}."
        elif titles:
            yield f"It is not told apart from pretraining on {_listed(titles, 'or')}."


def _listed(items: Sequence[str], word: str = "and") -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def _collapse(result: UnlabeledResult, name: str) -> str:
    """Whether features of a way became alike."""
    rank, before = (mean_of(result, one, "rankme") for one in (name, SCRATCH))
    constant = mean_of(result, name, "constant")
    if constant == 1:
        return "Its features collapsed: they are the same for all images."
    flat = "no feature is constant" if constant == 0 else f"{constant:.0%} of them are constant"
    return (
        f"Its features fill {rank:.0f} of {result.width} dimensions (RankMe; {before:.0f} before "
        f"pretraining), and {flat}."
    )


def unlabeled_summary(result: UnlabeledResult) -> str:
    """Ways by number of labels as a table for the terminal, and the finding."""
    rows = [["labels", "pretrained on", "accuracy", "over none", "RankMe", "images/s"]]
    for one in result.pooled:
        speed = mean_of(result, one.pretraining, "images_per_second")
        rows.append(
            [
                labels_title(one.labels),
                way(one.pretraining).title,
                f"{one.accuracy:.1f}",
                signed(one.gain),
                f"{mean_of(result, one.pretraining, 'rankme'):.1f}",
                f"{speed:.0f}" if np.isfinite(speed) else "–",
            ]
        )
    return "\n".join([*text_table(rows), finding(result)])
