"""Metrics of abstention and calibration against scikit-learn, closed cases and enumeration."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from substrate_jax.analyses.detector import metrics
from substrate_jax.analyses.detector.calibration import BINS, calibration


def drawn(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(1, 1, 57), rng.normal(0, 1.5, 31)
    return (np.round(known), np.round(unknown)) if ties else (known, unknown)


CASES = list(itertools.product(range(4), (False, True)))


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_separation_is_that_of_scikit_learn(seed, ties):
    known, unknown = drawn(seed, ties)
    found = metrics.separation(known, unknown, np.ones(len(known), bool))
    truth = np.repeat([1, 0], [len(known), len(unknown)])
    both = np.concatenate([known, unknown])
    assert found.auroc.value == pytest.approx(sk.roc_auc_score(truth, both), abs=1e-12)
    assert found.aupr_in == pytest.approx(sk.average_precision_score(truth, both), abs=1e-12)
    assert found.aupr_out == pytest.approx(sk.average_precision_score(1 - truth, -both), abs=1e-12)
    fpr, tpr, _ = sk.roc_curve(truth, both, drop_intermediate=False)
    assert found.fpr95.value == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)


def test_scores_that_say_nothing_are_chance():
    found = metrics.separation(np.zeros(40), np.zeros(10), np.ones(40, bool))
    assert found.auroc.value == 0.5
    assert found.fpr95.value == 1
    assert (found.aupr_in, found.aupr_out) == (0.8, 0.2)
    assert found.aurc == pytest.approx(0.2)
    assert found.accuracy == pytest.approx([0.8] * len(metrics.COVERAGES))


def test_scores_that_say_all():
    right = np.ones(40, bool)
    found = metrics.separation(np.arange(40) + 1.0, -np.arange(10.0), right)
    assert (found.auroc.value, found.fpr95.value) == (1, 0)
    assert (found.aupr_in, found.aupr_out) == (1, 1)
    # Nothing is wrong among the first 40; then 1 of 41, 2 of 42, ... 10 of 50.
    assert found.aurc == pytest.approx(sum(k / (40 + k) for k in range(1, 11)) / 50)
    assert found.accuracy[-1] == 0.8


@pytest.mark.parametrize("scores", [[1, 1, 0, 0, 0], [2, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
def test_risk_of_rows_that_tie_is_the_mean_over_all_their_orders(scores):
    scores, wrong = np.array(scores, float), np.array([True, False, False, True, False])
    total, orders = np.zeros(5), 0
    for order in itertools.permutations(range(5)):
        order = np.array(order)
        if (np.diff(scores[order]) > 0).any():
            continue
        total += np.cumsum(wrong[order]) / np.arange(1, 6)
        orders += 1
    np.testing.assert_allclose(metrics.selective_risk(scores, wrong), total / orders, atol=1e-12)


def test_aurc_depends_on_the_order_alone():
    known, unknown = drawn(0, True)
    right = np.arange(len(known)) % 5 > 0
    first = metrics.separation(known, unknown, right)
    again = metrics.separation(known**3 + known, unknown**3 + unknown, right)
    assert again == first
    shuffled = np.random.default_rng(0).permutation(len(known))
    assert metrics.separation(known[shuffled], unknown[::-1], right[shuffled]).aurc == (
        pytest.approx(first.aurc, abs=1e-12)
    )


@pytest.mark.parametrize(("m", "n", "shift"), [(100, 50, 1.2), (40, 40, 2.5), (200, 30, 0.0)])
def test_intervals_of_auroc_hold_what_they_promise(m, n, shift):
    rng, draws = np.random.default_rng(0), 600
    true = stats.norm.cdf(shift / np.sqrt(2))
    covered = 0
    for _ in range(draws):
        value = metrics.auroc(rng.normal(shift, 1, m), rng.normal(0, 1, n))
        low, high = metrics.auroc_interval(value, m, n)
        covered += low <= true <= high
    # The method is approximate: Newcombe reports 94 to 97 %; four binomial errors below 94 %.
    assert covered / draws > 0.94 - 4 * np.sqrt(0.94 * 0.06 / draws)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (50, 50), (199, 200)])
def test_wilson_is_scipys(hits, n):
    found = metrics.wilson(hits, n)
    ends = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), abs=1e-12)


def test_shares_of_nothing_are_unknown():
    found = metrics.wilson(0, 0)
    assert np.isnan(found.value)
    assert (found.low, found.high) == (0, 1)


def test_paired_intervals_hold_what_they_promise():
    rng, draws, n = np.random.default_rng(0), 2000, 200
    cells = rng.multinomial(n, [0.90, 0.06, 0.02, 0.02], draws)  # both, one, the other, none
    covered = 0
    for both, one, other, none in cells:
        right = np.repeat([True, True, False, False], [both, one, other, none])
        against = np.repeat([True, False, True, False], [both, one, other, none])
        found = metrics.paired_difference(right, against)
        assert found.value == pytest.approx((one - other) / n)
        covered += found.low <= 0.04 <= found.high
    assert covered / draws > 0.95 - 4 * np.sqrt(0.95 * 0.05 / draws)


def test_means_over_few_units_have_no_interval():
    assert np.isnan(metrics.over_units([0.5, 0.7]).low)
    found = metrics.over_units([0.5, 0.7, 0.9])
    assert found.value == pytest.approx(0.7)
    assert 0.5 <= found.low < 0.7 < found.high <= 0.9


@pytest.mark.parametrize(
    ("known", "unknown", "message"),
    [([], [1.0], "known has no rows"), ([1.0], [], "unknown has no rows"),
     ([np.nan, 1.0], [0.0], "known holds NaN in 1 rows")],
)  # fmt: skip
def test_scores_that_cannot_be_compared(known, unknown, message):
    with pytest.raises(ValueError, match=message):
        metrics.separation(known, unknown, np.ones(len(known), bool))


def calibrated(n: int, seed: int, factor: float = 1.0):
    """Probabilities of three classes, and classes drawn from them sharpened by a factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    p, truth = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, factor * logits))
    codes = (rng.random(n)[:, None] > truth.cumsum(1)).sum(1)
    return p, np.minimum(codes, 2)


def test_calibration_error_is_that_of_its_definition():
    p, codes = calibrated(300, 0)
    found = calibration(p, codes)
    confidence, right = p.max(1), p.argmax(1) == codes
    edges = np.linspace(0, 1, BINS + 1)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        here = (confidence >= low) & ((confidence < high) | (high == 1))
        if here.any():
            total += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert found.ece == pytest.approx(total, abs=1e-12)
    assert found.log_loss == pytest.approx(sk.log_loss(codes, p), abs=1e-12)
    assert sum(one.rows for one in found.bins) == 300
    one_hot = np.eye(3)[codes]
    assert found.brier == pytest.approx(np.mean(np.sum((p - one_hot) ** 2, axis=1)))


def test_a_calibrated_model_is_within_chance_and_an_overconfident_one_is_not():
    inside = sum(
        (found := calibration(*calibrated(200, seed), draws=200)).ece <= found.ece_most_by_chance
        for seed in range(100)
    )
    assert inside > 95 - 4 * np.sqrt(100 * 0.05 * 0.95)
    found = calibration(*calibrated(2000, 0, factor=0.4))
    assert found.ece > 3 * found.ece_most_by_chance


def test_certain_answers_lie_in_the_last_bin():
    found = calibration(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 0]))
    assert found.ece == found.ece_by_chance == 0
    assert found.bins[0].rows == 2
    with pytest.raises(ValueError, match="give one each"):
        calibration(np.zeros((0, 2)), np.zeros(0, int))
