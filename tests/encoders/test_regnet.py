"""RegNet: stages of the paper's tables, one block against float64 NumPy, bad shapes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.regnet import Block, RegNetConfig
from substrate_jax.encoders.weights import checkpoint_arrays
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance

# Blocks and channels a stage as printed in arXiv:2003.13678, figures 16 and 17.
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
    p = {key: value.astype(np.float64) for key, value in checkpoint_arrays(block).items()}
    assert p["se.fc1.weight"].shape == (in_channels // 4, channels, 1, 1)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, in_channels))

    def normalise(y, name):
        scale = p[f"{name}.bn.weight"] / np.sqrt(p[f"{name}.bn.running_var"] + 1e-5)
        return (y - p[f"{name}.bn.running_mean"]) * scale + p[f"{name}.bn.bias"]

    def pointwise(y, name):
        return y @ p[f"{name}.weight"][:, :, 0, 0].T

    y = np.maximum(normalise(pointwise(x, "conv1.conv"), "conv1"), 0)
    padded = np.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = p["conv2.conv.weight"]  # [out, in a group, 3, 3]
    y = np.zeros((2, 6 // stride, 6 // stride, channels))
    for out in range(channels):
        first = out // 4 * 4
        for i, j in np.ndindex(3, 3):
            window = padded[:, i : i + 6 : stride, j : j + 6 : stride, first : first + 4]
            y[..., out] += window @ kernel[out, :, i, j]
    y = np.maximum(normalise(y, "conv2"), 0)
    hidden = np.maximum(pointwise(y.mean((1, 2)), "se.fc1") + p["se.fc1.bias"], 0)
    gate = 1 / (1 + np.exp(-(pointwise(hidden, "se.fc2") + p["se.fc2.bias"])))
    y = normalise(pointwise(y * gate[:, None, None], "conv3.conv"), "conv3")
    shortcut = x
    if stride == 2:
        shortcut = normalise(pointwise(x[:, ::2, ::2], "downsample.conv"), "downsample")
    want = np.maximum(shortcut + y, 0)
    got = jax.jit(block.__call__)(jnp.asarray(x, jnp.float32))
    assert relative_error(got, want) < tolerance(4 * 9)


def test_features_and_their_gradient_are_finite_in_bfloat16():
    model = filled(lambda: SMALL.build(nnx.Rngs(0)), jnp.bfloat16)
    images = jnp.ones((2, 8, 8, 3), jnp.bfloat16)

    def loss(images):
        features = model.features(images)
        return features.astype(jnp.float32).sum(), features

    gradient, features = jax.jit(jax.grad(loss, has_aux=True))(images)
    assert features.shape == (2, SMALL.width)
    assert features.dtype == gradient.dtype == jnp.bfloat16
    assert bool(jnp.isfinite(features).all() & jnp.isfinite(gradient).all())
    assert model.classify(features).shape == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth=0: give 1 or more"),
        ({"group_width": 0}, "group_width=0: give 1 or more"),
        ({"initial_width": 20}, "initial_width=20: give a multiple of 8"),
        ({"slope": -1.0}, r"slope=-1\.0: give 0 or more"),
        ({"multiplier": 1.0}, r"multiplier=1\.0: give more than 1"),
    ],
)
def test_a_bad_shape_is_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dataclasses.replace(SMALL, **change)
