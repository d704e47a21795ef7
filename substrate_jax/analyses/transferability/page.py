"""The report of transferability: does a score rank the models better than no score at all?

`transferability_page` turns a `TransferabilityResult` into a `Page`, a section per table.

Cost: about 0.1 s per figure; one figure per table, and one per target of the run's own panel.

Not guaranteed: that a table's models and targets are a sample of anything. Intervals over them
say how far a mean hangs on the ones there are.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses.transferability.figures import score_figure, target_figures
from substrate_jax.analyses.transferability.filters import FilteredChoice, Gain
from substrate_jax.analyses.transferability.judgment import STATIC, Interval
from substrate_jax.analyses.transferability.rankings import METRICS
from substrate_jax.analyses.transferability.results import JudgedTable, TransferabilityResult
from substrate_jax.analyses.transferability.words import (
    agreement_in_words,
    finding,
    findings,
    title_of,
)
from substrate_jax.report import page
from substrate_jax.report.page import Block, Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import encoder_tables, images_in_words, mini_panel_caveat
from substrate_jax.report.text import counted, number, slugs

CAVEATS = (
    "The static order is a model's mean rank over the other targets. It uses their accuracies, "
    "which a new target does not have to be trained for, and nothing of the target itself. A score "
    "that does not beat it says less about a target than knowing which models are good.",
    "Intervals over targets ask whether the mean would hold on other targets like these, intervals "
    "over models whether it would for other models. Both are percentile bootstraps, paired between "
    "scores, and too narrow where there are few of either.",
    "The best of several scores is partly the luckiest: an interval of its lead just above 0 is "
    "weak evidence.",
    "Where models tie in a score, its choice counts as a random one among them, on average.",
)
OF_THE_PROBE = (
    "Accuracy is that of a ridge probe on the half of the images that no score has seen; "
    "fine-tuning may rank encoders otherwise.",
    "The cross-validated probe is the same classifier on the other half. It stands among the "
    "scores as what trying every encoder on the labels at hand would give.",
)
OF_FINE_TUNING = (
    "Accuracy is that of fine-tuning all weights on the half of the images that scores see, one "
    "schedule for all encoders and one seed, on the other half.",
)


def _of_the_truth(truth: str | None) -> Sequence[str]:
    known = {None: (), "probe": OF_THE_PROBE, "finetune": OF_FINE_TUNING}
    return known.get(
        truth, [f"Accuracy is that of {truth}; scores saw half of the images that are here."]
    )


def transferability_page(result: TransferabilityResult) -> Page:
    """The page of one run.

    Args:
        result: of experiments.transferability.

    Returns:
        The page, its figures drawn.
    """
    tables, slug = result.tables, slugs(list(result.tables))
    lead = findings(tables)
    sections = [
        Section(_heading(name, table), list(_blocks(name, table, slug[name], lead)))
        for name, table in tables.items()
    ]
    points = [*CAVEATS, *(point for of in tables.values() for point in _of_the_truth(of.truth))]
    points += [*mini_panel_caveat(result.run.encoders), *result.run.notes]
    sections.append(Section("Caveats", [Prose(points, points=True)]))
    if result.run.encoders:
        sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = "Which encoder for which data? Scores against simply knowing which are good"
    return Page(title, lead, list(_tiles(result)), sections)


def _heading(name: str, table: JudgedTable) -> str:
    found = table.judgment
    models, targets = counted(len(found.models), "model"), counted(len(found.targets), "target")
    called = "This panel" if table.targets else name
    called = "Those of them that were trained on classes" if table.without is not None else called
    return f"{called}: {models}, {targets}"


def _tiles(result: TransferabilityResult) -> Iterator[tuple[str, str, str]]:
    one = len(result.tables) == 1
    for name, table in list(result.tables.items())[:4]:
        found = table.judgment
        label = METRICS[found.metrics[0]].label
        best = table.order[0]
        where = "highest" if one else name
        yield number(found.value[best, 0]), f"{label} of {title_of(found.scores[best])}", where
        if one and found.concordance is not None:
            static = found.value[found.scores.index(STATIC), 0]
            yield number(static), f"{label} of the static order", "the mean rank on other targets"
            count = counted(len(found.targets), "target")
            yield number(found.concordance), "agreement of the targets", f"Kendall's W, {count}"
        if one:
            yield (
                f"±{number(found.least_tau)}",
                "mean τ by chance",
                f"with probability {found.alpha:g}",
            )


def _blocks(name: str, table: JudgedTable, slug: str, lead: str) -> Iterator[Block]:
    found, own = table.judgment, finding(table)
    yield Prose([*([] if own in lead else [own]), agreement_in_words(found)])
    yield Figures([score_figure(name, table, slug)])
    yield _scores(table, slug)
    yield from target_figures(table, slug)
    if table.choice:
        yield Prose([_choice_in_words(table.choice)], title="Choosing in two steps")
    yield _per_target(table, slug)
    if table.without:
        yield _without_classes(table, slug)
    if table.targets:
        lines = [
            f"{target}: {images_in_words(of.images, of.fitted + of.held_out)} "
            f"{of.classes} classes; {of.fitted} images fitted to, {of.held_out} held out."
            for target, of in table.targets.items()
        ]
        yield Prose(lines, title="Targets", points=True)
    turned = [score for score, sign in table.directions.items() if sign < 0]
    if turned:
        yield Prose([f"Turned, since lower is better as published: {', '.join(turned)}."])


def _scores(table: JudgedTable, slug: str) -> Table:
    found = table.judgment
    columns, rows = [Column("title", "Score"), Column("score", "name", shown=False)], []
    for metric in found.metrics:
        label, shown = METRICS[metric].label, not metric.startswith("rel")
        columns.append(Column(metric, label, "score", shown=shown))
        if metric == found.metrics[0]:
            columns.append(Column("lead_text", "lead (targets; models)"))
        for part in ("targets_low", "targets_high", "models_low", "models_high", "lead"):
            columns.append(Column(f"{metric}_{part}", part, "score", shown=False))
    first = METRICS[found.metrics[0]].label
    columns.append(Column("without_text", f"{first} without one model"))
    for row in table.order:
        cells = {"score": found.scores[row], "title": title_of(found.scores[row])}
        for column, metric in enumerate(found.metrics):
            cells[metric] = found.value[row, column]
            cells |= _ends(f"{metric}_targets", found.over_targets, row, column)
            cells |= _ends(f"{metric}_models", found.over_models, row, column)
            cells[f"{metric}_lead"] = None if found.lead is None else found.lead[row, column]
        cells["lead_text"] = _lead_text(table, row)
        cells["without_text"] = _without_text(table, row)
        rows.append(cells)
    chance = dict.fromkeys((column.key for column in columns), None)
    chance |= {
        "title": "random order",
        "score": "random",
        **dict(zip(found.metrics, found.by_chance, strict=True)),
    }
    rows.append(chance | {"lead_text": "–", "without_text": "–"})
    caption = (
        f"Means over the targets. Lead: of {first} over the static order, with {found.level:.0%} "
        "intervals over targets and over models. Regret: points of accuracy lost by trying the 1 "
        "or 3 models of highest score. The CSV has Rel@k too, and intervals of every column."
    )
    return Table("Scores judged", caption, columns, rows, f"scores_{slug}.csv")


def _ends(key: str, interval: Interval | None, row: int, column: int) -> dict[str, float | None]:
    if interval is None:
        return {f"{key}_low": None, f"{key}_high": None}
    return {f"{key}_low": interval.low[row, column], f"{key}_high": interval.high[row, column]}


def _lead_text(table: JudgedTable, row: int) -> str:
    found = table.judgment
    if found.lead is None or found.scores[row] == STATIC:
        return "–"
    ends = [
        f"{number(interval.low[row, 0])} to {number(interval.high[row, 0])}"
        for interval in (found.lead_over_targets, found.lead_over_models)
        if interval is not None
    ]
    return (
        f"{number(found.lead[row, 0])} ({'; '.join(ends)})" if ends else number(found.lead[row, 0])
    )


def _without_text(table: JudgedTable, row: int) -> str:
    found = table.judgment
    if found.without_model is None:
        return "–"
    values = found.without_model[row, 0]
    if np.isnan(values).all():
        return "–"
    low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
    return (
        f"{number(values[low])} ({found.models[low]}) to "
        f"{number(values[high])} ({found.models[high]})"
    )


def _choice_in_words(choice: FilteredChoice) -> str:
    def said(gain: Gain) -> str:
        ends = "" if gain.low is None else f", {number(gain.low)} to {number(gain.high)}"
        return f"{number(gain.value)} points{ends}"

    first, second = title_of(choice.first), title_of(choice.second)
    part = f"{choice.share:.0%}"
    ours, alone, random = (
        number(float(lost.mean())) for lost in (choice.regret, choice.alone, choice.random)
    )
    return (
        f"Keeping the {part} of the models with the highest {first} and choosing among them by "
        f"{second} loses {ours} points to the best model on average; {second} among all loses "
        f"{alone}, and among a random {part} {random}. Gained over {second} alone: "
        f"{said(choice.over_alone)}; over a random part: {said(choice.over_random)} (intervals "
        "over targets)."
    )


def _per_target(table: JudgedTable, slug: str) -> Table:
    found = table.judgment
    columns = [Column("model", "Model"), Column("target", "Target")]
    columns += [Column("accuracy", "Accuracy", "score")]
    columns += [Column(name, name, "score") for name in table.scores]
    rows = [
        {
            "model": model,
            "target": target,
            "accuracy": table.accuracy[i, j],
            **{name: score[i, j] for name, score in table.scores.items()},
        }
        for j, target in enumerate(found.targets)
        for i, model in enumerate(found.models)
    ]
    caption = "Also in the form that --table reads."
    title = "Accuracies and scores"
    return Table(title, caption, columns, rows, f"table_{slug}.csv", folded=True)


def _without_classes(table: JudgedTable, slug: str) -> Table:
    columns = [Column("model", "Model"), Column("why", "Why it is not among these")]
    rows = [{"model": model, "why": why} for model, why in (table.without or {}).items()]
    caption = (
        "LEEP and NCE ask an encoder's own classifier, which these have not. The other scores are "
        "those of the whole panel; the static order is that of the encoders in this table."
    )
    return Table("Encoders without classes", caption, columns, rows, f"without_{slug}.csv")
