"""Encoders as users call them: features and taps of one network, and untrained ones."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders import load_encoder, untrained
from substrate_jax.encoders.encoder import list_taps
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.weights import checkpoint_arrays
from tests.encoders.tiny import TINY, VIT


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


TAPS = ("patch_embed", "blocks.0", "blocks.1", "norm", "features")


def test_features_and_taps_come_from_one_network(file, images):
    encoder = load_encoder(TINY, weights=file)
    assert encoder.tap_names() == TAPS
    features = np.asarray(encoder(images))
    assert features.shape == (2, encoder.spec.width)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features[0] - features[1]).max() > 1e-4
    np.testing.assert_array_equal(encoder(images), features)
    taps = encoder.taps(images)
    assert tuple(taps) == TAPS
    shapes = {name: tap.shape for name, tap in taps.items()}
    assert shapes["patch_embed"] == (2, 4, 8)
    assert shapes["blocks.0"] == shapes["blocks.1"] == (2, 5, 8)
    assert {tap.dtype for tap in taps.values()} == {jnp.dtype(jnp.float32)}
    # Two programs, fused differently: rounding apart, through two blocks and a norm.
    np.testing.assert_allclose(taps["features"], features, rtol=0, atol=1e-5)
    chosen = encoder.taps(images, names=["blocks.1", "patch_embed"])
    assert tuple(chosen) == ("blocks.1", "patch_embed")


def test_weights_are_on_the_host_until_a_call_and_placed_once(file, images):
    encoder = load_encoder(TINY, weights=file)
    host = [leaf.get_value() for _, leaf in state_leaves(encoder)]
    assert {type(value) for value in host} == {np.ndarray}
    placed = []
    for _ in range(2):
        encoder(images)
        encoder.taps(images, ["norm"])
        placed.append(jax.tree.leaves(encoder._placed))
    assert all(isinstance(leaf, jax.Array) for leaf in placed[0])
    assert all(one is two for one, two in zip(*placed, strict=True))
    assert {type(leaf.get_value()) for _, leaf in state_leaves(encoder)} == {np.ndarray}


def test_a_network_is_traced_once_for_all_its_taps(file, images):
    encoder = load_encoder(TINY, weights=file)
    list_taps.cache_clear()
    encoder.taps(images, ["norm"])
    encoder.taps(images, ["norm"])
    known = list_taps.cache_info()
    assert (known.misses, known.hits) == (1, 1)
    assert encoder.tap_names() == tuple(list_taps(VIT)) == TAPS
    assert list_taps(VIT)["blocks.0"] == ((5, 8), "blocks.0")


def test_an_encoder_says_what_it_takes(file, images):
    encoder = load_encoder(TINY, weights=file)
    for wrong in (images[0], images[:, :4], images[..., :1], np.zeros((2, 3, 8, 8), np.float32)):
        for call in (encoder, encoder.taps):
            with pytest.raises(ValueError, match=r"tiny_vit takes \[n, 8, 8, 3\]"):
                call(wrong)
    with pytest.raises(ValueError, match=r"names=\['blocks.2'\]: tiny_vit has no such tap"):
        encoder.taps(images, names=["features", "blocks.2"])


def test_bfloat16_features_are_float32_and_near(file, images):
    exact = np.asarray(load_encoder(TINY, weights=file)(images))
    encoder = load_encoder(TINY, weights=file, dtype=jnp.bfloat16)
    assert encoder.dtype == jnp.bfloat16
    assert {leaf.get_value().dtype for _, leaf in state_leaves(encoder)} == {
        jnp.dtype(jnp.bfloat16)
    }
    features = encoder(images)
    assert features.dtype == jnp.float32
    # About ten roundings in a row of numbers of the features' size.
    error = np.linalg.norm(np.asarray(features) - exact) / np.linalg.norm(exact)
    assert error <= 10 * float(jnp.finfo(jnp.bfloat16).eps)
    assert error > 0


def state_leaves(encoder):
    return list(nnx.to_flat_state(encoder.state))


def test_functional_form_is_the_encoder(file, images):
    encoder = load_encoder(TINY, weights=file)
    function, state = encoder.functional()
    np.testing.assert_allclose(function(state, images), encoder(images), rtol=0, atol=1e-5)


def test_untrained_encoders_are_told_apart_by_seed(tiny):
    first, again, other = (untrained(tiny, seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    arrays = [checkpoint_arrays(encoder.module) for encoder in (first, again, other)]
    for key in ("cls_token", "pos_embed", "patch_embed.proj.weight"):
        np.testing.assert_array_equal(arrays[0][key], arrays[1][key])
        assert np.any(arrays[0][key] != arrays[2][key]), key


def test_untrained_encoders_differ_by_seed_and_name_and_from_the_trained():
    same_shape = ("mini_dinov2_base", "mini_clip_base")
    made = [untrained(encoder_spec(name), seed) for name in same_shape for seed in (0, 1)]
    assert made[0].name == "mini_dinov2_base-untrained-0"
    assert made[0].spec.paradigm == "untrained"
    assert made[0].spec.groups == frozenset()  # neither discriminative nor masked
    assert len({encoder.name for encoder in made}) == len({e.fingerprint for e in made}) == 4
    spec = encoder_spec(same_shape[0])
    assert made[0].spec.preprocess == spec.preprocess
    arrays = [checkpoint_arrays(encoder.module) for encoder in made]
    again = checkpoint_arrays(untrained(spec, 0).module)
    key = "patch_embed.proj.weight"
    np.testing.assert_array_equal(again[key], arrays[0][key])
    for first, second in itertools.combinations(arrays, 2):
        assert (first[key] != second[key]).mean() > 0.99  # a few float32 numbers meet by chance
    size = spec.config.image_size
    images = jax.random.normal(jax.random.key(0), (4, size, size, 3))
    features = np.asarray(made[0](images))
    assert np.isfinite(features).all()
    assert (features.std(0) > 1e-3).all()
