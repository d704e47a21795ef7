"""Two sections of a domains report: what PCKA can reach with how many components, and its panel.

`number_blocks` shows the ceiling of each domain, the sweep of K and the variance in the components;
`left_out_blocks` the median without each encoder and each family.

Cost: about 0.1 s per figure.

Not guaranteed: that figures use the same axis; each says what it shows.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from substrate_jax.analyses import paper
from substrate_jax.analyses.domains.results import (
    DomainsResult,
    LeaveOneOut,
    LeftOut,
    SplitHalf,
    Spread,
)
from substrate_jax.analyses.domains.values import ceiling_means, known, share_of
from substrate_jax.report import page, plots, strips
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.strips import Lane
from substrate_jax.report.text import counted, csv_text, number


def number_blocks(result: DomainsResult) -> Iterator[page.Block]:
    """What PCKA can reach at this number of images, and what it is with other numbers of K."""
    split, ceilings = result.comparison.split_half, ceiling_means(result)
    if split and ceilings:
        yield Figures([_ceiling_picture(result, split, ceilings)])
    else:
        yield Prose(["This run has no ceiling: too few images for halves, or no splits asked for."])
    yield Figures([_sweep_picture(result), _variance_picture(result)])


def _ceiling_picture(
    result: DomainsResult, split: SplitHalf, ceilings: Mapping[str, float]
) -> Picture:
    names, matrix = list(result.domains), result.comparison.pcka.matrix
    lanes, rows = [], []
    for i, (name, row) in enumerate(zip(names, matrix, strict=True)):
        others, found = np.delete(row, i), split.ceiling.get(name, Spread(None, None, None))
        low, high = found.low, found.high
        lanes.append(
            Lane(
                name,
                others[np.isfinite(others)].tolist(),
                note=f"ceiling {number(found.mean)}",
                middle=found.mean if known(found.mean) else None,
                interval=(low, high) if known(low) and known(high) else None,
            )
        )
        rows.append((name, "ceiling", found.mean, low, high))
        rows += [
            (name, other, value, None, None)
            for other, value in zip(np.delete(names, i), others, strict=True)
        ]
    figure = strips.strip(lanes, quantity="PCKA", line=split.between)
    caption = (
        f"Dots: PCKA of the domain with each other one. Black line: its ceiling, the mean PCKA of "
        f"two halves of its own images over {counted(split.splits, 'split')}, with the least "
        f"and the greatest. A dot at the ceiling is as alike as {split.n:,} images can tell. "
        f"Blue line: the median between halves of different domains, {number(split.between)}, "
        "which is at the ceiling's number of images."
    )
    alt = "Strip. Ceilings: " + "; ".join(f"{k} {number(v)}" for k, v in ceilings.items())
    csv = csv_text(["domain", "with", "value", "low", "high"], rows)
    title = "Each domain's ceiling, and its PCKA with the others"
    return page.drawn("ceiling", title, caption, f"{alt}.", figure, csv)


def _sweep_picture(result: DomainsResult) -> Picture:
    sweep, there = result.comparison.sweep, paper.SWEEP
    figure = plots.sweep(
        sweep.ks,
        sweep.median,
        interval=(sweep.low, sweep.high) if sweep.low and sweep.high else None,
        spread=(sweep.least, sweep.greatest),
        paper=there,
        k=result.k,
        names={
            "median": "median over pairs of domains",
            "interval": f"its {result.comparison.pcka.level:.0%} interval",
            "spread": "from the least pair to the greatest",
            "paper": "paper: median of its four domains, another panel",
        },
    )
    caption = (
        "Median PCKA against the number of components. Where the curve is flat, further "
        f"components change nothing. The upright line is K = {result.k}, used everywhere else."
    )
    alt = "Curve. Median PCKA: " + "; ".join(
        f"K = {k} {number(v)}" for k, v in zip(sweep.ks, sweep.median, strict=True)
    )
    blank = [None] * len(sweep.ks)
    parts = (sweep.median, sweep.low or blank, sweep.high or blank, sweep.least, sweep.greatest)
    ours = dict(zip(sweep.ks, zip(*parts, strict=True), strict=True))
    unknown = (None,) * len(parts)
    rows = [(k, *ours.get(k, unknown), there.get(k)) for k in sorted({*ours, *there})]
    header = ["k", "median", "low", "high", "least", "greatest", "paper_four_domains"]
    csv = csv_text(header, rows)
    title = "PCKA against the number of components"
    return page.drawn("sweep", title, caption, f"{alt}.", figure, csv)


def _variance_picture(result: DomainsResult) -> Picture:
    shares = {name: d.explained_variance_ratio.tolist() for name, d in result.domains.items()}
    figure = plots.variance(shares, k=result.k)
    caption = (
        "Share of the variance of a domain's standardized features in its first components. The "
        "earlier a curve rises, the fewer directions hold the domain. A high curve makes high PCKA "
        "easy: random directions then meet the few strong ones too."
    )
    said = "; ".join(
        f"{name} {number(share_of(domain, result.k))}" for name, domain in result.domains.items()
    )
    alt = f"Curves. Share of variance in {result.k} components: {said}."
    rows = [(name, i, value) for name, values in shares.items() for i, value in enumerate(values)]
    csv = csv_text(["domain", "component", "share"], rows)
    return page.drawn("variance", "Explained variance", caption, alt, figure, csv)


def left_out_blocks(left_out: LeaveOneOut) -> Iterator[page.Block]:
    """The median without each encoder and without each family."""
    if not left_out.encoders:
        yield Prose(["There is one encoder, so none can be left out."])
        return
    kinds = {"encoder": left_out.encoders, "family": left_out.families}
    every = [row for rows in kinds.values() for row in rows]
    least, most = (choose(every, key=lambda row: row.median) for choose in (min, max))
    figure = plots.bars(
        {
            f"without one {kind}": {row.left_out: row.median for row in rows}
            for kind, rows in kinds.items()
            if rows
        },
        baseline=left_out.none,
        quantity="median PCKA",
        line="all encoders",
    )
    caption = (
        "Median PCKA over pairs of domains when one encoder, or one family, is taken out of the "
        "panel. Bars begin at the value of all encoders: to the left (orange) the panel agrees "
        "less without it, to the right (blue) more. Mind the axis, which does not begin at 0."
    )
    alt = (
        f"Bars. Median PCKA {number(left_out.none)} with all encoders; from "
        f"{number(least.median)} without {least.left_out} to {number(most.median)} "
        f"without {most.left_out}."
    )
    rows = [_left_out_row(kind, row, left_out.none) for kind, of in kinds.items() for row in of]
    keys = ["kind", "left_out", "median", "min", "change", "members"]
    csv = csv_text(keys, ([row[key] for key in keys] for row in rows))
    title = "Median PCKA without one encoder or family"
    yield Figures([page.drawn("left-out", title, caption, alt, figure, csv)])
    columns = [
        Column("kind", "Left out"),
        Column("left_out", "Name"),
        Column("median", "Median", "score"),
        Column("change", "Change", "score"),
        Column("min", "Least pair", "score"),
        Column("paper", "Paper's change", "score"),
        Column("members", "Encoders of the family"),
    ]
    caption = (
        "The paper's change is that of its panel of five, median "
        f"{number(paper.ALL_ENCODERS)}, for the encoder of that name."
    )
    yield Table("As a table", caption, columns, rows, "left-out.csv", folded=True)


def _left_out_row(kind: str, row: LeftOut, none: float) -> dict[str, Any]:
    there = paper.WITHOUT.get(row.left_out.removeprefix("mini_")) if kind == "encoder" else None
    return dataclasses.asdict(row) | {
        "kind": kind,
        "change": row.median - none,
        "members": ", ".join(row.encoders or ()) or None,
        "paper": None if there is None else there - paper.ALL_ENCODERS,
    }
