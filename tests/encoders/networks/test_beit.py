"""BEiT against a float64 oracle that finds each pair's row of the bias table on its own."""

import jax
import numpy as np
import scipy.special
from flax import nnx

from substrate_jax.encoders.networks.beit import BEiTConfig, relative_positions_with_token
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import float64, layer_norm, linear, mlp
from tests.helpers import relative_error, tolerance

CONFIG = BEiTConfig(8, 2, 2, patch_size=2, image_size=6, num_classes=3)


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


def oracle(config, p, x):
    """Features in float64, from a checkpoint's arrays."""
    grid, size = config.grid, config.patch_size
    patches = x.astype(np.float64).reshape(2, grid, size, grid, size, 3)
    x = np.einsum("niajbc,ocab->nijo", patches, p["patch_embed.proj.weight"])
    x = (x + p["patch_embed.proj.bias"]).reshape(2, grid**2, -1)
    x = np.concatenate([np.broadcast_to(p["cls_token"], (2, 1, x.shape[2])), x], 1)
    for block in range(config.depth):
        key = f"blocks.{block}"
        y = attention(layer_norm(x, p, f"{key}.norm1"), p, f"{key}.attn", grid)
        x = x + y * p[f"{key}.gamma_1"]
        y = mlp(layer_norm(x, p, f"{key}.norm2"), p, f"{key}.mlp")
        x = x + y * p[f"{key}.gamma_2"]
    return layer_norm(x[:, 1:].mean(1), p, "fc_norm")


def test_features_are_those_of_the_oracle():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    want = oracle(CONFIG, float64(module), images)
    got = jax.jit(lambda x: module.features(x))(images)
    # The longest sum, the second layer of an MLP, through 2 blocks of two branches.
    assert relative_error(got, want) <= tolerance(4 * CONFIG.width, condition=2)


def test_every_row_of_the_table_stands_for_some_pair():
    index = relative_positions_with_token(3)
    np.testing.assert_array_equal(np.unique(index), np.arange(5**2 + 3))
