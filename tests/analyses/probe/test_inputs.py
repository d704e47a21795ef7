import numpy as np
import pytest

from substrate_jax.analyses.probe.inputs import (
    all_encoders,
    encoder_input,
    principal_input,
    random_input,
    standard_inputs,
    substrate_input,
)
from tests.helpers import relative_error, tolerance

RNG = np.random.default_rng(0)
DEVIATIONS = np.array([5.0, 3, 2, 1, 1, 1])
ONE = (RNG.normal(size=(60, 6)) @ np.diag(DEVIATIONS) + 2).astype(np.float32)
FEATURES = {"one": ONE, "two": (ONE[:, :4] @ RNG.normal(size=(4, 4))).astype(np.float32)}
POOL = np.arange(0, 60, 2)


def components(blocks, rows, k):
    """Scores on leading directions of standardized features, up to sign, in float64."""
    x = np.concatenate(list(blocks), axis=1).astype(np.float64)
    z = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
    return z @ np.linalg.svd(z[rows], full_matrices=False)[2][:k].T


@pytest.mark.parametrize("transductive", [False, True])
def test_the_substrate_is_fitted_on_the_pool_alone_unless_it_says_so(transductive):
    found = substrate_input(FEATURES, POOL, k=2, transductive=transductive)
    rows = np.arange(60) if transductive else POOL
    want = components(FEATURES.values(), rows, 2)
    signs = np.sign((found.features * want).sum(axis=0))
    # Directions turn by the rounding of float32 over the relative gap of their variances.
    assert relative_error(found.features, want * signs) < tolerance(60, np.float32, 10)
    assert found.name == ("substrate 2 (transductive)" if transductive else "substrate 2")


def test_held_out_images_change_no_basis():
    changed = {name: x.copy() for name, x in FEATURES.items()}
    held = np.setdiff1d(np.arange(60), POOL)
    for x in changed.values():
        x[held] *= 3
    for make in (
        lambda x: substrate_input(x, POOL, k=2),
        lambda x: principal_input(x, "one", POOL, k=2),
        lambda x: random_input(x, "one", POOL, k=2),
        lambda x: all_encoders(x, POOL),
    ):
        assert np.array_equal(make(FEATURES).features[POOL], make(changed).features[POOL])
    both = [substrate_input(x, POOL, k=2, transductive=True) for x in (FEATURES, changed)]
    assert not np.array_equal(both[0].features[POOL], both[1].features[POOL])


def test_principal_components_are_of_one_encoder():
    found = principal_input(FEATURES, "one", POOL, k=2)
    want = components([ONE], POOL, 2)
    signs = np.sign((found.features * want).sum(axis=0))
    assert relative_error(found.features, want * signs) < tolerance(60, np.float32, 10)
    assert (found.name, found.encoders) == ("PCA-2 of one", ("one",))


def test_random_directions_keep_squared_lengths_on_average_and_follow_the_seed():
    found = [random_input(FEATURES, "one", POOL, k=2, seed=seed).features for seed in range(400)]
    lengths = np.stack([(x**2).sum(axis=1) for x in found])
    standard = all_encoders({"one": ONE}, POOL).features
    want = (standard.astype(np.float64) ** 2).sum(axis=1)
    # |G'z|^2 / |z|^2 is chi^2_2 / 2, of deviation 1; the mean of 400 within 5 standard errors.
    assert np.abs(lengths.mean(axis=0) / want - 1).max() < 5 / np.sqrt(400)
    assert np.array_equal(found[3], random_input(FEATURES, "one", POOL, k=2, seed=3).features)


def test_constant_features_are_zeros_in_the_concatenation():
    x = np.c_[ONE, np.full(60, 1e6)].astype(np.float32)
    assert not all_encoders({"one": x}, POOL).features[:, -1].any()


def test_costs_are_of_standardizing_and_projecting():
    found = substrate_input(FEATURES, POOL, k=2)
    assert (found.flops, found.model_bytes) == (10 * (2 + 2 * 2), 4 * 10 * (2 + 2))
    assert (found.width, found.image_bytes) == (2, 8)
    alone = encoder_input(FEATURES, "two")
    assert (alone.flops, alone.model_bytes, alone.image_bytes) == (0, 0, 16)
    assert np.array_equal(alone.features, FEATURES["two"])


def test_the_standard_inputs_have_pixels_if_given():
    found = standard_inputs(FEATURES, POOL, pixels=ONE, k=2)
    pixels = found[-2]
    assert (pixels.name, pixels.encoders) == ("PCA-2 of pixels", ())
    assert [one.name for one in found][-3:] == [
        "random-2 of two",
        "PCA-2 of pixels",
        "all encoders",
    ]
    assert len(found) == 10
    assert all(one.features.shape[0] == 60 for one in found)


def test_rows_that_are_no_images_and_too_many_components_are_refused():
    with pytest.raises(ValueError, match="pool names row 60 of 60 images"):
        substrate_input(FEATURES, np.array([0, 60]))
    with pytest.raises(ValueError, match="k"):
        substrate_input(FEATURES, POOL, k=11)
