"""ResNeXt and wide ResNet: the bottleneck against float64 NumPy, published shapes, bad ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.resnet import Block, ResNetConfig
from substrate_jax.encoders.weights import abstract_module, checkpoint_arrays, inventory
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance

SMALL = ResNetConfig((1, 1), bottleneck=True, channels=(64, 128), cardinality=4, base_width=2)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_bottleneck_is_its_formula(stride):
    """Stride and groups are those of the 3 x 3 convolution, whose width scales with the stage."""
    block = filled(lambda: Block(5, 128, stride, SMALL, rngs=nnx.Rngs(0)))
    p = {key: value.astype(np.float64) for key, value in checkpoint_arrays(block).items()}
    assert p["conv2.weight"].shape == (16, 4, 3, 3)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 5))

    def normalise(y, name):
        scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}.running_var"] + 1e-5)
        return (y - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]

    def pointwise(y, name):
        return y @ p[f"{name}.weight"][:, :, 0, 0].T

    y = np.maximum(normalise(pointwise(x, "conv1"), "bn1"), 0)
    padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((2, 6 // stride, 6 // stride, 16))
    for out in range(16):
        first = out // 4 * 4
        for i, j in np.ndindex(3, 3):
            window = padded[:, i : i + 6 : stride, j : j + 6 : stride, first : first + 4]
            y[..., out] += window @ p["conv2.weight"][out, :, i, j]
    y = normalise(pointwise(np.maximum(normalise(y, "bn2"), 0), "conv3"), "bn3")
    shortcut = x[:, ::stride, ::stride] @ p["downsample.0.weight"][:, :, 0, 0].T
    want = np.maximum(normalise(shortcut, "downsample.1") + y, 0)
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


def test_basic_blocks_have_no_groups():
    with pytest.raises(ValueError, match="cardinality=4, base_width=2: basic blocks have 1 and 64"):
        dataclasses.replace(SMALL, bottleneck=False)
