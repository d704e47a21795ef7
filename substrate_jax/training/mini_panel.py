"""The mini panel: how each member is trained and measured, and the card of all.

A member is one of our networks at 32 x 32 pixels. Its weights are float16 safetensors in timm's
naming, and accuracies are those of the rounded weights: top-1 on the test images where it
classifies, and for every member a linear probe (logistic regression on standardized frozen
features, trained on the training images) beside the same probe on the same network untrained.

Not guaranteed: that a member stands for the published encoder it is named after.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Float, Int, UInt8
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from substrate_jax.data.modality import image_preprocess
from substrate_jax.data.preprocess import normalize
from substrate_jax.data.sources import Source
from substrate_jax.encoders import Encoder, encoder_spec, list_encoders, load_encoder, untrained
from substrate_jax.encoders.networks.network import input_shape
from substrate_jax.encoders.weights import checkpoint_arrays, serialize
from substrate_jax.training.loop import fit
from substrate_jax.training.objectives import (
    ImageText,
    MaskedAutoencoder,
    MaskedConvolution,
    SimCLR,
    Supervised,
)
from substrate_jax.training.program import Run


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one member is trained.

    Attributes:
        objective: a key of `OBJECTIVES`.
        epochs: passes over the training images.
        optimizer: "adamw" or "muon".
        learning_rate: at its peak.
        batch_size: images per step.
        weight_decay: of matrices, decoupled.
        options: of the objective.
    """

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

Images = UInt8[np.ndarray, "n s s 3"]
Labels = Int[np.ndarray, " n"]


def member_recipe(name: str) -> Recipe:
    """How a member is trained.

    Raises:
        ValueError: it is no member.

    Example:
        >>> member_recipe("mini_mae_base").objective
        'mae'
    """
    if name not in RECIPES:
        raise ValueError(f"encoder={name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def make_optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Gradients clipped to norm 1; cosine decay after a warm-up of 5 % of the steps, 1 at least.

    A single step is at the full rate.

    `muon` orthogonalizes the updates of matrices and leaves the rest to Adam at a tenth of the
    learning rate.

    Example:
        >>> make_optimizer(member_recipe("mini_mae_base"), 100).init({}) is not None
        True
    """

    def schedule(peak: float) -> optax.Schedule:
        warmup = min(max(1, steps // 20), steps - 1)
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps)

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


def read_images(source: Source, name: str) -> tuple[Images, Labels]:
    """All images of a source at a member's size, and their labels.

    Args:
        source: with labels.
        name: of the member.

    Raises:
        ValueError: no labels, or images of another size.
    """
    if source.labels is None:
        raise ValueError(f"{source.name}: no labels; training and its measures need them")
    images = np.stack([source.read(row) for row in range(len(source))])
    shape = input_shape(encoder_spec(name).config)
    if images.shape[1:] != shape:
        raise ValueError(f"{source.name}: images are {images.shape[1:]}; {name} takes {shape[:2]}")
    return images, source.labels.astype(np.int32)


def train_member(
    name: str,
    images: Images,
    labels: Labels,
    label_names: tuple[str, ...],
    *,
    epochs: int | None = None,
    seed: int = 0,
    checkpoints: Path | None = None,
    progress: str | None = None,
) -> tuple[bytes, list[dict[str, float]]]:
    """Train one member.

    Args:
        name: of the member.
        images: as `read_images` gives them.
        labels: of the images.
        label_names: name of each label, for captions.
        epochs: passes over the images; the recipe's by default.
        seed: of initialization, order and augmentation.
        checkpoints: folder for resuming; none are written without it.
        progress: label of a progress bar; none without it.

    Returns:
        The weights as a safetensors file, and a record of metrics per epoch.
    """
    spec, recipe = encoder_spec(name), member_recipe(name)
    per_epoch = len(images) // recipe.batch_size
    steps = (epochs or recipe.epochs) * per_epoch
    rngs = nnx.Rngs(seed)
    options: dict[str, Any] = dict(recipe.options)
    if recipe.objective == "clip":
        options["label_names"] = label_names
    objective = OBJECTIVES[recipe.objective]
    module = objective(spec.config.build(rngs), image_preprocess(spec), rngs=rngs, **options)

    def rows_at(run: Run, step: int) -> Int[np.ndarray, " b"]:
        epoch, index = divmod(step, per_epoch)
        order = np.random.default_rng([run.seed, epoch]).permutation(len(images))
        return order[index * recipe.batch_size : (index + 1) * recipe.batch_size]

    def loss(module, batch, key):
        return module.loss(batch["images"], batch["labels"], key)

    (trained,) = fit(
        [Run(module, seed)],
        loss,
        make_optimizer(recipe, steps),
        {"images": images, "labels": labels},
        rows_at,
        steps=steps,
        checkpoints=checkpoints,
        save_every=per_epoch,
        progress=progress,
    )
    arrays = checkpoint_arrays(trained.module.network)
    return serialize(arrays, {"encoder": name, "format": "timm"}), trained.records


def measure_member(
    name: str,
    weights: Path,
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    *,
    seed: int = 0,
) -> dict[str, float]:
    """Accuracies of a trained member.

    Args:
        name: of the member.
        weights: file or folder with its weights.
        train: images and labels that probes are fitted on.
        test: those that accuracies are measured on.
        seed: of the untrained network.

    Returns:
        `top1` where it classifies, `probe`, and `random_probe` of the untrained network, in [0, 1].
    """
    encoder = load_encoder(name, weights)
    result = {}
    features = embed(encoder, test[0])
    if member_recipe(name).objective == "supervised":
        module: Any = encoder.module
        logits = np.asarray(module.classify(jnp.asarray(features)))
        result["top1"] = float((logits.argmax(-1) == test[1]).mean())
    result["probe"] = probe(embed(encoder, train[0]), train[1], features, test[1])
    blank = untrained(encoder.spec, seed)
    blanks = embed(blank, train[0]), train[1], embed(blank, test[0]), test[1]
    result["random_probe"] = probe(*blanks)
    return result


def embed(encoder: Encoder, images: Images, batch_size: int = 500) -> Float[np.ndarray, "n d"]:
    """Features of images of the encoder's own size."""
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padded = np.resize(batch, (batch_size, *batch.shape[1:]))
        features = encoder(normalize(jnp.asarray(padded), image_preprocess(encoder.spec)))
        parts.append(np.asarray(features)[: len(batch)])
    return np.concatenate(parts)


def probe(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Labels,
    test_features: Float[np.ndarray, "m d"],
    test_labels: Labels,
) -> float:
    """Test accuracy of logistic regression on standardized features, in [0, 1].

    Example:
        >>> x, y = np.array([[0.0], [1.0], [9.0], [10.0]]), np.array([0, 0, 1, 1])
        >>> probe(x, y, x, y)
        1.0
    """
    scaler = StandardScaler().fit(train_features)
    model = LogisticRegression(C=0.1, tol=1e-3, max_iter=2000)
    model.fit(scaler.transform(train_features), train_labels)
    return float(model.score(scaler.transform(test_features), test_labels))


HEADING = """# The mini panel

Small networks of the library's own modules, trained by `experiments/pretrain.py` at
32 x 32 pixels. They show the analysis on real trained weights without a download; they
are no substitute for published encoders. Apache-2.0. This file is generated from the
records beside it by `python -m experiments.pretrain --encoder=card`; each row by
`python -m experiments.pretrain --encoder=NAME --data=DATA --test_data=... --seed=SEED`.

Top-1 is on the test images. Probe is a logistic regression on frozen features, trained
on the training images; random is the same probe on the same network untrained.
`cifar100_mini` is a class-balanced subset of CIFAR-100: 300 training and 50 test images
per class. `--data=tfds:cifar100:train` trains on all of it.

"""
COLUMNS = (
    "encoder",
    "objective",
    "parameters",
    "epochs",
    "steps",
    "top-1",
    "probe",
    "random",
    "data",
    "seed",
    "commit",
)


def card(folder: Path) -> str:
    """The table of all members whose records NAME.json are in the folder."""
    paths = [folder / f"{name}.json" for name in list_encoders("mini")]
    records = [json.loads(path.read_text()) for path in paths if path.is_file()]
    head = f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|\n"
    return HEADING + head + "".join(map(_card_row, records))


def _card_row(record: Mapping[str, Any]) -> str:
    accuracy, recipe = record["accuracy"], record["recipe"]
    top1 = f"{accuracy['top1']:.1%}" if "top1" in accuracy else "-"
    cells = (
        record["encoder"],
        recipe["objective"],
        f"{record['parameters']:,}",
        str(recipe["epochs"]),
        str(record["steps"]),
        top1,
        f"{accuracy['probe']:.1%}",
        f"{accuracy['random_probe']:.1%}",
        f"{record['data']} ({record['images']:,} images)",
        str(record["seed"]),
        record["commit"][:10],
    )
    return f"| {' | '.join(cells)} |\n"
