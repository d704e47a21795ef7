"""Two sections of a domains report: the pairs of domains, and the controls.

Each function turns a part of the result of experiments.domains into blocks of its section.

Cost: about 0.1 s a figure.

Not guaranteed: that figures of different sections use the same axis; each says what it shows.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from substrate_jax.analyses.domains.controls import Reading
from substrate_jax.analyses.domains.values import control_readings, matrix_of, pairs_at_least
from substrate_jax.report import page
from substrate_jax.report import plots as domains_figures
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.plots import OURS, Lane
from substrate_jax.report.text import csv_text, number, sentence
from substrate_jax.report.values import upper


def control_strip(result: dict) -> Picture:
    """PCKA of the substrate's pairs, and below it that of every control."""
    pcka = result["pcka"]
    observed = upper(matrix_of(result, "pcka"))
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
    csv = csv_text(["control", "reading", "value"], rows)
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
    points = [sentence(f"{row['title']}: {row['says']}") for row in rows]
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
    csv = csv_text(["control", "domain", "value"], cells)
    title = "How much of a substrate is plain image statistics"
    return page.drawn("overlap", title, caption, f"{alt}.", figure, csv)


def _noted(median: float | None, paper: float | None) -> str:
    return f"median {number(median)}" + (f", paper {number(paper)}" if paper is not None else "")
