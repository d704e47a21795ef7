"""The part of a detector's page about images from none of its domains."""

from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses.detector import figures
from substrate_jax.analyses.detector.metrics import COVERAGES, over_units
from substrate_jax.analyses.detector.results import FAR, LEFT_OUT, NEAR, Evaluation, Unknown
from substrate_jax.analyses.detector.scores import P_VALUE, REPORTED, TITLES
from substrate_jax.analyses.detector.words import abstention, between, percent
from substrate_jax.report import page, strips
from substrate_jax.report.page import Block, Column, Figures, Prose, Table
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import csv_text, number

KINDS = {
    LEFT_OUT: Tag("L", "#0072b2", "a domain left out of the fit"),
    NEAR: Tag("N", "#d55e00", "near: a further set of a kind that is known"),
    FAR: Tag("F", "#009e73", "far: another kind, noise, single colors"),
}


def unknown_blocks(found: Evaluation) -> Iterator[Block]:
    """Figures and tables of abstention.

    Args:
        found: an evaluation, with or without unknown sets.
    """
    yield Prose([abstention(found)])
    if not found.unknowns:
        yield Prose(["There is no set of images from elsewhere to measure it on."])
        return
    kinds = [kind for kind in KINDS if found.of_kind(kind)]
    lanes = {
        title: [
            (KINDS[kind], [one.scores[score].auroc.value for one in found.of_kind(kind)])
            for kind in kinds
        ]
        for score, title in REPORTED.items()
    }
    values = [v for groups in lanes.values() for _, group in groups for v in group]
    low = float(np.floor(10 * min([*values, 0.9])) / 10)
    figure = strips.dots(lanes, quantity="AUROC, known against unknown", limits=(low, 1.0))
    rows = [row for one in found.unknowns for row in _score_rows(one)]
    keys = ("unknown", "kind", "score", "auroc", "auroc_low", "auroc_high")
    csv = csv_text(keys, ([row[key] for key in keys] for row in rows))
    caption = (
        "A dot per unknown set; a black stroke at the mean of several. .5 is chance. The p-value "
        f"is that of {TITLES[found.score]} within the domain answered."
    )
    pictures = [page.drawn("auroc", "Scores and p-value", caption, _alt(found), figure, csv)]
    curves, best = _curves(found.of_kind(kinds[0]))
    over = "domains left out" if kinds[0] == LEFT_OUT else f"{kinds[0]} sets"
    caption = (
        f"Rows are answered from the most usual to the least, mean over {over}. At 100% every "
        "unknown image is answered, wrongly."
    )
    figure = figures.coverage(curves, COVERAGES, best)
    csv = csv_text(
        ["coverage", *curves, "best"],
        ([c, *(v[i] for v in curves.values()), best[i]] for i, c in enumerate(COVERAGES)),
    )
    alt = "Accuracy of the answered rows against the share that is answered, for each score."
    pictures.append(page.drawn("coverage", "Answering less", caption, alt, figure, csv))
    yield Figures(pictures, legend=[KINDS[kind] for kind in kinds])
    yield _summary_table(found, kinds)
    yield _answered_table(found)
    yield _score_table(rows)


def _alt(found: Evaluation) -> str:
    left = found.of_kind(LEFT_OUT) or list(found.unknowns)
    means = {s: float(np.mean([one.scores[s].auroc.value for one in left])) for s in REPORTED}
    words = ", ".join(f"{REPORTED[score]} {number(value)}" for score, value in means.items())
    return f"Mean AUROC over {left[0].kind} sets: {words}."


def _curves(sets: Sequence[Unknown]) -> tuple[dict[str, list[float]], list[float]]:
    """Mean accuracy at each coverage by score, and that of a score that knows what is wrong."""
    curves = {
        title: np.mean([one.scores[score].accuracy for one in sets], axis=0).tolist()
        for score, title in REPORTED.items()
    }
    whole = [one.scores["softmax"].accuracy[-1] for one in sets]
    best = np.mean([[min(right / c, 1.0) for c in COVERAGES] for right in whole], axis=0)
    return curves, best.tolist()


def _summary_table(found: Evaluation, kinds: Sequence[str]) -> Table:
    """Means over the sets of each kind, a row for each score."""
    rows = []
    for kind in kinds:
        sets = found.of_kind(kind)
        for score, title in REPORTED.items():
            auroc = over_units([one.scores[score].auroc.value for one in sets])
            means = {
                key: float(np.mean([get(one.scores[score]) for one in sets]))
                for key, get in {
                    "fpr95": lambda s: s.fpr95.value,
                    "aupr_in": lambda s: s.aupr_in,
                    "aupr_out": lambda s: s.aupr_out,
                    "aurc": lambda s: s.aurc,
                    "at_80": lambda s: s.accuracy[COVERAGES.index(0.8)],
                }.items()
            }
            ends = "" if np.isnan(auroc.low) else f" ({auroc.low:.3f} to {auroc.high:.3f})"
            rows.append(
                {
                    "kind": kind,
                    "sets": len(sets),
                    "score": title,
                    "auroc_shown": f"{auroc.value:.3f}{ends}",
                    "auroc": auroc.value,
                    "auroc_low": auroc.low,
                    "auroc_high": auroc.high,
                    **means,
                }
            )
    columns = [
        Column("kind", "Unknown"),
        Column("sets", "Sets", "count"),
        Column("score", "Score"),
        Column("auroc_shown", "AUROC"),
        *(Column(key, key, "score", shown=False) for key in ("auroc", "auroc_low", "auroc_high")),
        Column("fpr95", "FPR@95", "score"),
        Column("aupr_in", "AUPR in", "score"),
        Column("aupr_out", "AUPR out", "score"),
        Column("aurc", "AURC", "score"),
        Column("at_80", "right at 80%", "score"),
    ]
    caption = (
        "Means over the sets of a kind; intervals over sets, where there are three or more. "
        "FPR@95: unknown images accepted where 95% of the known are. AURC: mean share of wrong "
        "answers over all coverages."
    )
    return Table("Scores", caption, columns, rows, "scores.csv")


def _answered_table(found: Evaluation) -> Table:
    rows = []
    for one in found.unknowns:
        auroc = one.scores[P_VALUE].auroc
        taken = max(one.answered, key=lambda name: one.answered[name])
        rows.append(
            {
                "unknown": one.name,
                "kind": one.kind,
                "rows": one.rows,
                "turned": between(one.abstained),
                "taken": f"{taken}, {percent(one.answered[taken])}" if one.answered[taken] else "–",
                "auroc_shown": f"{number(auroc.value)} ({auroc.low:.3f} to {auroc.high:.3f})",
                "abstained": one.abstained.value,
                "abstained_low": one.abstained.low,
                "abstained_high": one.abstained.high,
            }
        )
    columns = [
        Column("unknown", "Unknown set"),
        Column("kind", "Kind"),
        Column("rows", "Images", "count"),
        Column("turned", "Turned away"),
        Column("taken", "Most often taken for"),
        Column("auroc_shown", "AUROC of p"),
        *(
            Column(key, key, "score", shown=False)
            for key in ("abstained", "abstained_low", "abstained_high")
        ),
    ]
    caption = f"By {TITLES[found.score]}, at α = {found.alpha:g}; 95% intervals over images."
    return Table("What it does with each", caption, columns, rows, "unknown.csv")


def _score_rows(one: Unknown) -> Iterator[dict]:
    for score, found in one.scores.items():
        yield {
            "unknown": one.name,
            "kind": one.kind,
            "score": REPORTED[score],
            "rows": one.rows,
            "known_rows": one.known_rows,
            "auroc": found.auroc.value,
            "auroc_low": found.auroc.low,
            "auroc_high": found.auroc.high,
            "fpr95": found.fpr95.value,
            "fpr95_low": found.fpr95.low,
            "fpr95_high": found.fpr95.high,
            "aupr_in": found.aupr_in,
            "aupr_out": found.aupr_out,
            "aurc": found.aurc,
            **{f"right_at_{c:g}": v for c, v in zip(found.coverages, found.accuracy, strict=True)},
        }


def _score_table(rows: Sequence[dict]) -> Table:
    words = {"unknown": "Unknown set", "kind": "Kind", "score": "Score"}
    counts = {"rows": "Images", "known_rows": "Known images"}
    columns = [
        Column(
            key,
            words.get(key) or counts.get(key) or key,
            "text" if key in words else "count" if key in counts else "score",
            shown=not key.endswith(("_low", "_high")),
        )
        for key in rows[0]
    ]
    caption = "Intervals of AUROC and FPR@95 are in the CSV."
    return Table("Every score on every set", caption, columns, rows, "separation.csv", folded=True)
