"""Train the members of the mini panel and write their weights with a card.

    python -m experiments.pretrain --encoder=mini_resnet50 --data=tfds:cifar100:train \
        --test_data=tfds:cifar100:test --out=runs/pretrain

Every member has a recipe in `substrate_jax.training.mini_panel`, which says too how accuracies are
measured. Written to OUT: NAME.safetensors, NAME.json with the recipe, the accuracies and how it was
made, and README.md, the card of all members there. `--encoder=card` rewrites the card alone. A run
that is stopped and started again with the same flags goes on from its last checkpoint.
"""

import dataclasses
import json
import shutil
import subprocess
import time
from pathlib import Path

from absl import flags

from .common import launch, training_flags
from .common.stages import Stages

FLAGS = flags.FLAGS
DATA, TEST_DATA = "tfds:cifar100:train", "tfds:cifar100:test"  # by default
flags.adopt_module_key_flags(launch)
flags.adopt_module_key_flags(training_flags)
flags.DEFINE_string("encoder", None, "Member to train, such as mini_resnet50; or card.")
flags.DEFINE(
    launch.PathParser(), "checkpoints", None, "Folder for resuming; OUT/checkpoints by default."
)


def run() -> None:
    """Resolve the plan, train, measure, and rewrite the card."""
    from substrate_jax.data.domains import open_source
    from substrate_jax.training.mini_panel import member_recipe

    out = Path(FLAGS.out or "runs/pretrain")
    if FLAGS.encoder == "card":
        with launch.claim(out):
            write_card(out)
        return
    recipe = member_recipe(FLAGS.encoder)
    epochs = recipe.epochs if FLAGS.epochs is None else FLAGS.epochs
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: give 1 or more")
    given = (FLAGS.data, DATA), (FLAGS.test_data, TEST_DATA)
    specs = [default if spec is None else spec for spec, default in given]
    sources = [open_source(spec, quiet=FLAGS.quiet) for spec in specs]
    recipe = dataclasses.replace(recipe, epochs=epochs)
    steps = epochs * (len(sources[0]) // recipe.batch_size)
    if steps < 1:
        raise ValueError(
            f"data={specs[0]!r} has {len(sources[0])} images, fewer than a batch of "
            f"{recipe.batch_size}; give more"
        )
    checkpoints = Path(FLAGS.checkpoints or out / "checkpoints") / FLAGS.encoder
    if FLAGS.dry_run:
        print(describe_plan(recipe, sources, steps, checkpoints, out))
        return
    with launch.claim(out):
        launch.keep_arguments(
            checkpoints.with_suffix(".arguments.json"),
            {
                "encoder": FLAGS.encoder,
                "data": specs[0],
                "fingerprint": sources[0].fingerprint,
                "epochs": epochs,
                "seed": FLAGS.seed,
            },
        )
        compute(recipe, sources, steps, checkpoints, out)


def compute(recipe, sources, steps: int, checkpoints: Path, out: Path) -> None:
    """Everything after the plan; `out` is held by this run."""
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.encoders.weights import file_sha256, parameter_count
    from substrate_jax.mesh import make_mesh
    from substrate_jax.report.values import plain
    from substrate_jax.report.writing import write_file
    from substrate_jax.training.mini_panel import measure_member, read_images, train_member

    name, start, commit = FLAGS.encoder, time.time(), git_commit()
    stages = Stages()
    with stages("load", alone=True):
        train, test = (read_images(source, name) for source in sources)
    with stages("train"):
        content, records = train_member(
            name,
            *train,
            sources[0].label_names,
            epochs=recipe.epochs,
            seed=FLAGS.seed,
            checkpoints=checkpoints,
            progress=None if launch.is_quiet() else name,
        )
    for record in records:
        print(json.dumps(record), flush=True)
    path = write_file(out / f"{name}.safetensors", content)
    seconds = round(time.time() - start)
    with stages("measure", alone=True):
        accuracy = measure_member(name, path, train, test, seed=FLAGS.seed)
    made = launch.describe_run("pretrain", make_mesh())
    made = dataclasses.replace(made, seconds=stages.total())
    record = {
        "encoder": name,
        "data": (FLAGS.data or DATA).split("@")[0],
        "images": len(train[0]),
        "recipe": dataclasses.asdict(recipe),
        "steps": steps,
        "final_loss": records[-1]["loss"] if records else None,
        "seconds": seconds,
        "seed": FLAGS.seed,
        "commit": commit,
        "sha256": file_sha256(path),
        "parameters": parameter_count(encoder_spec(name).config),
        "accuracy": accuracy,
        "run": plain(made),
    }
    write_file(out / f"{name}.json", json.dumps(record, indent=1) + "\n")
    print(", ".join(f"{key} {value:.1%}" for key, value in accuracy.items()))
    write_card(out)


def write_card(out: Path) -> None:
    """Rewrite the card of the members in a folder, and say where it is."""
    from substrate_jax.report.writing import write_file
    from substrate_jax.training.mini_panel import card

    print(f"card: {write_file(out / 'README.md', card(out))}")


def describe_plan(recipe, sources, steps: int, checkpoints: Path, out: Path) -> str:
    """What a run would do."""
    from substrate_jax.data.modality import image_preprocess
    from substrate_jax.encoders import encoder_spec
    from substrate_jax.encoders.weights import parameter_count

    spec = encoder_spec(FLAGS.encoder)
    size = image_preprocess(spec).size
    return "\n".join(
        [
            f"out: {out}   checkpoints: {checkpoints}",
            f"encoder: {spec.name}, {spec.family}, {parameter_count(spec.config):,} parameters, "
            f"{size} x {size} pixels",
            f"recipe: {recipe.objective}, {recipe.optimizer} at {recipe.learning_rate:g}, batches "
            f"of {recipe.batch_size}, {recipe.epochs} epochs, {steps:,} steps",
            *(
                f"{kind}: {source.name}, {len(source):,} images"
                for kind, source in zip(("data", "test_data"), sources, strict=True)
            ),
        ]
    )


def git_commit() -> str:
    """Hash of the checkout's commit, or "unknown" outside one."""
    if shutil.which("git") is None:
        return "unknown"
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"


if __name__ == "__main__":
    launch.start(run)
