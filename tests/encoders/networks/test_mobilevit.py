"""MobileViTV2: linear attention and resampling against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks import mobilevit
from substrate_jax.encoders.weights import abstract_module
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import float64, linear
from tests.helpers import relative_error, tolerance


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_linear_attention_attends_over_patches_pixel_by_pixel():
    attention = filled(lambda: mobilevit.LinearAttention(5, rngs=nnx.Rngs(0)))
    x = normal((2, 4, 6, 5))
    p = float64(attention)
    qkv = linear(x.astype(np.float64), p, "qkv_proj")
    want = np.zeros(x.shape)
    for image in range(2):
        for i in range(2):
            for j in range(2):
                patches = qkv[image, i::2, j::2].reshape(6, 11)  # this pixel of each patch
                query, key, value = patches[:, 0], patches[:, 1:6], patches[:, 6:]
                weights = np.exp(query) / np.exp(query).sum()
                attended = np.maximum(value, 0) * (weights[:, None] * key).sum(0)
                want[image, i::2, j::2] = attended.reshape(2, 3, 5)
    want = linear(want, p, "out_proj")
    assert relative_error(jax.jit(attention.__call__)(x), want) <= tolerance(11, condition=4)


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
    config = mobilevit.MobileViTV2Config(0.25, image_size=224)
    graph, state = nnx.split(abstract_module(config))
    sides = {}

    def features(state, images):
        network = nnx.merge(graph, state)
        return network.features(images, lambda name, x: sides.update({name: x.shape[1:3]}))

    images = jax.ShapeDtypeStruct((1, 224, 176, 3), jnp.float32)
    assert jax.eval_shape(features, state, images).shape == (1, config.width)
    want = [(112, 88), (56, 44), (28, 22), (14, 12), (8, 6)]
    assert [sides[f"stages.{i}"] for i in range(5)] == want
