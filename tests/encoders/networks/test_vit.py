"""Vision transformers: tokens, pooling and SwiGLU against float64 NumPy, and position tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks.interpolation import resample_positions
from substrate_jax.encoders.networks.rotary import axial_angles, rotate
from substrate_jax.encoders.networks.vit import AttentionPool, SwiGlu, ViTConfig
from substrate_jax.encoders.weights import abstract_module, fill
from tests.encoders.networks.modules import arrays_of, filled
from tests.encoders.networks.oracles import float64, layer_norm, linear, silu
from tests.helpers import relative_error, tolerance

SMALL = ViTConfig(12, 1, 3, patch_size=2, image_size=8, num_classes=0)
# name: (config, rows of the position table before the patches)
PREFIXES = {
    "class token": (SMALL, 1),
    "no class token": (dataclasses.replace(SMALL, class_token=False, pool="map"), 0),
    "class token without a position": (dataclasses.replace(SMALL, prefix_positions=False), 0),
    "registers": (dataclasses.replace(SMALL, registers=4, prefix_positions=False), 0),
    "registers with positions": (dataclasses.replace(SMALL, registers=4), 5),
    "distilled": (dataclasses.replace(SMALL, distilled=True), 2),
}


def test_swiglu_is_its_formula():
    """The first half of fc1 is the gate."""
    module = filled(lambda: SwiGlu(6, 16, rngs=nnx.Rngs(0)))
    p = float64(module)
    assert (p["fc1.weight"].shape, p["fc2.weight"].shape) == ((16, 6), (6, 8))
    x = np.random.default_rng(0).normal(size=(2, 5, 6))
    gate, value = np.split(linear(x, p, "fc1"), 2, axis=-1)
    want = linear(silu(gate) * value, p, "fc2")
    assert relative_error(module(jnp.asarray(x, jnp.float32)), want) < tolerance(16)


def test_attention_pool_is_its_formula():
    config = dataclasses.replace(SMALL, activation="gelu_tanh", pool="map")
    module = filled(lambda: AttentionPool(config, rngs=nnx.Rngs(0)))
    p = float64(module)
    x = np.random.default_rng(1).normal(size=(2, 7, 12))
    query = linear(p["latent"][0, 0], p, "q")
    key, value = np.split(linear(x, p, "kv"), 2, axis=-1)
    pooled = np.zeros((2, 12))
    for image in range(2):
        for head in range(3):
            own = slice(4 * head, 4 * head + 4)
            weights = np.exp(key[image, :, own] @ query[own] / 2)
            pooled[image, own] = weights / weights.sum() @ value[image, :, own]
    y = linear(pooled, p, "proj")
    hidden = linear(layer_norm(y, p, "norm"), p, "mlp.fc1")
    hidden *= 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    want = y + linear(hidden, p, "mlp.fc2")
    got = jax.jit(module.__call__)(jnp.asarray(x, jnp.float32))
    assert relative_error(got, want) < tolerance(48)


@pytest.mark.parametrize("name", PREFIXES)
def test_tokens_are_class_then_registers_then_patches(name):
    """Without blocks the encoded tokens are the normalized input tokens."""
    config, rows = PREFIXES[name]
    module = filled(lambda: dataclasses.replace(config, depth=0).build(nnx.Rngs(0)))
    p = float64(module)
    images = np.random.default_rng(2).normal(size=(2, 8, 8, 3))
    patches = images.reshape(2, 4, 2, 4, 2, 3).transpose(0, 1, 3, 5, 2, 4).reshape(2, 16, 12)
    patches = patches @ p["patch_embed.proj.weight"].reshape(12, 12).T + p["patch_embed.proj.bias"]
    prefix = [p[key][0] for key in ("cls_token", "dist_token", "reg_token") if key in p]
    x = np.concatenate([*(np.stack([tokens] * 2) for tokens in prefix), patches], axis=1)
    assert p["pos_embed"].shape[1] == rows + 16
    x[:, x.shape[1] - rows - 16 :] += p["pos_embed"]
    want = layer_norm(x, p, "norm")
    got = module.encode(module.embed(jnp.asarray(images, jnp.float32)))
    assert relative_error(got, want) < tolerance(12)


def test_registers_are_attended_to_and_not_averaged():
    config = dataclasses.replace(SMALL, registers=2, pool="avg")
    network = filled(lambda: config.build(nnx.Rngs(0)))
    tokens = jnp.asarray(np.random.default_rng(3).normal(size=(2, 19, 12)), jnp.float32)
    changed = tokens.at[:, :3].add(1.0)
    np.testing.assert_array_equal(network.pool(changed), network.pool(tokens))
    patches = tokens[:, 3:]
    encode = jax.jit(lambda network, patches: network.encode(patches))
    before = encode(network, patches)
    network.reg_token[...] = network.reg_token[...] * 2
    assert np.all(np.asarray(encode(network, patches)[:, 3:] != before[:, 3:]).any(-1))


def test_distilled_features_are_the_mean_of_two_tokens():
    network = abstract_module(dataclasses.replace(SMALL, distilled=True, num_classes=3))
    tokens = np.arange(60, dtype=np.float32).reshape(1, 5, 12)
    np.testing.assert_array_equal(network.pool(jnp.asarray(tokens)), tokens[:, :2].mean(axis=1))
    with pytest.raises(ValueError, match="the two heads take one token each"):
        network.classify(tokens[:, 0])
    with pytest.raises(ValueError, match=r"distilled=True, pool='avg': set pool 'token'"):
        dataclasses.replace(SMALL, distilled=True, pool="avg")


@pytest.mark.parametrize("name", PREFIXES)
def test_a_table_of_another_size_keeps_its_prefix(name):
    config, rows = PREFIXES[name]
    rng = np.random.default_rng(4)
    table = rng.normal(size=(1, rows + 49, 12)).astype(np.float32)
    arrays = arrays_of(config) | {"pos_embed": table}
    module = fill(abstract_module(config), arrays, source="a")
    got = np.asarray(module.pos_embed[...])
    np.testing.assert_array_equal(got[:, :rows], table[:, :rows])
    np.testing.assert_array_equal(
        got[:, rows:], resample_positions(table[:, rows:], 4, prefix=0), strict=True
    )


def test_the_mean_is_of_patches_alone():
    config = dataclasses.replace(SMALL, registers=2, pool="mean")
    tokens = np.arange(84, dtype=np.float32).reshape(1, 7, 12)
    got = abstract_module(config).pool(jnp.asarray(tokens))
    np.testing.assert_array_equal(got, tokens[:, 3:].mean(axis=1))


def test_rotation_multiplies_pairs_of_channels_as_complex_numbers():
    """By exp(i angle), the angles those of the formula; tokens before the patches stay."""
    grid, width, base = 3, 8, 10.0
    angles = axial_angles(grid, width, base, prefix=2)
    assert angles.shape == (2 + grid**2, width // 2)
    row, column = 2 * (np.indices((grid, grid)) + 0.5) / grid - 1
    for i in range(width // 4):
        want = [2 * np.pi * where.ravel() / base ** (4 * i / width) for where in (row, column)]
        np.testing.assert_allclose(angles[2:, [i, i + width // 4]].T, want, rtol=1e-14)
    x = np.random.default_rng(5).normal(size=(2, len(angles), 3, width)).astype(np.float32)
    turned = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angles)[None, :, None]
    got = np.asarray(rotate(jnp.asarray(x), angles))
    assert relative_error(got, np.concatenate([turned.real, turned.imag], -1)) < tolerance(2)
    np.testing.assert_array_equal(got[:, :2], x[:, :2])


def test_rotated_scores_know_the_offset_of_two_patches_alone():
    x = np.random.default_rng(6).normal(size=(2, 8)).astype(np.float32)
    angles = axial_angles(4, 8, 10.0)
    query, key = (rotate(jnp.asarray(np.tile(one, (16, 1, 1))), angles)[:, 0] for one in x)
    scores = np.asarray(query @ key.T).reshape(4, 4, 4, 4)
    np.testing.assert_allclose(scores[1:, 1:, 1:, 1:], scores[:-1, :-1, :-1, :-1], atol=1e-5)
    assert np.ptp(scores) > 0.1


def test_rotary_positions_take_the_place_of_the_table():
    config = dataclasses.replace(SMALL, registers=2, rotary=10.0)
    module = filled(lambda: config.build(nnx.Rngs(0)))
    assert "pos_embed" not in arrays_of(config)
    images = np.random.default_rng(7).normal(size=(2, 8, 8, 3)).astype(np.float32)
    got = module.features(jnp.asarray(images))
    moved = module.features(jnp.asarray(np.roll(images, 2, axis=1)))
    assert relative_error(moved, np.asarray(got)) > 0.01


def test_a_table_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="pos_embed has 17 patch positions, which is not a square"):
        resample_positions(np.zeros((1, 17, 4), np.float32), 3, prefix=0)
