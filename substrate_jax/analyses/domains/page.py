"""The report of experiments.domains: do domains share a substrate, and is it more than pixels?

`domains_page` turns the result into a `Page`. The overview has PCKA of all pairs beside the
controls, and in words what follows; then come the sections of detail and one for each domain, which
begins with the images at the ends of its components. Whatever a run left out (controls, components,
the panel test) is left out here.

Cost: about 0.1 s per figure, and 2.5 kB per image of the contact sheets.

Not guaranteed: that a median is typical; every figure shows the single pairs.

References: Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence

from substrate_jax.analyses.cka.separation import POOLED
from substrate_jax.analyses.cka.separation_blocks import panel_blocks
from substrate_jax.analyses.domains.caveats import caveats
from substrate_jax.analyses.domains.compare_blocks import left_out_blocks, number_blocks
from substrate_jax.analyses.domains.component_blocks import domain_blocks, followed_blocks
from substrate_jax.analyses.domains.control_blocks import control_blocks, control_strip
from substrate_jax.analyses.domains.pair_blocks import MEDIUM, pair_blocks
from substrate_jax.analyses.domains.paper_table import paper_table
from substrate_jax.analyses.domains.results import CalibratedPcka, DomainsResult, Extremes
from substrate_jax.analyses.domains.values import (
    best_control,
    ceiling_means,
    domain_means,
    pair_controls,
    separation_ratios,
    share_of,
)
from substrate_jax.report import heatmaps, page
from substrate_jax.report.drawing import drawable
from substrate_jax.report.page import Column, Figures, Page, Picture, Prose, Section, Table
from substrate_jax.report.shared_blocks import encoder_tables
from substrate_jax.report.text import counted, describe, matrix_csv, number, slugs, text_table


def domains_page(result: DomainsResult, sheets: Mapping[str, Sequence[Extremes]]) -> Page:
    """The page of one run.

    Args:
        result: what experiments.domains found.
        sheets: domain -> images at the ends of its components, in order; may lack domains.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix that is not one row per domain, or an image that is not uint8
            [h, w, 3].
    """
    domains = result.domains
    sections = [
        Section("Overview", list(_overview(result))),
        Section("Pairs of domains", list(pair_blocks(result))),
    ]
    if pair_controls(result):
        sections.append(Section("Controls", list(control_blocks(result))))
    left_out = left_out_blocks(result.comparison.leave_one_out)
    sections += [
        Section("Ceiling and number of components", list(number_blocks(result))),
        Section("Without one encoder or family", list(left_out)),
    ]
    if result.components:
        blocks = followed_blocks(result.components)
        sections.append(Section("What the components follow", list(blocks)))
    if result.panel_test:
        blocks = panel_blocks(result.panel_test)
        sections.append(Section("Discriminative against masked encoders", list(blocks)))
    sections.append(Section("Beside the paper", [paper_table(result)]))
    slug = slugs(list(domains))
    for name in domains:
        blocks = domain_blocks(result, name, slug[name], sheets.get(name, ()))
        sections.append(Section(f"Domain: {name}", list(blocks)))
    sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = "Do image domains share a substrate?"
    return Page(title, finding(result), list(_tiles(result)), sections)


def finding(result: DomainsResult) -> str:
    """How well substrates carry over, and whether what is none carries over as well."""
    pcka, best = result.comparison.pcka, best_control(result)
    interval = f" ({_interval(pcka)})" if _interval(pcka) else ""
    said = (
        f"The components of one domain arrange the images of another with a median PCKA of "
        f"{number(pcka.median)}{interval}, where 1 is as its own do; least between "
        f"{' and '.join(pcka.min_pair)}, {number(pcka.min)}."
    )
    if best is None:
        return f"{said} No control says what less would give."
    told = pcka.median if pcka.median_low is None else pcka.median_low
    of_control = f"{said} The best control, {best.reading.title}, has {number(best.median)}"
    if best.median < told:
        return f"{of_control}."
    return f"{of_control}: it takes no trained panel to carry over as well."


def domains_summary(result: DomainsResult) -> str:
    """The key figures as text for a terminal."""
    means, ceilings, pcka = domain_means(result), ceiling_means(result), result.comparison.pcka
    rows = [("domain", "images", "mean PCKA", "ceiling", "variance")]
    for name, domain in result.domains.items():
        rows.append(
            (
                drawable(name),
                f"{domain.n:,}",
                number(means[name]),
                number(ceilings.get(name)),
                number(share_of(domain, result.k)),
            )
        )
    interval = f", {_interval(pcka)}" if _interval(pcka) else ""
    lines = [
        *text_table(rows),
        f"variance: share of the first {result.k} components",
        f"PCKA of pairs: median {number(pcka.median)}{interval}, least {number(pcka.min)}",
        f"  ({' and '.join(map(drawable, pcka.min_pair))})",
    ]
    for control in pair_controls(result):
        if control.reading.primary:
            above = "  ABOVE THE SUBSTRATE" if control.median > pcka.median else ""
            lines.append(f"control: {control.reading.title} {number(control.median)}{above}")
    if ratio := _separation(result):
        lines.append(f"discriminative over MIM, calibrated CKA: {ratio[0]}, {ratio[1]}")
    return "\n".join(lines)


def _interval(pcka: CalibratedPcka) -> str:
    """The interval of the median as words, nothing where there is none."""
    if pcka.median_low is None:
        return ""
    return f"{pcka.level:.0%} interval {number(pcka.median_low)} to {number(pcka.median_high)}"


def _tiles(result: DomainsResult) -> Iterator[tuple[str, str, str]]:
    pcka, domains = result.comparison.pcka, len(result.domains)
    pairs = counted(domains * (domains - 1) // 2, "pair")
    median = f"median PCKA of {pairs} of domains"
    yield number(pcka.median), median, _interval(pcka) or "no interval"
    yield number(pcka.min), "least PCKA", " and ".join(pcka.min_pair)
    if best := best_control(result):
        above = "above the substrate" if best.median > pcka.median else "best control"
        detail = f"as high as the substrate in {best.reached} of {counted(best.pairs, 'pair')}"
        yield number(best.median), f"{above}: {best.reading.title}", detail
    if ceilings := ceiling_means(result):
        least = min(ceilings, key=lambda name: ceilings[name])
        detail = f"least {number(ceilings[least])}: {least}"
        ceiling = number(statistics.median(ceilings.values()))
        yield ceiling, "median ceiling: PCKA of two halves of a domain", detail
    if ratio := _separation(result):
        yield ratio[0], "discriminative over MIM, calibrated CKA", ratio[1]


def _separation(result: DomainsResult) -> tuple[str, str] | None:
    """Median over the domains of the ratio of discriminative to MIM encoders, and its range."""
    ratios = [ratio for name, ratio in separation_ratios(result).items() if name != POOLED]
    if not ratios:
        return None
    span = f" from {min(ratios):.2f}× to {max(ratios):.2f}×" if len(ratios) > 1 else ""
    of = f"median of {counted(len(ratios), 'domain')}{span}"
    return number(statistics.median(ratios), "ratio"), of


def _overview(result: DomainsResult) -> Iterator[page.Block]:
    pictures = [_pcka_picture(result)]
    if pair_controls(result):
        pictures.append(control_strip(result))
    yield Figures(pictures)
    images = counted(sum(domain.n for domain in result.domains.values()), "image")
    text = (
        f"Each of {counted(len(result.domains), 'domain')} ({images} in all) has a substrate: the "
        f"leading K = {result.k} principal components of the stacked features of "
        f"{counted(len(result.run.encoders), 'encoder')}."
    )
    yield Prose([text])
    yield Prose(list(caveats(result)), title="What these numbers can and cannot show", points=True)
    yield _domain_table(result)
    if result.run.notes:
        yield Prose(result.run.notes, title="Notes of this run", points=True)


def _pcka_picture(result: DomainsResult) -> Picture:
    pcka, names = result.comparison.pcka, list(result.domains)
    figure = heatmaps.heatmap(
        pcka.matrix,
        names,
        quantity="PCKA",
        size=MEDIUM,
        tree=heatmaps.cluster(pcka.matrix),
        draw_tree=True,
        rings=pcka.q_value >= pcka.alpha,
    )
    caption = (
        "1 means that the components of either domain arrange the other's images as its own do. "
        "The tree joins domains by average linkage on 1 − PCKA; all heat maps of domains keep its "
        "order. Values stand below the diagonal. A ring marks a pair no better than with the "
        "images of one side permuted (q ≥ α); no rings is the rule and says little."
    )
    alt = describe("PCKA of domains", names, pcka.matrix)
    csv = matrix_csv(names, names, pcka.matrix, "domain")
    return page.drawn("pcka", "PCKA of domains", caption, alt, figure, csv)


def _domain_table(result: DomainsResult) -> Table:
    means, ceilings = domain_means(result), ceiling_means(result)
    rows = [
        {
            "domain": name,
            "n": domain.n,
            "pictures": domain.images.pictures,
            "mean": means[name],
            "ceiling": ceilings.get(name),
            "share": share_of(domain, result.k),
            "source": domain.images.source,
            "fingerprint": domain.images.fingerprint,
        }
        for name, domain in result.domains.items()
    ]
    columns = [
        Column("domain", "Domain"),
        Column("n", "Images", "count"),
        Column("pictures", "Pictures or classes", "count"),
        Column("mean", "Mean PCKA with others", "score"),
        Column("ceiling", "Ceiling", "score"),
        Column("share", f"Variance in {result.k}", "score"),
        Column("source", "Source"),
        Column("fingerprint", "", shown=False),
    ]
    caption = (
        "Ceiling: mean PCKA of two halves of the domain. Variance: share of the features' "
        "variance in the components of the substrate."
    )
    return Table("Domains at a glance", caption, columns, rows, "domains.csv")
