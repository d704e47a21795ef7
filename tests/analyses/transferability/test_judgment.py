"""Judgments: intervals that cover, paired differences, models left out, and bad tables."""

import itertools

import numpy as np
import pytest

from substrate_jax.analyses.transferability.judgment import STATIC, judge, least_tau
from substrate_jax.analyses.transferability.rankings import METRICS, tau

ROUNDING = 1e-12
MODELS, TARGETS = "abcdefgh", "vwxyz"


def table(seed: int = 0, noise: float = 1.0):
    """Accuracies with a common order of models, and a score that follows them with noise."""
    rng = np.random.default_rng(seed)
    accuracy = 80 + np.arange(8)[:, None] + rng.normal(size=(8, 5))
    return accuracy, accuracy + noise * rng.normal(size=(8, 5))


@pytest.fixture(scope="module")
def found():
    accuracy, score = table()
    scores = {"same": accuracy, "noisy": score, "opposite": -accuracy}
    families = ["f", "f", "f", "g", "g", "g", "g", "h"]
    return judge(accuracy, scores, models=MODELS, targets=TARGETS, families=families, draws=200)


def row(found, name, metric="tau"):
    return found.scores.index(name), found.metrics.index(metric)


def test_values(found):
    assert found.scores == ("same", "noisy", "opposite", STATIC)
    assert found.value[row(found, "same")] == 1
    assert found.value[row(found, "opposite")] == -1
    assert found.value[row(found, "same", "regret_1")] == 0
    accuracy, score = table()
    for name, metric in METRICS.items():
        want = [metric.function(score[:, t], accuracy[:, t]) for t in range(5)]
        at = row(found, "noisy", name)
        np.testing.assert_allclose(found.per_target[at], want, atol=ROUNDING)
        assert abs(found.value[at] - np.mean(want)) < ROUNDING
        at_static = row(found, STATIC, name)
        assert abs(found.lead[at] - (found.value[at] - found.value[at_static])) < ROUNDING
    assert found.concordance > 0.7


def test_differences_are_paired(found):
    for interval in (found.lead_over_targets, found.lead_over_models):
        at = row(found, STATIC)
        assert interval.low[at] == interval.high[at] == 0
    # The order of `same` is right in every resample, whatever the models or targets.
    at = row(found, "same")
    assert found.over_targets.low[at] == found.over_targets.high[at] == 1
    assert found.over_models.low[at] == found.over_models.high[at] == 1
    assert (found.over_models.low <= found.over_models.high).all()


def test_models_left_out_and_families(found):
    accuracy, score = table()
    at = row(found, "noisy")
    for i in range(8):
        want = [tau(np.delete(score[:, t], i), np.delete(accuracy[:, t], i)) for t in range(5)]
        assert abs(found.without_model[at][i] - np.mean(want)) < ROUNDING
    parts = [slice(0, 3), slice(3, 7)]  # the third family is a single model
    want = [tau(score[part, t], accuracy[part, t]) for part in parts for t in range(5)]
    assert abs(found.within_families[at] - np.mean(want)) < ROUNDING


def test_intervals_over_targets_cover_the_mean_of_all_targets():
    """The bootstrap's mean of 95 % intervals of 12 targets holds the mean of 4,000 of them."""
    rng = np.random.default_rng(0)

    def draw(t):
        accuracy = rng.normal(size=(4, t))
        return accuracy, accuracy + rng.normal(size=(4, t))

    def interval():
        accuracy, score = draw(12)
        found = judge(
            accuracy, {"s": score}, models="abcd", targets=range(12), metrics=["tau"], draws=300
        )
        return found.over_targets.low[0, 0], found.over_targets.high[0, 0]

    accuracy, score = draw(40_000)
    truth = tau(score.T, accuracy.T).mean()
    held = sum(low <= truth <= high for low, high in (interval() for _ in range(120)))
    # The percentile bootstrap of 12 values covers some 91 to 92 % (its width lacks the factor
    # sqrt(12 / 11) and Student's tail); three binomial errors of 120 below that is 83 %.
    assert 0.83 * 120 <= held <= 120


def test_the_least_tau_is_that_of_all_orders():
    accuracy, _ = table()
    few = accuracy[:6]
    sizes = [
        abs(np.mean([tau(np.array(order), few[:, t]) for t in range(5)]))
        for order in itertools.permutations(range(6))
    ]
    found = least_tau(few)
    # Share of all orders beyond it: 5 %, with the error of 4,000 draws.
    beyond = np.mean(np.array(sizes) > found + ROUNDING)
    assert beyond <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    at_least = np.mean(np.array(sizes) >= found - ROUNDING)
    assert at_least >= 0.05 - 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_one_target_has_no_static_order():
    accuracy, score = table()
    found = judge(accuracy[:, :1], {"s": score[:, :1]}, models=MODELS, targets="v", draws=20)
    assert found.scores == ("s",)
    assert found.lead is found.lead_over_models is found.over_targets is found.concordance is None
    assert found.over_models is not None


def test_few_models_have_no_intervals():
    accuracy, score = table()
    found = judge(accuracy[:3], {"s": score[:3]}, models="abc", targets=TARGETS, draws=20)
    assert found.over_models is found.without_model is found.within_families is None
    assert found.over_targets is not None


def test_same_seed_same_intervals():
    accuracy, score = table()
    one, two, three = (
        judge(accuracy, {"s": score}, models=MODELS, targets=TARGETS, draws=50, seed=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.over_models.low, two.over_models.low)
    assert (one.over_models.low != three.over_models.low).any()


BAD = {
    "a missing cell": ({"s": np.where(np.eye(8, 5) > 0, np.nan, 1)}, {}, r"s of a on v .*5 such"),
    "another shape": ({"s": np.ones((5, 8))}, {}, r"s has shape \[5, 8\] for 8 models"),
    "an unknown metric": ({}, {"metrics": ["mrr"]}, "unknown metric 'mrr'.*weighted_tau"),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case):
    scores, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        judge(table()[0], scores, models=MODELS, targets=TARGETS, **options)


def test_two_models_are_refused():
    with pytest.raises(ValueError, match=r"2 models .*3 or more"):
        judge(np.ones((2, 3)), {}, models="ab", targets="xyz")
