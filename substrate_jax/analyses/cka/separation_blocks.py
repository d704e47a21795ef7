"""The part of a domains report that compares discriminative with masked-reconstruction encoders.

`panel_blocks` turns panel_test of a result into blocks: for each measure (calibrated CKA, which is
global, and mutual k-NN recall, which is local) the ratio of the two means in each domain and over
all of them, and every pair of encoders; then the ratios without each family.

Cost: two figures a measure, about 0.1 s each.

Not guaranteed: that a ratio means much where the masked encoders hardly pass chance: it divides by
a small number, and its interval says so.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from substrate_jax.analyses.domains.values import POOLED
from substrate_jax.analyses.paper import PAPER_RATIOS
from substrate_jax.report import page, plots
from substrate_jax.report import plots as domains_figures
from substrate_jax.report.page import Column, Figures, Picture, Prose, Table
from substrate_jax.report.plots import OURS, Lane
from substrate_jax.report.shared_blocks import PAIR_KINDS
from substrate_jax.report.text import counted, csv_text, number, sentence

# Ratios beyond stand at the border: an interval may end at infinity.
LIMITS = (0.1, 100.0)


def panel_blocks(result: Mapping[str, Any]) -> Iterator[page.Block]:
    """Ratios, pairs, and what they are without each family.

    Args:
        result: plain values, with a `analyses.cka.separation`.
    """
    panel = result["panel_test"]
    tests = panel["domains"]
    intervals = (
        f" Intervals are at {panel['level']:.0%}, from {panel['draws']} resamples of the images."
        if panel.get("draws") else " This run has no intervals."
    )  # fmt: skip
    remarks = ""
    if any(test["cka"]["mim"]["pairs"] == 1 for test in tests.values()):
        remarks += " There is one MIM pair, so intervals are of the images alone."
    if POOLED in tests:
        remarks += " Pooled, any encoder tells the domains apart, so expect a ratio near 1 there."
    yield Prose([
        "Do encoders trained to tell images apart (supervised or self-supervised, S or C) agree "
        "more with each other than encoders trained to fill in masked pixels (MIM, M)? Calibrated "
        "CKA asks globally, for the arrangement of all images; mutual k-NN recall locally, for "
        "the nearest ones. The ratio is that of the two means; 1 is no difference."
        + intervals + remarks
    ])  # fmt: skip
    ratios, pairs = [], []
    for key, title in _measures(tests).items():
        found = {name: _measure(test, key) for name, test in tests.items()}
        found = {name: test for name, test in found.items() if test}
        ratios.append(_ratio_picture(key, title, found))
        if any(pair["score"] is not None for test in found.values() for pair in test["pairs"]):
            pairs.append(_pairs_picture(key, title, found))
    yield Figures(ratios, title="Ratios")
    if pairs:
        legend = list(PAIR_KINDS.values())
        yield Figures(pairs, title="Every pair of encoders", legend=legend, folded=True)
    yield from _family_table(tests)


def _measures(tests: Mapping[str, Any]) -> dict[str, str]:
    """Key and title of every measure: CKA, then mutual k-NN for each k."""
    ks = dict.fromkeys(k for test in tests.values() for k in test["mutual_knn"])
    return {"cka": "calibrated CKA"} | {k: f"mutual k-NN recall, k = {k}" for k in ks}


def _measure(test: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    return test["cka"] if key == "cka" else test["mutual_knn"].get(key)


def _ratio_picture(key: str, title: str, found: Mapping[str, Any]) -> Picture:
    lanes, rows = [], []
    for name, test in found.items():
        ratio = test["ratio"]
        value, low, high = (ratio[part] for part in ("value", "low", "high"))
        ends = None if low is None else (_inside(low), np.inf if high is None else _inside(high))
        shown = [] if value is None else [_inside(value)]
        note = number(value, "ratio") + ratio_interval(ratio)
        label = "all domains pooled" if name == POOLED else name
        lanes.append(Lane(label, shown, OURS, note, interval=ends))
        kinds = [test[kind][part] for kind in ("discriminative", "mim")
                 for part in ("mean", "low", "high", "pairs")]  # fmt: skip
        rows.append((name, value, low, high, *kinds))
    if key in PAPER_RATIOS:
        lanes.append(Lane("paper, Imagenette", [], note=number(PAPER_RATIOS[key], "ratio"),
                          paper=PAPER_RATIOS[key]))  # fmt: skip
    figure = domains_figures.strip(
        lanes, quantity="discriminative / MIM (logarithmic)", limits=(0.8, 10.0), line=1.0,
        logarithmic=True,
    )  # fmt: skip
    caption = (
        "A dot is the ratio of the two means, the line through it its interval; right of the blue "
        "line at 1, discriminative encoders agree more. An arrow is an open end: some draws of the "
        "images have a MIM mean of 0. No dot: that mean is 0, or there is no pair of a kind."
    )
    said = "; ".join(f"{name} {number(test['ratio']['value'], 'ratio')}" for name, test in
                     found.items())  # fmt: skip
    header = ["domain", "ratio", "low", "high"] + [
        f"{kind}_{part}" for kind in ("discriminative", "mim")
        for part in ("mean", "low", "high", "pairs")
    ]  # fmt: skip
    csv = csv_text(header, rows)
    alt = f"Strip. Ratios of {title}: {said}."
    heading = sentence(title)[:-1]
    return page.drawn(_slug(key, "ratio"), heading, caption, alt, figure, csv)


def _pairs_picture(key: str, title: str, found: Mapping[str, Any]) -> Picture:
    lanes, rows = {}, []
    for name, test in found.items():
        label = "all pooled" if name == POOLED else name
        kinds: dict[str, list[float]] = {kind: [] for kind in PAIR_KINDS}
        for pair in test["pairs"]:
            rows.append([name, *(pair[part] for part in ("a", "b", "kind", "score", "raw"))])
            if pair["score"] is not None:
                kinds[pair["kind"]].append(pair["score"])
        lanes[label] = [(PAIR_KINDS[kind], values) for kind, values in kinds.items()]
    figure = plots.dots(lanes, quantity=title)
    caption = (
        "A dot is a pair of encoders, a black line the mean of several. A difference of the means "
        "that holds for most pairs shows as two clouds apart; one that hangs on a few pairs does "
        "not."
    )
    counts = "; ".join(
        f"{name} {counted(test['discriminative']['pairs'], 'discriminative pair')} of mean "
        f"{number(test['discriminative']['mean'])}, {test['mim']['pairs']} MIM of "
        f"{number(test['mim']['mean'])}"
        for name, test in found.items()
    )
    csv = csv_text(["domain", "encoder_a", "encoder_b", "kind", "score", "raw"], rows)
    heading = sentence(title)[:-1]
    alt = f"Dots. {heading}: {counts}."
    return page.drawn(_slug(key, "pairs"), heading, caption, alt, figure, csv)


def _family_table(tests: Mapping[str, Any]) -> Iterator[Table]:
    """Ratios with all encoders and without each family, a row a domain and family."""
    measures, rows = _measures(tests), {}
    for name in sorted(tests, key=lambda name: name != POOLED):
        for key in measures:
            if not (test := _measure(tests[name], key)):
                continue
            whole = {"family": "none", "encoders": [], **test["ratio"],
                     "ratio": test["ratio"]["value"],
                     "discriminative_mean": test["discriminative"]["mean"]}  # fmt: skip
            for found in (whole, *test["leave_out"]):
                row = rows.setdefault((name, found["family"]), {
                    "domain": name, "family": found["family"],
                    "members": ", ".join(found["encoders"]) or None,
                })  # fmt: skip
                for part in ("ratio", "low", "high", "discriminative_mean"):
                    row[f"{key}_{part}"] = found[part]
    if len(rows) == len(tests):
        return
    columns = [Column("domain", "Domain"), Column("family", "Without"),
               Column("members", "", shown=False)]  # fmt: skip
    for key in measures:
        label = "CKA" if key == "cka" else f"k = {key}"
        columns += [
            Column(f"{key}_ratio", f"Ratio, {label}", "ratio"),
            Column(f"{key}_low", "low", "ratio", shown=key == "cka"),
            Column(f"{key}_high", "high", "ratio", shown=key == "cka"),
            Column(f"{key}_discriminative_mean", "", "score", shown=False),
        ]
    blank = {column.key: None for column in columns}
    caption = (
        "The ratio with all encoders (none) and without the discriminative encoders of one family. "
        "If it falls much without one family, the pairs within that family made it. The paper has "
        "7.4 with all, 7.3 without ResNets, 7.5 without ConvNeXts and 6.9 without ViTs, by "
        "calibrated CKA on Imagenette. The CSV has the intervals of mutual k-NN too."
    )
    table = [blank | row for row in rows.values()]
    yield Table("Without one family", caption, columns, table, "families.csv")


def ratio_interval(ratio: Mapping[str, Any]) -> str:
    """The interval of a ratio in parentheses, nothing where there is none.

    Example:
        >>> ratio_interval({"low": 1.5, "high": 3.0}), ratio_interval({"low": 2.0, "high": None})
        (' (1.50× to 3.00×)', ' (2.00× or more)')
    """
    if ratio["low"] is None:
        return ""
    high = ratio["high"]
    end = "or more" if high is None else f"to {number(high, 'ratio')}"
    return f" ({number(ratio['low'], 'ratio')} {end})"


def _inside(value: float) -> float:
    return min(max(value, LIMITS[0]), LIMITS[1])


def _slug(key: str, part: str) -> str:
    return f"panel-{'cka' if key == 'cka' else f'knn{key}'}-{part}"
