"""Pretraining objectives of the four paradigms, as NNX modules around an encoder.

Each objective wraps a network with what its loss needs (projection head, decoder, text tower) and
gives `loss(images, labels, key) -> (scalar, metrics)` on uint8 images [n, s, s, 3]. Only the
network is kept after training.

- `Supervised`: cross entropy on labels, smoothed by 0.1.
- `SimCLR`: two augmented views of an image attract, views of others repel (arXiv:2002.05709).
- `MaskedAutoencoder`: a ViT sees a quarter of the patches; a small decoder predicts the
  normalized pixels of the rest (arXiv:2111.06377).
- `MaskedConvolution`: the same for ConvNeXt V2, hidden positions held at zero (arXiv:2301.00808).
- `ImageText`: images and captions made of class names share a space (arXiv:2103.00020); captions
  of one class count as each other's positives, since a batch holds classes more than once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.encoders.networks.convnext import ConvNeXt
from substrate_jax.encoders.networks.convolutions import patchify
from substrate_jax.encoders.networks.layers import LayerNorm, Linear, gelu
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.networks.vit import Block, ViT, ViTConfig, gather_tokens
from substrate_jax.training.augment import Images, crop_and_flip, random_view

Metrics = dict[str, Array]
Labels = Int[Array, " n"]

TEMPLATES = (
    "a photo of a {}",
    "a picture of the {}",
    "a small photo of one {}",
    "an image showing a {}",
)


class Supervised(nnx.Module):
    """Cross entropy on labels, with random crops and flips.

    Args:
        network: one that classifies.
        preprocess: gives mean and standard deviation of the pixels.
        patch_dropout: fraction of a vision transformer's patches left out of each image at random
            (arXiv:2208.07220): half of the patches take half of the time.
        rngs: not used; there is nothing to draw.

    Raises:
        ValueError: `patch_dropout` for another network than a vision transformer.
    """

    def __init__(
        self,
        network: Network,
        preprocess: Preprocess,
        *,
        patch_dropout: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if patch_dropout and not isinstance(network, ViT):
            raise ValueError(
                f"patch_dropout={patch_dropout}: {type(network).__name__} has no patches to leave "
                "out; give a vision transformer, or 0"
            )
        self.network = network
        self.preprocess = preprocess
        self.patch_dropout = patch_dropout

    def loss(self, images: Images, labels: Labels, key: Array) -> tuple[Array, Metrics]:
        """Smoothed cross entropy, and the accuracy on the batch."""
        crop_key, patch_key = jax.random.split(key)
        pixels = normalize(crop_and_flip(crop_key, images), self.preprocess)
        logits = self.network.classify(self._features(pixels, patch_key))
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), 0.1)
        value = optax.softmax_cross_entropy(logits, targets).mean()
        return value, {"accuracy": (logits.argmax(-1) == labels).mean()}

    def _features(self, pixels: Float[Array, "n s s 3"], key: Array) -> Float[Array, "n d"]:
        """Features of the patches that are kept."""
        network = self.network
        if not self.patch_dropout or not isinstance(network, ViT):
            return network.features(pixels)
        patches = network.embed(pixels)
        n, count = patches.shape[:2]
        order = jnp.argsort(jax.random.uniform(key, (n, count)), axis=1)
        kept = gather_tokens(patches, order[:, : count - round(self.patch_dropout * count)])
        return network.pool(network.encode(kept))


class SimCLR(nnx.Module):
    """Normalized temperature-scaled cross entropy between two views.

    Args:
        network: any; its features are projected by a layer that is not kept.
        preprocess: gives mean and standard deviation of the pixels.
        temperature: of the similarities, in (0, inf).
        embedding: outputs of the projection.
        rngs: keys of the projection's weights.
    """

    def __init__(
        self,
        network: Network,
        preprocess: Preprocess,
        *,
        temperature: float = 0.2,
        embedding: int = 64,
        rngs: nnx.Rngs,
    ):
        width = network.config.width
        self.network = network
        self.hidden = Linear(width, 2 * width, rngs=rngs)
        self.projection = Linear(2 * width, embedding, rngs=rngs)
        self.preprocess = preprocess
        self.temperature = temperature

    def loss(self, images: Images, labels: Labels, key: Array) -> tuple[Array, Metrics]:
        """The loss, and how often the nearest view is the right one; labels are not read."""
        first, second = jax.random.split(key)
        views = jnp.concatenate([random_view(first, images), random_view(second, images)])
        mean, std = (
            jnp.asarray(v, jnp.float32)[None, None, None]
            for v in (self.preprocess.mean, self.preprocess.std)
        )
        pixels = ((views - mean) / std).astype(self.hidden.weight[...].dtype)
        features = self.network.features(pixels)
        z = self.projection(jax.nn.relu(self.hidden(features)))
        z = unit(z.astype(jnp.float32))
        similarity = z @ z.T / self.temperature
        n = len(images)
        similarity = jnp.where(jnp.eye(2 * n, dtype=bool), -jnp.inf, similarity)
        partner = jnp.roll(jnp.arange(2 * n), n)
        value = optax.softmax_cross_entropy_with_integer_labels(similarity, partner).mean()
        return value, {"matched": (similarity.argmax(-1) == partner).mean()}


class MaskedAutoencoder(nnx.Module):
    """Reconstruction of hidden patches by a vision transformer that sees only the others.

    Args:
        network: a vision transformer with one class token and no registers.
        preprocess: gives mean and standard deviation of the pixels.
        hidden_fraction: share of the patches that are hidden, in (0, 1).
        decoder_width: channels of the decoder, one block of two heads that is not kept.
        rngs: keys of the decoder's weights.
    """

    def __init__(
        self,
        network: ViT,
        preprocess: Preprocess,
        *,
        hidden_fraction: float = 0.75,
        decoder_width: int = 64,
        rngs: nnx.Rngs,
    ):
        config = network.config
        decoder = ViTConfig(
            decoder_width, 1, 2, patch_size=config.patch_size, image_size=config.image_size
        )
        self.network = network
        self.enter = Linear(config.width, decoder_width, rngs=rngs)
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, decoder_width)))
        self.positions = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), (1, config.grid**2, decoder_width))
        )
        self.block = Block(decoder, rngs=rngs)
        self.norm = LayerNorm(decoder_width)
        self.leave = Linear(decoder_width, 3 * config.patch_size**2, rngs=rngs)
        self.preprocess = preprocess
        self.hidden_fraction = hidden_fraction

    def loss(self, images: Images, labels: Labels, key: Array) -> tuple[Array, Metrics]:
        """Mean squared error of hidden patches, each patch standardized; labels are not read."""
        crop_key, mask_key = jax.random.split(key)
        pixels = normalize(crop_and_flip(crop_key, images), self.preprocess)
        n, patches = len(images), self.network.config.grid**2
        visible = patches - round(self.hidden_fraction * patches)
        order = jnp.argsort(jax.random.uniform(mask_key, (n, patches)), axis=1)
        restore = jnp.argsort(order, axis=1)
        tokens = gather_tokens(self.network.embed(pixels), order[:, :visible])
        encoded = self.enter(self.network.encode(tokens)[:, 1:])
        blanks = jnp.broadcast_to(self.mask_token[...], (n, patches - visible, encoded.shape[-1]))
        x = gather_tokens(jnp.concatenate([encoded, blanks], axis=1), restore)
        x = x + jnp.broadcast_to(self.positions[...], x.shape)
        predicted = self.leave(self.norm(self.block(x)))
        hidden = (restore >= visible).astype(jnp.float32)
        target = standardized_patches(pixels, self.network.config.patch_size)
        return hidden_error(predicted, target.reshape(predicted.shape), hidden), {}


class MaskedConvolution(nnx.Module):
    """Reconstruction of hidden patches by a ConvNeXt V2 that sees only the others.

    Args:
        network: a ConvNeXt.
        preprocess: gives mean and standard deviation of the pixels.
        hidden_fraction: share of the last map's positions that are hidden, in (0, 1).
        rngs: keys of the weights of the decoder, one transformer block that is not kept.
    """

    def __init__(
        self,
        network: ConvNeXt,
        preprocess: Preprocess,
        *,
        hidden_fraction: float = 0.6,
        rngs: nnx.Rngs,
    ):
        config = network.config
        self.network = network
        self.grid = config.image_size // config.stride
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 1, config.width)))
        self.positions = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), (1, self.grid**2, config.width))
        )
        decoder = ViTConfig(
            config.width, 1, 2, patch_size=config.stride, image_size=config.image_size
        )
        self.block = Block(decoder, rngs=rngs)
        self.leave = Linear(config.width, 3 * config.stride**2, rngs=rngs)
        self.preprocess = preprocess
        self.hidden_fraction = hidden_fraction

    def loss(self, images: Images, labels: Labels, key: Array) -> tuple[Array, Metrics]:
        """Mean squared error of hidden patches, each patch standardized; labels are not read."""
        crop_key, mask_key = jax.random.split(key)
        pixels = normalize(crop_and_flip(crop_key, images), self.preprocess)
        n, patches = len(images), self.grid**2
        rank = jnp.argsort(jnp.argsort(jax.random.uniform(mask_key, (n, patches)), axis=1), axis=1)
        hidden = (rank < round(self.hidden_fraction * patches)).astype(jnp.float32)
        visible = (1 - hidden).reshape(n, self.grid, self.grid)
        x = self.network.feature_map(pixels, visible=visible).reshape(n, patches, -1)
        shown = (1 - hidden)[..., None]
        x = x * shown + jnp.broadcast_to(self.mask_token[...], x.shape) * (1 - shown)
        x = self.block(x + jnp.broadcast_to(self.positions[...], x.shape))
        predicted = self.leave(x)
        target = standardized_patches(pixels, self.network.config.stride)
        return hidden_error(predicted, target.reshape(predicted.shape), hidden), {}


class ImageText(nnx.Module):
    """Contrastive matching of images and captions.

    The text tower is the mean of word vectors through a two-layer perceptron: captions are
    a template around a class name, so word order carries nothing.

    Args:
        network: its classifier is the projection to the space shared with text.
        preprocess: gives mean and standard deviation of the pixels.
        label_names: name of each class, words parted by spaces or underscores.
        text_width: length of a word's vector.
        rngs: keys of the text tower's weights.
    """

    def __init__(
        self,
        network: Network,
        preprocess: Preprocess,
        label_names: tuple[str, ...],
        *,
        text_width: int = 128,
        rngs: nnx.Rngs,
    ):
        words, self.caption_words = caption_table(label_names)
        embedding = network.config.num_classes
        self.network = network
        self.words = nnx.Param(0.1 * jax.random.normal(rngs.params(), (len(words), text_width)))
        self.hidden = Linear(text_width, 2 * text_width, rngs=rngs)
        self.projection = Linear(2 * text_width, embedding, rngs=rngs)
        self.log_scale = nnx.Param(jnp.log(jnp.float32(1 / 0.07)))
        self.preprocess = preprocess

    def embed_captions(self, counts: Float[Array, "n words"]) -> Float[Array, "n d"]:
        """Unit vectors of captions given as word frequencies."""
        return unit(self.projection(gelu(self.hidden(counts @ self.words[...]))))

    def loss(self, images: Images, labels: Labels, key: Array) -> tuple[Array, Metrics]:
        """Symmetric cross entropy between the two sides, and the matching accuracy."""
        crop_key, text_key = jax.random.split(key)
        pixels = normalize(crop_and_flip(crop_key, images), self.preprocess)
        image = unit(self.network.classify(self.network.features(pixels)))
        template = jax.random.randint(text_key, labels.shape, 0, len(TEMPLATES))
        text = self.embed_captions(jnp.asarray(self.caption_words)[labels, template])
        scale = jnp.exp(jnp.minimum(self.log_scale[...], jnp.log(jnp.float32(100))))
        logits = scale * (image @ text.T)
        same = (labels[:, None] == labels[None, :]).astype(jnp.float32)
        targets = same / same.sum(1, keepdims=True)
        value = (
            optax.softmax_cross_entropy(logits, targets).mean()
            + optax.softmax_cross_entropy(logits.T, targets).mean()
        ) / 2
        return value, {"matched": (labels[logits.argmax(1)] == labels).mean()}


def caption_table(
    label_names: tuple[str, ...],
) -> tuple[tuple[str, ...], Float[np.ndarray, "classes templates words"]]:
    """The vocabulary of all captions, and each caption as word frequencies."""
    captions = [
        [template.format(name.replace("_", " ")).split() for template in TEMPLATES]
        for name in label_names
    ]
    words = tuple(sorted({word for row in captions for caption in row for word in caption}))
    table = np.zeros((len(label_names), len(TEMPLATES), len(words)), np.float32)
    for i, row in enumerate(captions):
        for j, caption in enumerate(row):
            for word in caption:
                table[i, j, words.index(word)] += 1 / len(caption)
    return words, table


def unit(x: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Rows scaled to length 1; a zero row stays zero."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


def standardized_patches(pixels: Float[Array, "n s s 3"], size: int) -> Float[Array, "n g g d"]:
    """Patches less their mean, over their deviation."""
    patches = patchify(pixels, size)
    centered = patches - patches.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-6)


def hidden_error(
    predicted: Float[Array, "n t d"], target: Float[Array, "n t d"], hidden: Float[Array, "n t"]
) -> Float[Array, ""]:
    """Mean squared error over the patches where `hidden` is 1."""
    return (jnp.square(predicted - target).mean(-1) * hidden).sum() / hidden.sum()
