"""The report of a CKA panel: encoders compared on each domain, and domains by PCKA.

`cka_page` turns the result of experiments.cka into a `Page`. What each heat map shows is data:
`FIGURES` lists heading, caption, matrix and colors, one entry a figure. Captions say how to read a
figure; the overview says what the numbers cannot show, as far as it applies to this run.

Notation: CKA of encoders a, b is s; tau is the score that permuted rows exceed with probability
alpha; the calibrated score is max((s - tau) / (1 - tau), 0); q is p after Benjamini-Hochberg.

Cost: about 0.1 s and 40 kB a figure of 8 encoders; four figures a domain and one for each k.

Not guaranteed: intervals. Means over pairs that share encoders are descriptions of this panel.

References: Kornblith et al. (2019), Similarity of neural network representations revisited,
arXiv:1905.00414 (linear CKA). Groeger, Wen, Brbic (2026), arXiv:2602.14486 (calibration).
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from substrate_jax.analyses.cka.measure_blocks import measure_blocks
from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page, plots
from substrate_jax.report.page import Column, Figures, Page, Prose, Section, Table
from substrate_jax.report.shared_blocks import (
    DISCRIMINATIVE,
    P_VALUES,
    PAIR_KINDS,
    Thumbnails,
    encoder_table,
    null_in_words,
    p_columns,
)
from substrate_jax.report.tags import Tag, paradigm_tag
from substrate_jax.report.text import counted, csv_text, describe, matrix_csv, number, slugs
from substrate_jax.report.thumbnails import strip
from substrate_jax.report.values import square, upper


@dataclasses.dataclass(frozen=True)
class FigureSpec:
    """One heat map of every domain: which matrix, how it is called, read and colored."""

    key: str
    group: str
    title: str
    caption: str
    matrix: Callable[[dict], Any]
    quantity: str
    limits: Callable[[dict], tuple[float, float]] = lambda result: (0.0, 1.0)
    large: bool = False
    rings: bool = False


FIGURES = (
    FigureSpec(
        "cka", "Linear CKA", "Raw linear CKA",
        "1 means the same arrangement of the images up to rotation and scale. The tree joins "
        "encoders by average linkage on 1 − CKA; every figure of this domain keeps its order. The "
        "gray diagonal is each encoder with itself; values stand below it.",
        lambda domain: domain["cka"], "linear CKA", large=True,
    ),
    FigureSpec(
        "calibrated", "Against chance", "Calibrated CKA",
        "How far CKA stands above its chance threshold: 0 at or below it, 1 where CKA is 1. A ring "
        "marks a pair that is not significant after correction (q ≥ α).",
        lambda domain: domain["calibrated"]["score"], "calibrated CKA", rings=True,
    ),
    FigureSpec(
        "threshold", "Against chance", "Chance threshold τ",
        "The CKA that unrelated rows exceed with probability α only. Same colors as raw CKA: a "
        "bright cell is a pair for which high values mean little.",
        lambda domain: domain["calibrated"]["tau"], "threshold τ of linear CKA",
    ),
    FigureSpec(
        "debiased", "Against chance", "Debiased CKA",
        "CKA from the unbiased HSIC, which is 0 on average for unrelated encoders whatever their "
        "widths. It may be negative, and is not clamped; colors stop at 0.",
        lambda domain: domain["cka_debiased"], "debiased linear CKA",
    ),
)  # fmt: skip


def cka_page(result: dict, thumbnails: Thumbnails) -> Page:
    """The page of one run.

    Args:
        result: plain values, as `report.values.plain` makes them.
        thumbnails: domain -> a few of its images; may lack domains.

    Returns:
        The page, its figures drawn.

    Raises:
        ValueError: a matrix of the wrong size.
    """
    encoders, domains, pcka = result["encoders"], result["domains"], result["pcka"]
    names = [encoder["name"] for encoder in encoders]
    tags = {encoder["name"]: paradigm_tag(encoder["paradigm"]) for encoder in encoders}
    slug = slugs(list(domains))
    sections = [Section("Overview", list(_overview(result)))]
    if pcka:
        sections.append(Section("Between domains", list(_between_domains(pcka))))
    for name, domain in domains.items():
        blocks = _domain_blocks(result, name, domain, slug[name], names, tags)
        if len(images := thumbnails.get(name, ())):
            caption = f"{len(images)} of the {domain['n']:,} images."
            blocks = itertools.chain([strip(images, caption, f"Images of {name}")], blocks)
        sections.append(Section(f"Domain: {name}", list(blocks)))
    sections.append(Section("Encoders", [encoder_table(encoders, tags)]))
    sections.append(Section("How this was made", page.provenance(result)))
    methods = dict.fromkeys(null_in_words(domain["calibrated"]) for domain in domains.values())
    lede = (
        f"{counted(len(names), 'encoder')} compared on {counted(len(domains), 'domain')} of images "
        f"by linear CKA of their pooled features, calibrated against permuted rows "
        f"({'; '.join(methods)}), and by shared nearest neighbors."
    )
    return Page("How alike do these encoders see?", lede, _tiles(result), sections)


def _tiles(result: dict) -> list[tuple[str, str, str]]:
    pcka, count = result["pcka"], len(result["encoders"])
    found = [key_figures(*item, count) for item in result["domains"].items()]
    images = [domain["n"] for domain in result["domains"].values()]
    significant, tested = (sum(key[k] for key in found) for k in ("significant", "tested"))
    ratios = [d["separation"]["ratio"] for d in result["domains"].values()]
    ratios = [ratio for ratio in ratios if ratio is not None]
    span = f", {min(ratios):.2f}× to {max(ratios):.2f}×" if len(ratios) > 1 else ""
    alphas = {domain["calibrated"]["alpha"] for domain in result["domains"].values()}
    alpha = ", ".join(f"{a:g}" for a in sorted(alphas))
    tiles = [
        (f"{count} × {len(images)}", "encoders × domains", f"{sum(images):,} images"),
        (
            f"{significant / tested:.0%}" if tested else "–", f"of pairs have q < {alpha}",
            f"{significant} of {tested}, over all domains",
        ),
        (
            f"{statistics.median(ratios):.2f}×" if ratios else "–",
            "discriminative over MIM, calibrated CKA",
            f"median of {counted(len(ratios), 'domain')}{span}" if ratios else "needs both kinds",
        ),
    ]  # fmt: skip
    if pcka:
        least = f"least {number(pcka['min'])}: {' and '.join(pcka['min_pair'])}"
        tiles.insert(1, (number(pcka["median"]), "median PCKA between domains", least))
    return tiles


def _overview(result: dict) -> Iterator[page.Block]:
    domains, encoders = result["domains"], result["encoders"]
    rows, lanes = [], {}
    for name, domain in domains.items():
        key = key_figures(name, domain, len(encoders))
        share = key["significant"] / key["tested"] if key["tested"] else None
        rows.append({"domain": name, **domain, **domain["separation"], **key, "share": share})
        kinds: dict[str, list[float]] = {kind: [] for kind in PAIR_KINDS}
        score = square(domain["calibrated"]["score"], len(encoders), f"{name}: calibrated score")
        for i, j in itertools.combinations(range(len(encoders)), 2):
            if np.isfinite(score[i, j]):
                kinds[_pair_kind(encoders[i], encoders[j])].append(score[i, j])
        lanes[name] = [(PAIR_KINDS[kind], values) for kind, values in kinds.items()]
    if any(values for groups in lanes.values() for _, values in groups):
        figure = plots.dots(lanes, quantity="calibrated CKA")
        caption = (
            "Each dot is one pair of encoders, a black line the mean of several. Further right "
            "is further above chance. Lanes without pairs are left out."
        )
        alt = f"Calibrated CKA of all pairs by kind of pair, for {', '.join(domains)}."
        title = "Calibrated CKA of every pair"
        legend = list(PAIR_KINDS.values())
        rows_of_csv = [
            (name, kind, value)
            for name, groups in lanes.items()
            for kind, (_, values) in zip(PAIR_KINDS, groups, strict=True)
            for value in values
        ]
        csv = csv_text(["domain", "kind", "calibrated_cka"], rows_of_csv)
        yield Figures([page.drawn("overview", title, caption, alt, figure, csv)], legend=legend)
    columns = [
        Column("domain", "Domain"), Column("n", "Images", "count"),
        Column("pictures", "Pictures or classes", "count"),
        Column("median", "Median raw CKA", "score"),
        Column("discriminative_mean", "Discriminative", "score"),
        Column("discriminative_pairs", "pairs", "count"), Column("mim_mean", "MIM", "score"),
        Column("mim_pairs", "pairs", "count"), Column("ratio", "Ratio", "ratio"),
        Column("share", "Share q < α", "score"), Column("source", "Source", shown=False),
    ]  # fmt: skip
    caption = (
        "Means of calibrated CKA over the pairs of a kind. Discriminative: supervised or "
        "self-supervised (S, C). MIM: masked reconstruction (M)."
    )
    yield Table("Domains at a glance", caption, columns, rows, "domains.csv")
    limits = list(_limits_of_reading(result))
    yield Prose(limits, title="What these numbers can and cannot show", points=True)
    if result["notes"]:
        yield Prose(result["notes"], title="Notes of this run", points=True)


def _limits_of_reading(result: dict) -> Iterator[str]:
    domains, encoders = result["domains"], result["encoders"]
    yield (
        "A high CKA says that two encoders arrange these images alike. It does not say what they "
        "respond to, nor that their features serve a task."
    )
    yield (
        "Raw CKA grows with the width of the features when there are few images; compare it with "
        "τ, or read the calibrated and the debiased values."
    )
    samples = [n for n, d in domains.items() if str(d["source"]).startswith("sample:")]
    if samples:
        known = [name for name in samples if domains[name]["pictures"] is not None]
        counts = [f"{name}: {domains[name]['n']} of {domains[name]['pictures']}" for name in known]
        cut = f" (number of crops, and of pictures: {'; '.join(counts)})" if counts else ""
        yield (
            f"Sample domains are crops of few pictures{cut}. Rows that share a picture are not "
            "independent, so p and q are too small "
            "(anti-conservative), and the values describe these pictures rather than the domain."
        )
    if len(samples) < len(domains):
        yield (
            "p and q assume that images are exchangeable. Near-duplicates, frames of one video or "
            "slices of one patient make them too small."
        )
    if any(encoder["name"].startswith("mini_") for encoder in encoders):
        yield (
            "The mini panel's networks are small and were trained on 32 × 32 images. They stand in "
            "for the large ones to show the method, and say nothing about them."
        )
    pairs = {domain["separation"]["mim_pairs"] for domain in domains.values()}
    if pairs & {1}:
        yield "With two masked-reconstruction encoders, the MIM mean is the value of one pair."
    if pairs - {0}:
        yield (
            "The ratio of discriminative to MIM has no interval. Pairs share encoders, so they are "
            "not independent draws; another panel may give another ratio."
        )
    if result["pcka"]:
        yield (
            "PCKA has no chance level in this report. Two random bases of the same features do not "
            "give 0."
        )


def _between_domains(pcka: dict) -> Iterator[page.Block]:
    domains, panel = pcka["domains"], ", ".join(pcka.get("encoders", ())) or "all encoders"
    matrix = square(pcka["matrix"], len(domains), "pcka: matrix")
    median, least, pair = (
        number(pcka["median"]),
        number(pcka["min"]),
        " and ".join(pcka["min_pair"]),
    )
    yield Prose([
        f"PCKA compares the leading K = {pcka['k']} principal components of the stacked, "
        f"standardized features of {panel} from one domain with those from another, by "
        f"linear CKA of the images projected on both. Median {median}; least {least} ({pair})."
    ])  # fmt: skip
    tree = figures.cluster(matrix)
    figure = figures.heatmap(
        matrix, domains, quantity="PCKA", size=figures.LARGE, tree=tree, draw_tree=True
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


def _domain_blocks(
    result: dict, name: str, domain: dict, slug: str, names: list[str], tags: dict[str, Tag]
) -> Iterator[page.Block]:
    alpha, origin = domain["calibrated"]["alpha"], ""
    if domain["pictures"] is not None:
        sample = str(domain["source"]).startswith("sample:")
        words = ("picture",) if sample else ("class or picture", "classes or pictures")
        origin = f" from {counted(domain['pictures'], *words)}"
    yield Prose([
        f"{domain['description']} {counted(domain['n'], 'image')}{origin}. Source "
        f"{domain['source']}, fingerprint {domain['fingerprint'][:12]}."
    ])  # fmt: skip
    if len(names) < 2:
        yield Prose(["There is one encoder, so there are no pairs to compare."])
        return
    tree = figures.cluster(square(domain["cka"], len(names), f"{name}: cka"))
    q = square(domain["calibrated"]["q_value"], len(names), f"{name}: q_value")
    specs = (*FIGURES, *_neighbor_figures(domain))
    legend = list(dict.fromkeys(tags.values()))
    for group, members in itertools.groupby(specs, key=lambda spec: spec.group):
        pictures = []
        for member in members:
            matrix = square(member.matrix(domain), len(names), f"{name}: {member.key}")
            figure = figures.heatmap(
                matrix, names, quantity=f"{member.quantity}, {name}", limits=member.limits(result),
                size=figures.LARGE if member.large else figures.SMALL, tree=tree,
                draw_tree=member.large, tags=[tags[n] for n in names],
                rings=q >= alpha if member.rings else None,
            )  # fmt: skip
            alt = describe(f"{member.title} of {name}", names, matrix)
            key, csv = f"{slug}-{member.key}", matrix_csv(names, names, matrix, "encoder")
            pictures.append(page.drawn(key, member.title, member.caption, alt, figure, csv))
        yield Figures(pictures, title=group, legend=legend)
        legend = []
    yield from measure_blocks(domain, slug, names, tags, tree)
    yield _pair_table(domain, f"pairs-{slug}.csv", names, tags)


def _neighbor_figures(domain: dict) -> list[FigureSpec]:
    def highest(result: dict) -> tuple[float, float]:
        count = len(result["encoders"])
        recalls = [
            m["recall"] for d in result["domains"].values() for m in d["mutual_knn"].values()
        ]
        values = np.concatenate([upper(square(r, count, "mutual_knn: recall")) for r in recalls])
        top = np.max(values[np.isfinite(values)], initial=0.1)
        return 0.0, float(np.ceil(top * 10) / 10)

    return [
        FigureSpec(
            f"neighbors-{int(k)}", "Shared nearest neighbors", f"Mutual k-NN recall, k = {k}",
            f"Mean share of an image's {k} nearest images (cosine) that both encoders agree on; "
            f"chance gives {int(k) / max(domain['n'] - 1, 1):.3f}. Same colors for every k and "
            "domain.",
            lambda domain, k=k: domain["mutual_knn"][k]["recall"], f"recall at k = {k}", highest,
        )
        for k in domain["mutual_knn"]
    ]  # fmt: skip


def _pair_table(domain: dict, file: str, names: list[str], tags: dict[str, Tag]) -> Table:
    calibrated = domain["calibrated"]
    columns = {
        Column("cka", "Raw", "score"): domain["cka"],
        Column("cka_debiased", "Debiased", "score"): domain["cka_debiased"],
        Column("tau", "τ", "score"): calibrated["tau"],
        Column("score", "Calibrated", "score"): calibrated["score"],
        **p_columns(calibrated),
        Column("q_value", "q", "p"): calibrated["q_value"],
    }
    for k, measures in domain["mutual_knn"].items():
        for measure, values in measures.items():
            if measure in ("method", "skewness", "alpha"):
                continue
            style = "p" if measure in ("p_value", "q_value") else "score"
            column = Column(f"knn{k}_{measure}", f"k-NN {k}", style, shown=measure == "recall")
            columns[column] = values
    matrices = {c.key: square(values, len(names), c.key) for c, values in columns.items()}
    rows = [
        {"encoder_a": names[i], "encoder_b": names[j]} | {k: v[i, j] for k, v in matrices.items()}
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["score"], nan=-1))
    caption = (
        f"A click on a heading sorts by it. p: {P_VALUES[calibrated['method']]}; q: p corrected "
        "for the number of pairs (Benjamini-Hochberg). Of tiny values only the order of magnitude "
        "means anything. The CSV has all digits and the calibration of k-NN."
    )
    heads = [Column("encoder_a", "Encoder"), Column("encoder_b", "Encoder"), *columns]
    return Table("All pairs", caption, heads, rows, file, tags)


def key_figures(name: str, domain: dict, count: int) -> dict[str, Any]:
    """Median raw CKA of the pairs, and how many pairs are significant of how many tested."""
    raw = upper(square(domain["cka"], count, f"{name}: cka"))
    q = upper(square(domain["calibrated"]["q_value"], count, f"{name}: q_value"))
    raw, q = raw[np.isfinite(raw)], q[np.isfinite(q)]
    significant = int(np.sum(q < domain["calibrated"]["alpha"]))
    median = float(np.median(raw)) if len(raw) else None
    return {"median": median, "significant": significant, "tested": len(q)}


def _pair_kind(a: dict, b: dict) -> str:
    paradigms = {a["paradigm"], b["paradigm"]}
    if paradigms <= set(DISCRIMINATIVE):
        return "discriminative"
    return "mim" if paradigms == {"masked_reconstruction"} else "other"
