"""Figures of arXiv:2606.07882 beside those of a run."""

import itertools
import statistics
from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.domains.values import (
    POOLED,
    control_readings,
    domain_means,
    matrix_of,
    separation_ratios,
)
from substrate_jax.analyses.paper import PAPER_POOLED, PAPER_RATIOS
from substrate_jax.report.page import Column, Table
from substrate_jax.report.values import upper


def paper_table(result: dict) -> Table:
    """The figures of this run beside those of the paper."""
    rows = [dict(zip(("figure", "here", "paper", "remark"), row, strict=True))
            for row in itertools.chain(_transport_rows(result), _other_rows(result))]  # fmt: skip
    columns = [
        Column("figure", "Quantity"), Column("here", "Here", "score"),
        Column("paper", "Paper", "score"), Column("remark", "The paper's"),
    ]  # fmt: skip
    caption = (
        "Paper: arXiv:2606.07882, 1,000 images a domain, five large encoders. Its domains, its "
        "panel and its images are others, so equal figures are no replication and unequal ones no "
        "refutation."
    )
    return Table("", caption, columns, rows, "paper.csv")


def _transport_rows(result: dict) -> Iterator[tuple]:
    pcka = result["pcka"]
    values = upper(matrix_of(result, "pcka"))
    values = values[np.isfinite(values)]
    yield "median PCKA", pcka["median"], 0.604, "eight domains"
    yield "median PCKA", pcka["median"], 0.679, "four domains"
    yield "least PCKA", pcka["min"], 0.405, "eight domains: natural and astronomy"
    share = float(np.mean(values >= 0.45)) if len(values) else None
    yield "share of pairs with PCKA of 0.45 or more", share, 25 / 28, "eight domains"
    means = {name: mean for name, mean in domain_means(result).items() if mean is not None}
    if means:
        low, high = min(means, key=means.get), max(means, key=means.get)
        yield f"lowest mean of a domain: {low}", means[low], 0.541, "infrared"
        yield f"highest mean of a domain: {high}", means[high], 0.706, "satellite"
    for key, title, median, correlation, remark in (
        ("grassmann", "Grassmann mean cos²", 0.659, 0.97, ""),
        ("procrustes", "Procrustes disparity", 0.341, 0.95, "is 1 − 0.659: another definition?"),
    ):
        found = result[key]
        yield f"{title}, median", found["median"], median, remark
        rank = found["rank_correlation"]
        yield f"{title}, rank correlation with PCKA", rank, correlation, ""
    for reading, found in control_readings(result):
        if reading.paper is not None:
            remark = "its wording leaves the reading open"
            yield f"control: {reading.title}", found["median"], reading.paper, remark
        if reading.paper_high is not None:
            title = f"control: {reading.title}, 95% of all pairs"
            yield title, found["item_high"], reading.paper_high, "95% tail of 50 seeds"


def _other_rows(result: dict) -> Iterator[tuple]:
    readings = (result.get("components") or {}).values()
    energies = [abs(r["energy_of_first"]) for r in readings if r["energy_of_first"] is not None]
    if energies:
        title = "component 0 and image energy, |r|, least of the domains"
        yield title, min(energies), 0.6, "above this in every domain"
    others = [r["largest_of_others"] for r in readings if r["largest_of_others"]]
    if others:
        largest = max(abs(other["correlation"]) for other in others)
        title = "components 1 and up and any feature, |r|, largest"
        yield title, largest, 0.25, "below this"
    for key, paper in PAPER_RATIOS.items():
        ratios = separation_ratios(result, key)
        measure = "calibrated CKA" if key == "cka" else f"mutual k-NN, k = {key}"
        pooled = ratios.pop(POOLED, None)
        title = f"discriminative over MIM, {measure}"
        if ratios:
            median = statistics.median(ratios.values())
            yield f"{title}, median of the domains", median, paper, "Imagenette, 13,394 images"
        if pooled is not None and key == "cka":
            yield f"{title}, pooled", pooled, PAPER_POOLED, "its cross-domain panel"
