"""What are unlabeled images worth: a network pretrained on a substrate of them, then fine-tuned?

    python -m experiments.unlabeled
    python -m experiments.unlabeled --data=dir:MANY --tune=xray=dir:XRAYS,cells=dir:CELLS \
        --pretrain_on=all --label_counts=5,20,all --seeds=5 --rates=0.01,0.03,0.1
    python -m experiments.unlabeled --pretrain_on=substrate,encoder:mini_clip_base,simclr

A network is pretrained from scratch on images without labels, by 1 - CKA of its features to the
panel's substrate of the same images, and fine-tuned on a few labels of every class: of the same
images, or of other sets. Beside it stand no pretraining, two views (SimCLR), labels, and targets
that have a part of the substrate taken away. Every network is kept in OUT as it ends
(pretrained.csv, tuned.csv, and weights in OUT/pretrained): the same command goes on where it
stopped, and more seeds, ways to pretrain, numbers of labels or sets are added to what is there.
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
    from substrate_jax.analyses.unlabeled.plan import Plan
    from substrate_jax.data.sources import Source

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
flags.adopt_module_key_flags(training_data)
flags.adopt_module_key_flags(training_runs)
flags.adopt_module_key_flags(components)
flags.DEFINE_list(
    "pretrain_on",
    ["substrate", "simclr"],
    "Ways to pretrain, beside none: all, or some of substrate, spread_substrate (with a variance "
    "term), shuffled, untrained, pixels, simclr, supervised, encoder:NAME, file:PATH. The first of "
    "a target is the one that is judged.",
)
flags.DEFINE_string(
    "tune",
    None,
    "Labeled sets to fine-tune on, as --domains takes them; a quarter of each is tested on. "
    "Without it, --data.",
)
flags.DEFINE_string(
    "tune_test", None, "Test images of the sets of --tune, under the same names; not all need any."
)
flags.DEFINE_list("label_counts", ["5"], "Labeled images of each class to fine-tune on, or all.")
flags.DEFINE_integer(
    "tune_steps", 60, "Steps of every fine-tuning.", lower_bound=1, upper_bound=10**9
)
flags.DEFINE_float(
    "pretraining_rate", None, "Learning rate of pretraining; the student's usual one without it."
)
EPOCHS = 3  # of pretraining, without --epochs
ITSELF = "data"  # name of --data as the labeled set


def run() -> None:
    """Make targets, pretrain and fine-tune what is not yet done, and write the report."""
    from substrate_jax.encoders.table import text_table
    from substrate_jax.mesh import make_mesh
    from substrate_jax.training.students import student_config

    if FLAGS.list_encoders:
        print(text_table())
        return
    calibration.check_alpha()
    student_config(FLAGS.student, 2)
    plan = plan_of_flags()
    specs = panel.chosen_specs() if plan.targets else []
    mesh = make_mesh(FLAGS.mesh)
    images, sets = open_images()
    check_labels(plan, images, sets)
    if specs:
        components.check_components(specs, len(images))
    out = Path(FLAGS.out or "runs/unlabeled")
    if FLAGS.dry_run:
        print(described(plan, specs, images, sets, mesh, out))
        return
    with launch.claim(out):
        compute(plan, specs, images, sets, mesh, out)


def plan_of_flags() -> "Plan":
    """What --pretrain_on, --label_counts and the others ask for.

    Raises:
        ValueError: see `analyses.unlabeled.plan.check_plan`.
    """
    from substrate_jax.analyses.unlabeled.plan import ALL, SCRATCH, WAYS, Plan, check_plan
    from substrate_jax.training.students import student_rate

    ways = list(WAYS) if FLAGS.pretrain_on == ["all"] else FLAGS.pretrain_on
    try:
        labels = [ALL if word == "all" else int(word) for word in FLAGS.label_counts]
    except ValueError:
        words = ",".join(FLAGS.label_counts)
        raise ValueError(f"label_counts={words!r}: give whole numbers, or all") from None
    if ALL in labels and "all" not in FLAGS.label_counts:
        raise ValueError("label_counts: 0: give 1 or more, or all")
    rate = FLAGS.pretraining_rate
    plan = Plan(
        pretrainings=list(dict.fromkeys([SCRATCH, *ways])),
        epochs=EPOCHS if FLAGS.epochs is None else FLAGS.epochs,
        pretraining_rate=student_rate(FLAGS.student) if rate is None else rate,
        labels=labels,
        tune_steps=FLAGS.tune_steps,
        rates=training_runs.rates(),
        seeds=list(range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)),
        batch_size=FLAGS.train_batch,
        components=FLAGS.components,
    )
    check_plan(plan)
    return plan


def open_images() -> "tuple[Source, dict[str, tuple[Source, Source]]]":
    """The images to pretrain on, and the labeled sets, each to train and to test on.

    Raises:
        ValueError: see `training.labeled_images.split_sources`, or flags that do not go together.
    """
    from substrate_jax.data.domains import resolve_domains
    from substrate_jax.data.sources import take
    from substrate_jax.training.labeled_images import split_sources

    if not FLAGS.tune:
        if FLAGS.tune_test:
            raise ValueError(f"tune_test={FLAGS.tune_test!r}: it goes with --tune; give --tune too")
        train, test = training_data.open_training_data()
        return train, {ITSELF: (train, test)}
    if FLAGS.test_data:
        raise ValueError(
            f"test_data={FLAGS.test_data!r}: --data is not tested on beside --tune; leave it out, "
            "or give --tune_test"
        )
    sets = resolve_domains(FLAGS.tune)
    tests = resolve_domains(FLAGS.tune_test) if FLAGS.tune_test else {}
    if strange := [name for name in tests if name not in sets]:
        raise ValueError(f"tune_test: {strange[0]!r} is no set of --tune: {', '.join(sets)}")
    images = panel.open_images(FLAGS.data or training_data.DATA)
    images = images if FLAGS.n is None else take(images, min(FLAGS.n, len(images)), FLAGS.seed)
    found = {}
    for name, spec in sets.items():
        test = panel.open_images(tests[name]) if name in tests else None
        found[name] = split_sources(panel.open_images(spec), test, seed=FLAGS.seed)
    return images, found


def check_labels(plan: "Plan", images: "Source", sets) -> None:
    """Refuse what the images or their labels do not allow, before any is read.

    Raises:
        ValueError: too many steps, pretraining on labels without them, or a class that is too
            small.
    """
    from substrate_jax.analyses.unlabeled.plan import way
    from substrate_jax.analyses.unlabeled.train import labeled

    if plan.steps(len(images)) >= 2**31:
        raise ValueError(f"epochs={plan.epochs}: these are more than 2^31 steps; give fewer")
    if images.labels is None and any(way(one).labels for one in plan.pretrainings):
        raise ValueError(
            f"pretrain_on=supervised: {images.name} has no labels; leave it out, or give labels"
        )
    for name, (train, _) in sets.items():
        for count in plan.labels:
            try:
                labeled(plan, train.labels, count, plan.seeds[0])
            except ValueError as error:
                raise ValueError(f"label_counts: {name}: {error}") from None


def described(plan: "Plan", specs, images, sets, mesh, out: Path) -> str:
    """What a run would do."""
    from substrate_jax.analyses.unlabeled.plan import SCRATCH, SIMCLR, way
    from substrate_jax.analyses.unlabeled.words import labels_title

    lines, missing = panel.encoder_lines(specs)
    steps, batch = plan.steps(len(images)), min(plan.batch_size, len(images))
    passes = sum({SCRATCH: 0, SIMCLR: 2}.get(one, 1) for one in plan.pretrainings)
    pretraining = passes * len(plan.seeds) * steps * batch
    tuning = plan.tunings(len(sets)) * plan.tune_steps * plan.batch_size  # at most
    return "\n".join(
        [
            f"mesh: {dict(mesh.shape)}   out: {out}   dtype: {FLAGS.train_dtype}",
            "encoders:",
            *lines,
            f"network: {FLAGS.student}, {len(plan.seeds)} seeds",
            f"pretraining: {images.name}, {len(images):,} images, {steps:,} steps of {batch}",
            *(f"  on {way(one).title}" for one in plan.pretrainings),
            f"fine-tuning: {plan.tune_steps:,} steps, {len(plan.rates)} learning rates, "
            f"{', '.join(labels_title(count) for count in plan.labels)}",
            *(
                f"  {name}: {train.name}, {len(train):,} images, tested on {len(test):,}"
                for name, (train, test) in sets.items()
            ),
            f"trainings: {(len(plan.pretrainings) - 1) * len(plan.seeds)} and "
            f"{plan.tunings(len(sets))}, {pretraining + tuning:,} images forward and backward",
            f"to download: {missing / 2**20:.0f} MiB",
        ]
    )


def compute(plan: "Plan", specs, source, sources, mesh, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    import numpy as np

    from substrate_jax.analyses.unlabeled import effects
    from substrate_jax.analyses.unlabeled.page import unlabeled_page
    from substrate_jax.analyses.unlabeled.results import Pretrained, Tuned, UnlabeledResult
    from substrate_jax.analyses.unlabeled.train import Setting, pretrain, tune
    from substrate_jax.analyses.unlabeled.words import unlabeled_summary
    from substrate_jax.report.text import slugs
    from substrate_jax.training.labeled_images import read_images
    from substrate_jax.training.students import student_config

    stages, level, notes = Stages(), 1 - FLAGS.alpha, []
    with stages("load", alone=True):
        encoders = [panel.load(spec) for spec in specs]
        sets = {name: training_data.read_training_data(*pair) for name, pair in sources.items()}
        preprocess = training_data.student_preprocess()
        images = (
            read_images(source, preprocess, skip_bad=FLAGS.skip_bad)
            if FLAGS.tune
            else sets[ITSELF].train
        )
    pixels, labels, source = images.images, images.labels, images.source
    classes = max(2, int(labels.max()) + 1)
    launch.keep_arguments(
        out / "unlabeled.arguments.json",
        {
            "student": FLAGS.student,
            "data": source.fingerprint,
            "images": len(pixels),
            "encoders": {encoder.name: encoder.sha256 for encoder in encoders},
            "normalization": FLAGS.normalization,
            "components": plan.components,
            "epochs": plan.epochs,
            "pretraining_rate": plan.pretraining_rate,
            "train_batch": plan.batch_size,
            "train_dtype": FLAGS.train_dtype,
            "tune_steps": plan.tune_steps,
            "several_rates": len(plan.rates) > 1,
            "seed": FLAGS.seed,
        },
    )
    files = slugs(list(sets))
    for name, data in sets.items():
        found = {
            f"images of {name}": data.train.source.fingerprint,
            f"test images of {name}": data.test.source.fingerprint,
        }
        launch.keep_arguments(out / "sets" / f"{files[name]}.json", found)
        notes += training_data.training_notes(data)
    targets = trainings.make_targets(
        plan.targets, plan.components, source, labels, encoders, mesh, out, stages
    )
    setting = Setting(
        plan=plan,
        student=FLAGS.student,
        classes=classes,
        preprocess=preprocess,
        dtype=np.dtype(FLAGS.train_dtype),
        together=training_runs.together(),
        mesh=mesh,
        memory=panel.device_memory_bytes(),
        weights=out / "pretrained",
        checkpoints=out / "checkpoints",
        writes=launch.is_first_process(),
        progress=not launch.is_quiet(),
    )
    before = kept.Kept(out / "pretrained.csv", Pretrained)
    with stages("pretrain"):
        pretrained = pretrain(setting, pixels, labels, targets, before.known, before.keep)
    after, tuned = kept.Kept(out / "tuned.csv", Tuned), []
    with stages("tune"):
        for name, data in sets.items():
            tuned += tune(setting, name, data, after.known, after.keep)
    outcomes = effects.outcomes(plan, list(sets), tuned, level)
    config = student_config(FLAGS.student, classes)
    records = [panel.encoder_record(encoder) for encoder in encoders]
    spec = FLAGS.data or training_data.DATA
    result = UnlabeledResult(
        run=launch.describe_run("unlabeled", mesh, records, [*notes, *panel.arithmetic_notes()]),
        student=FLAGS.student,
        family=config.family,
        width=config.width,
        plan=plan,
        level=level,
        images=panel.image_set(spec, spec, source),
        count=len(pixels),
        steps=plan.steps(len(pixels)),
        dimensions={name: target.dimensions for name, target in targets.items()},
        sets=described_sets(plan, sets, pixels),
        pretrained=pretrained,
        outcomes=outcomes,
        pooled=effects.pooled(plan, outcomes, level),
    )
    launch.publish(result, unlabeled_page, unlabeled_summary, out, stages)


def described_sets(plan: "Plan", sets, pixels):
    """What the labeled sets are, and how much of them was seen before."""
    from substrate_jax.analyses.distill.train import parts
    from substrate_jax.analyses.unlabeled.results import TuneSet
    from substrate_jax.data.domains import resolve_domains

    seen = {image.tobytes() for image in pixels}
    specs = resolve_domains(FLAGS.tune) if FLAGS.tune else {}
    found = {}
    for name, data in sets.items():
        spec = specs.get(name, FLAGS.data or training_data.DATA)
        fitted, held = parts(plan.rates, data.train.labels)
        found[name] = TuneSet(
            images=panel.image_set(name, spec, data.train.source),
            train=len(fitted),
            validation=len(held),
            test=len(data.test),
            seen=sum(image.tobytes() in seen for image in data.test.images),
            classes=data.classes,
        )
    return found


if __name__ == "__main__":
    launch.start(run, devices.join_processes)
