"""MobileViTV2's own mechanisms against float64 NumPy, and a block in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders import mobilevit
from substrate_jax.encoders.weights import abstract_module
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameter(variable):
    return np.asarray(variable[...], np.float64)


def test_linear_attention_attends_over_patches_pixel_by_pixel():
    attention = filled(lambda: mobilevit.LinearAttention(5, rngs=nnx.Rngs(0)))
    x = normal((2, 4, 6, 5))
    qkv = x.astype(np.float64) @ parameter(attention.qkv_proj.weight)[0, 0]
    qkv += parameter(attention.qkv_proj.bias)
    want = np.zeros(x.shape)
    for image in range(2):
        for i in range(2):
            for j in range(2):
                patches = qkv[image, i::2, j::2].reshape(6, 11)  # this pixel of each patch
                query, key, value = patches[:, 0], patches[:, 1:6], patches[:, 6:]
                weights = np.exp(query) / np.exp(query).sum()
                attended = np.maximum(value, 0) * (weights[:, None] * key).sum(0)
                want[image, i::2, j::2] = attended.reshape(2, 3, 5)
    want = want @ parameter(attention.out_proj.weight)[0, 0] + parameter(attention.out_proj.bias)
    assert relative_error(attention(x), want) <= tolerance(11, condition=4)


def test_image_norm_has_one_mean_and_variance_an_image():
    norm = filled(lambda: mobilevit.ImageNorm(3))
    x = normal((2, 4, 5, 3)) * np.array([1, 100], np.float32)[:, None, None, None] + 2
    y = x.astype(np.float64).reshape(2, -1)
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-5)
    want = y.reshape(x.shape) * parameter(norm.weight) + parameter(norm.bias)
    assert relative_error(norm(x), want) <= tolerance(60)


@pytest.mark.parametrize("sides", [(7, 8, 8, 8), (1, 3, 2, 4), (5, 6, 5, 6)])
def test_resampling_is_linear_interpolation_between_the_corners(sides):
    h, w, rows, columns = sides
    x = normal((2, h, w, 3))

    def along(axis, new):
        def line(values):
            return np.interp(np.linspace(0, len(values) - 1, new), np.arange(len(values)), values)

        return lambda y: np.apply_along_axis(line, axis, y)

    want = along(2, columns)(along(1, rows)(x.astype(np.float64)))
    got = mobilevit.resample(x, rows, columns)
    assert relative_error(got, want) <= tolerance(4)
    np.testing.assert_array_equal(got[:, [0, -1]][:, :, [0, -1]], x[:, [0, -1]][:, :, [0, -1]])


def test_odd_maps_become_even_in_the_transformer_stages():
    config = mobilevit.MobileViTV2Config(0.5, image_size=224)
    graph, state = nnx.split(abstract_module(config))
    sides = {}

    def features(state, images):
        network = nnx.merge(graph, state)
        return network.features(images, lambda name, x: sides.update({name: x.shape[1:3]}))

    images = jax.ShapeDtypeStruct((1, 224, 176, 3), jnp.float32)
    assert jax.eval_shape(features, state, images).shape == (1, config.width)
    want = [(112, 88), (56, 44), (28, 22), (14, 12), (8, 6)]
    assert [sides[f"stages.{i}"] for i in range(5)] == want


def test_a_block_runs_in_bfloat16_and_has_finite_gradients():
    block = filled(lambda: mobilevit.MobileViTBlock(16, 1, rngs=nnx.Rngs(0)))
    x = jnp.asarray(normal((2, 5, 4, 16)))
    graph, state = nnx.split(block)

    def run(state, x):
        return nnx.merge(graph, state)(x)

    def loss(state):
        y = run(state, x)
        return y.sum(), y

    (_, want), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(state)
    assert all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)
    got = jax.jit(run)(half, x.astype(jnp.bfloat16))
    assert (got.shape, got.dtype) == ((2, 6, 4, 16), jnp.bfloat16)
    # Some 16 roundings in a row.
    assert relative_error(got, want) <= 16 * float(jnp.finfo(jnp.bfloat16).eps)


def test_a_multiplier_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"multiplier=0.01: give at least 0.03125"):
        mobilevit.MobileViTV2Config(0.01)
