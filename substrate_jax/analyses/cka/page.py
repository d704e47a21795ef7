"""The report of a CKA panel: encoders compared on each domain, and domains by PCKA.

`cka_page` turns the result of experiments.cka into a `Page`. The overview says what the numbers
cannot show, as far as it applies to this run.

Notation: CKA of encoders a, b is s; tau is the score that permuted rows exceed with probability
alpha; the calibrated score is max((s - tau) / (1 - tau), 0); q is p after Benjamini-Hochberg.

Cost: about 0.1 s per figure and, of 15 encoders, 16 kB of page; four figures per domain and one for
each k.

Not guaranteed: intervals. Means over pairs that share encoders are descriptions of this panel.

References: Kornblith et al. (2019), Similarity of neural network representations revisited,
arXiv:1905.00414 (linear CKA). Groeger, Wen, Brbic (2026), arXiv:2602.14486 (calibration).
"""

import itertools
import statistics
from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.cka.domain_blocks import domain_blocks
from substrate_jax.analyses.cka.overview_blocks import overview_blocks
from substrate_jax.analyses.cka.results import CkaResult, DomainAgreement
from substrate_jax.analyses.cka.summary import key_figures
from substrate_jax.report import heatmaps, page
from substrate_jax.report.page import Block, Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import Thumbnails, encoder_tables, null_in_words
from substrate_jax.report.text import counted, matrix_csv, number, slugs
from substrate_jax.report.thumbnails import strip


def cka_page(result: CkaResult, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: what experiments.cka found.
        thumbnails: domain -> a few of its images; may lack domains.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix that is not one row per encoder, or an image that is not uint8
            [h, w, 3].
    """
    encoders, domains = result.run.encoders, result.domains
    slug = slugs(list(domains))
    sections = [Section("Overview", list(overview_blocks(result)))]
    if result.pcka:
        sections.append(Section("Between domains", list(_between_domains(result.pcka))))
    for name, domain in domains.items():
        blocks: list[Block] = []
        if len(images := thumbnails.get(name, ())):
            caption = f"{len(images)} of the {domain.comparison.n:,} images."
            blocks.append(strip(images, caption, f"Images of {name}"))
        blocks += domain_blocks(result, name, slug[name])
        sections.append(Section(f"Domain: {name}", blocks))
    sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    nulls = (domain.comparison.calibrated for domain in domains.values())
    methods = dict.fromkeys(null_in_words(null.method, null.skewness) for null in nulls)
    lede = _finding(result) + (
        f"{counted(len(encoders), 'encoder')} compared on {counted(len(domains), 'domain')} of "
        f"images by linear CKA of their pooled features, calibrated against permuted rows "
        f"({'; '.join(methods)}), and by shared nearest neighbors."
    )
    return Page("How alike do these encoders see?", lede, _tiles(result), sections)


def _finding(result: CkaResult) -> str:
    """How many pairs agree beyond chance, and by how much; nothing where no pair was tested."""
    found = [key_figures(domain) for domain in result.domains.values()]
    tested = sum(key.tested for key in found)
    if not tested:
        return ""
    scores = [key.score for key in found if key.score is not None]
    span = f" ({number(min(scores))} to {number(max(scores))} by domain)" if len(scores) > 1 else ""
    alphas = {domain.comparison.calibrated.alpha for domain in result.domains.values()}
    significant = sum(key.significant for key in found)
    how_many = f"All {tested:,}" if significant == tested else f"{significant:,} of {tested:,}"
    return (
        f"{how_many} pairs of encoders agree beyond chance "
        f"(q < {', '.join(f'{alpha:g}' for alpha in sorted(alphas))}); the median pair has a "
        f"calibrated CKA of {number(statistics.median(scores))}{span}, between 0 at chance and 1 "
        "for the same arrangement of the images. "
    )


def _tiles(result: CkaResult) -> list[tuple[str, str, str]]:
    domains, count = list(result.domains.values()), len(result.run.encoders)
    found = [key_figures(domain) for domain in domains]
    images = [domain.comparison.n for domain in domains]
    significant = sum(key.significant for key in found)
    tested = sum(key.tested for key in found)
    alphas = {domain.comparison.calibrated.alpha for domain in domains}
    alpha = ", ".join(f"{a:g}" for a in sorted(alphas))
    ratios = [r for domain in domains if (r := domain.separation.ratio) is not None]
    span = f", {min(ratios):.2f}× to {max(ratios):.2f}×" if len(ratios) > 1 else ""
    of_ratios = f"median of {counted(len(ratios), 'domain')}{span}"
    tiles = [
        (f"{count} × {len(images)}", "encoders × domains", f"{sum(images):,} images"),
        (
            f"{significant / tested:.0%}" if tested else "–",
            f"of pairs have q < {alpha}",
            f"{significant} of {tested}, over all domains",
        ),
        (
            f"{statistics.median(ratios):.2f}×" if ratios else "–",
            "discriminative over MIM, calibrated CKA",
            of_ratios if ratios else "needs both kinds",
        ),
    ]
    if pcka := result.pcka:
        least = f"least {number(pcka.min)}: {' and '.join(pcka.min_pair)}"
        tiles.insert(1, (number(pcka.median), "median PCKA between domains", least))
    return tiles


def _between_domains(pcka: DomainAgreement) -> Iterator[Block]:
    domains, matrix = pcka.domains, pcka.matrix
    median, least, pair = number(pcka.median), number(pcka.min), " and ".join(pcka.min_pair)
    text = (
        f"PCKA compares the leading K = {pcka.k} principal components of the stacked, "
        "standardized features of all encoders from one domain with those from another, by "
        f"linear CKA of the images projected on both. Median {median}; least {least} ({pair})."
    )
    yield Prose([text])
    figure = heatmaps.heatmap(
        matrix,
        domains,
        quantity="PCKA",
        size=heatmaps.LARGE,
        tree=heatmaps.cluster(matrix),
        draw_tree=True,
    )
    caption = (
        f"1 means that both domains span the same directions. Median {median}, least {least} "
        f"({pair}). Domains stand in the order of average linkage on 1 − PCKA."
    )
    alt = f"Heat map of PCKA between {', '.join(domains)}: median {median}, least {least} ({pair})."
    csv = matrix_csv(domains, domains, matrix, "domain")
    yield Figures([page.drawn("pcka", "PCKA of domains", caption, alt, figure, csv)])
    rows = [
        {"domain_a": domains[i], "domain_b": domains[j], "pcka": matrix[i, j]}
        for i, j in itertools.combinations(range(len(domains)), 2)
    ]
    columns = [
        Column("domain_a", "Domain"),
        Column("domain_b", "Domain"),
        Column("pcka", "PCKA", "score"),
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["pcka"], nan=-1))
    caption = "A click on a heading sorts by it."
    yield Table("Pairs of domains", caption, columns, rows, "pcka.csv", folded=True)
