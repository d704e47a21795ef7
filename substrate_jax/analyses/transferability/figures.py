"""Figures of the report of transferability: how well scores rank, and the best one by target.

Cost: about 0.1 s per figure; one per table, and one per target of a table with scores.
"""

from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.transferability.judgment import STATIC
from substrate_jax.analyses.transferability.rankings import METRICS
from substrate_jax.analyses.transferability.results import JudgedTable
from substrate_jax.analyses.transferability.words import BASELINES, finding, own_scores, title_of
from substrate_jax.report import page, strips
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Figures
from substrate_jax.report.scatter import scatter
from substrate_jax.report.text import counted, csv_text, number, slugs

OURS, BASELINE = MARKS[0], ("#777777", "s")


def score_figure(name: str, table: JudgedTable, slug: str) -> page.Picture:
    """How well each score ranks the models, a lane per score and a dot per target."""
    found = table.judgment
    label = METRICS[found.metrics[0]].label
    lanes = []
    for row in table.order:
        ends = found.over_targets
        interval = None if ends is None else (float(ends.low[row, 0]), float(ends.high[row, 0]))
        values = found.per_target[row, 0]
        lanes.append(
            strips.Lane(
                title_of(found.scores[row]),
                values[np.isfinite(values)].tolist(),
                mark=BASELINE if found.scores[row] in BASELINES else OURS,
                note=number(found.value[row, 0]),
                hollow=found.scores[row] in BASELINES,
                middle=float(found.value[row, 0]),
                interval=interval,
            )
        )
    static = found.value[found.scores.index(STATIC), 0] if STATIC in found.scores else None
    figure = strips.strip(lanes, quantity=f"{label} with accuracy", limits=(-1.0, 1.0), line=static)
    caption = (
        f"A dot per target; the black stroke is the mean, the line its "
        f"{found.level:.0%} interval over targets. The blue stroke in every lane is the static "
        "order."
        if found.over_targets is not None
        else "A dot per target; the black stroke is the mean."
    )
    alt = f"{label} of {len(found.scores)} scores on {name}. {finding(table)}"
    csv = csv_text(
        ["score", *found.targets],
        ([found.scores[row], *found.per_target[row, 0]] for row in table.order),
    )
    return page.drawn(
        f"scores_{slug}", "How well each score ranks the models", caption, alt, figure, csv
    )


def target_figures(table: JudgedTable, slug: str) -> Iterator[Figures]:
    """The best score against accuracy, a figure per target, if there is a score."""
    if not (own := own_scores(table)):
        return
    found, score = table.judgment, table.judgment.scores[own[0]]
    title, files, pictures = title_of(score), slugs(list(found.targets)), []
    for j, target in enumerate(found.targets):
        values = np.stack([table.scores[score][:, j], table.accuracy[:, j]], axis=1)
        points = {
            model: (float(x), float(y)) for model, (x, y) in zip(found.models, values, strict=True)
        }
        lost = found.per_target[own[0], found.metrics.index("regret_1"), j]
        first = found.per_target[own[0], 0, j]
        caption = (
            f"{METRICS[found.metrics[0]].label} {number(first)}; choosing by {title} loses "
            f"{number(lost)} points."
        )
        pictures.append(
            page.drawn(
                f"ranks_{slug}_{files[target]}",
                target,
                caption,
                f"{title} against accuracy of {counted(len(points), 'model')} on {target}. "
                f"{caption}",
                scatter(points, x=title, y="accuracy"),
                csv_text(["model", score, "accuracy"], ([m, *xy] for m, xy in points.items())),
            )
        )
    yield Figures(pictures, title=f"{title}, the best score, against accuracy", folded=True)
