"""ResNeXt and wide ResNet: the bottleneck against float64 NumPy, and published shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks.resnet import Block, ResNetConfig
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.weights import abstract_module, inventory
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import batch_norm, convolution, float64, linear, relu
from tests.helpers import relative_error, tolerance

SMALL = ResNetConfig((1, 1), bottleneck=True, channels=(64, 128), cardinality=4, base_width=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_bottleneck_is_its_formula(stride):
    """Stride and groups are those of the 3 x 3 convolution, whose width scales with the stage."""
    block = filled(lambda: Block(5, 128, stride, SMALL, rngs=nnx.Rngs(0)))
    p = float64(block)
    assert p["conv2.weight"].shape == (16, 4, 3, 3)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 5))
    y = relu(batch_norm(linear(x, p, "conv1"), p, "bn1"))
    y = convolution(y, p["conv2.weight"], stride, padding=1, groups=4)
    y = batch_norm(linear(relu(batch_norm(y, p, "bn2")), p, "conv3"), p, "bn3")
    shortcut = linear(x[:, ::stride, ::stride], p, "downsample.0")
    want = relu(batch_norm(shortcut, p, "downsample.1") + y)
    got = jax.jit(block.__call__)(jnp.asarray(x, jnp.float32))
    assert relative_error(got, want) < tolerance(4 * 9)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("resnext50_32x4d", (128, 256, 512, 1024)),  # arXiv:1611.05431, table 1
        ("resnext101_64x4d", (256, 512, 1024, 2048)),
        ("wide_resnet50_2", (128, 256, 512, 1024)),
    ],
)
def test_widths_of_the_3_x_3_convolutions_are_those_of_the_papers(name, widths):
    config = encoder_spec(name).config
    shapes = inventory(abstract_module(config))
    for stage, width in enumerate(widths, start=1):
        want = (width, width // config.cardinality, 3, 3)
        assert shapes[f"layer{stage}.0.conv2.weight"] == want
