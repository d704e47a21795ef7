"""Closed-form heads and neighbors against scikit-learn and NumPy."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from substrate_jax.analyses.probe.heads.batch import make_batch
from substrate_jax.analyses.probe.heads.class_means import (
    discriminant,
    ledoit_wolf_shares,
    nearest_mean,
)
from substrate_jax.analyses.probe.heads.neighbors import nearest_neighbors
from substrate_jax.analyses.probe.heads.ridge import BIAS, ridge
from tests.helpers import relative_error, tolerance


def differences(scores):
    """Scores less those of the first class: what a constant of each row leaves."""
    return scores[..., 1:] - scores[..., :1]


def test_ridge_is_the_solution_of_the_normal_equations(small):
    strengths = (1.0, 1024.0)
    found = ridge(small.batch, strengths).of_test(small.batch)
    assert found.shape == (2, 2, len(small.judged), 3)
    for episode in range(2):
        x, codes = small.labeled(episode)
        mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-5
        z, judged = ((rows - mean) / deviation for rows in (x, small.judged))
        z, judged = (np.c_[rows, np.full(len(rows), BIAS)] for rows in (z, judged))
        for number, penalty in enumerate(strengths):
            gram = z.T @ z + penalty * np.eye(z.shape[1])
            w = np.linalg.solve(gram, z.T @ (2 * np.eye(3)[codes] - 1))
            # Solving loses the condition of the matrix, at most its trace over l.
            bound = tolerance(z.shape[1], np.float64, np.trace(gram) / penalty)
            assert relative_error(found[number, episode], judged @ w) < bound


def test_nearest_mean_is_scikit_learns_and_halves_squared_distances(small):
    found = nearest_mean(small.batch).of_test(small.batch)[0]
    for episode in range(2):
        x, codes = small.labeled(episode)
        peer = NearestCentroid().fit(x, codes)
        assert np.array_equal(found[episode].argmax(axis=1), peer.predict(small.judged))
        distances = ((small.judged[:, None] - peer.centroids_[None]) ** 2).sum(axis=2)
        bound = tolerance(x.shape[1], np.float64, (small.x**2).sum(axis=1).max())
        assert np.abs(differences(found[episode]) + differences(distances) / 2).max() < bound


@pytest.mark.parametrize("share", [0.1, None])
def test_discriminant_is_scikit_learns(small, share):
    found = discriminant(small.batch, share).of_test(small.batch)[0]
    for episode in range(2):
        x, codes = small.labeled(episode)
        used = share
        if share is None:
            means = np.stack([x[codes == code].mean(axis=0) for code in range(3)])
            residual = x - means[codes]
            used = ledoit_wolf_shrinkage(residual, assume_centered=True)
            # A quotient of differences of sums of n d^2 terms.
            bound = tolerance(residual.size, np.float64, 10 / used)
            assert ledoit_wolf_shares(small.batch)[episode] == pytest.approx(used, rel=bound)
        peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=used).fit(x, codes)
        want = differences(peer.decision_function(small.judged))
        # Condition of the shrunk covariance, at most d / a.
        bound = tolerance(x.size, np.float64, 10 * x.shape[1] / used)
        assert relative_error(differences(found[episode]), want) < bound


def test_one_label_per_class_makes_the_discriminant_nearest_mean(small):
    drawn = small.drawn
    train = np.stack([np.flatnonzero(drawn.codes == code)[:1] for code in range(3)], axis=1)
    batch = make_batch(small.x, drawn.codes, train, drawn.test)
    scores = [differences(head(batch).of_test(batch)) for head in (discriminant, nearest_mean)]
    bound = tolerance(small.x.shape[1], np.float64, (small.x**2).sum(axis=1).max())
    assert np.abs(np.subtract(*scores)).max() < bound


def test_parallel_residuals_of_one_length_are_told_apart():
    x = np.array([[0.0, 0], [0, 2], [3, 0], [3, 2], [0, 1], [3, 1]])
    batch = make_batch(x, np.array([0, 0, 1, 1, 0, 1]), np.array([[0, 1, 2, 3]]), np.array([4, 5]))
    assert ledoit_wolf_shares(batch).tolist() == [0.0]
    assert discriminant(batch).of_test(batch)[0, 0].argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("k", [1, 7])
def test_neighbors_are_scikit_learns(small, k):
    found = nearest_neighbors(small.batch, k)
    for episode in range(2):
        x, codes = small.labeled(episode)
        peer = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
        peer.set_params(weights=lambda far: np.exp((1 - far) / 0.07)).fit(x, codes)
        # exp(s / T) turns an absolute error of s into a relative one, 1 / T times as large.
        bound = tolerance(x.shape[1], np.float64, 2 / 0.07)
        assert np.abs(found[episode] - peer.predict_proba(small.judged)).max() < bound


def test_more_neighbors_than_rows_are_all_rows(small):
    most = nearest_neighbors(small.batch, 10_000)
    assert np.abs(most.sum(axis=2) - 1).max() < tolerance(60, np.float64)
    assert np.array_equal(most, nearest_neighbors(small.batch, small.batch.rows))


@pytest.mark.parametrize(
    "head", [ridge, nearest_mean, discriminant], ids=lambda head: head.__name__
)
def test_constant_features_favor_no_class(head):
    codes = np.arange(12) % 3
    batch = make_batch(np.full((12, 4), 7.0), codes, np.arange(6)[None], np.arange(6, 12))
    scores = head(batch).of_test(batch)
    assert np.isfinite(scores).all()
    assert np.abs(differences(scores)).max() < tolerance(12, np.float64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda batch: ridge(batch, ()), "strengths must be positive numbers"),
        (lambda batch: ridge(batch, (0.0,)), "strengths must be positive numbers"),
        (lambda batch: discriminant(batch, 0.0), "shrinkage must lie in"),
        (lambda batch: nearest_neighbors(batch, 0), "k must be at least 1, got 0"),
        (lambda batch: nearest_neighbors(batch, 1, 0.0), "temperature must be positive"),
    ],
)
def test_options_out_of_range_are_refused(small, call, words):
    with pytest.raises(ValueError, match=words):
        call(small.batch)


@pytest.mark.parametrize(
    ("features", "codes", "train", "test", "words"),
    [
        (np.eye(4), [0, 1, 0, 1], [[0, 2]], [1], "train has no row of class 1 in episode 0"),
        (np.eye(4), [0, 0, 0, 0], [[0, 2]], [1], "one class only"),
        (np.eye(4), [0, 1], [[0, 1]], [1], "codes have shape"),
        (np.eye(4), [0, 1, 0, 1], [[0, 1]], [], "test has no rows"),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], [[0, 1]], [2], "features"),
    ],
)
def test_what_makes_no_batch_is_refused(features, codes, train, test, words):
    with pytest.raises(ValueError, match=words):
        make_batch(features, *(np.array(part, int) for part in (codes, train, test)))
