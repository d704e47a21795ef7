"""Results of distillation with accuracies that are drawn, not measured."""

import numpy as np

from substrate_jax.analyses.distill.effects import outcomes
from substrate_jax.analyses.distill.plan import LABELS_ALONE, SUBSTRATE, Plan
from substrate_jax.analyses.distill.results import DistillResult, TeacherResult, Training
from substrate_jax.report.run import EncoderRecord, ImageSet, Run

SEEDS = (0, 1, 2, 3, 4)


def synthetic_plan(**changes) -> Plan:
    """Two shares of the labels, four methods, three targets, two weights."""
    return Plan(
        **{
            "methods": (LABELS_ALONE, "debiased_cka", "cka", "kd"),
            "targets": (SUBSTRATE, "labels", "encoder:$net$ <i>"),
            "teacher": "wide",
            "weights": (0.3, 1.0),
            "fractions": (0.1, 1.0),
            "epochs": (40, 10),
            "rates": (0.1,),
            "seeds": SEEDS,
            "batch_size": 64,
            "components": 16,
        }
        | changes
    )


def synthetic_result(gain: float = 3.0, control: float = 1.0, **changes) -> DistillResult:
    """Labels alone near 40 percent, the substrate `gain` above, other targets `control` above."""
    plan, rng, trainings = synthetic_plan(**changes), np.random.default_rng(0), []
    for fraction in plan.fractions:
        for condition in plan.conditions(fraction):
            above = {"": 0.0, SUBSTRATE: gain}.get(condition.target, control)
            for seed in plan.seeds:
                accuracy = 40 + above + seed + 0.1 * rng.normal()
                speed = 100.0 if condition.method == LABELS_ALONE else np.nan
                trainings.append(
                    Training(condition, plan.rates[0], seed, np.nan, accuracy, 1.0, speed, 2**21)
                )
    records = [EncoderRecord("wide", "vit", "supervised", 9, 10, "bundled", None, "ab" * 32)]
    run = Run("distill", "python -m x", {}, {}, {"train": 1.0}, {}, records, ["A note."])
    images = {name: ImageSet("dir:x", "0" * 64, "", 3) for name in ("train", "test")}
    return DistillResult(
        run=run,
        student="mini_resnet18",
        family="resnet",
        plan=plan,
        level=0.95,
        images=images,
        counts={"train": 900, "validation": 90, "test": 300},
        labeled={f"{fraction:g}": int(900 * fraction) for fraction in plan.fractions},
        classes=3,
        teacher=TeacherResult("wide", "resnet", 0.1, 77.0),
        outcomes=outcomes(plan, trainings, 0.95),
    )
