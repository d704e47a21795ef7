"""The substrate object against float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate import Substrate, pairwise_pcka, pcka
from substrate_jax.substrate.sharded import PlacedDomains
from tests.helpers import random_orthogonal, relative_error, tolerance

N, K = 60, 4


def panel(seed: int, n: int = N, widths=(7, 11)) -> dict[str, np.ndarray]:
    """Features with a decaying spectrum, so that leading components are well apart."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 6)) * 2.0 ** -np.arange(6)
    return {
        f"encoder{i}": (
            latent @ rng.normal(size=(6, d)) + 0.01 * rng.normal(size=(n, d)) + 5
        ).astype(np.float32)
        for i, d in enumerate(widths)
    }


def stacked(features) -> np.ndarray:
    x = np.concatenate([np.asarray(block, np.float64) for block in features.values()], axis=1)
    return (x - x.mean(0)) / x.std(0)


def test_basis_spans_the_leading_principal_components():
    features = panel(0)
    substrate = Substrate.fit(features, K)
    u = np.linalg.svd(stacked(features), full_matrices=False)[2][:K].T
    # The solver stops at residual 1e-5; the smallest relative gap of this spectrum is above 0.01.
    cosines = np.linalg.svd(u.T @ np.asarray(substrate.basis, np.float64))[1]
    assert 1 - cosines.min() < 1e-4
    scores = substrate.transform(features)
    assert scores.shape == (N, K)
    variance = np.asarray(scores, np.float64).var(0)
    want = np.linalg.svd(stacked(features))[1][:K] ** 2 / N
    assert relative_error(variance, want) < 1e-4


def test_constant_features_contribute_nothing():
    features = panel(1)
    widened = {
        name: np.pad(x, ((0, 0), (0, 2)), constant_values=3.0) for name, x in features.items()
    }
    substrate = Substrate.fit(widened, K)
    assert np.isfinite(np.asarray(substrate.transform(widened))).all()
    assert (
        relative_error(
            np.abs(np.asarray(substrate.transform(widened))),
            np.abs(np.asarray(Substrate.fit(features, K).transform(features))),
        )
        < 1e-3
    )


@pytest.mark.parametrize("names", [("encoder0", "encoder1"), ("a,b", 'ß "c": [1]')])
def test_save_and_load_keep_the_bits(tmp_path, names):
    features = dict(zip(names, panel(2).values(), strict=True))
    substrate = Substrate.fit(features, K)
    substrate.save(tmp_path / "substrate.safetensors")
    loaded = Substrate.load(tmp_path / "substrate.safetensors")
    assert loaded.encoders == substrate.encoders == names
    assert loaded.widths == substrate.widths == (7, 11)
    for field in ("origin", "offset", "mean", "scale", "basis", "explained_variance_ratio"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(substrate, field))
    np.testing.assert_array_equal(loaded.transform(features), substrate.transform(features))
    assert [path.name for path in tmp_path.iterdir()] == ["substrate.safetensors"]


def test_align_undoes_a_rotation_of_the_basis():
    substrate = Substrate.fit(panel(3), K)
    rotation = random_orthogonal(np.random.default_rng(0), K).astype(np.float32)

    turned = dataclasses.replace(substrate, basis=substrate.basis @ rotation)
    back = np.asarray(turned.basis @ substrate.align(turned))
    assert relative_error(back, substrate.basis) < tolerance(K, condition=10)


def test_pcka_is_symmetric_and_matches_the_oracle():
    a, b = panel(4), panel(5, n=48)
    assert pcka(a, b, K) == pytest.approx(pcka(b, a, K), abs=tolerance(N))
    bases = [np.linalg.svd(stacked(f), full_matrices=False)[2][:K].T for f in (a, b)]
    want = reference.pcka(stacked(a), bases[0], stacked(b), bases[1])
    assert pcka(a, b, K) == pytest.approx(want, abs=1e-4)
    matrix = np.asarray(pairwise_pcka([a, b, a], K))
    assert matrix[0, 2] == pytest.approx(1, abs=1e-5)


def test_substrate_refuses_other_encoders_and_rows():
    features = panel(6)
    substrate = Substrate.fit(features, K)
    with pytest.raises(ValueError, match="fitted on"):
        substrate.transform({"encoder0": features["encoder0"]})
    with pytest.raises(ValueError, match="same images"):
        Substrate.fit({"one": np.ones((5, 3), np.float32), "two": np.ones((6, 3), np.float32)}, 2)
    with pytest.raises(ValueError, match="no encoder"):
        Substrate.fit({}, 2)
    with pytest.raises(ValueError, match="encoder1 holds NaN"):
        Substrate.fit(features | {"encoder1": features["encoder1"] * np.nan}, K)
    with pytest.raises(ValueError, match="k=19: give 1 to 18"):
        Substrate.fit(features, 19)


def test_far_from_zero_it_standardizes_as_the_kernel_does():
    """The features' deviations are 1/3,000 of their means."""
    rng = np.random.default_rng(11)
    features = {
        name: (3000 * np.sign(rng.normal(size=(1, d))) + rng.normal(size=(N, d))).astype(np.float32)
        for name, d in (("one", 9), ("two", 7))
    }
    substrate = Substrate.fit(features, K)
    x = np.concatenate(list(features.values()), axis=1)
    got, want = substrate.standardize(features), kernels.standardize(jnp.asarray(x))
    assert np.abs(got - want).max() < 1e-6 * np.abs(want).max()
    exact = stacked(features)
    assert np.abs(got - exact).max() < 1e-6 * np.abs(exact).max()
    assert relative_error(substrate.mean, x.astype(np.float64).mean(0)) < tolerance(1)


def test_transform_of_the_fitted_images_gives_the_scores_of_the_fit():
    features = panel(12)
    fitted = PlacedDomains.place([list(features.values())], make_mesh("data=1")).fit(K)
    scores = np.asarray(fitted.scores[0])
    got = np.asarray(Substrate.fit(features, K).transform(features))
    assert np.abs(got - scores).max() < 1e-5 * np.abs(scores).max()


def test_it_is_a_pytree_of_its_arrays():
    features = panel(13)
    # Encoders out of alphabetical order, in which jit hands dicts over.
    features = {"z": features["encoder0"], "a": features["encoder1"]}
    substrate = Substrate.fit(features, K)
    leaves, tree = jax.tree.flatten(substrate)
    assert len(leaves) == 5
    again = jax.tree.unflatten(tree, leaves)
    assert (again.encoders, again.widths, again.k) == (("z", "a"), (7, 11), K)
    assert again.basis is substrate.basis
    halved = jax.tree.map(lambda leaf: leaf / 2, substrate)
    np.testing.assert_array_equal(halved.basis, substrate.basis / 2)
    assert halved.encoders == substrate.encoders
    compiled = jax.jit(Substrate.transform)
    np.testing.assert_allclose(
        compiled(substrate, features), substrate.transform(features), atol=1e-5
    )
    np.testing.assert_allclose(
        jax.jit(lambda one, x: one.transform({"a": x["a"], "z": x["z"]}))(substrate, features),
        substrate.transform(features),
        atol=1e-5,
    )
