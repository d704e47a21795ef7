"""Two sections of a domains report: what PCKA can reach with how many components, and its panel.

`number_blocks` shows the ceiling of each domain, the sweep of K and the variance in the components;
`left_out_blocks` the median without each encoder and each family.

Cost: about 0.1 s a figure.

Not guaranteed: that figures use the same axis; each says what it shows.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from substrate_jax.analyses.domains.values import (
    ceiling_means,
    control_readings,
    matrix_of,
    share_of,
)
from substrate_jax.analyses.paper import PAPER_ALL, PAPER_SWEEP, PAPER_WITHOUT
from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page
from substrate_jax.report import plots as domains_figures
from substrate_jax.report.heatmaps import CellSize
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.plots import OURS, Lane
from substrate_jax.report.text import counted, csv_text, describe, matrix_csv, number
from substrate_jax.report.values import square, upper


def number_blocks(result: dict) -> Iterator[page.Block]:
    """What PCKA can reach at this number of images, and what it is with other numbers of K."""
    if ceilings := ceiling_means(result):
        yield Figures([_ceiling_picture(result, ceilings)])
    else:
        yield Prose(["This run has no ceiling: too few images for halves, or no splits asked for."])
    yield Figures([_sweep_picture(result), _variance_picture(result)])


def _ceiling_picture(result: dict, ceilings: Mapping[str, float]) -> Picture:
    split, names = result["split_half"], list(result["domains"])
    matrix = matrix_of(result, "pcka")
    lanes, rows = [], []
    for i, name in enumerate(names):
        others = np.delete(matrix[i], i)
        found = split["ceiling"].get(name, dict.fromkeys(("mean", "low", "high")))
        ends = (found["low"], found["high"])
        lanes.append(Lane(
            name, others[np.isfinite(others)], OURS, f"ceiling {number(found['mean'])}",
            middle=found["mean"], interval=None if None in ends else ends,
        ))  # fmt: skip
        rows.append((name, "ceiling", *found.values()))
        rows += [
            (name, other, value, None, None)
            for other, value in zip(np.delete(names, i), others, strict=True)
        ]
    figure = domains_figures.strip(lanes, quantity="PCKA", line=split["between"])
    caption = (
        f"Dots: PCKA of the domain with each other one. Black line: its ceiling, the mean PCKA of "
        f"two halves of its own images over {counted(split['splits'], 'split')}, with the least "
        f"and the greatest. A dot at the ceiling is as alike as {split['n']:,} images can tell. "
        f"Blue line: the median between halves of different domains, {number(split['between'])}, "
        "which is at the ceiling's number of images."
    )
    alt = "Strip. Ceilings: " + "; ".join(f"{k} {number(v)}" for k, v in ceilings.items())
    csv = csv_text(["domain", "with", "value", "low", "high"], rows)
    title = "Each domain's ceiling, and its PCKA with the others"
    return page.drawn("ceiling", title, caption, f"{alt}.", figure, csv)


def _sweep_picture(result: dict) -> Picture:
    sweep, pcka = result["sweep"], result["pcka"]
    interval = None if sweep["low"] is None else (sweep["low"], sweep["high"])
    names = {
        "median": "median over pairs of domains", "interval": f"its {pcka['level']:.0%} interval",
        "spread": "from the least pair to the greatest",
        "paper": "paper: median of its four domains, another panel",
    }  # fmt: skip
    figure = domains_figures.sweep(
        sweep["ks"], sweep["median"], interval=interval, k=result["k"], names=names,
        spread=(sweep["least"], sweep["greatest"]), paper=PAPER_SWEEP,
    )  # fmt: skip
    caption = (
        "Median PCKA against the number of components. Where the curve is flat, further "
        f"components change nothing. The upright line is K = {result['k']}, used everywhere else."
    )
    alt = "Curve. Median PCKA: " + "; ".join(
        f"K = {k} {number(v)}" for k, v in zip(sweep["ks"], sweep["median"], strict=True)
    )
    blank = [None] * len(sweep["ks"])
    table = dict(zip(sweep["ks"], zip(
        sweep["median"], sweep["low"] or blank, sweep["high"] or blank, sweep["least"],
        sweep["greatest"], strict=True,
    ), strict=True))  # fmt: skip
    rows = [
        (k, *table.get(k, (None,) * 5), PAPER_SWEEP.get(k)) for k in sorted({*table, *PAPER_SWEEP})
    ]
    header = ["k", "median", "low", "high", "least", "greatest", "paper_four_domains"]
    csv = csv_text(header, rows)
    title = "PCKA against the number of components"
    return page.drawn("sweep", title, caption, f"{alt}.", figure, csv)


def _variance_picture(result: dict) -> Picture:
    shares = {
        name: np.array(domain["explained_variance_ratio"], float)
        for name, domain in result["domains"].items()
    }
    figure = domains_figures.variance(shares, k=result["k"])
    caption = (
        "Share of the variance of a domain's standardized features in its first components. The "
        "earlier a curve rises, the fewer directions hold the domain. A high curve makes high PCKA "
        "easy: random directions then meet the few strong ones too."
    )
    said = "; ".join(f"{name} {number(share_of(result, name))}" for name in shares)
    alt = f"Curves. Share of variance in {result['k']} components: {said}."
    rows = [(name, i, value) for name, values in shares.items() for i, value in enumerate(values)]
    csv = csv_text(["domain", "component", "share"], rows)
    return page.drawn("variance", "Explained variance", caption, alt, figure, csv)


def left_out_blocks(result: dict) -> Iterator[page.Block]:
    """The median without each encoder and without each family."""
    left_out = result["leave_one_out"]
    if not left_out["encoders"]:
        yield Prose(["There is one encoder, so none can be left out."])
        return
    rows = [
        row | {"kind": kind, "change": row["median"] - left_out["none"],
               "members": ", ".join(row.get("encoders", ())) or None,
               "paper": _paper_change(row["left_out"]) if kind == "encoder" else None}
        for kind, part in (("encoder", "encoders"), ("family", "families"))
        for row in left_out[part]
    ]  # fmt: skip
    groups = {
        f"without one {kind}": {r["left_out"]: r["median"] for r in rows if r["kind"] == kind}
        for kind in ("encoder", "family")
    }
    figure = domains_figures.bars(
        {heading: values for heading, values in groups.items() if values},
        baseline=left_out["none"], quantity="median PCKA", line="all encoders",
    )  # fmt: skip
    caption = (
        "Median PCKA over pairs of domains when one encoder, or one family, is taken out of the "
        "panel. Bars begin at the value of all encoders: to the left (orange) the panel agrees "
        "less without it, to the right (blue) more. Mind the axis, which does not begin at 0."
    )
    least, most = min(rows, key=lambda r: r["change"]), max(rows, key=lambda r: r["change"])
    alt = (
        f"Bars. Median PCKA {number(left_out['none'])} with all encoders; from "
        f"{number(least['median'])} without {least['left_out']} to {number(most['median'])} "
        f"without {most['left_out']}."
    )
    keys = ["kind", "left_out", "median", "min", "change", "members"]
    csv = csv_text(keys, ([row[key] for key in keys] for row in rows))
    title = "Median PCKA without one encoder or family"
    yield Figures([page.drawn("left-out", title, caption, alt, figure, csv)])
    columns = [
        Column("kind", "Left out"), Column("left_out", "Name"),
        Column("median", "Median", "score"), Column("change", "Change", "score"),
        Column("min", "Least pair", "score"), Column("paper", "Paper's change", "score"),
        Column("members", "Encoders of the family"),
    ]  # fmt: skip
    caption = (
        f"The paper's change is that of its panel of five, median {number(PAPER_ALL)}, for the "
        "encoder of that name."
    )
    yield Table("As a table", caption, columns, rows, "left-out.csv", folded=True)


def _paper_change(name: str) -> float | None:
    value = PAPER_WITHOUT.get(name.removeprefix("mini_"))
    return None if value is None else value - PAPER_ALL


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
         "orthogonal ones. Colors are turned round, so that bright is alike in every map."),
    ):  # fmt: skip
        matrix, rank = matrix_of(result, key), result[key]["rank_correlation"]
        figure = figures.heatmap(
            matrix, names, quantity=title, limits=(0.0, _top(matrix)), tree=tree, size=MEDIUM,
            colormap=colormap,
        )  # fmt: skip
        followed = "" if rank is None else f" Rank correlation with PCKA {number(rank)}"
        turned = " (of its negative)" if key == "procrustes" and followed else ""
        caption = f"{words} Median {number(result[key]['median'])}.{followed}{turned}"
        csv = matrix_csv(names, names, matrix, "domain")
        alt = describe(f"{title} of domains", names, matrix)
        caption = caption.rstrip(".") + "."
        pictures.append(page.drawn(f"domains-{key}", title, caption, alt, figure, csv))
    yield Figures(pictures, title="Two more measures of the bases")
    yield _pair_table(result, names)


def _top(matrix: np.ndarray) -> float:
    """1, or as many halves more as the largest pair takes: a disparity reaches 2."""
    most = np.nanmax(upper(matrix), initial=0)
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
