"""The objectives of training on networks of a few hundred parameters, each against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.vit import ViT, ViTConfig
from substrate_jax.training import objectives
from tests.encoders.networks.modules import filled, leaves
from tests.helpers import long, tolerance
from tests.training.pictures import SIZE, pictures

PLAIN = Preprocess(SIZE, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
VIT = ViTConfig(8, 1, 2, patch_size=4, image_size=SIZE, num_classes=0)
CONVNEXT = ConvNeXtConfig(
    (1, 1),
    (4, 8),
    patch_size=2,
    kernel_size=3,
    layer_scale=None,
    grn=True,
    num_classes=0,
    image_size=SIZE,
)
RESNET = ResNetConfig(
    (1,),
    True,
    channels=(4,),
    stem_channels=4,
    stem_kernel=3,
    stem_stride=1,
    stem_pool=False,
    num_classes=3,
    image_size=SIZE,
)
TOWER = ViTConfig(8, 1, 2, patch_size=4, image_size=SIZE, pre_norm=True, num_classes=6)
POOLED = ViTConfig(8, 1, 2, patch_size=4, image_size=SIZE, pool="avg", num_classes=3)
NAMES = ("cat", "guide_dog", "tea pot")


def objective(kind, config, *arguments, **options):
    """`kind` around the network of `config`, in training mode."""

    def build():
        rngs = nnx.Rngs(0)
        return kind(config.build(rngs), PLAIN, *arguments, rngs=rngs, **options)

    module = captioned(filled(build))
    module.train()
    return module


def captioned(module):
    """With its captions, which are no parameters, where it has any."""
    if isinstance(module, objectives.ImageText):
        _, module.caption_words = objectives.caption_table(NAMES)
    return module


# objective, and the network's parameters that it leaves alone
OBJECTIVES = {
    "supervised resnet": (lambda: objective(objectives.Supervised, RESNET), set()),
    "supervised vit": (
        lambda: objective(objectives.Supervised, POOLED, patch_dropout=0.5),
        set(),
    ),
    "simclr": (lambda: objective(objectives.SimCLR, VIT, embedding=4), set()),
    "masked autoencoder": (
        lambda: objective(objectives.MaskedAutoencoder, VIT, hidden_fraction=0.5, decoder_width=8),
        set(),
    ),
    "masked convolution": (
        lambda: objective(objectives.MaskedConvolution, CONVNEXT, hidden_fraction=0.5),
        {"head.norm.weight", "head.norm.bias"},
    ),
    "image text": (lambda: objective(objectives.ImageText, TOWER, NAMES, text_width=4), set()),
}


@pytest.mark.parametrize(
    "name", [long(n) if n in ("supervised vit", "masked convolution") else n for n in OBJECTIVES]
)
def test_objectives_train_every_parameter(name):
    build, untouched = OBJECTIVES[name]
    graph, parameters, rest = nnx.split(build(), nnx.Param, ...)
    labels = np.arange(6, dtype=np.int32) % 3

    def value(parameters, images, labels):
        module = nnx.merge(graph, parameters, rest, copy=True)
        return module.loss(images, labels, jax.random.key(0))

    gradient = jax.jit(jax.value_and_grad(value, has_aux=True))
    (scalar, metrics), gradients = gradient(parameters, pictures(6), labels)
    assert scalar.shape == ()
    assert scalar.dtype == jnp.float32
    assert 0 < float(scalar) < np.inf
    assert all(0 <= float(metric) <= 1 for metric in metrics.values())
    still = set()
    for path, leaf in nnx.to_flat_state(gradients):
        assert np.isfinite(leaf.get_value()).all(), path
        if not np.any(leaf.get_value()):
            still.add(".".join(map(str, path)))
    assert still == {f"network.{key}" for key in untouched}


def test_patches_are_dropped_from_vision_transformers_alone():
    with pytest.raises(ValueError, match=r"patch_dropout=0\.5: ResNet has no patches"):
        objective(objectives.Supervised, RESNET, patch_dropout=0.5)


@pytest.fixture
def uncropped(monkeypatch):
    monkeypatch.setattr(objectives, "crop_and_flip", lambda key, images: images)


def test_hidden_patches_reach_the_target_and_not_the_encoder(monkeypatch, uncropped):
    seen = []
    encode = ViT.encode

    def spy(network, patches, *arguments):
        seen.append(patches)
        return encode(network, patches, *arguments)

    monkeypatch.setattr(ViT, "encode", spy)
    module = OBJECTIVES["masked autoencoder"][0]()

    @jax.jit
    def probe(images):
        seen.clear()
        value, _ = module.loss(images, None, jax.random.key(3))
        return value, seen[0]

    images = pictures(1)
    value, tokens = probe(images)
    assert tokens.shape == (1, 2, VIT.width)
    hidden = 0
    for row in range(VIT.grid):
        for column in range(VIT.grid):
            changed = images.copy()
            patch = np.s_[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            changed[patch] = 255 - changed[patch][:, :, ::-1]
            new_value, new_tokens = probe(changed)
            assert float(new_value) != float(value)
            hidden += np.array_equal(new_tokens, tokens)
    assert hidden == 2


def test_hidden_positions_of_a_convolution_contribute_nothing():
    network = filled(lambda: CONVNEXT.build(nnx.Rngs(0)))
    visible = np.array([[[1, 0], [0, 1]], [[0, 0], [1, 0]]], np.float32)
    pixels = np.random.default_rng(0).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    shown = visible.repeat(4, 1).repeat(4, 2)[..., None] > 0
    feature_map = jax.jit(lambda pixels, visible: network.feature_map(pixels, visible=visible))
    got = np.asarray(feature_map(pixels, visible))
    np.testing.assert_array_equal(feature_map(np.where(shown, pixels, 1e3), visible), got)
    assert np.all(np.asarray(feature_map(np.where(shown, 1e3, pixels), visible)) != got)


class Means(nnx.Module):
    """A network in name: the mean color, once as features and again as embedding."""

    config = ViTConfig(3, 1, 1, patch_size=SIZE, image_size=SIZE, num_classes=3)

    def features(self, images):
        return images.mean((1, 2))

    def classify(self, features):
        return features


def means(kind, *arguments, **options):
    return captioned(filled(lambda: kind(Means(), PLAIN, *arguments, rngs=nnx.Rngs(0), **options)))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_simclr_is_its_formula_and_symmetric_in_the_views(monkeypatch):
    n = 4
    module = means(objectives.SimCLR, embedding=5, temperature=0.5)
    views = np.random.default_rng(0).uniform(size=(2, n, SIZE, SIZE, 3)).astype(np.float32)

    def value(order):
        queue = [jnp.asarray(views[i]) for i in order]
        monkeypatch.setattr(objectives, "random_view", lambda key, images: queue.pop(0))
        return float(module.loss(pictures(n), None, jax.random.key(0))[0])

    x = (views.astype(np.float64).mean((2, 3)).reshape(2 * n, 3) - 0.5) / 0.25
    parameters = {path: leaf.astype(np.float64) for path, leaf in leaves(module).items()}
    hidden = np.maximum(x @ parameters["hidden", "weight"] + parameters["hidden", "bias"], 0)
    z = unit(hidden @ parameters["projection", "weight"] + parameters["projection", "bias"])
    similarity = z @ z.T / 0.5
    np.fill_diagonal(similarity, -np.inf)
    partner = similarity[np.arange(2 * n), (np.arange(2 * n) + n) % (2 * n)]
    want = (scipy.special.logsumexp(similarity, axis=1) - partner).mean()
    # Mean colors lie close together: centering costs digits.
    limit = tolerance(SIZE**2, condition=8)
    assert abs(value([0, 1]) - want) <= limit * want
    assert abs(value([1, 0]) - want) <= limit * want


@pytest.mark.parametrize("labels", [(1, 1, 1, 1), (0, 1, 2, 1)])
def test_captions_of_one_class_are_each_others_positives(uncropped, labels):
    labels = np.array(labels, np.int32)
    module = means(objectives.ImageText, NAMES, text_width=4)
    # One template, so that the caption follows from the label.
    module.caption_words = np.repeat(module.caption_words[:, :1], len(objectives.TEMPLATES), 1)
    images = pictures(4)
    value, _ = module.loss(images, labels, jax.random.key(0))

    image = unit((images / 255).mean((1, 2)) / 0.25 - 2)
    text = np.asarray(module.embed_captions(jnp.asarray(module.caption_words[labels, 0])))
    logits = np.exp(float(module.log_scale[...])) * image @ text.astype(np.float64).T
    targets = labels[:, None] == labels
    targets = targets / targets.sum(1, keepdims=True)
    sides = [
        (scipy.special.logsumexp(side, axis=1) - (targets * side).sum(1)).mean()
        for side in (logits, logits.T)
    ]
    assert abs(float(value) - np.mean(sides)) <= tolerance(SIZE**2, condition=8) * np.mean(sides)


def test_blank_captions_leave_the_choice_open(uncropped):
    module = means(objectives.ImageText, NAMES, text_width=4)
    for leaf in (module.projection.weight, module.projection.bias):
        leaf[...] = jnp.zeros_like(leaf[...])
    for labels in (np.ones(5, np.int32), np.arange(5, dtype=np.int32) % 3):
        value, _ = module.loss(pictures(5), labels, jax.random.key(0))
        np.testing.assert_allclose(value, np.log(5), rtol=1e-6)


def test_caption_tables_are_word_frequencies():
    words, table = objectives.caption_table(NAMES)
    assert table.shape == (3, len(objectives.TEMPLATES), len(words))
    assert list(words) == sorted(set(words))
    assert {"cat", "guide", "dog", "tea", "pot", "photo"} <= set(words)
    np.testing.assert_allclose(table.sum(-1), 1, rtol=1e-6)
    # "a photo of a guide dog": two of six words are "a".
    np.testing.assert_allclose(table[1, 0, words.index("a")], 2 / 6, rtol=1e-6)
    assert table[0, :, words.index("dog")].sum() == 0


def test_targets_are_standardized_by_patch():
    pixels = np.random.default_rng(0).normal(3, 2, (2, SIZE, SIZE, 3)).astype(np.float32)
    pixels[0, :4, :4] = 7
    got = np.asarray(objectives.standardized_patches(jnp.asarray(pixels), 4), np.float64)
    assert got.shape == (2, 2, 2, 48)
    np.testing.assert_array_equal(got[0, 0, 0], np.zeros(48))
    np.testing.assert_allclose(got.mean(-1), 0, atol=tolerance(48, condition=3))
    variance = got.var(-1)
    variance[0, 0, 0] = 1
    np.testing.assert_allclose(variance, 1, rtol=1e-5)


def test_only_hidden_patches_are_scored():
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 2, 4, 6)).astype(np.float32)
    hidden = np.array([[1, 0, 0, 1], [0, 1, 0, 0]], np.float32)
    want = np.square(predicted - target).mean(-1)[hidden > 0].mean()
    got = objectives.hidden_error(*map(jnp.asarray, (predicted, target, hidden)))
    np.testing.assert_allclose(got, want, rtol=tolerance(24))


def test_zero_rows_have_no_direction():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(objectives.unit(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
