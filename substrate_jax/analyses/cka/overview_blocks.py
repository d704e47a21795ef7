"""The overview of a CKA report: all pairs by kind, the domains at a glance, and the caveats.

A caveat stands in the page only as far as it applies to the run.

Cost: one figure, about 0.1 s.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from substrate_jax.analyses.cka.leanings import Leaning, leanings
from substrate_jax.analyses.cka.pairs import pair_kinds
from substrate_jax.analyses.cka.results import CkaResult
from substrate_jax.analyses.cka.summary import key_figures
from substrate_jax.encoders.registry import paradigm_groups
from substrate_jax.report import page, strips
from substrate_jax.report.page import Column, Figures, Prose, Table
from substrate_jax.report.shared_blocks import (
    PAIR_KINDS,
    encoder_tags,
    image_caveats,
    mini_panel_caveat,
)
from substrate_jax.report.text import csv_text

OF_SAMPLES = (
    "Rows that share a picture are not independent, so p and q are too small (anti-conservative), "
    "and the values describe these pictures rather than the domain."
)
OF_OTHERS = (
    "p and q assume that images are exchangeable. Near-duplicates, frames of one video or slices "
    "of one patient make them too small."
)


def overview_blocks(result: CkaResult) -> Iterator[page.Block]:
    """Figure of all pairs, table of the domains, caveats and notes of one run."""
    scores = {name: _scores_by_kind(result, name) for name in result.domains}
    if any(values for kinds in scores.values() for values in kinds.values()):
        yield _pairs_figure(scores)
    yield _domain_table(result)
    encoders = result.run.encoders
    groups = [paradigm_groups(encoder.paradigm) for encoder in encoders]
    matrices = [domain.comparison.calibrated.score for domain in result.domains.values()]
    if rows := leanings([encoder.name for encoder in encoders], groups, np.stack(matrices)):
        yield _leanings_table(rows, result)
    yield Prose(list(caveats(result)), title="What these numbers can and cannot show", points=True)
    if result.run.notes:
        yield Prose(result.run.notes, title="Notes of this run", points=True)


def _scores_by_kind(result: CkaResult, name: str) -> dict[str, list[float]]:
    """Kind of pair -> calibrated CKA of its pairs on one domain, as far as it is a number."""
    score = result.domains[name].comparison.calibrated.score
    kinds = pair_kinds([paradigm_groups(encoder.paradigm) for encoder in result.run.encoders])
    found: dict[str, list[float]] = {kind: [] for kind in PAIR_KINDS}
    for pair, kind in kinds.items():
        if np.isfinite(score[pair]):
            found[kind].append(float(score[pair]))
    return found


def _pairs_figure(scores: Mapping[str, Mapping[str, list[float]]]) -> Figures:
    lanes = {
        name: [(PAIR_KINDS[kind], values) for kind, values in kinds.items()]
        for name, kinds in scores.items()
    }
    caption = (
        "Each dot is one pair of encoders, a black line the mean of several. Further right "
        "is further above chance. Lanes without pairs are left out."
    )
    rows = [
        (name, kind, value)
        for name, kinds in scores.items()
        for kind, values in kinds.items()
        for value in values
    ]
    picture = page.drawn(
        "overview",
        "Calibrated CKA of every pair",
        caption,
        f"Calibrated CKA of all pairs by kind of pair, for {', '.join(scores)}.",
        strips.dots(lanes, quantity="calibrated CKA"),
        csv_text(["domain", "kind", "calibrated_cka"], rows),
    )
    return Figures([picture], legend=list(PAIR_KINDS.values()))


def _domain_table(result: CkaResult) -> Table:
    rows = []
    for name, domain in result.domains.items():
        means, key = domain.separation, key_figures(domain)
        rows.append(
            {
                "domain": name,
                "n": domain.comparison.n,
                "pictures": domain.images.pictures,
                "median": key.median,
                "discriminative_mean": means.discriminative_mean,
                "discriminative_pairs": means.discriminative_pairs,
                "mim_mean": means.mim_mean,
                "mim_pairs": means.mim_pairs,
                "ratio": means.ratio,
                "share": key.share,
                "source": domain.images.source,
            }
        )
    columns = [
        Column("domain", "Domain"),
        Column("n", "Images", "count"),
        Column("pictures", "Pictures or classes", "count"),
        Column("median", "Median raw CKA", "score"),
        Column("discriminative_mean", "Discriminative", "score"),
        Column("discriminative_pairs", "pairs", "count"),
        Column("mim_mean", "MIM", "score"),
        Column("mim_pairs", "pairs", "count"),
        Column("ratio", "Ratio", "ratio"),
        Column("share", "Share q < α", "score"),
        Column("source", "Source", shown=False),
    ]
    caption = (
        "Means of calibrated CKA over the pairs of a kind. Discriminative: supervised or "
        "self-supervised (S, C). MIM: masked reconstruction (M)."
    )
    return Table("Domains at a glance", caption, columns, rows, "domains.csv")


def _leanings_table(rows: Sequence[Leaning], result: CkaResult) -> Table:
    columns = [
        Column("encoder", "Encoder"),
        Column("discriminative", "Discriminative", "score"),
        Column("mim", "MIM", "score"),
        Column("difference", "Difference", "score"),
        Column("low", "low", "score"),
        Column("high", "high", "score"),
    ]
    caption = (
        "Mean calibrated CKA of each encoder with the others of a kind, over the domains; the "
        "interval of the difference is Student's, at 95%, with domains as the unit."
    )
    return Table(
        "With which kind each encoder agrees",
        caption,
        columns,
        [dataclasses.asdict(row) for row in rows],
        "leanings.csv",
        encoder_tags(result.run.encoders),
        folded=True,
    )


def caveats(result: CkaResult) -> Iterator[str]:
    """What the numbers of this run cannot show, a paragraph each."""
    yield (
        "A high CKA says that two encoders arrange these images alike. It does not say what they "
        "respond to, nor that their features serve a task."
    )
    yield (
        "Raw CKA grows with the width of the features when there are few images; compare it with "
        "τ, or read the calibrated and the debiased values."
    )
    domains = result.domains.items()
    images = {name: (domain.images, domain.comparison.n) for name, domain in domains}
    yield from image_caveats(images, OF_SAMPLES, OF_OTHERS)
    yield from mini_panel_caveat(result.run.encoders)
    pairs = {domain.separation.mim_pairs for domain in result.domains.values()}
    if 1 in pairs:
        yield "With two masked-reconstruction encoders, the MIM mean is the value of one pair."
    if pairs - {0}:
        yield (
            "The ratio of discriminative to MIM has no interval. Pairs share encoders, so they are "
            "not independent draws; another panel may give another ratio."
        )
    if result.pcka:
        yield (
            "PCKA has no chance level in this report. Two random bases of the same features do not "
            "give 0."
        )
