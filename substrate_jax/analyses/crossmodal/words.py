"""What two modalities have in common, in sentences and in a table for the terminal."""

from collections.abc import Iterator

from substrate_jax.analyses.crossmodal.orders import CLASSES, ROWS, WITHIN
from substrate_jax.analyses.crossmodal.results import (
    CKA,
    Agreement,
    Comparison,
    CrossmodalResult,
    Measured,
)
from substrate_jax.report.text import counted, number, short, text_table


def interval(one: Measured) -> str:
    """A value with its interval, if it has one.

    Example:
        >>> interval(Measured(0.25, 0.2, 0.3, {})), interval(Measured(0.25, float("nan"), 0.3, {}))
        ('0.250 (0.200 to 0.300)', '0.250')
    """
    known = one.low == one.low
    return number(one.value) + (f" ({number(one.low)} to {number(one.high)})" if known else "")


def p_text(value: float) -> str:
    """A p-value as sentences have it.

    Example:
        >>> p_text(0.0312), p_text(0.0)
        ('p = 0.031', 'p < 1e-38')
    """
    said = number(value, "p")
    return f"p < {said[1:]}" if said.startswith("<") else f"p = {said}"


def found(one: Agreement, alpha: float, null: str = ROWS, measure: str = CKA) -> bool:
    """Whether an agreement is above chance."""
    return one.measures[measure].nulls[null].p_value <= alpha


def finding(result: CrossmodalResult) -> str:
    """Whether the sides agree, on what, what could have been seen, and what the controls say."""
    return " ".join(_finding(result))


def _finding(result: CrossmodalResult) -> Iterator[str]:
    compared = result.comparison
    cka = compared.main.measures[CKA]
    chance = cka.nulls[ROWS]
    sides = f"{result.left.name} and {result.right.name}"
    said = (
        f"CKA {interval(cka)}, where {1 - compared.alpha:.0%} of chance is below "
        f"{number(chance.tau)}; {p_text(chance.p_value)}; {counted(compared.rows, 'pair')}"
    )
    if found(compared.main, compared.alpha):
        yield f"At K = {compared.k} {sides} agree beyond chance ({said})."
    else:
        yield f"At K = {compared.k} {sides} do not agree beyond chance ({said})."
    yield from _classes(compared, cka)
    yield from power(compared)
    yield from controls(compared)


def _classes(compared: Comparison, cka: Measured) -> Iterator[str]:
    """What the agreement is on, where there are classes."""
    within, classes = (cka.nulls.get(kind) for kind in (WITHIN, CLASSES))
    if within is not None:
        p = p_text(within.p_value)
        if within.p_value > compared.alpha and compared.arbitrary:
            yield f"All of it is on classes: within them pairs were made at will ({p})."
        elif within.p_value > compared.alpha:
            yield (
                f"Within classes there is no more ({p}); a CKA of {number(within.least)} could "
                "have been seen."
            )
        elif compared.arbitrary:
            yield f"Pairs made at will within classes agree by chance ({p})."
        else:
            yield f"They agree within classes too ({p})."
    if classes is not None and found(compared.main, compared.alpha):
        p = p_text(classes.p_value)
        if classes.p_value <= compared.alpha:
            yield f"The same classes are near each other on both sides ({p})."
        else:
            yield (
                "Both tell the classes apart; that they put the same classes near each other is "
                f"not shown ({p} with whole classes exchanged; a CKA of {number(classes.least)} "
                "could have been seen)."
            )


def power(compared: Comparison) -> Iterator[str]:
    """The least effect, as predicted and as planted."""
    predicted = compared.main.measures[CKA].nulls[ROWS].least
    said = f"{compared.power:.0%} of the time a CKA of {number(predicted)} would have been seen"
    planted = next((one for one in compared.planted if one.measure == CKA), None)
    if planted is None:
        yield f"{said}, by the null."
    elif planted.least != planted.least:
        yield f"{said}, by the null; no signal that could be planted was found so often."
    else:
        yield f"{said}, by the null; planted signals put it at {number(planted.least)}."


def controls(compared: Comparison) -> Iterator[str]:
    """How many of the controls say what they should."""
    positive = [one.agreement for one in compared.controls if one.positive]
    if positive:
        seen = sum(found(one, compared.alpha) for one in positive)
        values = sorted(one.measures[CKA].value for one in positive)
        ends = number(values[0])
        if len(values) > 1:
            ends += f" to {number(values[-1])}"
        yield f"Of {counted(len(positive), 'positive control')} {seen} agree (CKA {ends})."
    if compared.planted:
        one = compared.planted[0]  # without a signal, that is
        yield (
            f"Of {one.draws} shuffled pairings {one.detected[0]:.0%} agree, where "
            f"{compared.alpha:.0%} should by chance."
        )
        return
    for one in compared.controls:
        if not one.positive:
            p = one.agreement.measures[CKA].nulls[ROWS].p_value
            yield f"Shuffled, the two sides give {p_text(p)}."


def crossmodal_summary(result: CrossmodalResult) -> str:
    """Substrates by K as a table for the terminal, and the finding."""
    compared = result.comparison
    nulls = list(compared.main.measures[CKA].nulls)
    rows = [
        ["K", "CKA", "chance", "least seen", *(f"p, {kind}" for kind in nulls), "debiased", "kNN"]
    ]
    for one in compared.of_kind("substrate"):
        cka = one.measures[CKA]
        rows.append(
            [
                str(one.k),
                interval(cka),
                short(cka.nulls[ROWS].tau),
                short(cka.nulls[ROWS].least),
                *(number(cka.nulls[kind].p_value, "p") for kind in nulls),
                number(one.measures["debiased_cka"].value),
                number(one.measures["mutual_knn"].value),
            ]
        )
    return "\n".join([*text_table(rows), finding(result)])
