"""Train the members of the mini panel and write their weights with a card.

    python -m experiments.pretrain --encoder=mini_resnet50 --data=tfds:cifar100:train \
        --test_data=tfds:cifar100:test --out=runs/pretrain

Every member has a recipe below. The weights are float16 safetensors in timm's naming; accuracies
are measured on those rounded weights. Supervised members report top-1 on the test images; every
member reports a linear probe (logistic regression on standardized frozen features, trained on the
training images) beside the same probe on the same network at random initialization. A run that is
stopped and started again with the same --out goes on from its last checkpoint.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from flax import nnx
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from substrate_jax.data.domains import open_source
from substrate_jax.data.preprocess import normalize
from substrate_jax.data.sources import Source
from substrate_jax.encoders import (
    Encoder,
    encoder_spec,
    list_encoders,
    load_encoder,
    untrained,
)
from substrate_jax.encoders.weights import (
    checkpoint_arrays,
    file_sha256,
    parameter_count,
    serialize,
)
from substrate_jax.training.loop import fit
from substrate_jax.training.objectives import (
    ImageText,
    MaskedAutoencoder,
    MaskedConvolution,
    SimCLR,
    Supervised,
)

FLAGS = flags.FLAGS
flags.DEFINE_string("encoder", None, "Member to train, see --help of experiments.cka; or 'card'.")
flags.DEFINE_string("data", "tfds:cifar100:train", "Training images, any source with labels.")
flags.DEFINE_string("test_data", "tfds:cifar100:test", "Test images.")
flags.DEFINE_string("out", "runs/pretrain", "Folder for NAME.safetensors, NAME.json and the card.")
flags.DEFINE_string("checkpoints", "runs/pretrain/checkpoints", "Folder for resuming.")
flags.DEFINE_integer("epochs", None, "Passes over the training images; the recipe's by default.")
flags.DEFINE_integer("seed", 0, "Seed of initialization, order and augmentation.")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one member is trained."""

    objective: str
    epochs: int
    optimizer: str
    learning_rate: float
    batch_size: int = 128
    weight_decay: float = 0.05
    options: Mapping[str, float] = dataclasses.field(default_factory=dict)


RECIPES = {
    "mini_resnet50": Recipe("supervised", 10, "adamw", 3e-3),
    "mini_resnet101": Recipe("supervised", 6, "adamw", 3e-3),
    "mini_convnext_base": Recipe("supervised", 6, "muon", 1e-2),
    "mini_vit_base": Recipe("supervised", 14, "muon", 1e-2, options={"patch_dropout": 0.5}),
    "mini_vit_large": Recipe("supervised", 6, "muon", 1e-2, options={"patch_dropout": 0.5}),
    "mini_regnety_032": Recipe("supervised", 4, "adamw", 3e-3),
    "mini_efficientnet_b0": Recipe("supervised", 6, "adamw", 3e-3),
    "mini_swin_tiny": Recipe("supervised", 4, "muon", 1e-2),
    "mini_mobilevitv2_175": Recipe("supervised", 6, "adamw", 3e-3),
    "mini_maxvit_base": Recipe("supervised", 3, "muon", 1e-2),
    "mini_beitv2_base": Recipe("supervised", 4, "muon", 1e-2),
    "mini_dinov2_base": Recipe("simclr", 6, "muon", 1e-2, batch_size=256),
    "mini_mae_base": Recipe("mae", 4, "muon", 1e-2),
    "mini_fcmae_base": Recipe("fcmae", 3, "muon", 1e-2),
    "mini_clip_base": Recipe("clip", 8, "muon", 1e-2, batch_size=256),
}
OBJECTIVES = {
    "supervised": Supervised,
    "simclr": SimCLR,
    "mae": MaskedAutoencoder,
    "fcmae": MaskedConvolution,
    "clip": ImageText,
}


def make_optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Gradients clipped to norm 1; cosine decay after a warm-up of 5 % of the steps.

    `muon` orthogonalizes the updates of matrices and leaves the rest to Adam at a tenth of the
    learning rate.
    """

    def schedule(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, max(1, steps // 20), steps)

    if recipe.optimizer == "adamw":
        rule = optax.adamw(schedule(recipe.learning_rate), weight_decay=recipe.weight_decay)
    else:
        rule = optax.contrib.muon(
            schedule(recipe.learning_rate),
            adam_learning_rate=schedule(recipe.learning_rate / 10),
            weight_decay=recipe.weight_decay,
            adam_weight_decay=0.0,
        )
    return optax.chain(optax.clip_by_global_norm(1.0), rule)


def read_images(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """All images of a source of one size [n, s, s, 3] and their labels [n]."""
    if source.labels is None:
        raise ValueError(f"{source.name}: no labels; training and its measures need them")
    images = np.stack([source.read(row) for row in range(len(source))])
    return images, source.labels.astype(np.int32)


def train(name: str, images: np.ndarray, labels: np.ndarray, label_names: tuple[str, ...]) -> dict:
    """Train one member, write its weights, and return its record without accuracies."""
    spec, recipe = encoder_spec(name), RECIPES[name]
    size = spec.config.image_size
    if images.shape[1:] != (size, size, 3):
        raise ValueError(f"data: images are {images.shape[1:]}; {name} takes {size} x {size}")
    epochs = FLAGS.epochs or recipe.epochs
    per_epoch = len(images) // recipe.batch_size
    steps = epochs * per_epoch
    rngs = nnx.Rngs(FLAGS.seed)
    network = spec.config.build(rngs)
    options = dict(recipe.options)
    if recipe.objective == "clip":
        options["label_names"] = label_names
    module = OBJECTIVES[recipe.objective](network, spec.preprocess, rngs=rngs, **options)

    def batch_at(step):
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([FLAGS.seed, epoch]).permutation(len(images))
        rows = order[index * recipe.batch_size : (index + 1) * recipe.batch_size]
        return {"images": images[rows], "labels": labels[rows]}

    start, commit = time.time(), git_commit()
    module, records = fit(
        module,
        lambda module, batch, key: module.loss(batch["images"], batch["labels"], key),
        make_optimizer(recipe, steps),
        batch_at,
        steps=steps,
        seed=FLAGS.seed,
        checkpoints=Path(FLAGS.checkpoints) / name,
        save_every=per_epoch,
        progress=name,
    )
    for record in records:
        print(json.dumps(record), flush=True)
    path = Path(FLAGS.out) / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(
        serialize(checkpoint_arrays(module.network), {"encoder": name, "format": "timm"})
    )
    partial.replace(path)
    return {
        "encoder": name,
        "data": FLAGS.data.split("@")[0],
        "images": len(images),
        "recipe": dataclasses.asdict(recipe) | {"epochs": epochs},
        "steps": steps,
        "final_loss": records[-1]["loss"],
        "seconds": round(time.time() - start),
        "seed": FLAGS.seed,
        "commit": commit,
        "sha256": file_sha256(path),
    }


def embed(encoder: Encoder, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Features [n, d] of images of the encoder's own size."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.resize(batch, (batch_size, *batch.shape[1:]))
        features = encoder(normalize(jnp.asarray(padded), encoder.spec.preprocess))
        parts.append(np.asarray(features)[: len(batch)])
    return np.concatenate(parts)


def probe(train_features, train_labels, test_features, test_labels) -> float:
    """Test accuracy of logistic regression on standardized features."""
    scaler = StandardScaler().fit(train_features)
    model = LogisticRegression(C=0.1, tol=1e-3, max_iter=2000)
    model.fit(scaler.transform(train_features), train_labels)
    return float(model.score(scaler.transform(test_features), test_labels))


def measure(name: str, train_set, test_set) -> dict[str, float]:
    """Top-1 where the member classifies, its linear probe, and that of a random network."""
    encoder = load_encoder(name, FLAGS.out)
    result = {}
    test_features = embed(encoder, test_set[0])
    if RECIPES[name].objective == "supervised":
        logits = encoder.module.classify(jnp.asarray(test_features))
        result["top1"] = float((np.asarray(logits).argmax(-1) == test_set[1]).mean())
    result["probe"] = probe(embed(encoder, train_set[0]), train_set[1], test_features, test_set[1])
    fresh = untrained(encoder.spec, FLAGS.seed)
    result["random_probe"] = probe(
        embed(fresh, train_set[0]), train_set[1], embed(fresh, test_set[0]), test_set[1]
    )
    return result


def write_card(folder: Path) -> Path:
    """The table of all members whose records are in the folder."""
    lines = [
        "# The mini panel",
        "",
        "Small networks of the library's own modules, trained by `experiments/pretrain.py` at",
        "32 x 32 pixels. They show the analysis on real trained weights without a download; they",
        "are no substitute for published encoders. Apache-2.0. This file is generated from the",
        "records beside it by `python -m experiments.pretrain --encoder=card`; each row by",
        "`python -m experiments.pretrain --encoder=NAME --data=DATA --test_data=... --seed=SEED`.",
        "",
        "Top-1 is on the test images. Probe is a logistic regression on frozen features, trained",
        "on the training images; random is the same probe on the same network untrained.",
        "`cifar100_mini` is a class-balanced subset of CIFAR-100: 300 training and 50 test images",
        "a class. `--data=tfds:cifar100:train` trains on all of it.",
        "",
        "| encoder | objective | parameters | epochs | steps | top-1 | probe | random | data "
        "| seed | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in list_encoders("mini"):
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        record = json.loads(path.read_text())
        accuracy = record["accuracy"]
        top1 = f"{accuracy['top1']:.1%}" if "top1" in accuracy else "-"
        lines.append(
            f"| {name} | {record['recipe']['objective']} | {record['parameters']:,} "
            f"| {record['recipe']['epochs']} | {record['steps']} | {top1} "
            f"| {accuracy['probe']:.1%} | {accuracy['random_probe']:.1%} "
            f"| {record['data']} ({record['images']:,} images) | {record['seed']} "
            f"| {record['commit'][:10]} |"
        )
    path = folder / "README.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def git_commit() -> str:
    """Hash of the checkout's commit, or "unknown" outside one."""
    if shutil.which("git") is None:
        return "unknown"
    answer = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return answer.stdout.strip() or "unknown"


def run() -> None:
    """Train, measure, and rewrite the card."""
    out = Path(FLAGS.out)
    if FLAGS.encoder == "card":
        print(write_card(out))
        return
    if FLAGS.encoder not in RECIPES:
        raise ValueError(f"encoder={FLAGS.encoder!r}: choose one of {', '.join(RECIPES)}")
    source = open_source(FLAGS.data)
    train_set, test_set = read_images(source), read_images(open_source(FLAGS.test_data))
    record = train(FLAGS.encoder, *train_set, source.label_names)
    spec = encoder_spec(FLAGS.encoder)
    record["parameters"] = parameter_count(spec.config)
    record["accuracy"] = measure(FLAGS.encoder, train_set, test_set)
    (out / f"{FLAGS.encoder}.json").write_text(json.dumps(record, indent=1) + "\n")
    write_card(out)
    print(json.dumps(record))


def main(argv: list[str]) -> None:
    """Entry point."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    try:
        run()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main)
