"""Logistic regression against scikit-learn, Adam against a loop, and the choice of a strength."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from substrate_jax.analyses.probe.heads.adam import adam, balanced_batches
from substrate_jax.analyses.probe.heads.batch import make_batch
from substrate_jax.analyses.probe.heads.logistic import log_probabilities, logistic
from substrate_jax.analyses.probe.heads.ridge import ridge
from substrate_jax.analyses.probe.heads.tuning import averaged, by_folds
from tests.analyses.probe.data import case
from tests.helpers import relative_error, tolerance

STRENGTHS = (1e-3, 1e-1, 10.0)
TOLERANCE = 1e-8


def unit_rows(small, episode):
    """Rows as the head scales them, and what turns its weights into those for such rows."""
    x, codes = small.labeled(episode)
    mean = x.mean(axis=0)
    scale = np.sqrt(((x - mean) ** 2).sum(axis=1).mean())
    return (x - mean) / scale, codes, mean, scale


def value(z, codes, weight, bias, penalty):
    log = log_probabilities(z @ weight + bias)
    return -log[np.arange(len(z)), codes].sum() + penalty * (weight**2).sum() / 2


def gradient(z, codes, weight, bias, penalty):
    """Derivatives by W and b of the penalized sum of losses."""
    wrong = np.exp(log_probabilities(z @ weight + bias)) - np.eye(3)[codes]
    return np.r_[z.T @ wrong + penalty * weight, [wrong.sum(axis=0)]]


@pytest.fixture(scope="module", params=[(5, 20), (40, 4)], ids=["tall", "wide"])
def fitted(request):
    small = case(*request.param)
    return small, logistic(small.batch, STRENGTHS, tolerance=TOLERANCE)


def test_logistic_solutions_have_no_gradient_and_are_scikit_learns(fitted):
    small, found = fitted
    assert found.unsolved == 0
    for episode in range(2):
        z, codes, mean, scale = unit_rows(small, episode)
        for number, penalty in enumerate(STRENGTHS):
            raw = np.asarray(found.weight[number, episode])[: z.shape[1], :3]
            weight = raw * scale
            bias = np.asarray(found.bias[number, episode])[:3] + mean @ raw
            here = gradient(z, codes, weight, bias, penalty)
            # Besides the tolerance, the rounding of a sum of n terms.
            bound = TOLERANCE * len(z) + tolerance(len(z), np.float64, len(z))
            assert np.abs(here).max() < bound
            peer = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(z, codes)
            there = gradient(z, codes, peer.coef_.T, peer.intercept_, penalty)
            # Strong convexity in W: l |W - W'|^2 <= |g - g'| |(W, b) - (W', b')|.
            apart = np.r_[weight - peer.coef_.T, [bias - peer.intercept_]]
            apart[-1] -= apart[-1].mean()  # a constant that all classes share changes nothing
            slack = np.linalg.norm(here - there) * np.linalg.norm(apart)
            assert penalty * np.linalg.norm(apart[:-1]) ** 2 <= slack
            # Convexity: f(ours) - f(theirs) <= g . (ours - theirs), but for rounding of n terms.
            ahead = value(z, codes, weight, bias, penalty) - value(
                z, codes, peer.coef_.T, peer.intercept_, penalty
            )
            rounding = tolerance(len(z), np.float64, len(z))
            assert ahead <= np.linalg.norm(here) * np.linalg.norm(apart) + rounding


def test_logistic_scores_are_those_of_its_weights(fitted):
    small, found = fitted
    scores = found.of_test(small.batch)
    weight = np.asarray(found.weight)[:, :, : small.x.shape[1], :3]
    want = np.einsum("md,sedk->semk", small.judged, weight) + np.asarray(found.bias)[:, :, None, :3]
    assert relative_error(scores, want) < tolerance(small.x.shape[1], np.float64, 10)
    own = found.of_train(small.batch)[:, 1, : small.batch.rows]
    want = np.einsum("nd,sdk->snk", small.labeled(1)[0], weight[:, 1])
    want += np.asarray(found.bias)[:, 1, None, :3]
    assert relative_error(own, want) < tolerance(small.x.shape[1], np.float64, 10)


def test_fits_that_stop_early_are_counted(fitted):
    small, _ = fitted
    assert logistic(small.batch, STRENGTHS, tolerance=1e-8, passes=2).unsolved == 6


def test_adam_is_a_loop_of_its_steps(small):
    found = adam(small.batch, epochs=3, rows=9, seed=1)
    index = balanced_batches(small.batch, epochs=3, rows=9, seed=1)
    x, codes = small.labeled(1)
    w = first = second = np.zeros((x.shape[1], 3))
    for number, chosen in enumerate(index[:, 1], start=1):
        rows = chosen[chosen >= 0]
        wrong = np.exp(log_probabilities(x[rows] @ w)) - np.eye(3)[codes[rows]]
        slope = x[rows].T @ wrong / len(rows) + 1e-4 * w
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        w = w - 1e-3 * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    weight = np.asarray(found.weight)[0, 1, : x.shape[1], :3]
    # A step is a quotient of slopes; where they cancel, their rounding counts up to sqrt(1000).
    assert relative_error(weight, w) < tolerance(len(index) * len(x), np.float64, 1000)
    assert not np.asarray(found.bias).any()


def test_batches_are_balanced_and_an_epoch_sees_every_row_once(small):
    epochs, shots = 4, small.batch.rows // 3
    index = balanced_batches(small.batch, epochs=epochs, rows=9, seed=0)
    by_epoch = index.reshape(epochs, -1, *index.shape[1:])
    for episode, codes in enumerate(small.batch.codes):
        for batch in index[:, episode]:
            assert len(set(np.bincount(codes[batch[batch >= 0]], minlength=3))) == 1
        for one in by_epoch[:, :, episode]:
            assert sorted(one[one >= 0].tolist()) == list(range(3 * shots))
    assert not np.array_equal(by_epoch[0], by_epoch[1])


def test_a_strength_is_chosen_by_leaving_folds_out(small):
    strengths = (1.0, 1024.0, 1e9)
    found = by_folds(ridge, small.batch, strengths, folds=2, seed=3)
    scores = ridge(small.batch, strengths).of_test(small.batch)
    for episode in range(2):
        best = np.flatnonzero(found.accuracy[:, episode] == found.accuracy[:, episode].max())[-1]
        assert found.strength[episode] == strengths[best]
        np.testing.assert_allclose(found.scores[episode], scores[best, episode], atol=1e-12)
    assert (found.accuracy >= 0).all()
    assert (found.accuracy <= 1).all()


def test_the_accuracy_of_folds_is_of_fits_without_them():
    # One feature tells the classes apart but for one row, which is wrong when it is left out.
    x = np.array([[-1.0], [-1.1], [-0.9], [1.0], [1.1], [-1.2], [0.0]])
    codes = np.array([0, 0, 0, 1, 1, 1, 0])
    batch = make_batch(x, codes, np.arange(6)[None], np.array([6]))
    assert by_folds(ridge, batch, (1.0,), folds=3).accuracy.tolist() == [[5 / 6]]


def test_the_mean_is_of_probabilities_or_of_outputs(small):
    fit = logistic(small.batch, STRENGTHS)
    probabilities = np.exp(log_probabilities(fit.of_test(small.batch)))
    assert np.array_equal(averaged(fit, small.batch, probabilities=True), probabilities.mean(0))
    outputs = ridge(small.batch, (1.0, 4.0))
    want = outputs.of_test(small.batch).mean(axis=0)
    assert np.array_equal(averaged(outputs, small.batch, probabilities=False), want)


def test_what_cannot_be_tuned_or_balanced_is_refused(small):
    codes = small.batch.codes.copy()
    codes[0, np.flatnonzero(codes[0] == 0)[1:]] = -1
    one = dataclasses.replace(small.batch, codes=codes)
    with pytest.raises(ValueError, match="with 1 label of a class"):
        by_folds(ridge, one, (1.0,))
    with pytest.raises(ValueError, match="balanced batches need equally many"):
        adam(one)
    with pytest.raises(ValueError, match="folds must be at least 2, got 1"):
        by_folds(ridge, small.batch, (1.0,), folds=1)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        adam(small.batch, epochs=0)
