"""BEiT against a float64 oracle that finds each pair's row of the bias table on its own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from substrate_jax.encoders.beit import BEiTConfig
from substrate_jax.encoders.weights import abstract_module, checkpoint_arrays, fill
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance

CONFIG = BEiTConfig(8, 2, 2, patch_size=2, image_size=6, num_classes=3)


def images():
    return np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)


def norm(x, arrays, key):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * arrays[f"{key}.weight"] + arrays[f"{key}.bias"]


def linear(x, arrays, key):
    return x @ arrays[f"{key}.weight"].T + arrays.get(f"{key}.bias", 0.0)


def mlp(x, arrays, key):
    hidden = linear(x, arrays, f"{key}.fc1")
    return linear(hidden * scipy.special.ndtr(hidden), arrays, f"{key}.fc2")


def row(query, key, grid):
    """Row of the bias table for two tokens, 0 being the class token."""
    side = 2 * grid - 1
    if query == 0 or key == 0:
        return side**2 + (2 if query == key else 1 if key == 0 else 0)
    down, right = np.subtract(divmod(query - 1, grid), divmod(key - 1, grid)) + grid - 1
    return down * side + right


def attention(x, arrays, key, grid):
    n, tokens, width = x.shape
    table = arrays[f"{key}.relative_position_bias_table"]
    heads = table.shape[1]
    bias = np.array([[table[row(i, j, grid)] for j in range(tokens)] for i in range(tokens)])
    query, keys, value = np.split(linear(x, arrays, f"{key}.qkv"), 3, axis=-1)
    query, value = query + arrays[f"{key}.q_bias"], value + arrays[f"{key}.v_bias"]
    query, keys, value = (a.reshape(n, tokens, heads, -1) for a in (query, keys, value))
    scores = np.einsum("nqhd,nkhd->nqkh", query, keys) / np.sqrt(width / heads) + bias
    weights = scipy.special.softmax(scores, axis=2)
    attended = np.einsum("nqkh,nkhd->nqhd", weights, value).reshape(n, tokens, width)
    return linear(attended, arrays, f"{key}.proj")


def oracle(config, arrays, x):
    """Features in float64, from a checkpoint's arrays."""
    arrays = {key: value.astype(np.float64) for key, value in arrays.items()}
    grid, size = config.grid, config.patch_size
    patches = x.astype(np.float64).reshape(2, grid, size, grid, size, 3)
    x = np.einsum("niajbc,ocab->nijo", patches, arrays["patch_embed.proj.weight"])
    x = (x + arrays["patch_embed.proj.bias"]).reshape(2, grid**2, -1)
    x = np.concatenate([np.broadcast_to(arrays["cls_token"], (2, 1, x.shape[2])), x], 1)
    for block in range(config.depth):
        key = f"blocks.{block}"
        y = attention(norm(x, arrays, f"{key}.norm1"), arrays, f"{key}.attn", grid)
        x = x + y * arrays[f"{key}.gamma_1"]
        x = (
            x
            + mlp(norm(x, arrays, f"{key}.norm2"), arrays, f"{key}.mlp") * arrays[f"{key}.gamma_2"]
        )
    return norm(x[:, 1:].mean(1), arrays, "fc_norm")


def test_features_are_those_of_the_oracle():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    want = oracle(CONFIG, checkpoint_arrays(module), images())
    got = jax.jit(lambda x: module.features(x))(images())
    # The longest sum, the second layer of an MLP, through 2 blocks of two branches.
    assert relative_error(got, want) <= tolerance(4 * CONFIG.width, condition=2)


def test_tables_of_older_files_are_left_out():
    arrays = checkpoint_arrays(filled(lambda: CONFIG.build(nnx.Rngs(0))))
    older = arrays | {"blocks.0.attn.relative_position_index": np.zeros((10, 10), np.int64)}
    again = checkpoint_arrays(fill(abstract_module(CONFIG), older, source="older"))
    assert again.keys() == arrays.keys()


def test_bfloat16_under_jit_is_near_and_gradients_are_finite():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    half = fill(
        abstract_module(CONFIG), checkpoint_arrays(module), source="half", dtype=jnp.bfloat16
    )

    def loss(module, x):
        features = module.features(x)
        return jnp.square(features).sum(), features

    gradients, exact = jax.jit(nnx.grad(loss, has_aux=True))(module, images())
    got = jax.jit(lambda x: half.features(x))(jnp.asarray(images(), jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    assert relative_error(got, exact) <= tolerance(4 * CONFIG.width, jnp.bfloat16)
    for path, leaf in nnx.to_flat_state(gradients):
        assert np.isfinite(leaf[...]).all(), path
    # Every row of the table stands for some pair; what the last class token reads goes nowhere.
    table = np.asarray(gradients.blocks[0].attn.relative_position_bias_table[...])
    assert np.all(np.any(table != 0, axis=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 7}, "image_size=7 .*give a multiple of 2"),
        ({"heads": 3}, "heads=3 .*give a divisor of 8"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **options)
