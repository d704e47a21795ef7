"""Swin against attention over the whole map in float64, without windows, rolls or index tables."""

import jax
import numpy as np
import scipy.special
from flax import nnx

from substrate_jax.encoders.networks.swin import SwinConfig, shift_regions
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import float64, layer_norm, linear, mlp
from tests.helpers import relative_error, tolerance

# Maps of 12 and 6 positions per side: nine windows that roll, then one that covers its map.
CONFIG = SwinConfig(
    (2, 2), (4, 8), (4, 7), head_width=2, patch_size=2, num_classes=3, image_size=24
)


def attention(x, p, key, window, shift):
    """Every position attends to those of its window, whose borders lie at shift + i * window."""
    n, side, _, channels = x.shape
    table = p[f"{key}.relative_position_bias_table"]
    heads = table.shape[1]
    table = table.reshape(2 * window - 1, 2 * window - 1, heads)
    qkv = linear(x, p, f"{key}.qkv").reshape(n, side, side, 3, heads, -1)
    query, key_, value = (qkv[:, :, :, i] for i in range(3))
    out = np.zeros_like(value)
    spans = [
        (max(start, 0), min(start + window, side)) for start in range(shift - window, side, window)
    ]
    for i, j in np.ndindex(side, side):
        (top, bottom), (left, right) = (
            next(s for s in spans if s[0] <= at < s[1]) for at in (i, j)
        )
        keys = np.ix_(range(n), range(top, bottom), range(left, right))
        scores = np.einsum("nhd,nabhd->nabh", query[:, i, j], key_[keys])
        rows = i - np.arange(top, bottom) + window - 1
        columns = j - np.arange(left, right) + window - 1
        scores = scores / np.sqrt(query.shape[-1]) + table[np.ix_(rows, columns)]
        weights = scipy.special.softmax(scores, axis=(1, 2))
        out[:, i, j] = np.einsum("nabh,nabhd->nhd", weights, value[keys])
    return linear(out.reshape(n, side, side, channels), p, f"{key}.proj")


def oracle(config, p, x):
    """Features in float64, from a checkpoint's arrays."""
    x, size = x.astype(np.float64), config.patch_size
    kernel = p["patch_embed.proj.weight"]
    side = x.shape[1] // size
    patches = x.reshape(2, side, size, side, size, 3)
    x = np.einsum("niajbc,ocab->nijo", patches, kernel) + p["patch_embed.proj.bias"]
    x = layer_norm(x, p, "patch_embed.norm", eps=1e-5)
    for stage, depth in enumerate(config.depths):
        key = f"layers.{stage}"
        if stage:
            corners = [x[:, a::2, b::2] for b in (0, 1) for a in (0, 1)]
            x = layer_norm(np.concatenate(corners, -1), p, f"{key}.downsample.norm", eps=1e-5)
            x = linear(x, p, f"{key}.downsample.reduction")
        window = min(config.windows[stage], x.shape[1])
        for block in range(depth):
            shift = window // 2 if block % 2 and window < x.shape[1] else 0
            at = f"{key}.blocks.{block}"
            x = x + attention(
                layer_norm(x, p, f"{at}.norm1", eps=1e-5), p, f"{at}.attn", window, shift
            )
            x = x + mlp(layer_norm(x, p, f"{at}.norm2", eps=1e-5), p, f"{at}.mlp")
    return layer_norm(x, p, "norm", eps=1e-5).mean((1, 2))


def test_features_are_those_of_attention_over_the_map():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    images = np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32)
    want = oracle(CONFIG, float64(module), images)
    got = jax.jit(lambda x: module.features(x))(images)
    # The longest sum, the second layer of an MLP, through 4 blocks of two branches.
    assert relative_error(got, want) <= tolerance(4 * CONFIG.width, condition=8**0.5)


def test_regions_part_what_the_roll_joined():
    regions = shift_regions(6, 3, 1)
    assert [len(set(window)) for window in regions.tolist()] == [1, 2, 2, 4]
    np.testing.assert_array_equal(regions[3].reshape(3, 3), [[4, 4, 5], [4, 4, 5], [7, 7, 8]])
