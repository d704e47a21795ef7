"""Results of low-shot probes with accuracies that are drawn, not measured."""

from collections.abc import Sequence

import numpy as np

from substrate_jax.analyses.probe.answers import answers, over_targets
from substrate_jax.analyses.probe.compare import AVERAGE
from substrate_jax.analyses.probe.results import (
    Cost,
    Kind,
    Method,
    ProbeComparison,
    ProbeResult,
    Target,
)
from substrate_jax.report.run import EncoderRecord, ImageSet, Run

WIDTHS = {"narrow": 96, "wide": 512}
HEADS = ("paper", "ridge, tuned")


def comparison(
    gain: float = 0.0, shots=(1, 10, 50), heads: Sequence[str] = HEADS, seed: int = 0
) -> ProbeComparison:
    """Accuracies near 60, 70, ... percent; the substrate's are `gain` points above the rest."""
    inputs: list[tuple[str, Kind, int]] = [("substrate 16", "substrate", 16)]
    inputs += [(name, "encoder", width) for name, width in WIDTHS.items()]
    inputs += [(f"PCA-16 of {name}", "principal", 16) for name in WIDTHS]
    inputs += [("all encoders", "all", 608)]
    methods = [
        Method(name, head, tuple(WIDTHS), width, [Cost(2 * width, 4 * width, 8)] * len(shots), kind)
        for name, kind, width in inputs
        for head in heads
    ]
    cost = [Cost(9, 9, 9)] * len(shots)
    methods.append(Method(AVERAGE, heads[0], tuple(WIDTHS), 608, cost, "average"))
    rng = np.random.default_rng(seed)
    accuracy = rng.normal(size=(len(methods), len(shots), 5)) + 60
    accuracy += 10 * np.arange(len(shots))[:, None]
    for row, method in enumerate(methods):
        accuracy[row] += gain * (method.kind == "substrate")
        if method.head == "ridge, tuned":
            accuracy[row, np.array(shots) == 1] = np.nan
    return ProbeComparison(methods, shots, 3, 90, accuracy, np.zeros(accuracy.shape[:2], int))


def synthetic_result(gains: Sequence[float], *, by_domain: bool = False, **options) -> ProbeResult:
    """A target for each gain, with names of any characters; perhaps one of the domains more."""
    names = [f"$t_{number}$ <i>" for number in range(len(gains))]
    compared = {
        name: comparison(gain, seed=number, **options)
        for number, (name, gain) in enumerate(zip(names, gains, strict=True))
    }
    if by_domain:
        compared["which domain"] = comparison(-9.0, seed=99, **options)
    found = answers(compared)
    targets = {
        name: Target(
            domains=[name] if name in names else names,
            by_domain=name not in names,
            classes=["cat", "dog", "eel"],
            pool=90,
            held_out=90,
            left_out=[100, 200],
            repeated=7,
            comparison=one,
            answers=found[name],
        )
        for name, one in compared.items()
    }
    records = [
        EncoderRecord(name, "vit", "supervised", width, 10, "bundled", None, "ab" * 32)
        for name, width in WIDTHS.items()
    ]
    run = Run("probe", "python -m x", {}, {}, {"probe": 1.0}, {}, records, ["A note."])
    images = {name: ImageSet("dir:x", "0" * 64, "", 3) for name in names}
    return ProbeResult(run, 16, 0.95, images, targets, over_targets(targets))
