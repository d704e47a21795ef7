"""The section of a domains report on the controls.

`control_strip` is the figure of the overview, `control_blocks` the section.

Cost: about 0.1 s per figure.

Not guaranteed: that figures of different sections use the same axis; each says what it shows.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.domains.readings import Reading
from substrate_jax.analyses.domains.results import ControlValues, DomainsResult
from substrate_jax.analyses.domains.values import PairControl, overlap_controls, pair_controls
from substrate_jax.report import page, strips
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.strips import OURS, Lane
from substrate_jax.report.text import csv_text, number, sentence
from substrate_jax.report.values import upper


def control_strip(result: DomainsResult) -> Picture:
    """PCKA of the substrate's pairs, and below it that of every control."""
    pcka, controls = result.comparison.pcka, pair_controls(result)
    observed = _numbers(upper(pcka.matrix))
    lanes = [Lane("substrate", observed, OURS, _noted(pcka.median), middle=pcka.median)]
    rows = [("substrate", "", value) for value in observed]
    names = dict.fromkeys(control.reading.control for control in controls)
    marks = dict(zip(names, MARKS[1:] * 9, strict=False))
    for control in controls:
        reading, values = control.reading, control.values
        shown = _numbers(values.values)
        lanes.append(
            Lane(
                reading.title,
                shown,
                marks[reading.control],
                _noted(control.median, values.paper),
                hollow=not reading.primary,
                middle=control.median,
                paper=values.paper,
            )
        )
        rows += [(reading.control, reading.name, value) for value in shown]
    figure = strips.strip(
        lanes,
        quantity="PCKA",
        limits=(min([0.0, *(value for *_, value in rows)]), 1.0),
        band=(min(observed), max(observed)) if observed else None,
        line=pcka.median,
    )
    several = any(control.values.draws > 1 for control in controls)
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


def control_blocks(result: DomainsResult) -> Iterator[page.Block]:
    """A table of the controls, and how much of the substrates plain image statistics give."""
    controls = pair_controls(result)
    yield _control_table(result, controls)
    points = [sentence(f"{c.reading.title}: {c.reading.says}") for c in controls]
    yield Prose(points, title="What a high value of each would say", points=True)
    if overlaps := overlap_controls(result):
        yield Figures([_overlap_picture(overlaps, list(result.domains))])


def _control_table(result: DomainsResult, controls: Sequence[PairControl]) -> Table:
    rows = [
        {
            "title": control.reading.title,
            "kind": "first" if control.reading.primary else "alternative",
            "median": control.median,
            "low": control.values.low,
            "high": control.values.high,
            "item_high": control.values.item_high,
            "draws": control.values.draws,
            "shown": f"in {control.reached} of {control.pairs} pairs",
            "paper": control.values.paper,
            "paper_high": control.values.paper_high,
            "control": control.reading.control,
            "reading": control.reading.name,
            "reached": control.reached,
            "pairs": control.pairs,
        }
        for control in controls
    ]
    columns = [
        Column("title", "Control"),
        Column("kind", "Compare"),
        Column("median", "Median", "score"),
        Column("low", "5%", "score"),
        Column("high", "95%", "score"),
        Column("item_high", "Pairs' 95%", "score"),
        Column("draws", "Draws", "count"),
        Column("shown", "≥ substrate"),
        Column("paper", "Paper", "score"),
        Column("paper_high", "Paper, 95%", "score"),
        Column("control", "", shown=False),
        Column("reading", "", shown=False),
        Column("reached", "", "count", shown=False),
        Column("pairs", "", "count", shown=False),
    ]
    caption = (
        "PCKA of things that are no substrate; the substrate's median is "
        f"{number(result.comparison.pcka.median)}. 5% and 95% are quantiles of the medians of the "
        "draws, pairs' 95% that of the pairs of all draws; ≥ substrate: where a control is as "
        "high. The paper names its controls without defining them, so they have more than one "
        "reading."
    )
    return Table("", caption, columns, rows, "controls.csv")


def _overlap_picture(
    overlaps: Sequence[tuple[Reading, ControlValues]], names: Sequence[str]
) -> Picture:
    lanes, cells = [], []
    for (reading, found), mark in zip(overlaps, MARKS[1:] * len(overlaps), strict=False):
        single = found.draws == 1
        items = names if single else [None] * len(found.values)
        cells += [
            (reading.control, name, value) for name, value in zip(items, found.values, strict=True)
        ]
        lanes.append(
            Lane(
                reading.title,
                _numbers(found.values),
                mark,
                _noted(found.median),
                hollow=not single,
                middle=found.median,
            )
        )
    figure = strips.strip(lanes, quantity="CKA with the substrate's scores")
    caption = (
        "A full mark is a domain: how far the components of plain image statistics arrange its "
        "images as its substrate does. Near 1, the substrate is those statistics; as low as random "
        "scores (hollow, one per draw), it is something else. Within one domain, so not a PCKA."
    )
    alt = "Strip. Medians: " + "; ".join(f"{x.label} {number(x.middle)}" for x in lanes)
    csv = csv_text(["control", "domain", "value"], cells)
    title = "How much of a substrate is plain image statistics"
    return page.drawn("overlap", title, caption, f"{alt}.", figure, csv)


def _numbers(values: Float[np.ndarray, " items"]) -> list[float]:
    """The values without NaN."""
    return values[np.isfinite(values)].tolist()


def _noted(median: float | None, paper: float | None = None) -> str:
    return f"median {number(median)}" + (f", paper {number(paper)}" if paper is not None else "")
