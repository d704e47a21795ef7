"""Figures of arXiv:2606.07882 beside those of a run."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses import paper
from substrate_jax.analyses.cka.separation import POOLED
from substrate_jax.analyses.domains.results import DomainsResult
from substrate_jax.analyses.domains.values import (
    domain_means,
    known,
    pair_controls,
    separation_ratios,
)
from substrate_jax.report.page import Column, Table
from substrate_jax.report.values import upper


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure of the paper beside that of a run.

    Attributes:
        figure: what it is.
        here: of the run; None where it does not exist.
        paper: of the paper.
        remark: what the paper's is of.
    """

    figure: str
    here: float | None
    paper: float
    remark: str = ""


def paper_table(result: DomainsResult) -> Table:
    """The figures of this run beside those of the paper."""
    rows = itertools.chain(
        _transport_rows(result),
        _component_rows(result),
        _separation_rows(result),
    )
    columns = [
        Column("figure", "Quantity"),
        Column("here", "Here", "score"),
        Column("paper", "Paper", "score"),
        Column("remark", "The paper's"),
    ]
    caption = (
        f"Paper: {paper.SOURCE}, {paper.IMAGES:,} images per domain, five large encoders. Its "
        "domains, its panel and its images are others, so equal figures are no replication and "
        "unequal ones no refutation."
    )
    return Table("", caption, columns, [dataclasses.asdict(row) for row in rows], "paper.csv")


def _transport_rows(result: DomainsResult) -> Iterator[Row]:
    compared, pcka = result.comparison, result.comparison.pcka
    values = upper(pcka.matrix)
    values = values[np.isfinite(values)]
    yield Row("median PCKA", pcka.median, paper.PCKA_EIGHT, "eight domains")
    yield Row("median PCKA", pcka.median, paper.PCKA_FOUR, "four domains")
    yield Row("least PCKA", pcka.min, paper.PCKA_LEAST, "eight domains: natural and astronomy")
    share = float(np.mean(values >= paper.PCKA_THRESHOLD)) if len(values) else None
    title = f"share of pairs with PCKA of {paper.PCKA_THRESHOLD:.2f} or more"
    yield Row(title, share, paper.PCKA_SHARE, "eight domains")
    means = {name: mean for name, mean in domain_means(result).items() if known(mean)}
    if means:
        low, high = (choose(means, key=lambda name: means[name]) for choose in (min, max))
        yield Row(f"lowest mean of a domain: {low}", means[low], paper.PCKA_LOWEST_MEAN, "infrared")
        title = f"highest mean of a domain: {high}"
        yield Row(title, means[high], paper.PCKA_HIGHEST_MEAN, "satellite")
    other = f"is 1 − {paper.GRASSMANN[0]}: another definition?"
    for title, found, (median, rank), remark in (
        ("Grassmann mean cos²", compared.grassmann, paper.GRASSMANN, ""),
        ("Procrustes disparity", compared.procrustes, paper.PROCRUSTES, other),
    ):
        yield Row(f"{title}, median", found.median, median, remark)
        yield Row(f"{title}, rank correlation with PCKA", found.rank_correlation, rank)
    for control in pair_controls(result):
        title, values = f"control: {control.reading.title}", control.values
        if values.paper is not None:
            yield Row(title, control.median, values.paper, "its wording leaves the reading open")
        if values.paper_high is not None:
            tail = f"95% tail of {paper.RANDOM_SEEDS} seeds"
            yield Row(f"{title}, 95% of all pairs", values.item_high, values.paper_high, tail)


def _component_rows(result: DomainsResult) -> Iterator[Row]:
    found = (result.components or {}).values()
    energies = [abs(c.energy_of_first) for c in found if known(c.energy_of_first)]
    if energies:
        title = "component 0 and image energy, |r|, least of the domains"
        yield Row(title, min(energies), paper.ENERGY_OF_FIRST, "above this in every domain")
    others = [abs(c.largest_of_others.correlation) for c in found if c.largest_of_others]
    if others:
        title = "components 1 and up and any feature, |r|, largest"
        yield Row(title, max(others), paper.OTHER_COMPONENTS, "below this")


def _separation_rows(result: DomainsResult) -> Iterator[Row]:
    for measure, there in paper.RATIOS.items():
        ratios = separation_ratios(result, measure)
        name = "calibrated CKA" if measure == "cka" else f"mutual k-NN, k = {measure}"
        pooled = ratios.pop(POOLED, None)
        title = f"discriminative over MIM, {name}"
        if ratios:
            median = statistics.median(ratios.values())
            images = f"Imagenette, {paper.IMAGENETTE:,} images"
            yield Row(f"{title}, median of the domains", median, there, images)
        if pooled is not None and measure == "cka":
            yield Row(f"{title}, pooled", pooled, paper.POOLED_RATIO, "its cross-domain panel")
