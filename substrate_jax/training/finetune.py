"""Fine-tuning: all weights of an encoder trained on labeled images, judged on held-out ones.

A linear head on the pooled features begins at zero, so that the first step moves it alone. Then
everything is trained: cross entropy, AdamW, warm-up and cosine decay, images shifted by up to an
eighth of their side and mirrored. The learning rate of `RECIPE` is a tenth of what the mini panel
was trained with; published encoders want less, 1e-4 and below.

Cost: epochs x n forward and backward passes, three times a forward pass each; a program is compiled
for every encoder and number of classes.

Not guaranteed: that a schedule of its own would not suit an encoder better. One for all keeps the
comparison plain, and may favor those that were trained alike.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8

from substrate_jax.data.modality import image_preprocess
from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.encoders import Encoder
from substrate_jax.encoders.networks.layers import Linear
from substrate_jax.encoders.networks.network import Network, input_shape
from substrate_jax.training.augment import crop_and_flip
from substrate_jax.training.loop import fit
from substrate_jax.training.mini_panel import Recipe, make_optimizer
from substrate_jax.training.predict import accuracy
from substrate_jax.training.program import Run
from substrate_jax.training.rows import epoch_rows

RECIPE = Recipe("supervised", epochs=20, optimizer="adamw", learning_rate=3e-4, batch_size=32)

Images = UInt8[np.ndarray, "n s s 3"]


class Classifier(nnx.Module):
    """An encoder with a linear head on its pooled features.

    Args:
        network: pretrained; it is trained too.
        preprocess: gives mean and standard deviation of the pixels.
        classes: outputs of the head, whose weights begin at zero.
    """

    def __init__(self, network: Network, preprocess: Preprocess, classes: int):
        self.network = network
        self.preprocess = preprocess
        self.head = Linear(network.config.width, classes, rngs=nnx.Rngs(0))
        self.head.weight[...] = jnp.zeros_like(self.head.weight[...])

    def __call__(self, images: UInt8[Array, "n s s 3"]) -> Float[Array, "n classes"]:
        """Logits, in the dtype of the weights."""
        pixels = normalize(images, self.preprocess).astype(self.head.weight[...].dtype)
        return self.head(self.network.features(pixels))

    def loss(
        self, images: UInt8[Array, "n s s 3"], labels: Int[Array, " n"], key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Cross entropy of shifted and mirrored images, and the accuracy on them."""
        logits = self(crop_and_flip(key, images, padding=images.shape[1] // 8)).astype(jnp.float32)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return value, {"accuracy": (logits.argmax(-1) == labels).mean()}


def fine_tuned_accuracy(
    encoder: Encoder,
    images: Images,
    labels: Int[np.ndarray, " n"],
    fitted: Bool[np.ndarray, " n"],
    *,
    preprocess: Preprocess | None = None,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    mesh: Mesh | None = None,
    progress: str | None = None,
) -> float:
    """Accuracy on held-out images of an encoder that was fine-tuned on the others, in percent.

    Args:
        encoder: in float32; it is left as it is, and a copy trained.
        images: uint8 [n, s, s, 3] at its size.
        labels: [n] classes from 0.
        fitted: [n] true for images to train on; accuracy is that of the rest.
        preprocess: gives mean and standard deviation; the encoder's own by default.
        recipe: optimizer, epochs, batch size.
        seed: of order and augmentation.
        mesh: where to run; all devices by default.
        progress: label of a progress bar; none without it.

    Returns:
        In [0, 100].

    Raises:
        ValueError: images of another size, no image on one of the sides, an encoder in another
            precision than float32, or a loss that is not finite.
    """
    rows = np.flatnonzero(fitted)
    if not 0 < len(rows) < len(images):
        raise ValueError(
            f"{len(rows)} of {len(images)} images are fitted to; keep some on either side"
        )
    trained = fine_tune(
        encoder,
        images[rows],
        labels[rows],
        int(labels.max()) + 1,
        preprocess=preprocess,
        recipe=recipe,
        seed=seed,
        mesh=mesh,
        progress=progress,
    )
    return accuracy(trained, images[~fitted], labels[~fitted], recipe.batch_size)


def fine_tune(
    encoder: Encoder,
    images: Images,
    labels: Int[np.ndarray, " n"],
    classes: int,
    *,
    preprocess: Preprocess | None = None,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    mesh: Mesh | None = None,
    checkpoints: Path | None = None,
    progress: str | None = None,
) -> Classifier:
    """An encoder with a head, trained on labeled images.

    Args:
        encoder: in float32; it is left as it is, and a copy trained.
        images: uint8 [n, s, s, 3] at its size.
        labels: [n] classes from 0.
        classes: outputs of the head.
        preprocess: gives mean and standard deviation; the encoder's own by default.
        recipe: optimizer, epochs, batch size.
        seed: of order and augmentation.
        mesh: where to run; all devices by default.
        checkpoints: folder for resuming; none are written without it.
        progress: label of a progress bar; none without it.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ValueError: images of another size, an encoder of sounds or in another precision than
            float32, or a loss that is not finite.
    """
    preprocess = preprocess or image_preprocess(encoder.spec)
    shape = input_shape(encoder.spec.config)
    if images.shape[1:] != shape:
        raise ValueError(f"images are {list(images.shape[1:])}; {encoder.name} takes {[*shape]}")
    if encoder.dtype != jnp.float32:
        raise ValueError(f"{encoder.name} is in {encoder.dtype}; load it in float32 to train it")
    classifier = Classifier(nnx.clone(encoder.module), preprocess, classes)
    steps = max(1, recipe.epochs * len(images) // recipe.batch_size)
    everything = np.arange(len(images))

    def rows_at(run: Run, step: int) -> Int[np.ndarray, " b"]:
        return epoch_rows(everything, run.seed, step, recipe.batch_size)

    def loss(module: Classifier, batch, key):
        return module.loss(batch["images"], batch["labels"], key)

    (trained,) = fit(
        [Run(classifier, seed)],
        loss,
        make_optimizer(recipe, steps),
        {"images": images, "labels": labels.astype(np.int32)},
        rows_at,
        steps=steps,
        checkpoints=checkpoints,
        mesh=mesh,
        progress=progress,
    )
    return trained.module
