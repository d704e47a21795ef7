"""Results of pretraining without labels with accuracies that are drawn, not measured."""

import numpy as np

from substrate_jax.analyses.unlabeled.effects import outcomes, pooled
from substrate_jax.analyses.unlabeled.plan import SCRATCH, SUBSTRATE, Plan
from substrate_jax.analyses.unlabeled.results import (
    Pretrained,
    Tuned,
    TuneSet,
    UnlabeledResult,
)
from substrate_jax.report.run import EncoderRecord, ImageSet, Run

SEEDS, SETS = (0, 1, 2), ("cells", "$scans$ <i>")


def synthetic_plan(**changes) -> Plan:
    """Five ways, two numbers of labels, two rates."""
    return Plan(
        **{
            "pretrainings": (SCRATCH, SUBSTRATE, "encoder:$net$ <i>", "simclr", "supervised"),
            "epochs": 10,
            "pretraining_rate": 0.1,
            "labels": (5, 0),
            "tune_steps": 200,
            "rates": (0.03, 0.1),
            "seeds": SEEDS,
            "batch_size": 64,
            "components": 16,
        }
        | changes
    )


def synthetic_tuned(plan: Plan, gain: float, other: float, sets=SETS) -> list[Tuned]:
    """No pretraining near 40 percent, the substrate `gain` above, other ways `other` above."""
    rng, found = np.random.default_rng(0), []
    for place, name in enumerate(sets):
        for labels in plan.labels:
            for condition in plan.conditions(name, labels):
                above = {SCRATCH: 0.0, SUBSTRATE: gain}.get(condition.pretraining, other)
                for seed in plan.seeds:
                    for rate in plan.rates if seed == plan.seeds[0] else plan.rates[-1:]:
                        accuracy = 40 + 9 * place + above + seed + 0.1 * rng.normal()
                        found.append(Tuned(condition, rate, seed, 100 * rate, accuracy, 1.0, 9.0))
    return found


def synthetic_result(
    gain: float = 3.0, other: float = 1.0, sets=SETS, constant: float = 0.0, **changes
) -> UnlabeledResult:
    """A whole result."""
    plan = synthetic_plan(**changes)
    found = outcomes(plan, sets, synthetic_tuned(plan, gain, other, sets), 0.95)
    records = [EncoderRecord("wide", "vit", "supervised", 9, 10, "bundled", None, "ab" * 32)]
    images = ImageSet("dir:x", "0" * 64, "", 3)
    pretrained = []
    for name in plan.pretrainings:
        measured = name != SCRATCH
        for seed in plan.seeds:
            rank = 20.0 if measured else 9.0
            speed, memory = (100.0, 2**21) if measured else (np.nan, 0)
            flat = constant if measured else 0.0
            pretrained.append(
                Pretrained(name, seed, 0.5, 0.4, rank, 8.0, 0.3, 0.25, flat, speed, memory)
            )
    return UnlabeledResult(
        run=Run("unlabeled", "python -m x", {}, {}, {"train": 1.0}, {}, records, ["A note."]),
        student="mini_resnet18",
        family="resnet",
        width=128,
        plan=plan,
        level=0.95,
        images=images,
        count=900,
        steps=140,
        dimensions={SUBSTRATE: 6.5},
        sets={name: TuneSet(images, 90, 9, 300, 2 * place, 3) for place, name in enumerate(sets)},
        pretrained=pretrained,
        outcomes=found,
        pooled=pooled(plan, found, 0.95),
    )
