"""The part of a domains report that compares discriminative with masked-reconstruction encoders.

`panel_blocks` turns a panel test into blocks: for each measure (calibrated CKA, which is global,
and mutual k-NN recall, which is local) the ratio of the two means in each domain and over all of
them, and every pair of encoders; then the ratios without each family.

Cost: two figures per measure, about 0.1 s each.

Not guaranteed: that a ratio means much where the masked encoders hardly pass chance: it divides by
a small number, and its interval says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from substrate_jax.analyses import paper
from substrate_jax.analyses.cka.results import (
    DomainSeparation,
    FamilyLeftOut,
    PanelTest,
    Ratio,
    Separation,
)
from substrate_jax.analyses.cka.separation import POOLED
from substrate_jax.report import page, strips
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.shared_blocks import PAIR_KINDS
from substrate_jax.report.strips import Lane
from substrate_jax.report.text import counted, csv_text, number, sentence

# Ratios beyond stand at the border: an interval may end at infinity.
LIMITS = (0.1, 100.0)
PARTS = ("mean", "low", "high", "pairs")


def panel_blocks(panel: PanelTest) -> Iterator[page.Block]:
    """Ratios, pairs, and what they are without each family."""
    tests = panel.domains
    intervals = " This run has no intervals."
    if panel.draws:
        intervals = (
            f" Intervals are at {panel.level:.0%}, from {panel.draws} resamples of the images."
        )
    remarks = ""
    if any(test.cka.mim.pairs == 1 for test in tests.values()):
        remarks += " There is one MIM pair, so intervals are of the images alone."
    if POOLED in tests:
        remarks += " Pooled, any encoder tells the domains apart, so expect a ratio near 1 there."
    question = (
        "Do encoders trained to tell images apart (supervised or self-supervised, S or C) agree "
        "more with each other than encoders trained to fill in masked pixels (MIM, M)? Calibrated "
        "CKA asks globally, for the arrangement of all images; mutual k-NN recall locally, for "
        "the nearest ones. The ratio is that of the two means; 1 is no difference."
    )
    yield Prose([question + intervals + remarks])
    ratios, pairs = [], []
    for measure, title in _measures(tests).items():
        every = {name: test.by(measure) for name, test in tests.items()}
        found = {name: test for name, test in every.items() if test}
        ratios.append(_ratio_picture(measure, title, found))
        if any(np.isfinite(pair.score) for test in found.values() for pair in test.pairs):
            pairs.append(_pairs_picture(measure, title, found))
    yield Figures(ratios, title="Ratios")
    if pairs:
        legend = list(PAIR_KINDS.values())
        yield Figures(pairs, title="Every pair of encoders", legend=legend, folded=True)
    yield from _family_table(tests)


def _measures(tests: Mapping[str, DomainSeparation]) -> dict[str | int, str]:
    """Measure -> its title: CKA, then mutual k-NN for each k."""
    ks = dict.fromkeys(k for test in tests.values() for k in test.mutual_knn)
    return {"cka": "calibrated CKA"} | {k: f"mutual k-NN recall, k = {k}" for k in ks}


def _ratio_picture(measure: str | int, title: str, found: Mapping[str, Separation]) -> Picture:
    lanes, rows = [], []
    for name, test in found.items():
        ratio = test.ratio
        lanes.append(
            Lane(
                "all domains pooled" if name == POOLED else name,
                [] if ratio.value is None else [_inside(ratio.value)],
                note=number(ratio.value, "ratio") + interval_in_words(ratio),
                interval=_shown_interval(ratio),
            )
        )
        means = [getattr(of, part) for of in (test.discriminative, test.mim) for part in PARTS]
        rows.append((name, ratio.value, ratio.low, ratio.high, *means))
    if measure in paper.RATIOS:
        there = paper.RATIOS[measure]
        note = number(there, "ratio")
        lanes.append(Lane("paper, Imagenette", [], note=note, paper=there))
    figure = strips.strip(
        lanes,
        quantity="discriminative / MIM (logarithmic)",
        limits=(0.8, 10.0),
        line=1.0,
        logarithmic=True,
    )
    caption = (
        "A dot is the ratio of the two means, the line through it its interval; right of the blue "
        "line at 1, discriminative encoders agree more. An arrow is an open end: some draws of the "
        "images have a MIM mean of 0. No dot: that mean is 0, or there is no pair of a kind."
    )
    said = "; ".join(f"{name} {number(of.ratio.value, 'ratio')}" for name, of in found.items())
    means = [f"{kind}_{part}" for kind in ("discriminative", "mim") for part in PARTS]
    csv = csv_text(["domain", "ratio", "low", "high", *means], rows)
    alt = f"Strip. Ratios of {title}: {said}."
    heading = sentence(title)[:-1]
    return page.drawn(_file(measure, "ratio"), heading, caption, alt, figure, csv)


def _shown_interval(ratio: Ratio) -> tuple[float, float] | None:
    """The interval within the figure's limits, infinite where its upper end is open."""
    if ratio.low is None:
        return None
    return _inside(ratio.low), np.inf if ratio.high is None else _inside(ratio.high)


def _pairs_picture(measure: str | int, title: str, found: Mapping[str, Separation]) -> Picture:
    lanes, rows = {}, []
    for name, test in found.items():
        kinds: dict[str, list[float]] = {kind: [] for kind in PAIR_KINDS}
        for pair in test.pairs:
            rows.append((name, pair.a, pair.b, pair.kind, pair.score, pair.raw))
            if np.isfinite(pair.score):
                kinds[pair.kind].append(pair.score)
        label = "all pooled" if name == POOLED else name
        lanes[label] = [(PAIR_KINDS[kind], values) for kind, values in kinds.items()]
    figure = strips.dots(lanes, quantity=title)
    caption = (
        "A dot is a pair of encoders, a black line the mean of several. A difference of the means "
        "that holds for most pairs shows as two clouds apart; one that hangs on a few pairs does "
        "not."
    )
    counts = "; ".join(
        f"{name} {counted(test.discriminative.pairs, 'discriminative pair')} of mean "
        f"{number(test.discriminative.mean)}, {test.mim.pairs} MIM of {number(test.mim.mean)}"
        for name, test in found.items()
    )
    csv = csv_text(["domain", "encoder_a", "encoder_b", "kind", "score", "raw"], rows)
    heading = sentence(title)[:-1]
    alt = f"Dots. {heading}: {counts}."
    return page.drawn(_file(measure, "pairs"), heading, caption, alt, figure, csv)


def _family_table(tests: Mapping[str, DomainSeparation]) -> Iterator[Table]:
    """Ratios with all encoders and without each family, a row per domain and family."""
    measures = _measures(tests)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name in sorted(tests, key=lambda name: name != POOLED):
        for measure in measures:
            if not (test := tests[name].by(measure)):
                continue
            for found in (_with_all(test), *test.leave_out):
                head = {
                    "domain": name,
                    "family": found.family,
                    "members": ", ".join(found.encoders) or None,
                }
                row = rows.setdefault((name, found.family), head)
                for part in ("ratio", "low", "high", "discriminative_mean"):
                    row[f"{measure}_{part}"] = getattr(found, part)
    if len(rows) == len(tests):
        return
    columns = [
        Column("domain", "Domain"),
        Column("family", "Without"),
        Column("members", "", shown=False),
    ]
    for measure in measures:
        label = "CKA" if measure == "cka" else f"k = {measure}"
        columns += [
            Column(f"{measure}_ratio", f"Ratio, {label}", "ratio"),
            Column(f"{measure}_low", "low", "ratio", shown=measure == "cka"),
            Column(f"{measure}_high", "high", "ratio", shown=measure == "cka"),
            Column(f"{measure}_discriminative_mean", "", "score", shown=False),
        ]
    blank = {column.key: None for column in columns}
    *others, last = (f"{ratio} without {name}" for name, ratio in paper.RATIO_WITHOUT.items())
    caption = (
        "The ratio with all encoders (none) and without the discriminative encoders of one family. "
        "If it falls much without one family, the pairs within that family made it. The paper has "
        f"{paper.RATIOS['cka']} with all, {', '.join(others)} and {last}, by calibrated CKA on "
        "Imagenette. The CSV has the intervals of mutual k-NN too."
    )
    table = [blank | row for row in rows.values()]
    yield Table("Without one family", caption, columns, table, "families.csv")


def _with_all(test: Separation) -> FamilyLeftOut:
    """A separation in the form of one without a family: none is left out."""
    ratio, mean = test.ratio, test.discriminative.mean
    return FamilyLeftOut("none", [], ratio.value, ratio.low, ratio.high, mean)


def interval_in_words(ratio: Ratio) -> str:
    """The interval of a ratio in parentheses, nothing where there is none.

    Example:
        >>> interval_in_words(Ratio(2.0, 1.5, 3.0)), interval_in_words(Ratio(None, 2.0, None))
        (' (1.50× to 3.00×)', ' (2.00× or more)')
    """
    if ratio.low is None:
        return ""
    end = "or more" if ratio.high is None else f"to {number(ratio.high, 'ratio')}"
    return f" ({number(ratio.low, 'ratio')} {end})"


def _inside(value: float) -> float:
    return min(max(value, LIMITS[0]), LIMITS[1])


def _file(measure: str | int, part: str) -> str:
    return f"panel-{'cka' if measure == 'cka' else f'knn{measure}'}-{part}"
