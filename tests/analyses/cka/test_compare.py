"""The comparison of a panel: numbers on any mesh, options, and the agreement between domains."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from substrate_jax.analyses.cka.compare import compare_encoders, domain_agreement
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from tests.helpers import relative_error, tolerance


def panel(seed: int, n: int = 60, widths=(7, 11)) -> dict[str, np.ndarray]:
    """Encoders that share six directions of decaying strength."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 6)) * 2.0 ** -np.arange(6)
    return {
        f"encoder{i}": (
            latent @ rng.normal(size=(6, d)) + 0.01 * rng.normal(size=(n, d)) + 5
        ).astype(np.float32)
        for i, d in enumerate(widths)
    }


@pytest.mark.parametrize("n", [61, pytest.param(64, marks=pytest.mark.long)])
def test_comparison_is_the_same_on_one_and_eight_devices(n):
    features = panel(7, n=n, widths=(5, 9, 13))
    one, eight = (
        compare_encoders(features, ks=(3, 10), mesh=make_mesh(f"data={count}")) for count in (1, 8)
    )
    assert one.n == eight.n == n
    # Features with mean 5 lose a factor 5 / 0.5 to centering.
    limit = tolerance(n * 13, condition=10)
    for key in ("cka", "cka_debiased"):
        assert relative_error(getattr(one, key), getattr(eight, key)) < limit
    blocks = [x.astype(np.float64) for x in features.values()]
    assert relative_error(eight.cka, reference.pairwise_cka(blocks)) < limit
    assert relative_error(eight.cka_debiased, reference.pairwise_cka(blocks, True)) < limit
    for k in (3, 10):
        np.testing.assert_array_equal(one.mutual_knn[k].recall, eight.mutual_knn[k].recall)
        assert np.isnan(np.diagonal(eight.mutual_knn[k].calibrated.p_value)).all()
    # 27 features are fewer than rows: Gram space would cost more.
    for null, skewness in ((eight.calibrated, "gamma"), (eight.mutual_knn[3].calibrated, "exact")):
        assert (null.method, null.skewness, null.alpha) == ("closed_form", skewness, 0.05)
        pairs = np.triu_indices(3, 1)
        np.testing.assert_allclose(
            10 ** null.log10_p_value[pairs], null.p_value[pairs], rtol=1e-4, atol=1e-37
        )
        assert np.isnan(np.diagonal(null.log10_p_value)).all()
        want = false_discovery_control(null.p_value[pairs])
        np.testing.assert_allclose(null.q_value[pairs], want, rtol=tolerance(1))
        np.testing.assert_array_equal(null.q_value, null.q_value.T)


@pytest.mark.long
def test_q_values_of_the_exact_tail_are_benjamini_hochberg():
    features = panel(8, widths=(3, 4, 5, 6))
    result = compare_encoders(features, ks=(5,), skewness="exact").calibrated
    assert result.skewness == "exact"
    upper = np.triu_indices(4, 1)
    want = false_discovery_control(result.p_value[upper])
    np.testing.assert_allclose(result.q_value[upper], want, rtol=tolerance(1))
    np.testing.assert_array_equal(result.q_value, result.q_value.T)


@pytest.mark.long
def test_permutation_method_is_reproducible_by_seed():
    features = panel(9, widths=(3, 4))
    runs = [
        compare_encoders(features, ks=(5,), method="permutation", permutations=50, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert runs[0].calibrated.skewness is None
    one, same, other = (run.calibrated.tau for run in runs)
    np.testing.assert_array_equal(one, same)
    assert (one[0, 1] != other[0, 1]).all()


def test_k_not_below_n_is_refused():
    with pytest.raises(ValueError, match="k=60 with n=60"):
        compare_encoders(panel(10), ks=(5, 60))


def test_fewer_than_four_rows_are_refused():
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        compare_encoders(panel(10, n=3), ks=(1,))


def test_the_agreement_of_domains_is_that_of_their_pairs():
    matrix = np.array([[1, 0.6, np.nan], [0.6, 1, 0.4], [np.nan, 0.4, 1]], np.float32)
    found = domain_agreement(["sky", "sea", "land"], matrix, k=4)
    assert (found.median, found.min) == pytest.approx((0.5, 0.4))
    assert (found.min_pair, found.k) == (["sea", "land"], 4)
    assert domain_agreement(["sky"], matrix[:1, :1], k=4) is None
