"""Do students learn more from labels and a substrate than from labels alone?

    python -m experiments.distill
    python -m experiments.distill --data=tfds:cifar100:train --test_data=tfds:cifar100:test \
        --methods=all --targets=all --fractions=0.01,0.1,0.5,1 --seeds=5 --rates=0.03,0.1,0.3
    python -m experiments.distill --targets=encoder:mini_clip_base --data=dir:PHOTOS

A student is trained from scratch on a share of the labels, by cross entropy plus a term: how its
features differ from a fixed target of the same images (a substrate, computed once, and targets that
have a part of it taken away), or from what a trained teacher gives. Accuracies are compared by
seed. Every training is kept in OUT/trainings.csv as it ends: the same command goes on where it
stopped, and more seeds, methods or targets are added to what is there.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from .common import (
    calibration,
    components,
    devices,
    kept,
    launch,
    training_data,
    training_runs,
    trainings,
)
from .common import encoders as panel
from .common.stages import Stages

if TYPE_CHECKING:
    from substrate_jax.analyses.distill.plan import Plan

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
flags.adopt_module_key_flags(training_data)
flags.adopt_module_key_flags(training_runs)
flags.adopt_module_key_flags(components)
flags.DEFINE_list(
    "methods",
    ["ce", "debiased_cka", "kd"],
    "Ways to learn: all, or some of ce (labels alone), debiased_cka, cka, mse, cosine, sp (to the "
    "target), kd, dkd, teacher_sp, teacher_cka, rkd, pkt (to the teacher).",
)
flags.DEFINE_list(
    "targets",
    ["substrate", "labels", "shuffled"],
    "Targets: all, or some of substrate, labels, shuffled, shuffled_within, untrained, pixels, "
    "random, encoder:NAME, file:PATH. The first is that of all methods, the first method meets "
    "them all.",
)
flags.DEFINE_string(
    "teacher",
    "mini_convnext_base",
    "Encoder that is fine-tuned on the labels of the first seed, for methods that have a teacher.",
)
flags.DEFINE_list("fractions", ["0.1"], "Shares of the labels that students learn from.")
flags.DEFINE_list("weights", ["1"], "Weights of the CKA losses, such as 0.1,0.3,1,3.")
flags.DEFINE_list(
    "fraction_epochs", [], "Passes over the labeled images of each fraction, in place of --epochs."
)
flags.DEFINE_integer("teacher_epochs", 10, "Passes in fine-tuning a teacher.", lower_bound=1)
EPOCHS = 20  # of students, without --epochs


def run() -> None:
    """Make targets and teachers, train what is not yet trained, and write the report."""
    from substrate_jax.data.modality import image_preprocess
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh
    from substrate_jax.training.students import student_config

    if FLAGS.list_encoders:
        print(text_table())
        return
    calibration.check_alpha()
    plan = plan_of_flags()
    student_config(FLAGS.student, 2)
    specs = panel.chosen_specs()
    if needs_teacher(plan):
        size = image_preprocess(encoder_spec(plan.teacher)).size
        if size != training_data.student_preprocess().size:
            raise ValueError(
                f"teacher={plan.teacher!r} takes images of {size} pixels, the student of "
                f"{training_data.student_preprocess().size}; choose one of that size"
            )
    mesh = make_mesh(FLAGS.mesh)
    sources = training_data.open_training_data()
    if plan.on_target is not None:
        components.check_components(specs, len(sources[0]))
    out = Path(FLAGS.out or "runs/distill")
    if FLAGS.dry_run:
        print(described(plan, specs, sources, mesh, out))
        return
    with launch.claim(out):
        compute(plan, specs, sources, mesh, out)


def plan_of_flags() -> "Plan":
    """What --methods, --targets and the others ask for.

    Raises:
        ValueError: see `analyses.distill.plan.check_plan`.
    """
    from substrate_jax.analyses.distill.plan import LABELS_ALONE, TARGETS, Plan, check_plan
    from substrate_jax.training.distillation import METHODS

    methods = list(METHODS) if FLAGS.methods == ["all"] else FLAGS.methods
    fractions = training_runs.numbers("fractions")
    epochs = [int(value) for value in training_runs.numbers("fraction_epochs", whole=True)]
    usual = EPOCHS if FLAGS.epochs is None else FLAGS.epochs
    plan = Plan(
        methods=list(dict.fromkeys([LABELS_ALONE, *methods])),
        targets=list(TARGETS) if FLAGS.targets == ["all"] else list(dict.fromkeys(FLAGS.targets)),
        teacher=FLAGS.teacher,
        weights=training_runs.numbers("weights"),
        fractions=fractions,
        epochs=epochs or [usual] * len(fractions),
        rates=training_runs.rates(),
        seeds=list(range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)),
        batch_size=FLAGS.train_batch,
        components=FLAGS.components,
    )
    check_plan(plan)
    return plan


def needs_teacher(plan: "Plan") -> bool:
    """Whether any method has a teacher."""
    from substrate_jax.training.distillation import METHODS

    return any(METHODS[name].needs == "teacher" for name in plan.methods)


def described(plan: "Plan", specs, sources, mesh, out: Path) -> str:
    """What a run would do."""
    lines, missing = panel.encoder_lines(specs)
    train, test = sources
    passes = sum(
        plan.count() / len(plan.fractions) * epochs * fraction * len(train)
        for epochs, fraction in zip(plan.epochs, plan.fractions, strict=True)
    )
    conditions = [one for fraction in plan.fractions for one in plan.conditions(fraction)]
    return "\n".join(
        [
            f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.train_dtype}",
            "encoders:",
            *lines,
            f"student: {FLAGS.student}, {len(plan.seeds)} seeds, {len(plan.rates)} learning rates",
            f"images: {train.name} {len(train):,} to train on, {test.name} {len(test):,} to test",
            *(
                f"  {one.method:14s} {one.target or '-':20s} weight {one.weight:g} at "
                f"{one.fraction:.0%} of the labels"
                for one in conditions
            ),
            f"trainings: {plan.count()}, about {passes:,.0f} images forward and backward",
            f"to download: {missing / 2**20:.0f} MiB",
        ]
    )


def compute(plan: "Plan", specs, sources, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import numpy as np

    from substrate_jax.analyses.distill.effects import outcomes
    from substrate_jax.analyses.distill.page import distill_page
    from substrate_jax.analyses.distill.results import DistillResult, Training
    from substrate_jax.analyses.distill.train import Setting, fraction_rows, parts, train
    from substrate_jax.analyses.distill.words import distill_summary
    from substrate_jax.training.distillation import Teacher
    from substrate_jax.training.students import student_config

    stages = Stages()
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
        data = training_data.read_training_data(*sources)
    labeled = {
        fraction: fraction_rows(plan, data.train.labels, fraction, plan.seeds[0])
        for fraction in plan.fractions
    }
    launch.keep_arguments(out / "distill.arguments.json", trainings.arguments(plan, encoders, data))
    source, labels = data.train.source, data.train.labels
    names = plan.targets if plan.on_target else ()
    targets = trainings.make_targets(
        names, plan.components, source, labels, encoders, mesh, out, stages
    )
    classifier = teacher = None
    if needs_teacher(plan):
        with stages("teacher"):
            classifier, teacher = trainings.make_teacher(plan, data, labeled[plan.main], mesh, out)
    done = kept.Kept(out / "trainings.csv", Training)
    with stages("train"):
        found = train(
            Setting(
                plan=plan,
                student=FLAGS.student,
                preprocess=training_data.student_preprocess(),
                data=data,
                targets=targets,
                teacher=None if classifier is None else Teacher(classifier),
                dtype=np.dtype(FLAGS.train_dtype),
                together=training_runs.together(),
                mesh=mesh,
                memory=panel.device_memory_bytes(),
                checkpoints=out / "checkpoints",
                progress=not launch.is_quiet(),
            ),
            done.known,
            done.keep,
        )
    level = 1 - FLAGS.alpha
    records = [panel.encoder_record(encoder) for encoder in encoders]
    notes = [*training_data.training_notes(data), *panel.arithmetic_notes()]
    result = DistillResult(
        run=launch.describe_run("distill", mesh, records, notes),
        student=FLAGS.student,
        family=student_config(FLAGS.student, data.classes).family,
        plan=plan,
        level=level,
        images=dict(zip(("train", "test"), training_data.image_sets(data), strict=True)),
        counts={
            "train": len(data.train),
            "validation": len(parts(plan.rates, data.train.labels)[1]),
            "test": len(data.test),
        },
        labeled={f"{fraction:g}": len(rows) for fraction, rows in labeled.items()},
        classes=data.classes,
        teacher=teacher,
        outcomes=outcomes(plan, found, level),
    )
    launch.publish(result, distill_page, distill_summary, out, stages)


if __name__ == "__main__":
    launch.start(run, devices.join_processes)
