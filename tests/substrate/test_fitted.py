"""The substrate object and the panel comparison against float64 NumPy."""

import dataclasses

import numpy as np
import pytest

from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.analyses.cka.separation import separation
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate.fitted import Substrate, pairwise_pcka, pcka
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


def test_save_and_load_keep_the_bits(tmp_path):
    substrate = Substrate.fit(panel(2), K)
    substrate.save(tmp_path / "substrate.safetensors")
    loaded = Substrate.load(tmp_path / "substrate.safetensors")
    assert loaded.encoders == substrate.encoders
    assert loaded.widths == substrate.widths
    for field in ("mean", "scale", "basis", "explained_variance_ratio"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(substrate, field))
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
    with pytest.raises(ValueError, match="same images"):
        Substrate.fit({}, 2)


@pytest.mark.parametrize("n", [61, 64])
def test_comparison_is_the_same_on_one_and_eight_devices(n):
    features = panel(7, n=n, widths=(5, 9, 13))
    one, eight = (
        compare_encoders(features, ks=(3, 10), mesh=make_mesh(f"data={count}")) for count in (1, 8)
    )
    assert one["n"] == eight["n"] == n
    # Features with mean 5 lose a factor 5 / 0.5 to centering.
    limit = tolerance(n * 13, condition=10)
    for key in ("cka", "cka_debiased"):
        assert relative_error(one[key], eight[key]) < limit
    blocks = [x.astype(np.float64) for x in features.values()]
    assert relative_error(eight["cka"], reference.pairwise_cka(blocks)) < limit
    assert relative_error(eight["cka_debiased"], reference.pairwise_cka(blocks, True)) < limit
    for k in ("3", "10"):
        np.testing.assert_array_equal(
            one["mutual_knn"][k]["recall"], eight["mutual_knn"][k]["recall"]
        )
        assert np.isnan(np.diagonal(eight["mutual_knn"][k]["p_value"])).all()
    # 27 features are fewer than rows: Gram space would cost more.
    for null, skewness in ((eight["calibrated"], "gamma"), (eight["mutual_knn"]["3"], "exact")):
        assert (null["method"], null["skewness"], null["alpha"]) == ("closed_form", skewness, 0.05)
        pairs = np.triu_indices(3, 1)
        np.testing.assert_allclose(
            10 ** null["log10_p_value"][pairs], null["p_value"][pairs], rtol=1e-4, atol=1e-37
        )
        assert np.isnan(np.diagonal(null["log10_p_value"])).all()


def test_q_values_are_benjamini_hochberg_over_the_pairs():
    from scipy.stats import false_discovery_control

    features = panel(8, widths=(3, 4, 5, 6))
    result = compare_encoders(features, ks=(5,), skewness="exact")["calibrated"]
    assert result["skewness"] == "exact"
    upper = np.triu_indices(4, 1)
    want = false_discovery_control(result["p_value"][upper])
    np.testing.assert_allclose(result["q_value"][upper], want, rtol=tolerance(1))
    np.testing.assert_array_equal(result["q_value"], result["q_value"].T)


def test_permutation_method_is_reproducible_by_seed():
    features = panel(9, widths=(3, 4))
    runs = [
        compare_encoders(features, ks=(5,), method="permutation", permutations=50, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert runs[0]["calibrated"]["skewness"] is None
    np.testing.assert_array_equal(runs[0]["calibrated"]["tau"], runs[1]["calibrated"]["tau"])
    assert (runs[0]["calibrated"]["tau"][0, 1] != runs[2]["calibrated"]["tau"][0, 1]).all()


def test_k_not_below_n_is_refused():
    with pytest.raises(ValueError, match="k=60 with n=60"):
        compare_encoders(panel(10), ks=(5, 60))


def test_fewer_than_four_rows_are_refused():
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        compare_encoders(panel(10, n=3), ks=(1,))


SEPARATIONS = {
    "no masked pair": (["discriminative", "discriminative", "mim"], 0.5, None, None),
    "no discriminative pair": (["discriminative", "mim", "mim"], None, 0.5, None),
    "neither": (["image_text", "image_text"], None, None, None),
    "both": (["discriminative", "discriminative", "mim", "mim"], 0.5, 0.5, 1.0),
}


@pytest.mark.parametrize("case", SEPARATIONS)
def test_separation_counts_pairs_within_groups(case):
    names, high, low, ratio = SEPARATIONS[case]
    scores = np.full((len(names),) * 2, 0.5)
    np.fill_diagonal(scores, 1)
    result = separation(scores, [frozenset({name}) for name in names])
    assert (result["discriminative_mean"], result["mim_mean"], result["ratio"]) == (
        high,
        low,
        ratio,
    )


def test_separation_has_no_ratio_to_zero():
    scores = np.zeros((4, 4))
    groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
    assert separation(scores, groups)["ratio"] is None
