"""The trainings of a plan: rates first, then all seeds at the rate that each condition chose.

Conditions of one method share a compiled step at each share of the labels. For one seed, all of
them begin with the same weights and see the same images in the same order, changed alike.

Cost: `Plan.count` trainings of epochs x labeled images forward and backward passes each; a program
for every method and share.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from substrate_jax.analyses.distill.plan import Condition, Plan
from substrate_jax.analyses.distill.results import Training
from substrate_jax.analyses.distill.targets import padded
from substrate_jax.analyses.rates import train_at_best_rate
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.networks.layers import constant_rngs
from substrate_jax.losses.target import SubstrateTarget
from substrate_jax.training.distillation import METHODS, Student, Teacher, student_loss
from substrate_jax.training.labeled_images import TrainingData
from substrate_jax.training.loop import Fitted, fit
from substrate_jax.training.predict import accuracy
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows, labeled_rows
from substrate_jax.training.students import student_config, student_optimizer

VALIDATION = 0.1  # share of the training images that rates are chosen by, where several are tried

# What a training is known by: its condition, rate and seed.
Key = tuple[Condition, float, int]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all trainings of a run have in common.

    Attributes:
        plan: conditions, seeds, rates.
        student: name of the student.
        preprocess: of its images.
        data: to train on and to judge by.
        targets: name -> scores of the training images, in their order.
        teacher: of the methods that need one, trained on the main share of the labels.
        dtype: of the arithmetic.
        together: train the runs of a method in one step.
        mesh: where to run.
        memory: bytes of a device that a step may take; unlimited if None.
        checkpoints: folder for resuming.
        progress: whether bars are drawn.
    """

    plan: Plan
    student: str
    preprocess: Preprocess
    data: TrainingData
    targets: Mapping[str, SubstrateTarget]
    teacher: Teacher | None
    dtype: Any
    together: bool
    mesh: jax.sharding.Mesh
    memory: int | None
    checkpoints: Path | None
    progress: bool


def parts(rates: Sequence[float], labels: Int[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and those that rates are chosen by: none where there is one rate."""
    if len(rates) < 2:
        return np.arange(len(labels)), np.arange(0)
    held = labeled_rows(labels, VALIDATION, 0)
    return np.setdiff1d(np.arange(len(labels)), held), held


def fraction_rows(
    plan: Plan, labels: Int[np.ndarray, " n"], fraction: float, seed: int
) -> Int[np.ndarray, " m"]:
    """The labeled images of a seed.

    Raises:
        ValueError: a share that leaves a class without images.
    """
    rows, _ = parts(plan.rates, labels)
    return rows[labeled_rows(labels[rows], fraction, seed)]


def train(
    setting: Setting, known: Mapping[Key, Training], keep: Callable[[Training], None]
) -> list[Training]:
    """All trainings of a plan.

    Args:
        setting: what they have in common.
        known: those that were done before.
        keep: is handed every new one as it comes.

    Raises:
        ValueError: a batch that a target tells nothing of, a loss that is not finite, or a step
            that takes too much memory.
    """
    plan, found = setting.plan, dict(known)
    wanted: list[Key] = []
    for fraction in plan.fractions:
        groups: dict[str, list[Condition]] = {}
        for condition in plan.conditions(fraction):
            groups.setdefault(condition.method, []).append(condition)
        for conditions in groups.values():
            wanted += train_at_best_rate(
                conditions,
                plan.rates,
                plan.seeds,
                lambda keys: _train(setting, keys, found, keep),
                found,
            )
    return [found[key] for key in wanted]


def _train(
    setting: Setting,
    keys: Sequence[Key],
    found: dict[Key, Training],
    keep: Callable[[Training], None],
) -> None:
    """Train what is not yet known, all of one method and share of the labels."""
    keys = [key for key in keys if key not in found]
    if not keys:
        return
    plan, train, test = setting.plan, setting.data.train, setting.data.test
    ((fraction, epochs),) = {(one.fraction, one.epochs) for one, _, _ in keys}
    labeled = {
        seed: fraction_rows(plan, train.labels, fraction, seed) for seed in {key[2] for key in keys}
    }
    count = max(len(rows) for rows in labeled.values())
    batch_size = min(plan.batch_size, count)
    steps = max(1, epochs * count // batch_size)
    _, validation = parts(plan.rates, train.labels)

    def rows_at(run: Run[Student], step: int) -> Int[np.ndarray, " b"]:
        return epoch_rows(labeled[run.seed], run.seed, step, batch_size)

    def finished(i: int, fitted: Fitted[Student]) -> None:
        condition, rate, seed = keys[i]

        module = fitted.module
        training = Training(
            condition=condition,
            rate=rate,
            seed=seed,
            validation=accuracy(
                module, train.images[validation], train.labels[validation], batch_size
            ),
            accuracy=accuracy(module, test.images, test.labels, batch_size),
            loss=fitted.records[-1]["loss"] if fitted.records else float("nan"),
            images_per_second=fitted.rows_per_second,
            memory=fitted.memory,
        )
        found[keys[i]] = training
        keep(training)
        if setting.checkpoints is not None:  # it is not gone back to
            shutil.rmtree(setting.checkpoints / runs[i].name, ignore_errors=True)

    method, runs = keys[0][0].method, _runs(setting, keys, batch_size)
    fit(
        runs,
        student_loss,
        student_optimizer(setting.student, steps),
        {"images": train.images, "labels": train.labels},
        rows_at,
        steps=steps,
        together=setting.together,
        checkpoints=setting.checkpoints,
        mesh=setting.mesh,
        dtype=setting.dtype,
        finished=finished,
        memory=setting.memory,
        progress=f"{method}, {fraction:.0%}" if setting.progress else None,
    )


def _runs(setting: Setting, keys: Sequence[Key], batch_size: int) -> list[Run[Student]]:
    """What is trained for each key."""
    method = METHODS[keys[0][0].method]
    targets: dict[str, np.ndarray] = {}
    if method.needs == "target":
        own = {key[0].target: setting.targets[key[0].target] for key in keys}
        for target in own.values():
            target.check_batch(batch_size)
        targets = padded(own)
    runs = []
    for condition, rate, seed in keys:
        config = student_config(setting.student, setting.data.classes)
        # NumPy draws the weights: JAX would compile an initializer for every shape.
        rngs = constant_rngs(np.random.default_rng(seed))
        network = config.build(rngs)
        student = Student(
            network,
            setting.preprocess,
            condition.method,
            width=targets[condition.target].shape[1] if targets else 0,
            teacher=setting.teacher if method.needs == "teacher" else None,
            rngs=rngs,
        )
        runs.append(
            Run(
                student,
                seed,
                rate,
                {"classify": 1.0, "weight": condition.weight},
                {"target": targets[condition.target]} if targets else {},
                f"{condition.key}_{rate:g}_{seed}",
            )
        )
    return runs
