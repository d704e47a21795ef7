"""Learning curves of a target."""

from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.intervals import t_interval
from substrate_jax.analyses.probe.answers import PAPER
from substrate_jax.analyses.probe.compare import AVERAGE
from substrate_jax.analyses.probe.results import Method, ProbeResult, Target
from substrate_jax.report import page, plots
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Picture
from substrate_jax.report.text import counted, csv_text


def learning_curves(name: str, target: Target, slug: str, result: ProbeResult) -> Picture:
    """Balanced accuracy over labels per class of a few methods; the CSV has all of them."""
    found = target.comparison
    low, high = t_interval(found.accuracy, result.level)
    lines = []
    for mark, (method, hollow) in zip(MARKS, _shown(target), strict=False):
        row = found.place(method.input, method.head)
        lines.append(
            plots.Curve(
                label=f"{method.input} ({method.width}), {method.head}",
                x=found.shots,
                y=found.mean[row].tolist(),
                low=low[row].tolist(),
                high=high[row].tolist(),
                mark=mark,
                hollow=hollow,
            )
        )
    figure = plots.curves(
        lines, across="labels per class (logarithmic)", quantity="balanced accuracy, %", most=100.0
    )
    draws = counted(found.accuracy.shape[2], "draw")
    caption = (
        f"Means over {draws} of labels, with {result.level:.0%} intervals; in brackets how many "
        "features the head reads. The CSV has every method."
    )
    alt = f"Learning curves on {name}: {', '.join(line.label for line in lines)}."
    header = ["input", "head", "labels", "mean", "low", "high"]
    header += [f"draw_{number}" for number in range(found.accuracy.shape[2])]
    rows = []
    for row, method in enumerate(found.methods):
        for column, shots in enumerate(found.shots):
            ends = found.mean[row, column], low[row, column], high[row, column]
            draws_of_row = found.accuracy[row, column]
            rows.append((method.input, method.head, shots, *ends, *draws_of_row))
    classes = counted(len(target.classes), "class", "classes")
    title = f"{name}: {classes}"
    return page.drawn(f"curves_{slug}", title, caption, alt, figure, csv_text(header, rows))


def _shown(target: Target) -> Iterator[tuple[Method, bool]]:
    """The methods drawn, and whether hollow: those of the paper's head beside a tuned one."""
    if not target.answers:
        found = target.comparison
        rows = range(len(found.methods))
        shown = [found.methods[row] for row in rows if np.isfinite(found.accuracy[row]).any()]
        yield from ((method, False) for method in shown[:6])
        return
    first = target.answers[0]
    by_kind: dict[tuple[str, str], list[Method]] = {}
    for method in target.comparison.methods:
        by_kind.setdefault((method.kind, method.head), []).append(method)
    own = f" of {first.encoder}"
    for kind in ("substrate", "encoder", "principal", "pixels", "all"):
        methods = by_kind.get((kind, first.rival_head), [])
        if kind == "encoder":
            methods = [one for one in methods if one.input == first.encoder]
        if kind == "principal":
            methods = [one for one in methods if one.input.endswith(own)]
        yield from ((one, False) for one in methods[:1])
    paper = next((one for one in target.answers if one.head == one.rival_head == PAPER), None)
    if paper and paper.head != first.head:
        yield by_kind["substrate", PAPER][0], True
        yield next(m for m in by_kind["encoder", PAPER] if m.input == paper.encoder), True
    averaged = [one for one in target.comparison.methods if one.input == AVERAGE]
    yield from ((one, True) for one in averaged[:1])
