"""Swin against attention over the whole map in float64, without windows, rolls or index tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from substrate_jax.encoders.swin import SwinConfig, shift_regions
from substrate_jax.encoders.weights import abstract_module, checkpoint_arrays, fill
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance

# Maps of 12 and 6 positions a side: nine windows that roll, then one that covers its map.
CONFIG = SwinConfig(
    (2, 2), (4, 8), (4, 7), head_width=2, patch_size=2, num_classes=3, image_size=24
)


def images():
    return np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32)


def norm(x, arrays, key):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
    return x * arrays[f"{key}.weight"] + arrays[f"{key}.bias"]


def linear(x, arrays, key):
    return x @ arrays[f"{key}.weight"].T + arrays.get(f"{key}.bias", 0.0)


def mlp(x, arrays, key):
    hidden = linear(x, arrays, f"{key}.fc1")
    return linear(hidden * scipy.special.ndtr(hidden), arrays, f"{key}.fc2")


def attention(x, arrays, key, window, shift):
    """Every position attends to those of its window, whose borders lie at shift + i * window."""
    n, side, _, channels = x.shape
    table = arrays[f"{key}.relative_position_bias_table"]
    heads = table.shape[1]
    table = table.reshape(2 * window - 1, 2 * window - 1, heads)
    qkv = linear(x, arrays, f"{key}.qkv").reshape(n, side, side, 3, heads, -1)
    query, key_, value = (qkv[:, :, :, i] for i in range(3))
    out = np.zeros_like(value)
    spans = [
        (max(start, 0), min(start + window, side)) for start in range(shift - window, side, window)
    ]
    for i, j in np.ndindex(side, side):
        (top, bottom), (left, right) = (next(s for s in spans if s[0] <= p < s[1]) for p in (i, j))
        keys = np.ix_(range(n), range(top, bottom), range(left, right))
        scores = np.einsum("nhd,nabhd->nabh", query[:, i, j], key_[keys])
        rows = i - np.arange(top, bottom) + window - 1
        columns = j - np.arange(left, right) + window - 1
        scores = scores / np.sqrt(query.shape[-1]) + table[np.ix_(rows, columns)]
        weights = scipy.special.softmax(scores, axis=(1, 2))
        out[:, i, j] = np.einsum("nabh,nabhd->nhd", weights, value[keys])
    return linear(out.reshape(n, side, side, channels), arrays, f"{key}.proj")


def oracle(config, arrays, x):
    """Features in float64, from a checkpoint's arrays."""
    arrays = {key: value.astype(np.float64) for key, value in arrays.items()}
    x, size = x.astype(np.float64), config.patch_size
    kernel = arrays["patch_embed.proj.weight"]
    side = x.shape[1] // size
    patches = x.reshape(2, side, size, side, size, 3)
    x = np.einsum("niajbc,ocab->nijo", patches, kernel) + arrays["patch_embed.proj.bias"]
    x = norm(x, arrays, "patch_embed.norm")
    for stage, depth in enumerate(config.depths):
        key = f"layers.{stage}"
        if stage:
            corners = [x[:, a::2, b::2] for b in (0, 1) for a in (0, 1)]
            x = norm(np.concatenate(corners, -1), arrays, f"{key}.downsample.norm")
            x = linear(x, arrays, f"{key}.downsample.reduction")
        window = min(config.windows[stage], x.shape[1])
        for block in range(depth):
            shift = window // 2 if block % 2 and window < x.shape[1] else 0
            at = f"{key}.blocks.{block}"
            x = x + attention(norm(x, arrays, f"{at}.norm1"), arrays, f"{at}.attn", window, shift)
            x = x + mlp(norm(x, arrays, f"{at}.norm2"), arrays, f"{at}.mlp")
    return norm(x, arrays, "norm").mean((1, 2))


def test_features_are_those_of_attention_over_the_map():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    want = oracle(CONFIG, checkpoint_arrays(module), images())
    got = jax.jit(lambda x: module.features(x))(images())
    # The longest sum, the second layer of an MLP, through 4 blocks of two branches.
    assert relative_error(got, want) <= tolerance(4 * CONFIG.width, condition=8**0.5)


def test_regions_part_what_the_roll_joined():
    regions = shift_regions(6, 3, 1)
    assert [len(set(window)) for window in regions.tolist()] == [1, 2, 2, 4]
    np.testing.assert_array_equal(regions[3].reshape(3, 3), [[4, 4, 5], [4, 4, 5], [7, 7, 8]])


def test_tables_of_older_files_are_left_out_and_nothing_else():
    arrays = checkpoint_arrays(filled(lambda: CONFIG.build(nnx.Rngs(0))))
    older = arrays | {
        "layers.0.blocks.0.attn.relative_position_index": np.zeros((16, 16), np.int64),
        "layers.0.blocks.1.attn_mask": np.zeros((9, 16, 16), np.float32),
    }
    again = checkpoint_arrays(fill(abstract_module(CONFIG), older, source="older"))
    assert again.keys() == arrays.keys()
    with pytest.raises(ValueError, match=r"1 unused: layers.0.mask$"):
        fill(abstract_module(CONFIG), older | {"layers.0.mask": older["norm.bias"]}, source="other")


def test_bfloat16_under_jit_is_near_and_gradients_are_finite():
    module = filled(lambda: CONFIG.build(nnx.Rngs(0)))
    half = fill(
        abstract_module(CONFIG), checkpoint_arrays(module), source="half", dtype=jnp.bfloat16
    )

    def loss(module, x):
        features = module.features(x)
        return jnp.square(features).sum(), features

    gradient = jax.jit(nnx.grad(loss, has_aux=True))
    gradients, exact = gradient(module, images())
    got = jax.jit(lambda x: half.features(x))(jnp.asarray(images(), jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    assert relative_error(got, exact) <= tolerance(4 * CONFIG.width, jnp.bfloat16)
    for path, leaf in nnx.to_flat_state(gradients):
        assert np.isfinite(leaf[...]).all(), path
        assert np.any(leaf[...]) != ("head" in path), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 36}, r"image_size=36: maps of \(18, 9\).*give a multiple of 112$"),
        ({"image_size": 25}, r"image_size=25: .*give a multiple of 112$"),
        ({"windows": (4,)}, r"windows=\(4,\) .*give one of each a stage"),
        ({"head_width": 3}, r"head_width=3 .*give a divisor"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **options)
