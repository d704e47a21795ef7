"""What judged scores come to, in one sentence and in a table for the terminal."""

from collections.abc import Mapping

from substrate_jax.analyses.transferability.judgment import STATIC, Interval, Judgment
from substrate_jax.analyses.transferability.rankings import METRICS
from substrate_jax.analyses.transferability.results import JudgedTable, TransferabilityResult
from substrate_jax.analyses.transferability.scores.table import SCORES
from substrate_jax.analyses.transferability.targets import (
    ALIGNMENT,
    PANEL,
    PARAMETERS,
    PCKA,
    SOURCE_ACCURACY,
)
from substrate_jax.report.drawing import drawable
from substrate_jax.report.text import counted, number, text_table

# What stands beside the scores, and is none itself -> what it is called in print.
BASELINES = {
    STATIC: STATIC,
    ALIGNMENT: "alignment with the panel",
    PCKA: "PCKA with the other targets",
    PARAMETERS: "number of parameters",
    SOURCE_ACCURACY: "accuracy where it was trained",
}


def finding(table: JudgedTable) -> str:
    """The finding of one table: does a score rank the models better than the static order?

    The first metric decides, by intervals of the paired difference from the static order. The best
    of several scores is chosen by the same numbers, so an interval just above 0 is weak evidence.
    """
    found = table.judgment
    metric = METRICS[found.metrics[0]].label
    own = own_scores(table)
    if not own:
        static = found.value[found.scores.index(STATIC), 0]
        return (
            f"No score is given. The order of the models on the other targets has {metric} "
            f"{number(static)}: what a score would have to beat."
        )
    best = own[0]
    name, value = title_of(found.scores[best]), number(found.value[best, 0])
    if found.lead is None:
        return f"The best score is {name}, with {metric} {value} on one target."
    lead = found.lead[best, 0]
    static = number(found.value[found.scores.index(STATIC), 0])
    ends = [
        f"{interval_in_words(interval, best)} {over}"
        for interval, over in (
            (found.lead_over_targets, "over targets"),
            (found.lead_over_models, "over models"),
        )
        if interval is not None
    ]
    difference = f"difference {number(lead)}" + "".join(f", {end}" for end in ends)
    numbers = f"{metric} {value} against {static} ({difference})"
    order = "their order on the other targets"
    if _surely_better(table):
        return f"The best score, {name}, ranks the models better than {order}: {numbers}."
    if lead > 0:
        return (
            f"The best score, {name}, does not surely rank the models better than {order}: "
            f"{numbers}."
        )
    return (
        f"No score ranks the models better than their order on the other targets does; the best, "
        f"{name}, has {numbers}."
    )


def title_of(score: str) -> str:
    """What a score is called in print; its own name where it is none of ours.

    Example:
        >>> title_of("logme"), title_of("alignment"), title_of("my_score")
        ('LogME', 'alignment with the panel', 'my_score')
    """
    return SCORES[score].title if score in SCORES else BASELINES.get(score, score)


def findings(tables: Mapping[str, JudgedTable]) -> str:
    """The finding of one table; of several, how many have a score that beats the static order.

    A run's own panel speaks for the part of it that is a table too.
    """
    if len(tables) == 1 or PANEL in tables:
        return finding(tables.get(PANEL) or next(iter(tables.values())))
    scored = {name: table for name, table in tables.items() if own_scores(table)}
    better = [name for name, table in scored.items() if _surely_better(table)]
    order = "the order of the models on the other targets"
    without = len(tables) - len(scored)
    rest = f" {counted(without, 'table')} without scores: what one would have to beat." * (
        without > 0
    )
    if not scored:
        return f"No score is given. Each table shows how well {order} ranks them.{rest}"
    if better:
        return (
            f"In {len(better)} of {counted(len(scored), 'table')} with scores one ranks the models "
            f"surely better than {order} does: {', '.join(better)}.{rest}"
        )
    return (
        f"In none of {counted(len(scored), 'table')} with scores does one rank the models surely "
        f"better than {order} does.{rest}"
    )


def own_scores(table: JudgedTable) -> list[int]:
    """Places of the scores that are no baseline, the best first."""
    return [i for i in table.order if table.judgment.scores[i] not in BASELINES]


def _surely_better(table: JudgedTable) -> bool:
    """Whether the best score leads the static order by both intervals."""
    found = table.judgment
    intervals = [i for i in (found.lead_over_targets, found.lead_over_models) if i is not None]
    best = own_scores(table)[0]
    return bool(intervals) and all(interval.low[best, 0] > 0 for interval in intervals)


def interval_in_words(interval: Interval, row: int, column: int = 0) -> str:
    """An interval as text, such as "−0.110 to 0.098"."""
    return f"{number(interval.low[row, column])} to {number(interval.high[row, column])}"


def agreement_in_words(found: Judgment) -> str:
    """How static the targets are, and what tau would be evidence at all."""
    count = f"{counted(len(found.models), 'model')} and {counted(len(found.targets), 'target')}"
    static = ""
    if found.concordance is not None:
        static = (
            f"Kendall's W of the accuracies is {number(found.concordance)}: 1 if every target "
            f"ranks the models alike, about {number(1 / len(found.targets))} if they had nothing "
            "in common. "
        )
    return (
        f"{static}With {count}, an order of the models that knows nothing has a mean τ beyond "
        f"±{number(found.least_tau)} with probability {found.alpha:g}: nothing smaller is evidence."
    )


def transferability_summary(result: TransferabilityResult) -> str:
    """Scores and their main metrics, a table each, as lines for a terminal."""
    lines = []
    for name, table in result.tables.items():
        found = table.judgment
        shown = [i for i, metric in enumerate(found.metrics) if not metric.startswith("rel")]
        rows = [("score", *(METRICS[found.metrics[i]].label for i in shown))]
        rows += [
            (drawable(title_of(found.scores[row])), *(number(found.value[row, i]) for i in shown))
            for row in table.order
        ]
        rows.append(("random order", *(number(found.by_chance[i]) for i in shown)))
        count = f"{len(found.models)} models, {len(found.targets)} targets"
        lines += [f"{name}: {count}", *text_table(rows), finding(table), ""]
    return "\n".join(lines).rstrip()
