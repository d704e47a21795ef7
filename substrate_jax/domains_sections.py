"""Two sections of a domains report: the pairs of domains, and the controls.

Each function turns a part of the result of experiments.domains into blocks of its section.

Cost: about 0.1 s a figure.

Not guaranteed: that figures of different sections use the same axis; each says what it shows.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from substrate_jax import domains_figures, figures, page
from substrate_jax.controls import Reading
from substrate_jax.domains_figures import OURS, Lane
from substrate_jax.domains_values import (
    control_readings,
    matrix_of,
    pairs_at_least,
)
from substrate_jax.drawing import MARKS
from substrate_jax.figures import CellSize
from substrate_jax.page import Column, Figures, Picture, Prose, Table, number, square

# Side by side on a screen, whole on a telephone.
MEDIUM = CellSize(2.6, 0.19, 0.5, 7.5)


def pair_blocks(result: dict) -> Iterator[page.Block]:
    """The two other measures of pairs of bases as heat maps, and a table of all pairs."""
    names = list(result["domains"])
    tree = figures.cluster(matrix_of(result, "pcka"))
    pictures = []
    for key, title, colormap, words in (
        ("grassmann", "Grassmann mean cos²", figures.COLORMAP,
         "Mean squared cosine of the principal angles between the two bases, whatever the images "
         "and the variances: 1 is the same subspace."),
        ("procrustes", "Procrustes disparity", f"{figures.COLORMAP}_r",
         "What remains between the two bases after the best rotation: 0 is the same subspace, 2 is "
         "orthogonal ones. Colours are turned round, so that bright is alike in every map."),
    ):  # fmt: skip
        matrix, rank = matrix_of(result, key), result[key]["rank_correlation"]
        figure = figures.heatmap(
            matrix, names, quantity=title, limits=(0.0, _top(matrix)), tree=tree, size=MEDIUM,
            colormap=colormap,
        )  # fmt: skip
        followed = "" if rank is None else f" Rank correlation with PCKA {number(rank)}"
        turned = " (of its negative)" if key == "procrustes" and followed else ""
        caption = f"{words} Median {number(result[key]['median'])}.{followed}{turned}"
        csv = page.matrix_csv(names, names, matrix, "domain")
        alt = page.describe(f"{title} of domains", names, matrix)
        caption = caption.rstrip(".") + "."
        pictures.append(page.drawn(f"domains-{key}", title, caption, alt, figure, csv))
    yield Figures(pictures, title="Two more measures of the bases")
    yield _pair_table(result, names)


def _top(matrix: np.ndarray) -> float:
    """1, or as many halves more as the largest pair takes: a disparity reaches 2."""
    most = np.nanmax(page.upper(matrix), initial=0)
    return max(1.0, float(np.ceil(2 * most - 1e-3) / 2))


def _pair_table(result: dict, names: list[str]) -> Table:
    columns = {
        Column("pcka", "PCKA", "score"): ("pcka", "matrix"),
        Column("low", "low", "score"): ("pcka", "low"),
        Column("high", "high", "score"): ("pcka", "high"),
        Column("error", "", "score", shown=False): ("pcka", "error"),
        Column("grassmann", "Grassmann", "score"): ("grassmann", "matrix"),
        Column("procrustes", "Procrustes", "score"): ("procrustes", "matrix"),
        Column("tau", "τ", "score"): ("pcka", "tau"),
        Column("p_value", "p", "p"): ("pcka", "p_value"),
        Column("log10_p_value", "", "score", shown=False): ("pcka", "log10_p_value"),
        Column("q_value", "q", "p"): ("pcka", "q_value"),
    }
    matrices = {column: matrix_of(result, *place) for column, place in columns.items()}
    for reading, values in control_readings(result):
        column = Column(f"{reading.control}_{reading.name}", "", "score", shown=False)
        matrices[column] = square(values["matrix"], len(names), column.key)
    rows = [
        {"domain_a": names[i], "domain_b": names[j]} | {c.key: v[i, j] for c, v in matrices.items()}
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row["pcka"], nan=-1))
    pcka = result["pcka"]
    interval = (
        f"low and high: {pcka['level']:.0%} interval from {pcka['draws']} resamples of the images. "
        if pcka["draws"] else ""
    )  # fmt: skip
    caption = (
        f"A click on a heading sorts by it. {interval}τ, p and q: of PCKA with the images of one "
        "side permuted. The CSV has all digits, and the controls of each pair."
    )
    heads = [Column("domain_a", "Domain"), Column("domain_b", "Domain"), *matrices]
    return Table("All pairs", caption, heads, rows, "pairs.csv")


def control_strip(result: dict) -> Picture:
    """PCKA of the substrate's pairs, and below it that of every control."""
    pcka = result["pcka"]
    observed = page.upper(matrix_of(result, "pcka"))
    observed = observed[np.isfinite(observed)]
    lanes = [Lane("substrate", observed, OURS, _noted(pcka["median"], None), middle=pcka["median"])]
    rows = [("substrate", "", value) for value in observed]
    found = control_readings(result)
    marks = dict(zip(dict.fromkeys(r.control for r, _ in found), MARKS[1:] * 9, strict=False))
    for reading, values in found:
        known = [value for value in values["values"] if value is not None]
        lanes.append(Lane(
            reading.title, known, marks[reading.control], _noted(values["median"], reading.paper),
            hollow=not reading.primary, middle=values["median"], paper=reading.paper,
        ))  # fmt: skip
        rows += [(reading.control, reading.name, value) for value in known]
    band = (float(observed.min()), float(observed.max())) if len(observed) else None
    low = min([0.0, *(value for *_, value in rows)])
    figure = domains_figures.strip(
        lanes, quantity="PCKA", limits=(low, 1.0), band=band, line=pcka["median"]
    )
    several = any(values["draws"] > 1 for _, values in found)
    caption = (
        "A dot is a pair of domains"
        + (", or of random controls the median over pairs of one draw" if several else "")
        + "; a black line is the median. The substrate's range is shaded and its median drawn "
        "through all lanes: a control whose dots reach it does as well without the substrate. "
        "Full marks are the readings to compare first, hollow ones are alternatives. Black "
        "diamonds are the paper's medians, of other domains."
    )
    alt = "Strip. PCKA medians: " + "; ".join(
        f"{lane.label} {number(lane.middle)}" for lane in lanes
    )
    csv = page.csv_text(["control", "reading", "value"], rows)
    return page.drawn("controls", "The substrate and its controls", caption, f"{alt}.", figure, csv)


def control_blocks(result: dict) -> Iterator[page.Block]:
    """A table of the controls, and how much of the substrates plain image statistics give."""
    rows = []
    for reading, values in control_readings(result):
        reached, pairs = pairs_at_least(result, values)
        rows.append(values | {
            "title": reading.title, "says": reading.says,
            "control": reading.control, "reading": reading.name,
            "kind": "first" if reading.primary else "alternative",
            "reached": reached, "pairs": pairs, "shown": f"in {reached} of {pairs} pairs",
        })  # fmt: skip
    columns = [
        Column("title", "Control"), Column("kind", "Compare"), Column("median", "Median", "score"),
        Column("low", "5%", "score"), Column("high", "95%", "score"),
        Column("item_high", "Pairs' 95%", "score"), Column("draws", "Draws", "count"),
        Column("shown", "≥ substrate"), Column("paper", "Paper", "score"),
        Column("paper_high", "Paper, 95%", "score"), Column("control", "", shown=False),
        Column("reading", "", shown=False), Column("reached", "", "count", shown=False),
        Column("pairs", "", "count", shown=False),
    ]  # fmt: skip
    caption = (
        "PCKA of things that are no substrate; the substrate's median is "
        f"{number(result['pcka']['median'])}. 5% and 95% are quantiles of the medians of the "
        "draws, pairs' 95% that of the pairs of all draws; ≥ substrate: where a control is as "
        "high. The paper names its controls without defining them, so they have more than one "
        "reading."
    )
    yield Table("", caption, columns, rows, "controls.csv")
    points = [page.sentence(f"{row['title']}: {row['says']}") for row in rows]
    yield Prose(points, title="What a high value of each would say", points=True)
    if overlaps := control_readings(result, transport=False):
        yield Figures([_overlap_picture(overlaps, list(result["domains"]))])


def _overlap_picture(overlaps: list[tuple[Reading, Mapping]], names: list[str]) -> Picture:
    lanes, cells = [], []
    for (reading, values), mark in zip(overlaps, MARKS[1:] * len(overlaps), strict=False):
        single = values["draws"] == 1
        items = names if single else [None] * len(values["values"])
        for name, value in zip(items, values["values"], strict=True):
            cells.append((reading.control, name, value))
        known = [value for value in values["values"] if value is not None]
        lanes.append(Lane(
            reading.title, known, mark, _noted(values["median"], None), hollow=not single,
            middle=values["median"],
        ))  # fmt: skip
    figure = domains_figures.strip(lanes, quantity="CKA with the substrate's scores")
    caption = (
        "A full mark is a domain: how far the components of plain image statistics arrange its "
        "images as its substrate does. Near 1, the substrate is those statistics; as low as random "
        "scores (hollow, one a draw), it is something else. Within one domain, so not a PCKA."
    )
    alt = "Strip. Medians: " + "; ".join(f"{x.label} {number(x.middle)}" for x in lanes)
    csv = page.csv_text(["control", "domain", "value"], cells)
    title = "How much of a substrate is plain image statistics"
    return page.drawn("overlap", title, caption, f"{alt}.", figure, csv)


def _noted(median: float | None, paper: float | None) -> str:
    return f"median {number(median)}" + (f", paper {number(paper)}" if paper is not None else "")
