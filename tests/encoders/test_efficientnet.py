"""EfficientNet: the published scaling, one block against float64 NumPy, TensorFlow's padding."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.efficientnet import (
    DepthwiseSeparable,
    EfficientNetConfig,
    InvertedResidual,
    round_channels,
)
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.weights import checkpoint_arrays
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance

# Channels of the stem, features, blocks: of the reference implementation's B0 to B7.
PUBLISHED = (
    (32, 1280, 16),
    (32, 1280, 23),
    (32, 1408, 23),
    (40, 1536, 26),
    (48, 1792, 32),
    (48, 2048, 39),
    (56, 2304, 45),
    (64, 2560, 55),
)
SMALL = EfficientNetConfig(
    stages=((3, 1, 1, 8, 1), (5, 2, 6, 8, 2)),
    stem_channels=8,
    head_channels=16,
    num_classes=3,
    image_size=9,
)


@pytest.mark.parametrize("size", range(8))
def test_sizes_are_scaled_as_published(size):
    stem, width, count = PUBLISHED[size]
    config = encoder_spec(f"tf_efficientnet_b{size}").config
    assert (config.scale(config.stem_channels), config.width) == (stem, width)
    assert sum(config.repeat(blocks) for *_, blocks in config.stages) == count


def test_rounding_of_channels_loses_at_most_a_tenth():
    for channels in range(1, 400):
        rounded = round_channels(channels)
        assert rounded % 8 == 0
        assert rounded >= 0.9 * channels
        assert rounded - channels < 8


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_a_block_is_its_formula(padding, kernel_size, side):
    config = EfficientNetConfig(padding=padding, eps=1e-3)
    shape = (8, 16, kernel_size, 2, 6, config)
    block = filled(lambda: InvertedResidual(*shape, rngs=nnx.Rngs(0)))
    p = {key: value.astype(np.float64) for key, value in checkpoint_arrays(block).items()}
    assert p["se.conv_reduce.weight"].shape == (2, 48, 1, 1)
    x = np.random.default_rng(0).normal(size=(2, side, side, 8))

    def normalise(y, name):
        scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}.running_var"] + 1e-3)
        return (y - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]

    def pointwise(y, name):
        return y @ p[f"{name}.weight"][:, :, 0, 0].T

    def silu(y):
        return y / (1 + np.exp(-y))

    y = silu(normalise(pointwise(x, "conv_pw"), "bn1"))
    out = math.ceil(side / 2)
    before = kernel_size // 2
    if padding == "same":
        before = ((out - 1) * 2 + kernel_size - side) // 2
    padded = np.zeros((2, side + 2 * kernel_size, side + 2 * kernel_size, 48))
    padded[:, before : before + side, before : before + side] = y
    y = np.zeros((2, out, out, 48))
    for i, j in np.ndindex(kernel_size, kernel_size):
        window = padded[:, i : i + 2 * out : 2, j : j + 2 * out : 2]
        y += window * p["conv_dw.weight"][:, 0, i, j]
    y = silu(normalise(y, "bn2"))
    hidden = silu(pointwise(y.mean((1, 2)), "se.conv_reduce") + p["se.conv_reduce.bias"])
    gate = 1 / (1 + np.exp(-(pointwise(hidden, "se.conv_expand") + p["se.conv_expand.bias"])))
    want = normalise(pointwise(y * gate[:, None, None], "conv_pwl"), "bn3")
    got = jax.jit(block.__call__)(jnp.asarray(x, jnp.float32))
    assert got.shape == want.shape
    assert relative_error(got, want) < tolerance(48)


@pytest.mark.parametrize("channels", [8, 16])
def test_a_block_is_residual_where_shapes_agree(channels):
    """With its last norm at zero a block is the identity, or zero where the channels change."""
    shape, config = (8, channels, 3, 1), EfficientNetConfig()
    separable = filled(lambda: DepthwiseSeparable(*shape, config, rngs=nnx.Rngs(0)))
    inverted = filled(lambda: InvertedResidual(*shape, 6, config, rngs=nnx.Rngs(0)))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 8)), jnp.float32)
    for block, last in ((separable, separable.bn2), (inverted, inverted.bn3)):
        last.weight[...] = last.bias[...] = jnp.zeros(channels)
        np.testing.assert_array_equal(block(x), x if channels == 8 else jnp.zeros((1, 4, 4, 16)))


def test_the_paddings_differ_on_even_sides_alone():
    """9 pixels halve to 5 and 3: odd sides, where both put as much before as after."""
    configs = [dataclasses.replace(SMALL, padding=padding) for padding in ("symmetric", "same")]
    models = [filled(lambda config=config: config.build(nnx.Rngs(0))) for config in configs]

    def features(images):
        return [model.features(images) for model in models]

    noise = np.random.default_rng(0).normal(size=(1, 9, 9, 3)).astype(np.float32)
    symmetric, same = jax.jit(features)(noise)
    assert relative_error(same, symmetric) < 1e-5
    symmetric, same = jax.jit(features)(noise[:, :8, :8])
    assert relative_error(same, symmetric) > 1e-2


def test_features_and_their_gradient_are_finite_in_bfloat16():
    config = dataclasses.replace(SMALL, padding="same")
    model = filled(lambda: config.build(nnx.Rngs(0)), jnp.bfloat16)
    images = jnp.ones((2, 8, 8, 3), jnp.bfloat16)

    def loss(images):
        features = model.features(images)
        return features.astype(jnp.float32).sum(), features

    gradient, features = jax.jit(jax.grad(loss, has_aux=True))(images)
    assert features.shape == (2, config.width)
    assert features.dtype == gradient.dtype == jnp.bfloat16
    assert bool(jnp.isfinite(features).all() & jnp.isfinite(gradient).all())
    assert model.classify(features).shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"padding": "SAME"}, "padding='SAME': choose symmetric or same"),
        ({"width_multiplier": 0.0}, r"width_multiplier=0\.0: give a positive number"),
        ({"depth_multiplier": -1.0}, r"depth_multiplier=-1\.0: give a positive number"),
    ],
)
def test_a_bad_shape_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        EfficientNetConfig(**arguments)
