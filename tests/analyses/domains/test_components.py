"""Correlations of components with image features against SciPy, and the images at their ends."""

import numpy as np
import pytest
from scipy import stats

from substrate_jax.analyses.domains.components import (
    ENERGY,
    NAMES,
    correlate_components,
    extreme_rows,
)
from substrate_jax.features.handcrafted import FEATURE_NAMES
from tests.helpers import tolerance

N, K = 40, 3
CONSTANT = FEATURE_NAMES.index("hue mean")


@pytest.fixture(scope="module")
def example():
    """Scores that are mixed into the energy and one feature, and a feature that is constant."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(N, K)).astype(np.float32)
    pixels = rng.uniform(size=(N, 12)).astype(np.float32)
    # With component 1 the energy goes more closely than any feature with any component.
    pixels *= np.exp(0.2 * scores[:, :1] + 0.4 * scores[:, 1:2]) / 4
    handcrafted = rng.normal(size=(N, 59)).astype(np.float32)
    handcrafted[:, 5] = 3 - 0.01 * scores[:, 2] + 0.01 * handcrafted[:, 5]
    handcrafted[:, CONSTANT] = 0.3
    return scores, {"pixels": pixels, "handcrafted": handcrafted}


@pytest.fixture(scope="module")
def found(example):
    return correlate_components(*example, level=0.9)


def test_correlations_are_those_of_scipy(example, found):
    scores, images = example
    energy = (images["pixels"].astype(np.float64) ** 2).mean(1)
    features = np.column_stack([images["handcrafted"].astype(np.float64), energy])
    assert found.features == NAMES == (*FEATURE_NAMES, ENERGY)
    for i in range(K):
        for j in set(range(60)) - {CONSTANT}:
            want = stats.pearsonr(scores[:, i].astype(np.float64), features[:, j])
            interval = want.confidence_interval(0.9)
            for key, value in (
                ("correlation", want.statistic),
                ("low", interval.low),
                ("high", interval.high),
                ("p_value", want.pvalue),
            ):
                assert getattr(found, key)[i, j] == pytest.approx(value, rel=1e-9, abs=1e-12), key


def test_constant_features_have_no_correlation_and_are_no_hypotheses(found):
    for key in ("correlation", "low", "high", "p_value", "q_value"):
        assert np.isnan(getattr(found, key)).sum() == K
        assert np.isnan(getattr(found, key)[:, CONSTANT]).all()
    family = np.isfinite(found.p_value)
    want = stats.false_discovery_control(found.p_value[family])
    # q is computed in float32, from p-values rounded to it.
    np.testing.assert_allclose(found.q_value[family], want, rtol=tolerance(1))


def test_summary_names_what_stands_out(found):
    assert found.energy_of_first == found.correlation[0, -1] > 0.3
    largest = found.largest_of_others
    assert (largest.component, largest.feature) == (2, FEATURE_NAMES[5])
    assert largest.correlation == found.correlation[2, 5] < -0.6
    assert found.correlation[1, -1] > -largest.correlation


def test_signs_follow_the_component_and_scale_does_not_matter(example, found):
    scores, images = example
    moved = {name: 100 * block + 7 for name, block in images.items()}
    moved["pixels"] = images["pixels"]
    turned = correlate_components(-3 * scores + 5, moved, level=0.9)
    # The shift rounds the features to 1e-5 of their deviation.
    np.testing.assert_allclose(turned.correlation, -found.correlation, atol=1e-4)
    np.testing.assert_allclose(turned.low, -found.high, atol=1e-4)


def test_perfect_correlation_and_lone_components():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(N, 1))
    images = {"pixels": np.full((N, 3), 0.5), "handcrafted": np.zeros((N, 59))}
    assert np.isnan(correlate_components(scores, images).energy_of_first)
    assert correlate_components(np.tile(scores, 2), images).largest_of_others is None
    images["handcrafted"][:, 0] = 2 * scores[:, 0]
    found = correlate_components(scores, images)
    assert found.largest_of_others is None
    assert found.correlation[0, 0] == pytest.approx(1)
    assert found.high[0, 0] == pytest.approx(1)
    assert found.p_value[0, 0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "level", "message"),
    [
        (lambda scores, images: (scores[:3], {k: v[:3] for k, v in images.items()}), 0.9, "4 or"),
        (lambda scores, images: (scores[:9], images), 0.9, "scores have 9 rows, features 40"),
        (lambda scores, images: (np.where(scores > 2, np.nan, scores), images), 0.9, "NaN or inf"),
        (lambda scores, images: (scores, images), 1.0, "level must lie"),
    ],
)
def test_bad_input_is_refused(example, change, level, message):
    scores, images = change(*example)
    with pytest.raises(ValueError, match=message):
        correlate_components(scores, images, level=level)


def test_extreme_rows_are_the_ends_of_a_sorted_list():
    scores = np.random.default_rng(2).normal(size=(20, K))
    top, bottom = extreme_rows(scores, 4)
    order = np.argsort(scores, axis=0)
    np.testing.assert_array_equal(top, order[::-1][:4].T)
    np.testing.assert_array_equal(bottom, order[:4].T)


def test_no_row_is_at_both_ends_and_ties_go_by_row():
    top, bottom = extreme_rows(np.zeros((5, 1)), 9)
    assert top.tolist() == [[0, 1]]
    assert bottom.tolist() == [[4, 3]]
    with pytest.raises(ValueError, match="count=0"):
        extreme_rows(np.zeros((5, 1)), 0)
