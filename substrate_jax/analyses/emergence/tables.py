"""Tables of an emergence: times of half rise, controls, and every value."""

from typing import Any

from substrate_jax.analyses.emergence.alignment import TITLES
from substrate_jax.analyses.emergence.compare import PANEL
from substrate_jax.analyses.emergence.plan import OBJECTIVES, SUPERVISED
from substrate_jax.analyses.emergence.results import EmergenceResult, Rise
from substrate_jax.analyses.emergence.words import (
    CURVES,
    WIDE,
    estimate,
    lead_in_words,
    middle_step,
    title_of,
    value,
)
from substrate_jax.report.page import Column, Table

COLUMNS = (
    Column("start_text", "Untrained"),
    Column("top_text", "Top"),
    Column("end_text", "End"),
    Column("step_text", "Half rise at step"),
    Column("lead_text", "Lead, doublings"),
)
HIDDEN = tuple(
    Column(f"{part}_{end}", "", "score", shown=False)
    for part in ("start", "top", "end", "lead")
    for end in ("mean", "low", "high")
)


def _row(one: Rise) -> dict[str, Any]:
    parts = {"start": one.start, "top": one.top, "end": one.end, "lead": one.lead}
    numbers = {
        f"{part}_{end}": getattr(found, end)
        for part, found in parts.items()
        for end in ("mean", "low", "high")
    }
    itself = one.curve == "accuracy"
    return numbers | {
        "start_text": value(one.start.mean, one.curve),
        "top_text": value(one.top.mean, one.curve),
        "end_text": estimate(one.end, one.curve),
        "step_text": middle_step(one.half),
        "lead_text": "0" if itself else lead_in_words(one.lead),
    }


def rise_table(result: EmergenceResult) -> Table:
    """When the curves of supervised training have half of their rise."""
    rows = [
        _row(one) | {"curve": CURVES[one.curve] + (", with the panel" if one.target else "")}
        for one in result.rises
        if one.objective == SUPERVISED and one.target in ("", PANEL)
    ]
    caption = (
        f"Means over seeds with {result.level:.0%} intervals. Lead: how many doublings of the step "
        "count before accuracy the curve has half of its rise. Never: it rises by less than .05, "
        "or, where it is above 1, by less than 5% of where it starts. The top of the last three "
        "is what lies farthest from their start."
    )
    return Table("", caption, [Column("curve", "Curve"), *COLUMNS, *HIDDEN], rows, "rises.csv")


def controls_table(result: EmergenceResult) -> Table:
    """The same for other targets and other trainings."""
    rows = [
        _row(one) | {"trained": OBJECTIVES[one.objective], "curve": title_of(one, result)}
        for one in result.rises
        if one.curve in ("accuracy", "probe_accuracy", *TITLES)
        and not (one.objective == SUPERVISED and one.target in ("", PANEL))
        and (one.curve in ("debiased_cka", "predictivity", "mutual_knn") or not one.target)
    ]
    caption = (
        "The same, for other targets and other trainings. Leads are over the accuracy of the same "
        "training, or over the probe's where no classifier is trained; where labels are shuffled "
        "there is none to lead."
    )
    columns = [Column("trained", "Trained"), Column("curve", "Curve"), *COLUMNS, *HIDDEN]
    return Table(
        "Other targets, other trainings", caption, columns, rows, "controls.csv", folded=True
    )


def values_table(result: EmergenceResult) -> Table:
    """All curves at all steps."""
    own = ("accuracy", "probe_accuracy", "settled", *WIDE)
    columns = [
        Column("trained", "Trained"),
        Column("seed", "Seed", "count"),
        Column("step", "Step", "count"),
    ]
    columns += [Column(curve, CURVES[curve], "score") for curve in own]
    measures = (*TITLES, "tau", "p_value")
    for target in result.targets:
        for name in measures:
            shown = target == PANEL and name in ("debiased_cka", "cka", "calibrated_cka")
            columns.append(Column(f"{name}_{target}", CURVES.get(name, name), "score", shown))
    rows = []
    for one in result.trainings:
        for t, step in enumerate(result.steps):
            row = {"trained": OBJECTIVES[one.objective], "seed": one.seed, "step": step}
            row |= {curve: getattr(one, curve)[t] for curve in own}
            for target in result.targets:
                found = one.alignments.get(target)
                for name in measures:
                    row[f"{name}_{target}"] = getattr(found, name)[t] if found else None
            rows.append(row)
    caption = "Every curve at every watched step; the CSV has all targets and measures."
    return Table("Values by step", caption, columns, rows, "values.csv", folded=True)
