"""Blocks of a page on two modalities: agreement beside chance, controls, what could be seen."""

from collections.abc import Iterator

from substrate_jax.analyses.crossmodal import figures
from substrate_jax.analyses.crossmodal.orders import CLASSES, ROWS, TITLES, WITHIN
from substrate_jax.analyses.crossmodal.results import (
    CKA,
    DEBIASED,
    KNN,
    MEASURES,
    SUBSTRATE,
    Agreement,
    Comparison,
)
from substrate_jax.analyses.crossmodal.words import interval, p_text
from substrate_jax.report import page, strips
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Block, Column, Figures, Picture, Prose, Table
from substrate_jax.report.text import csv_text, number

QUESTIONS = {
    ROWS: "Is there any agreement?",
    WITHIN: "Is there more than agreement on classes?",
    CLASSES: "Are the same classes near each other?",
}


def agreement_blocks(compared: Comparison) -> Iterator[Block]:
    """Figures over K, the kinds of chance, and a table by K."""
    substrates = compared.of_kind(SUBSTRATE)
    yield Figures([_sweep(compared, substrates, measure) for measure in (CKA, KNN)])
    nulls = compared.main.measures[CKA].nulls
    rows = [
        {
            "question": QUESTIONS[kind],
            "null": TITLES[kind],
            "measure": MEASURES[measure],
            "value": interval(of),
            "mean": of.nulls[kind].mean,
            "tau": of.nulls[kind].tau,
            "score": of.nulls[kind].score,
            "p_value": of.nulls[kind].p_value,
            "least": of.nulls[kind].least,
            "method": of.nulls[kind].method,
        }
        for kind in nulls
        for measure, of in compared.main.measures.items()
    ]
    columns = [
        Column("question", "Question"),
        Column("null", "null", shown=False),
        Column("measure", "Measure"),
        Column("value", "Observed"),
        Column("p_value", "p", "p"),
        Column("mean", "Chance", "score"),
        Column("tau", "τ", "score"),
        Column("least", "Least effect", "score"),
        Column("score", "Calibrated", "score"),
        Column("method", "method", shown=False),
    ]
    nulls_in_words = "; ".join(TITLES[kind] for kind in nulls)
    caption = (
        f"The two substrates at K = {compared.k}: {nulls_in_words}. τ is the "
        f"{1 - compared.alpha:.0%} quantile of the null; calibrated: (value - τ) / (1 - τ), 0 "
        f"below; the least effect is seen in {compared.power:.0%} of draws. Intervals are over "
        "resampled rows."
    )
    title = "Three kinds of chance" if len(nulls) > 1 else "Chance"
    yield Table(title, caption, columns, rows, "nulls.csv")
    yield pair_table("By number of components", "", substrates, nulls, "sweep.csv")


def _sweep(compared: Comparison, substrates: list[Agreement], measure: str) -> Picture:
    quantity = MEASURES[measure]
    figure = figures.sweep(substrates, measure, quantity, compared.power)
    caption = (
        "Lines at the dots: 95% intervals over rows. Chance stays below the squares of gray, an "
        f"effect at those of color is seen {compared.power:.0%} of the time."
    )
    words = [f"{number(one.measures[measure].value)} at {one.k}" for one in substrates]
    alt = f"{quantity} of the two substrates by number of components: {', '.join(words)}."
    csv = csv_text(
        ["components", "value", "low", "high", "tau", "least"],
        (
            [one.k, of.value, of.low, of.high, of.nulls[ROWS].tau, of.nulls[ROWS].least]
            for one in substrates
            for of in [one.measures[measure]]
        ),
    )
    key = f"sweep-{measure.replace('_', '-')}"
    return page.drawn(key, f"{quantity[0].upper()}{quantity[1:]} over K", caption, alt, figure, csv)


def pair_table(title, caption, agreements, nulls, file: str, **first) -> Table:
    """Agreements, a row each; `first` names columns of text before the numbers."""
    rows = []
    for one in agreements:
        cka, knn = one.measures[CKA], one.measures[KNN]
        rows.append(
            {"left": one.left, "right": one.right, "k": one.k, "rows": one.rows}
            | {"cka_shown": interval(cka), "tau": cka.nulls[ROWS].tau}
            | {"least": cka.nulls[ROWS].least, "score": cka.nulls[ROWS].score}
            | {f"p_{kind}": cka.nulls[kind].p_value for kind in nulls}
            | {"debiased": one.measures[DEBIASED].value}
            | {"knn": knn.value, "p_knn": knn.nulls[ROWS].p_value}
            | {"cka": cka.value, "cka_low": cka.low, "cka_high": cka.high}
        )
    short = {ROWS: "p", WITHIN: "p within", CLASSES: "p classes"}
    columns = [
        *(Column(key, label) for key, label in first.items()),
        Column("k", "K", "count", shown=not first),
        Column("cka_shown", "CKA"),
        *(Column(f"p_{kind}", short[kind], "p") for kind in nulls),
        Column("tau", "τ", "score"),
        Column("least", "Least effect", "score", shown=not first),
        Column("score", "Calibrated", "score"),
        Column("debiased", "Debiased", "score", shown=not first),
        Column("knn", "kNN", "score"),
        Column("p_knn", "p of kNN", "p"),
        *(Column(key, key, "score", shown=False) for key in ("cka", "cka_low", "cka_high")),
    ]
    return Table(title, caption, columns, rows, file, folded=len(rows) > 12)


def controls_blocks(compared: Comparison) -> Iterator[Block]:
    """Where the answer is known, as a figure and a table."""
    cases = [("the two sides", True, compared.main, strips.OURS)]
    cases += [
        (one.name, one.positive, one.agreement, MARKS[2] if one.positive else MARKS[3])
        for one in compared.controls
    ]
    lanes = [
        strips.Lane(
            name, [cka.value], mark, _note(one), interval=_ends(cka), middle=cka.nulls[ROWS].tau
        )
        for name, _, one, mark in cases
        for cka in [one.measures[CKA]]
    ]
    figure = strips.strip(lanes, quantity=f"linear CKA at K = {compared.k}")
    rows = [
        {
            "name": name,
            "expected": "agreement" if positive else "none",
            "rows": one.rows,
            "cka_shown": interval(one.measures[CKA]),
            "cka": one.measures[CKA].value,
            "debiased": one.measures[DEBIASED].value,
            "tau": one.measures[CKA].nulls[ROWS].tau,
            "p_value": one.measures[CKA].nulls[ROWS].p_value,
            "p_within": within.p_value if (within := one.measures[CKA].nulls.get(WITHIN)) else None,
            "knn": one.measures[KNN].value,
            "p_knn": one.measures[KNN].nulls[ROWS].p_value,
        }
        for name, positive, one, _ in cases
    ]
    rows[0]["expected"] = "the question"
    columns = [
        Column("name", "Compared"),
        Column("expected", "Expected"),
        Column("rows", "Pairs", "count"),
        Column("cka_shown", "CKA"),
        Column("cka", "cka", "score", shown=False),
        Column("p_value", "p", "p"),
        Column("p_within", "p within", "p"),
        Column("tau", "τ", "score"),
        Column("debiased", "debiased", "score", shown=False),
        Column("knn", "kNN", "score"),
        Column("p_knn", "p of kNN", "p"),
    ]
    caption = (
        "The same statistic where the answer is known; lines are 95% intervals over rows, the "
        "black stroke is τ."
    )
    alt = "; ".join(f"{row['name']}: {number(row['cka'])}" for row in rows)
    csv = csv_text([c.key for c in columns], ([row[c.key] for c in columns] for row in rows))
    yield Figures([page.drawn("controls", "Where the answer is known", caption, alt, figure, csv)])
    yield Table("", "All at the same K.", columns, rows, "controls.csv")


def _note(one: Agreement) -> str:
    return p_text(one.measures[CKA].nulls[ROWS].p_value)


def _ends(one) -> tuple[float, float] | None:
    return (one.low, one.high) if one.low == one.low else None


def power_blocks(compared: Comparison) -> Iterator[Block]:
    """What planted signals show, beside what the null predicts."""
    if not compared.planted:
        yield Prose(["Nothing was planted; the least effects by the null stand in the tables."])
        return
    pictures, rows = [], []
    for one in compared.planted:
        quantity = MEASURES[one.measure]
        observed = compared.main.measures[one.measure].value
        figure = figures.detection(one, observed, quantity, compared.power)
        csv = csv_text(
            ["strength", "value", "detected"],
            zip(one.strength, one.value, one.detected, strict=True),
        )
        caption = (
            f"Shuffled rows, a share of one side's variance arranged as the other's; α = "
            f"{compared.alpha:g}. The lowest dot has no signal."
        )
        alt = f"Share found by {quantity}; {compared.power:.0%} at {number(one.least)}."
        key = f"planted-{one.measure.replace('_', '-')}"
        title = f"Found by {quantity}"
        pictures.append(page.drawn(key, title, caption, alt, figure, csv))
        rows.append(
            {
                "measure": quantity,
                "observed": observed,
                "by_null": one.by_null,
                "expected": one.expected,
                "least": one.least,
                "strength": one.least_strength,
                "false": one.detected[0],
            }
        )
    yield Figures(pictures)
    columns = [
        Column("measure", "Measure"),
        Column("observed", "Observed", "score"),
        Column("by_null", "Least effect by the null", "score"),
        Column("expected", "with the signal's spread", "score"),
        Column("least", "as planted", "score"),
        Column("strength", "Share of variance there", "score"),
        Column("false", "Found without a signal", "score"),
    ]
    caption = (
        f"At K = {compared.k}; what is found in {compared.power:.0%} of draws. The null is too "
        "hopeful, for a signal adds a spread of its own; for CKA that is known in closed form. "
        f"Without a signal a share α = {compared.alpha:g} should be found."
    )
    yield Table("Predicted and planted", caption, columns, rows, "planted.csv")
