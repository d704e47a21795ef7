"""EfficientNet: the published scaling, one block against float64 NumPy, TensorFlow's padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks.convolutions import Conv
from substrate_jax.encoders.networks.efficientnet import (
    DepthwiseSeparable,
    EfficientNetConfig,
    InvertedResidual,
)
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.weights import abstract_module
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import (
    batch_norm,
    convolution,
    float64,
    linear,
    silu,
    squeeze_excite,
)
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


@pytest.mark.parametrize("size", range(8))
def test_sizes_are_scaled_as_published(size):
    stem, width, count = PUBLISHED[size]
    config = encoder_spec(f"tf_efficientnet_b{size}").config
    assert (config.scale(config.stem_channels), config.width) == (stem, width)
    assert sum(config.repeat(stage) for stage in range(len(config.stages))) == count


# EfficientNet-Lite: stem and head stay as they are, and so do the first and the last stage.
LITE = ((16, 320), (16, 320), (16, 352), (24, 384), (24, 448))
LITE_BLOCKS = (16, 21, 21, 24, 30)


@pytest.mark.parametrize("size", range(5))
def test_lite_sizes_are_scaled_as_published(size):
    config = encoder_spec(f"tf_efficientnet_lite{size}").config
    assert (config.stem_width, config.width) == (32, 1280)
    assert tuple(config.scale(config.stages[stage][3]) for stage in (0, -1)) == LITE[size]
    assert sum(config.repeat(stage) for stage in range(len(config.stages))) == LITE_BLOCKS[size]


@pytest.mark.parametrize(
    ("padding", "kernel_size", "side"), [("symmetric", 3, 8), ("same", 5, 8), ("same", 3, 9)]
)
def test_a_block_is_its_formula(padding, kernel_size, side):
    config = EfficientNetConfig(padding=padding, eps=1e-3)
    shape = (8, 16, kernel_size, 2, 6, config)
    block = filled(lambda: InvertedResidual(*shape, rngs=nnx.Rngs(0)))
    p = float64(block)
    assert p["se.conv_reduce.weight"].shape == (2, 48, 1, 1)
    x = np.random.default_rng(0).normal(size=(2, side, side, 8))
    y = silu(batch_norm(linear(x, p, "conv_pw"), p, "bn1", 1e-3))
    width = "same" if padding == "same" else kernel_size // 2
    y = convolution(y, p["conv_dw.weight"], 2, width, groups=48)
    y = silu(batch_norm(y, p, "bn2", 1e-3))
    y = squeeze_excite(y, p, "se.conv_reduce", "se.conv_expand", silu)
    want = batch_norm(linear(y, p, "conv_pwl"), p, "bn3", 1e-3)
    got = jax.jit(block.__call__)(jnp.asarray(x, jnp.float32))
    assert got.shape == want.shape
    assert relative_error(got, want) < tolerance(48)


def test_a_block_is_residual_where_shapes_agree():
    """With its last norm at zero a block is the identity, or zero where the channels change."""
    config, x = EfficientNetConfig(), jnp.ones((1, 2, 2, 8))
    for channels in (8, 16):
        shape = (8, channels, 3, 1)
        separable = filled(lambda shape=shape: DepthwiseSeparable(*shape, config, rngs=nnx.Rngs(0)))
        inverted = filled(lambda shape=shape: InvertedResidual(*shape, 6, config, rngs=nnx.Rngs(0)))
        for last in (separable.bn2, inverted.bn3):
            last.weight[...] = last.bias[...] = np.zeros(channels, np.float32)
        want = x if channels == 8 else jnp.zeros((1, 2, 2, 16))
        for got in jax.jit(lambda a, b, x: (a(x), b(x)))(separable, inverted, x):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_all_convolutions_are_padded_alike(padding):
    module = abstract_module(EfficientNetConfig(padding=padding))
    for path, layer in nnx.iter_modules(module):
        if isinstance(layer, Conv):
            want = layer.kernel_size // 2
            assert layer.padding == ("same" if padding == "same" and want else want), path
