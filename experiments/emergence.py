"""Train networks from scratch and watch: do their features agree with a panel's before they learn?

    python -m experiments.emergence
    python -m experiments.emergence --data=dir:TRAIN --test_data=dir:TEST --seeds=3 --epochs=30
    python -m experiments.emergence --data=tfds:cifar100:train --test_data=tfds:cifar100:test \
        --student=resnet18 --seeds=3 --epochs=50 --against=all

Features of the same held-out images are taken before training, after 1, 2, 4, ... steps of the
first epoch, and ever more rarely to the end. Interrupted and started again with the same --out, a
run goes on; more seeds or more of --against are trained beside what is there.
"""

from pathlib import Path

from absl import flags

from .common import calibration, lapack, launch, training_data
from .common import encoders as panel
from .common.stages import Stages, progress_bar

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training_data)
AGAINST = ("pixels", "untrained_panel", "another_seed", "shuffled", "self_supervised")
flags.DEFINE_list(
    "against",
    ["pixels", "untrained_panel", "another_seed", "shuffled"],
    "What curves are compared with: all, none, or some of targets pixels, untrained_panel, "
    "another_seed, and of trainings shuffled, self_supervised, which take as long as the main one.",
)
flags.DEFINE_integer(
    "probe_images", None, "Test images whose features are compared; 512 or as many as there are."
)
flags.DEFINE_float("learning_rate", 3e-3, "Of AdamW, at its peak.")
EPOCHS, PROBES = 4, 512  # by default
ENCODERS = "shared"  # the paper's panel over several domains, where --encoders is not given


def run() -> None:
    """Train, watch, compare, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import DATA_AXIS, make_mesh

    if FLAGS.list_encoders:
        print(text_table())
        return
    calibration.check_alpha()
    against = chosen()
    if FLAGS.coordinator not in (None, "none") or FLAGS.num_processes:
        raise ValueError("coordinator: networks are trained by one process; leave it out")
    mesh = make_mesh(FLAGS.mesh)
    if FLAGS.train_batch % mesh.shape[DATA_AXIS]:
        raise ValueError(
            f"train_batch={FLAGS.train_batch}: the mesh has {mesh.shape[DATA_AXIS]} devices; give "
            "a multiple of that"
        )
    specs = panel_specs()
    sources = training_data.open_training_data()
    plan, probes = make_plan(sources, against)
    out = Path(FLAGS.out or "runs/emergence")
    if FLAGS.dry_run:
        print(describe(plan, sources, probes, specs, against, mesh, out))
        return
    with launch.claim(out):
        launch.keep_arguments(
            out / "emergence.arguments.json",
            {
                "student": FLAGS.student,
                "epochs": plan.recipe.epochs,
                "learning_rate": FLAGS.learning_rate,
                "train_batch": FLAGS.train_batch,
                "seed": FLAGS.seed,
                "probe_images": probes,
                "data": [len(sources[0]), sources[0].fingerprint],
                "test_data": [len(sources[1]), sources[1].fingerprint],
            },
        )
        compute(plan, sources, probes, specs, against, mesh, out)


def chosen() -> list[str]:
    """The words of --against.

    Raises:
        ValueError: one that is none of `AGAINST`.
    """
    words = {("all",): list(AGAINST), ("none",): []}.get(tuple(FLAGS.against), FLAGS.against)
    if unknown := [word for word in words if word not in AGAINST]:
        raise ValueError(
            f"against: {unknown[0]!r} is none; give all, none, or some of {', '.join(AGAINST)}"
        )
    return list(dict.fromkeys(words))


def panel_specs() -> list:
    """The records of --encoders, or of the panel that is taken without."""
    from substrate_jax.encoders import find_spec, select_encoders

    words = [ENCODERS] if FLAGS["encoders"].using_default_value else FLAGS.encoders
    return [find_spec(name, FLAGS.weights_dir) for name in select_encoders(words, FLAGS.panel)]


def make_plan(sources, against: list[str]):
    """What is trained and when it is watched, and how many probe images there are.

    Raises:
        ValueError: an unknown student, too few probe images, or options out of range.
    """
    from substrate_jax.analyses.emergence import plan as plans
    from substrate_jax.substrate.components import COMPONENTS
    from substrate_jax.training.students import student_config

    student_config(FLAGS.student, 2)
    available = len(sources[1])
    probes = min(PROBES, available) if FLAGS.probe_images is None else FLAGS.probe_images
    if probes > available:
        raise ValueError(f"probe_images={probes}: there are {available} test images; ask for less")
    least = 2 * (COMPONENTS + 1)
    if probes < least:
        raise ValueError(
            f"probe_images={probes}: too few for {COMPONENTS} components; give {least} or more, "
            "or more test images"
        )
    objectives = [plans.SUPERVISED]
    objectives += [one for one in (plans.SHUFFLED, plans.SELF_SUPERVISED) if one in against]
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    plan = plans.make_plan(
        FLAGS.student,
        objectives,
        list(seeds),
        len(sources[0]),
        epochs=EPOCHS if FLAGS.epochs is None else FLAGS.epochs,
        batch_size=FLAGS.train_batch,
        learning_rate=FLAGS.learning_rate,
    )
    return plan, probes


def compute(plan, sources, probes: int, specs, against: list[str], mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import numpy as np

    from substrate_jax.analyses.emergence import compare
    from substrate_jax.analyses.emergence.page import emergence_page
    from substrate_jax.analyses.emergence.results import EmergenceResult
    from substrate_jax.analyses.emergence.train import train, watched
    from substrate_jax.analyses.emergence.watch import Watcher, probe_rows
    from substrate_jax.analyses.emergence.words import emergence_summary
    from substrate_jax.encoders.weights import parameter_count
    from substrate_jax.substrate.components import COMPONENTS
    from substrate_jax.training.students import student_config

    stages, level = Stages(), 1 - FLAGS.alpha
    with stages("load", alone=True):
        data = training_data.read_training_data(*sources)
        encoders = [panel.load(spec) for spec in specs]
    preprocess = training_data.student_preprocess()
    rows = probe_rows(data.test.labels, min(probes, len(data.test)))
    with stages("panel"):
        targets = panel_targets(
            encoders, data.test.source.select(rows.tolist()), against, mesh, out
        )
    watcher = Watcher(
        out / "watched", data.test, rows, preprocess, mesh=mesh, batch_size=FLAGS.batch_size
    )
    with stages("train"):
        train(
            plan,
            data,
            watcher,
            preprocess,
            checkpoints=out / "checkpoints",
            mesh=mesh,
            progress=lambda what: None if launch.is_quiet() else what,
        )
    found = watched(plan, watcher)
    with (
        stages("compare"),
        progress_bar("comparing", len(plan.trainings), "training") as progress,
    ):
        curves = compare.trainings(
            plan,
            found,
            targets,
            seeds_as_targets=compare.SEED in against,
            alpha=FLAGS.alpha,
            mesh=mesh,
            progress=progress,
        )
        rises = compare.rises(plan.watched, curves, level=level)
    counts = np.bincount(data.test.labels, minlength=data.classes)
    notes = [
        *panel.arithmetic_notes(),
        *panel.paradigm_notes(specs),
        *training_data.training_notes(data),
        *compare.constant_notes(plan, found),
    ]
    records = [panel.encoder_record(encoder) for encoder in encoders]
    named = list(curves[0].alignments)
    train_set, test_set = training_data.image_sets(data)
    result = EmergenceResult(
        run=launch.describe_run("emergence", mesh, records, notes),
        student=plan.student,
        parameters=parameter_count(student_config(plan.student, data.classes)),
        recipe=plan.recipe,
        level=level,
        components=COMPONENTS,
        train=train_set,
        test=test_set,
        train_images=len(data.train),
        test_images=len(data.test),
        probe_images=len(rows),
        classes=data.classes,
        majority=float(counts.max() / counts.sum()),
        per_epoch=plan.per_epoch,
        steps=list(plan.watched),
        targets={name: compare.TARGETS[name] for name in named},
        trainings=curves,
        rises=rises,
    )
    launch.publish(result, emergence_page, emergence_summary, out, stages)


def panel_targets(encoders, source, against: list[str], mesh, out: Path) -> dict:
    """Scores of the probe images: of the panel, and of what it is compared with."""
    import numpy as np

    from substrate_jax.analyses.emergence import compare
    from substrate_jax.encoders import untrained
    from substrate_jax.features.image_readers import image_readers

    kinds = {compare.PANEL: encoders}
    if compare.UNTRAINED in against:
        kinds[compare.UNTRAINED] = [
            untrained(encoder.spec, FLAGS.seed, dtype=encoder.dtype) for encoder in encoders
        ]
    if compare.PIXELS in against:
        kinds[compare.PIXELS] = [image_readers()[0]]
    every = [extractor for of in kinds.values() for extractor in of]
    with progress_bar("panel", len(source), "image") as progress:
        features = panel.extract_features(every, source, panel.open_store(out), mesh, progress)
    return {
        kind: compare.scores({one.spec.name: np.asarray(features[one.spec.name]) for one in of})
        for kind, of in kinds.items()
    }


def describe(plan, sources, probes: int, specs, against: list[str], mesh, out: Path) -> str:
    """What a run would do, and about how long it takes."""
    from substrate_jax.analyses.emergence.cost import cost
    from substrate_jax.encoders.weights import parameter_count
    from substrate_jax.training.students import student_config

    classes = len(set(sources[0].labels.tolist()))
    config = student_config(plan.student, classes)
    encoders, missing = panel.encoder_lines(specs)
    recipe = plan.recipe
    flops, time = cost(plan, config, len(sources[1]))
    return "\n".join(
        [
            f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.dtype}",
            "panel:",
            *encoders,
            f"student: {plan.student}, {parameter_count(config):,} parameters, {classes} classes",
            f"data: {sources[0].name}, {len(sources[0]):,} images   test_data: {sources[1].name}, "
            f"{len(sources[1]):,} images, features of {probes}",
            f"recipe: {recipe.optimizer} at {recipe.learning_rate:g}, batches of "
            f"{recipe.batch_size}, {recipe.epochs} epochs, {plan.steps:,} steps",
            f"trainings: {', '.join(plan.objectives)}, seeds {', '.join(map(str, plan.seeds))}",
            f"watched: {', '.join(map(str, plan.watched))}",
            f"against: {', '.join(against) or 'none'}",
            f"work: {flops / 1e12:.1f} TFLOP; about {time}",
            f"to download: {missing / 2**20:.0f} MiB",
        ]
    )


if __name__ == "__main__":
    lapack.one_thread()
    launch.start(run)
