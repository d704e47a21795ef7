"""RegNet: stages of the paper's tables, and one block against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks.regnet import Block, RegNetConfig
from substrate_jax.encoders.registry import encoder_spec
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import (
    batch_norm,
    convolution,
    float64,
    linear,
    relu,
    squeeze_excite,
)
from tests.helpers import relative_error, tolerance

# Blocks and channels per stage as printed in arXiv:2003.13678, figures 16 and 17.
PUBLISHED = {
    "regnetx_002": ((1, 1, 4, 7), (24, 56, 152, 368)),
    "regnetx_032": ((2, 6, 15, 2), (96, 192, 432, 1008)),
    "regnetx_160": ((2, 6, 13, 1), (256, 512, 896, 2048)),
    "regnety_016": ((2, 6, 17, 2), (48, 120, 336, 888)),
    "regnety_032": ((2, 5, 13, 1), (72, 216, 576, 1512)),
    "regnety_320": ((2, 5, 12, 1), (232, 696, 1392, 3712)),
}
SMALL = RegNetConfig(3, 8, 6.0, 2.5, 4, se_ratio=0.25, stem_channels=8, num_classes=3, image_size=8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_stages_are_those_of_the_paper(name):
    channels, depths = zip(*encoder_spec(name).config.stages, strict=True)
    assert (depths, channels) == PUBLISHED[name]


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_its_formula(stride):
    """The squeeze has a quarter of the input's channels, the gate comes before conv3."""
    in_channels, channels = (16, 16) if stride == 1 else (8, 16)
    block = filled(lambda: Block(in_channels, channels, stride, SMALL, rngs=nnx.Rngs(0)))
    p = float64(block)
    assert p["se.fc1.weight"].shape == (in_channels // 4, channels, 1, 1)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, in_channels))
    y = relu(batch_norm(linear(x, p, "conv1.conv"), p, "conv1.bn"))
    y = convolution(y, p["conv2.conv.weight"], stride, padding=1, groups=channels // 4)
    y = squeeze_excite(relu(batch_norm(y, p, "conv2.bn")), p, "se.fc1", "se.fc2", relu)
    y = batch_norm(linear(y, p, "conv3.conv"), p, "conv3.bn")
    shortcut = x
    if stride == 2:
        shortcut = batch_norm(linear(x[:, ::2, ::2], p, "downsample.conv"), p, "downsample.bn")
    got = jax.jit(block.__call__)(jnp.asarray(x, jnp.float32))
    assert relative_error(got, relu(shortcut + y)) < tolerance(4 * 9)
