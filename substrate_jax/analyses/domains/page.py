"""The report of experiments.domains: do domains share a substrate, and is it more than pixels?

`domains_page` turns the result into a `Page`. The overview has PCKA of all pairs beside the
controls, and in words what follows; then come the sections of detail and one for each domain, which
begins with the images at the ends of its components. Whatever a run left out (controls, components,
the panel test) is left out here.

Cost: about 0.1 s a figure, and 2.5 kB an image of the contact sheets.

Not guaranteed: that a median is typical; every figure shows the single pairs.

References: Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from substrate_jax.analyses.cka.separation_blocks import panel_blocks
from substrate_jax.analyses.domains.caveats import limits_of_reading
from substrate_jax.analyses.domains.compare_blocks import (
    MEDIUM,
    left_out_blocks,
    number_blocks,
    pair_blocks,
)
from substrate_jax.analyses.domains.component_blocks import Sheets, domain_blocks, followed_blocks
from substrate_jax.analyses.domains.control_blocks import control_blocks, control_strip
from substrate_jax.analyses.domains.paper_table import paper_table
from substrate_jax.analyses.domains.values import (
    POOLED,
    best_control,
    ceiling_means,
    control_readings,
    domain_means,
    matrix_of,
    pairs_at_least,
    separation_ratios,
    share_of,
)
from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page
from substrate_jax.report.page import Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import Thumbnails, encoder_table
from substrate_jax.report.tags import paradigm_tag
from substrate_jax.report.text import counted, describe, matrix_csv, number, slugs, text_table


def domains_page(result: dict, thumbnails: Thumbnails, sheets: Sheets) -> Page:
    """The page of one run.

    Args:
        result: plain values, as `report.values.plain` makes them.
        thumbnails: domain -> a few of its images, for domains without a sheet.
        sheets: domain -> for each component its number and `top` and `bottom`, the images with the
            highest and the lowest scores, most extreme first.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix of the wrong size, or an image that is not uint8 [h, w, 3].
    """
    encoders, domains = result["encoders"], result["domains"]
    tags = {encoder["name"]: paradigm_tag(encoder["paradigm"]) for encoder in encoders}
    sections = [
        Section("Overview", list(_overview(result))),
        Section("Pairs of domains", list(pair_blocks(result))),
    ]
    if control_readings(result):
        sections.append(Section("Controls", list(control_blocks(result))))
    sections += [
        Section("Ceiling and number of components", list(number_blocks(result))),
        Section("Without one encoder or family", list(left_out_blocks(result))),
    ]
    if result.get("components"):
        sections.append(Section("What the components follow", list(followed_blocks(result))))
    if result.get("panel_test"):
        sections.append(
            Section("Discriminative against masked encoders", list(panel_blocks(result)))
        )
    sections.append(Section("Beside the paper", [paper_table(result)]))
    slug = slugs(list(domains))
    for name in domains:
        blocks = domain_blocks(
            result, name, slug[name], thumbnails.get(name, ()), sheets.get(name, ())
        )
        sections.append(Section(f"Domain: {name}", list(blocks)))
    sections.append(Section("Encoders", [encoder_table(encoders, tags)]))
    sections.append(Section("How this was made", page.provenance(result)))
    images = counted(sum(domain["n"] for domain in domains.values()), "image")
    lede = (
        f"Each of {counted(len(domains), 'domain')} ({images} in all) has a substrate: the leading "
        f"K = {result['k']} principal components of the stacked features of "
        f"{counted(len(encoders), 'encoder')}. PCKA tells how far the components of one domain "
        "arrange the images of another as its own do: 1 is fully, and the controls show what less "
        "would give."
    )
    return Page("Do image domains share a substrate?", lede, _tiles(result), sections)


def domains_summary(result: Mapping[str, Any]) -> str:
    """The key figures as text for a terminal."""
    means, ceilings = domain_means(result), ceiling_means(result)
    rows = [("domain", "images", "mean PCKA", "ceiling", "variance")]
    for name, domain in result["domains"].items():
        rows.append((
            figures.drawable(name), f"{domain['n']:,}", number(means[name]),
            number(ceilings.get(name)), number(share_of(result, name)),
        ))  # fmt: skip
    lines = text_table(rows)
    pcka = result["pcka"]
    lines.append(f"variance: share of the first {result['k']} components")
    lines.append(f"PCKA of pairs: median {number(pcka['median'])}{_interval(pcka)}, "
                 f"least {number(pcka['min'])}")  # fmt: skip
    lines.append(f"  ({' and '.join(map(figures.drawable, pcka['min_pair']))})")
    for reading, values in control_readings(result):
        if reading.primary:
            above = "  ABOVE THE SUBSTRATE" if values["median"] > pcka["median"] else ""
            lines.append(f"control: {reading.title} {number(values['median'])}{above}")
    if ratio := _separation(result):
        lines.append(f"discriminative over MIM, calibrated CKA: {ratio[0]}, {ratio[1]}")
    return "\n".join(lines)


def _interval(found: Mapping[str, Any]) -> str:
    """The interval of a median as words, nothing where there is none."""
    if found["median_low"] is None:
        return ""
    low, high = (number(found[f"median_{end}"]) for end in ("low", "high"))
    return f", {found['level']:.0%} interval {low} to {high}"


def _tiles(result: dict) -> list[tuple[str, str, str]]:
    pcka, domains = result["pcka"], result["domains"]
    pairs = counted(len(domains) * (len(domains) - 1) // 2, "pair")
    interval = _interval(pcka).removeprefix(", ") or "no interval"
    tiles = [
        (number(pcka["median"]), f"median PCKA of {pairs} of domains", interval),
        (number(pcka["min"]), "least PCKA", " and ".join(pcka["min_pair"])),
    ]
    if best := best_control(result):
        reading, values = best
        above = "above the substrate" if values["median"] > pcka["median"] else "best control"
        reached, tested = pairs_at_least(result, values)
        detail = f"as high as the substrate in {reached} of {counted(tested, 'pair')}"
        tiles.append((number(values["median"]), f"{above}: {reading.title}", detail))
    if ceilings := ceiling_means(result):
        least = min(ceilings, key=ceilings.get)
        detail = f"least {number(ceilings[least])}: {least}"
        median = float(np.median(list(ceilings.values())))
        tiles.append((number(median), "median ceiling: PCKA of two halves of a domain", detail))
    if ratio := _separation(result):
        tiles.append((ratio[0], "discriminative over MIM, calibrated CKA", ratio[1]))
    return tiles


def _separation(result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Median over the domains of the ratio of discriminative to MIM encoders, and its range."""
    ratios = [ratio for name, ratio in separation_ratios(result).items() if name != POOLED]
    if not ratios:
        return None
    span = f" from {min(ratios):.2f}× to {max(ratios):.2f}×" if len(ratios) > 1 else ""
    of = f"median of {counted(len(ratios), 'domain')}{span}"
    return number(float(np.median(ratios)), "ratio"), of


def _overview(result: dict) -> Iterator[page.Block]:
    pcka, names = result["pcka"], list(result["domains"])
    matrix = matrix_of(result, "pcka")
    q = matrix_of(result, "pcka", "q_value")
    figure = figures.heatmap(
        matrix, names, quantity="PCKA", size=MEDIUM, tree=figures.cluster(matrix), draw_tree=True,
        rings=q >= pcka["alpha"],
    )  # fmt: skip
    caption = (
        "1 means that the components of either domain arrange the other's images as its own do. "
        "The tree joins domains by average linkage on 1 − PCKA; all heat maps of domains keep its "
        "order. Values stand below the diagonal. A ring marks a pair no better than with the "
        "images of one side permuted (q ≥ α); no rings is the rule and says little."
    )
    alt = describe("PCKA of domains", names, matrix)
    csv = matrix_csv(names, names, matrix, "domain")
    pictures = [page.drawn("pcka", "PCKA of domains", caption, alt, figure, csv)]
    if control_readings(result):
        pictures.append(control_strip(result))
    yield Figures(pictures)
    yield Prose(
        list(limits_of_reading(result)), title="What these numbers can and cannot show", points=True
    )
    means, ceilings = domain_means(result), ceiling_means(result)
    rows = [
        {"domain": name, **domain, "mean": means[name], "ceiling": ceilings.get(name),
         "share": share_of(result, name)}
        for name, domain in result["domains"].items()
    ]  # fmt: skip
    columns = [
        Column("domain", "Domain"), Column("n", "Images", "count"),
        Column("pictures", "Pictures or classes", "count"),
        Column("mean", "Mean PCKA with others", "score"), Column("ceiling", "Ceiling", "score"),
        Column("share", f"Variance in {result['k']}", "score"), Column("source", "Source"),
        Column("fingerprint", "", shown=False),
    ]  # fmt: skip
    caption = (
        "Ceiling: mean PCKA of two halves of the domain. Variance: share of the features' "
        "variance in the components of the substrate."
    )
    yield Table("Domains at a glance", caption, columns, rows, "domains.csv")
    if result["notes"]:
        yield Prose(result["notes"], title="Notes of this run", points=True)
