"""The section of a domains report on the pairs of domains: two more measures, and all pairs.

Cost: about 0.1 s per figure.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.domains.results import (
    Companion,
    DomainComparison,
    DomainsResult,
)
from substrate_jax.analyses.domains.values import pair_controls
from substrate_jax.report import heatmaps, page
from substrate_jax.report.heatmaps import CellSize
from substrate_jax.report.page import Column, Figures, Picture, Table
from substrate_jax.report.shared_blocks import p_columns
from substrate_jax.report.text import describe, matrix_csv, number
from substrate_jax.report.values import upper

# Side by side on a screen, whole on a phone.
MEDIUM = CellSize(2.58, 0.19, 0.5, 7.5)


@dataclasses.dataclass(frozen=True)
class CompanionFigure:
    """The heat map of a second measure of the bases.

    Attributes:
        key: part of the file's name.
        title: heading of the figure.
        words: what its values mean.
        companion: the measure.
        colormap: bright is alike.
        sign: what the rank correlation is of, if not of the measure itself.
    """

    key: str
    title: str
    words: str
    companion: Callable[[DomainComparison], Companion]
    colormap: str = heatmaps.COLORMAP
    sign: str = ""


COMPANIONS = (
    CompanionFigure(
        key="grassmann",
        title="Grassmann mean cos²",
        words=(
            "Mean squared cosine of the principal angles between the two bases, whatever the "
            "images and the variances: 1 is the same subspace."
        ),
        companion=lambda compared: compared.grassmann,
    ),
    CompanionFigure(
        key="procrustes",
        title="Procrustes disparity",
        words=(
            "What remains between the two bases after the best rotation: 0 is the same subspace, 2 "
            "is orthogonal ones. Colors are turned round, so that bright is alike in every map."
        ),
        companion=lambda compared: compared.procrustes,
        colormap=f"{heatmaps.COLORMAP}_r",
        sign=" (of its negative)",
    ),
)


def pair_blocks(result: DomainsResult) -> Iterator[page.Block]:
    """The two other measures of pairs of bases as heat maps, and a table of all pairs."""
    tree = heatmaps.cluster(result.comparison.pcka.matrix)
    pictures = [_companion_picture(result, spec, tree) for spec in COMPANIONS]
    yield Figures(pictures, title="Two more measures of the bases")
    yield _pair_table(result)


def _companion_picture(
    result: DomainsResult, spec: CompanionFigure, tree: Float[np.ndarray, "merges 4"] | None
) -> Picture:
    names, found = list(result.domains), spec.companion(result.comparison)
    figure = heatmaps.heatmap(
        found.matrix,
        names,
        quantity=spec.title,
        limits=(0.0, _top(found.matrix)),
        tree=tree,
        size=MEDIUM,
        colormap=spec.colormap,
    )
    caption = f"{spec.words} Median {number(found.median)}."
    if found.rank_correlation is not None:
        caption += f" Rank correlation with PCKA {number(found.rank_correlation)}{spec.sign}."
    csv = matrix_csv(names, names, found.matrix, "domain")
    alt = describe(f"{spec.title} of domains", names, found.matrix)
    return page.drawn(f"domains-{spec.key}", spec.title, caption, alt, figure, csv)


def _top(matrix: np.ndarray) -> float:
    """1, or as many halves more as the largest pair takes: a disparity reaches 2."""
    most = np.nanmax(upper(matrix), initial=0)
    return max(1.0, float(np.ceil(2 * most - 1e-3) / 2))


def _pair_table(result: DomainsResult) -> Table:
    names, compared, pcka = list(result.domains), result.comparison, result.comparison.pcka
    columns = {
        Column("pcka", "PCKA", "score"): pcka.matrix,
        Column("low", "low", "score"): pcka.low,
        Column("high", "high", "score"): pcka.high,
        Column("error", "", "score", shown=False): pcka.error,
        Column("grassmann", "Grassmann", "score"): compared.grassmann.matrix,
        Column("procrustes", "Procrustes", "score"): compared.procrustes.matrix,
        Column("tau", "τ", "score"): pcka.tau,
        **p_columns(pcka.p_value, pcka.log10_p_value),
        Column("q_value", "q", "p"): pcka.q_value,
    }
    for control in pair_controls(result):
        key = f"{control.reading.control}_{control.reading.name}"
        columns[Column(key, "", "score", shown=False)] = control.values.matrix
    rows: list[dict[str, Any]] = [
        {"domain_a": names[i], "domain_b": names[j]}
        | {c.key: None if matrix is None else matrix[i, j] for c, matrix in columns.items()}
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["pcka"], nan=-1))
    interval = ""
    if pcka.draws:
        interval = f"low and high: {pcka.level:.0%} interval from {pcka.draws} resamples of the "
        interval += "images. "
    caption = (
        f"A click on a heading sorts by it. {interval}τ, p and q: of PCKA with the images of one "
        "side permuted; of tiny values only the order of magnitude means anything. The CSV has all "
        "digits, and the controls of each pair."
    )
    heads = [Column("domain_a", "Domain"), Column("domain_b", "Domain"), *columns]
    return Table("All pairs", caption, heads, rows, "pairs.csv")
