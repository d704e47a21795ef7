"""What experiments.distill keeps between runs, and makes before it trains."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from experiments.common import encoders as panel
from experiments.common import launch, training_data

if TYPE_CHECKING:
    from substrate_jax.analyses.distillation.plan import Condition, Plan
    from substrate_jax.analyses.distillation.results import TeacherResult, Training
    from substrate_jax.features import Features
    from substrate_jax.losses.target import SubstrateTarget
    from substrate_jax.training.finetune import Classifier
    from substrate_jax.training.labeled_images import TrainingData

FLAGS = flags.FLAGS
_CONDITION = ("method", "target", "weight", "fraction", "epochs")
_FOUND = ("rate", "seed", "validation", "accuracy", "loss", "images_per_second", "memory")


def arguments(plan: "Plan", encoders, data: "TrainingData") -> dict[str, Any]:
    """What decides every training of a folder, beyond what names it."""
    return {
        "student": FLAGS.student,
        "data": data.train.source.fingerprint,
        "test_data": data.test.source.fingerprint,
        "images": [len(data.train), len(data.test)],
        "encoders": {encoder.name: encoder.sha256 for encoder in encoders},
        "normalization": FLAGS.normalization,
        "components": plan.components,
        "train_batch": plan.batch_size,
        "train_dtype": FLAGS.train_dtype,
        "several_rates": len(plan.rates) > 1,
        "teacher_epochs": FLAGS.teacher_epochs,
        "seed": FLAGS.seed,
    }


class Kept:
    """Trainings in a CSV that is written anew, whole, with each that ends.

    Args:
        path: of the file; what it holds is known.
    """

    def __init__(self, path: Path):
        self.path = path
        self.known: dict[tuple[Condition, float, int], Training] = {}
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self._add(_training(row))

    def _add(self, training: "Training") -> None:
        self.known[training.condition, training.rate, training.seed] = training

    def keep(self, training: "Training") -> None:
        """Add one."""
        from substrate_jax.report.files import write_file
        from substrate_jax.report.text import csv_text

        self._add(training)
        rows = [
            [
                *(getattr(one.condition, name) for name in _CONDITION),
                *(getattr(one, name) for name in _FOUND),
            ]
            for one in self.known.values()
        ]
        if launch.is_first_process():
            write_file(self.path, csv_text([*_CONDITION, *_FOUND], rows))


def _training(row: dict[str, str]) -> "Training":
    from substrate_jax.analyses.distillation.plan import Condition
    from substrate_jax.analyses.distillation.results import Training

    def number(name: str) -> float:
        return float(row[name] or "nan")  # NaN has no letters in a CSV

    return Training(
        condition=Condition(
            row["method"],
            row["target"],
            number("weight"),
            number("fraction"),
            int(row["epochs"]),
        ),
        rate=number("rate"),
        seed=int(row["seed"]),
        validation=number("validation"),
        accuracy=number("accuracy"),
        loss=number("loss"),
        images_per_second=number("images_per_second"),
        memory=int(row["memory"]),
    )


def make_targets(
    plan: "Plan", encoders, data: "TrainingData", mesh, out: Path, stages: launch.Stages
) -> "dict[str, SubstrateTarget]":
    """The targets that the plan's methods need; each is written to OUT/targets."""
    from substrate_jax.analyses.distillation.plan import FILE
    from substrate_jax.analyses.distillation.targets import make_target
    from substrate_jax.report.text import slugs

    if plan.on_target is None:
        return {}
    found: dict[bool, Features] = {}

    def features(trained: bool) -> "Callable[[], Features]":
        def get() -> "Features":
            if trained not in found:
                found[trained] = _features(encoders, trained, data, mesh, out, stages)
            return found[trained]

        return get

    targets = {
        name: make_target(
            name,
            data.train.labels,
            features(True),
            features(False),
            k=plan.components,
            seed=FLAGS.seed,
        )
        for name in plan.targets
    }
    folder = out / "targets"
    folder.mkdir(exist_ok=True)
    names = slugs(list(targets))
    for name, target in targets.items():
        if launch.is_first_process() and not name.startswith(FILE):
            target.save(folder / f"{names[name]}.safetensors")
    return targets


def _features(encoders, trained: bool, data, mesh, out: Path, stages: launch.Stages) -> "Features":
    """Of the training images, by the panel as it is or before training."""
    from substrate_jax.encoders import untrained

    used = encoders if trained else [untrained(one.spec, FLAGS.seed) for one in encoders]
    source = data.train.source
    bar = launch.progress_bar(
        "features" if trained else "features, untrained", len(source) * len(used), "image"
    )
    with stages("extract"), bar as progress:
        return panel.extract_features(used, source, panel.open_store(out), mesh, progress)


def make_teacher(
    plan: "Plan", data: "TrainingData", rows, mesh, out: Path
) -> "tuple[Classifier, TeacherResult]":
    """The plan's encoder, fine-tuned on labeled images, and what it is worth."""
    from substrate_jax.analyses.distillation.results import TeacherResult
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.training.finetune import RECIPE, fine_tune
    from substrate_jax.training.predict import predict

    encoder = panel.load(encoder_spec(plan.teacher))
    recipe = dataclasses.replace(RECIPE, epochs=FLAGS.teacher_epochs)
    classifier = fine_tune(
        encoder,
        data.train.images[rows],
        data.train.labels[rows],
        data.classes,
        preprocess=training_data.student_preprocess(),
        recipe=recipe,
        seed=plan.seeds[0],
        mesh=mesh,
        checkpoints=out / "teacher" / f"{plan.teacher}_{plan.main:g}",
        progress=None if launch.is_quiet() else f"teacher, {plan.main:.0%}",
    )
    predicted = predict(classifier, data.test.images, recipe.batch_size)
    accuracy = float(100 * (predicted == data.test.labels).mean())
    result = TeacherResult(plan.teacher, encoder.spec.family, plan.main, accuracy)
    return classifier, result
