"""Rank agreement against scipy, choices against every order of ties, orders against small cases."""

import itertools

import numpy as np
import pytest
from scipy import stats

from substrate_jax.analyses.transferability import rankings
from substrate_jax.analyses.transferability.rankings import METRICS

# Sums of a few hundred products of small numbers.
ROUNDING = 1e-12


def pairs(seed: int, m: int, levels: int | None):
    rng = np.random.default_rng(seed)
    if levels is None:
        return rng.normal(size=m), rng.normal(size=m)
    return rng.integers(0, levels, m).astype(float), rng.integers(0, levels, m).astype(float)


@pytest.mark.parametrize("levels", [None, 12, 4, 2])
@pytest.mark.parametrize("m", [2, 3, 11, 40])
def test_correlations_are_those_of_scipy(m, levels):
    for seed in range(8):
        score, accuracy = pairs(seed, m, levels)
        if len(set(score)) == 1 or len(set(accuracy)) == 1:
            continue
        peers = {
            rankings.tau: stats.kendalltau,
            rankings.weighted_tau: stats.weightedtau,
            rankings.pearson: stats.pearsonr,
        }
        for ours, theirs in peers.items():
            assert abs(ours(score, accuracy) - theirs(score, accuracy)[0]) < ROUNDING


@pytest.mark.parametrize("name", METRICS)
def test_invariances(name):
    metric = METRICS[name].function
    score, accuracy = np.random.default_rng(0).normal(size=(2, 5, 9))
    accuracy += 10
    value = metric(score, accuracy)
    assert value.shape == (5,)
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(metric(score[:, order], accuracy[:, order]), value, atol=ROUNDING)
    np.testing.assert_allclose(metric(2 * score + 3, accuracy), value, atol=ROUNDING)
    each = [metric(s, a) for s, a in zip(score, accuracy, strict=True)]
    np.testing.assert_allclose(value, each, atol=ROUNDING)
    best = metric(accuracy, accuracy)
    np.testing.assert_allclose(best, 1 if METRICS[name].higher_is_better else 0, atol=ROUNDING)


@pytest.mark.parametrize("top", [1, 2, 3, 6, 9])
def test_a_choice_among_ties_is_a_random_one(top):
    for seed in range(6):
        score, accuracy = pairs(seed, 6, 3)
        accuracy = accuracy + np.linspace(0, 1, 6)
        best = [
            max(accuracy[i] for i in sorted(range(6), key=lambda i: (-score[i], order[i]))[:top])
            for order in itertools.permutations(range(6))
        ]
        want = accuracy.max() - np.mean(best)
        assert abs(rankings.regret(score, accuracy, top) - want) < ROUNDING
        want = np.mean(best) / accuracy.max()
        assert abs(rankings.relative(score, accuracy, top) - want) < ROUNDING


def test_chance_is_the_mean_over_all_orders():
    for name, metric in METRICS.items():
        # A correlation with accuracies that tie is 0 in size, but not quite on average.
        accuracy = np.array([90.0, 70, 70 if metric.of_a_choice else 71, 20, 50])
        values = [
            metric.function(np.array(order, float), accuracy)
            for order in itertools.permutations(range(5))
        ]
        assert abs(metric.by_chance(accuracy) - np.mean(values)) < ROUNDING, name


def test_constant_scores_and_models_not_to_be_chosen():
    accuracy = np.array([1.0, 2, 3, 4])
    for name in ("tau", "weighted_tau", "pearson"):
        assert np.isnan(METRICS[name].function(np.ones(4), accuracy))
        assert np.isnan(METRICS[name].function(accuracy, np.ones(4)))
    assert rankings.regret([-np.inf, 0, 0, -np.inf], accuracy) == 1.5
    assert np.isnan(rankings.relative([1, 2], [0, 0]))


def test_kendalls_w():
    rng = np.random.default_rng(0)
    one = rng.permutation(8).astype(float)
    assert rankings.concordance(np.stack([one, 2 * one, one**3], axis=1)) == 1
    assert rankings.concordance(np.stack([one, -one], axis=1)) == 0
    # W = (mean Spearman + 1 / (t - 1)) (t - 1) / t without ties; with ties too, corrected.
    for accuracy in (rng.normal(size=(7, 4)), rng.integers(0, 4, (7, 4)).astype(float)):
        spearman = stats.spearmanr(accuracy).statistic
        mean = spearman[np.triu_indices(4, 1)].mean()
        if len(np.unique(accuracy)) == accuracy.size:
            assert abs(rankings.concordance(accuracy) - (mean * 3 + 1) / 4) < ROUNDING
        else:  # against the Friedman statistic, which is t (m - 1) W
            chi = stats.friedmanchisquare(*accuracy).statistic
            assert abs(rankings.concordance(accuracy) - chi / (4 * 6)) < ROUNDING
    assert np.isnan(rankings.concordance(np.ones((3, 4))))
    assert np.isnan(rankings.concordance(np.ones((3, 1))))


def test_the_static_order_knows_nothing_of_its_target():
    accuracy = np.random.default_rng(0).normal(size=(6, 4))
    changed = accuracy.copy()
    changed[:, 2] = changed[::-1, 2]
    before, after = map(rankings.static_order, (accuracy, changed))
    np.testing.assert_array_equal(before[:, 2], after[:, 2])
    assert (before[:, 0] != after[:, 0]).any()
    with pytest.raises(ValueError, match="one target"):
        rankings.static_order(accuracy[:, :1])


def test_filtered_by_a_random_part_is_the_mean_over_all_parts():
    rng = np.random.default_rng(0)
    second, accuracy = rng.normal(size=(2, 3, 7))
    for share, size in ((0.25, 2), (0.5, 4), (1, 7), (0.01, 1)):
        want = [
            np.mean(
                [
                    a[max(part, key=lambda i, s=s: s[i])]
                    for part in itertools.combinations(range(7), size)
                ]
            )
            for s, a in zip(second, accuracy, strict=True)
        ]
        got = rankings.filtered_by_chance(second, accuracy, share)
        np.testing.assert_allclose(got, want, atol=ROUNDING)


def test_a_filter_keeps_the_best_of_its_first_score():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, 8))
    order = rankings.filtered(first, second, 0.25)
    for f, s, o in zip(first, second, order, strict=True):
        kept = np.argsort(-f)[:2]
        assert set(np.argsort(-o)[:2]) == set(kept)
        assert int(o.argmax()) == kept[s[kept].argmax()]
        rest = np.setdiff1d(np.arange(8), kept)
        assert (np.argsort(o[rest]) == np.argsort(s[rest])).all()
    np.testing.assert_array_equal(rankings.filtered(first, second, 1).argsort(), second.argsort())
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=f"share={share}"):
            rankings.filtered(first, second, share)
