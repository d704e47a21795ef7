"""What is made before students are trained: targets, a teacher, and a note of what decides them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from . import encoders as panel
from . import launch, training_data
from .stages import Stages, progress_bar

if TYPE_CHECKING:
    from substrate_jax.analyses.distill.plan import Plan
    from substrate_jax.analyses.distill.results import TeacherResult
    from substrate_jax.data.sources import Source
    from substrate_jax.features import Features
    from substrate_jax.losses.target import SubstrateTarget
    from substrate_jax.training.finetune import Classifier
    from substrate_jax.training.labeled_images import TrainingData

FLAGS = flags.FLAGS


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


def make_targets(
    names: Sequence[str],
    k: int,
    source: "Source",
    labels,
    encoders,
    mesh,
    out: Path,
    stages: Stages,
) -> "dict[str, SubstrateTarget]":
    """Targets by name, each written to OUT/targets.

    Args:
        names: as `analyses.distill.targets.make_target` takes them.
        k: components.
        source: the images that they are of.
        labels: of the images, for targets that say classes.
        encoders: of the panel.
        mesh: where to run.
        out: folder.
        stages: seconds.
    """
    from substrate_jax.analyses.distill.plan import FILE
    from substrate_jax.analyses.distill.targets import PIXELS, UNTRAINED, make_target
    from substrate_jax.encoders import untrained
    from substrate_jax.features.image_readers import image_readers
    from substrate_jax.report.text import slugs

    found: dict[str, Features] = {}

    def extractors(which: str) -> list:
        if which == PIXELS:
            return [image_readers()[0]]
        return [untrained(one.spec, FLAGS.seed) for one in encoders] if which else encoders

    def features(which: str = "") -> "Callable[[], Features]":
        def get() -> "Features":
            if which not in found:
                used = extractors(which)
                label = f"features, {which}" if which else "features"
                bar = progress_bar(label, len(source) * len(used), "image")
                with stages("extract"), bar as progress:
                    store = panel.open_store(out)
                    found[which] = panel.extract_features(used, source, store, mesh, progress)
            return found[which]

        return get

    targets = {
        name: make_target(
            name,
            labels,
            features(),
            features(UNTRAINED),
            features(PIXELS),
            k=k,
            seed=FLAGS.seed,
        )
        for name in names
    }
    folder = out / "targets"
    if targets:
        folder.mkdir(exist_ok=True)
    files = slugs(list(targets))
    for name, target in targets.items():
        if launch.is_first_process() and not name.startswith(FILE):
            target.save(folder / f"{files[name]}.safetensors")
    return targets


def make_teacher(
    plan: "Plan", data: "TrainingData", rows, mesh, out: Path
) -> "tuple[Classifier, TeacherResult]":
    """The plan's encoder, fine-tuned on labeled images, and what it is worth."""
    from substrate_jax.analyses.distill.results import TeacherResult
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.training.finetune import RECIPE, fine_tune
    from substrate_jax.training.predict import accuracy

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
    right = accuracy(classifier, data.test.images, data.test.labels, recipe.batch_size)
    result = TeacherResult(plan.teacher, encoder.spec.family, plan.main, right)
    return classifier, result
