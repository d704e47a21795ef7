"""Scores with a formula in few lines: each against that formula in other algebra, in float64."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from substrate_jax.analyses.transferability.scores.bhattacharyya import gbc
from substrate_jax.analyses.transferability.scores.coding_rate import transrate
from substrate_jax.analyses.transferability.scores.energy import energy
from substrate_jax.analyses.transferability.scores.h_score import h_score, shrunk_h_score
from substrate_jax.analyses.transferability.scores.source_head import leep, nce

from .data import SHAPES, target

ROUNDING = 1e-9  # float64 sums of 60 terms through inverses of condition up to 1e6


def between(x, labels):
    means = np.stack([x[labels == code].mean(0) for code in np.unique(labels)])
    return np.cov(means[labels].T, bias=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_h_score_is_a_trace(shape):
    x, labels = target(*shape)
    x = x.astype(np.float64)
    want = np.trace(np.linalg.pinv(np.cov(x.T, bias=True), rcond=1e-12) @ between(x, labels))
    assert h_score(x.astype(np.float32), labels) == pytest.approx(want, rel=ROUNDING)


def test_h_score_is_the_sum_of_squared_canonical_correlations():
    x, labels = target(*SHAPES[0])
    y = np.eye(3)[labels][:, :2]
    first, second = CCA(n_components=2, tol=1e-12, max_iter=10_000).fit_transform(x, y)
    correlations = [np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(2)]
    assert h_score(x, labels) == pytest.approx(np.sum(np.square(correlations)), rel=1e-6)


def test_h_score_ignores_affine_maps_and_duplicated_columns():
    x, labels = target(*SHAPES[0])
    value = h_score(x, labels)
    turn = np.random.default_rng(1).normal(size=(x.shape[1],) * 2)
    assert h_score(x.astype(np.float64) @ turn + 5, labels) == pytest.approx(value, rel=ROUNDING)
    assert h_score(np.concatenate([x, x], axis=1), labels) == pytest.approx(value, rel=ROUNDING)


def test_h_score_says_nothing_for_fewer_rows_than_features():
    x, labels = target(*SHAPES[2])
    shuffled = np.random.default_rng(0).permutation(labels)
    assert h_score(x, labels) == pytest.approx(2, rel=ROUNDING)
    assert h_score(x, shuffled) == pytest.approx(2, rel=ROUNDING)


@pytest.mark.parametrize("shape", SHAPES)
def test_shrunk_h_score_uses_the_estimate_of_ledoit_and_wolf(shape):
    x, labels = target(*shape)
    x = x.astype(np.float64)
    fitted = LedoitWolf().fit(x)
    inverse = np.linalg.inv(fitted.covariance_)
    want = (1 - fitted.shrinkage_) * np.trace(inverse @ between(x, labels))
    assert 0 < fitted.shrinkage_ < 1
    assert shrunk_h_score(x.astype(np.float32), labels) == pytest.approx(want, rel=ROUNDING)


def coefficient(a, b, spherical):
    """exp(-D) of two sets of rows by dense matrices."""

    def covariance(rows):
        variances = np.maximum(rows.var(0), 1e-4)
        return np.eye(rows.shape[1]) * (variances.mean() if spherical else variances)

    first, second = covariance(a), covariance(b)
    middle, gap = (first + second) / 2, a.mean(0) - b.mean(0)
    logs = [np.linalg.slogdet(each)[1] for each in (middle, first, second)]
    return np.exp(
        -gap @ np.linalg.solve(middle, gap) / 8 - (logs[0] - logs[1] / 2 - logs[2] / 2) / 2
    )


@pytest.mark.parametrize("covariance", ["spherical", "diagonal"])
@pytest.mark.parametrize("components", [64, 4, None])
@pytest.mark.parametrize("shape", SHAPES)
def test_gbc_is_the_sum_of_bhattacharyya_coefficients(covariance, components, shape):
    x, labels = target(*shape)
    reduced = x.astype(np.float64)
    if components is not None:
        rank = min(len(x) - 1, x.shape[1])
        reduced = PCA(min(components, rank), svd_solver="full").fit_transform(reduced)
    parts = [reduced[labels == code] for code in range(3)]
    want = -sum(
        coefficient(a, b, covariance == "spherical") for a, b in itertools.permutations(parts, 2)
    )
    got = gbc(x, labels, covariance=covariance, components=components)
    assert got == pytest.approx(want, rel=ROUNDING)


def rate(x, eps=1e-4):
    return 0.5 * np.linalg.slogdet(np.eye(x.shape[1]) + x.T @ x / (len(x) * eps))[1]


@pytest.mark.parametrize("shape", [*SHAPES, (60, 4)])
def test_transrate_is_a_difference_of_coding_rates(shape):
    x, labels = target(*shape)
    labels = np.where(labels == 2, 1, labels)  # classes of unequal size
    centered = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    want = rate(centered) - sum(
        np.mean(labels == code) * rate(centered[labels == code]) for code in (0, 1)
    )
    assert transrate(x, labels) == pytest.approx(want, rel=ROUNDING)


@pytest.mark.parametrize("score", [h_score, shrunk_h_score, gbc, transrate])
def test_order_of_rows_turns_and_names_of_classes_do_not_matter(score):
    x, labels = target(*SHAPES[0])
    value = score(x, labels)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(x))
    assert score(x[order], labels[order]) == pytest.approx(value, rel=ROUNDING)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    assert score(x.astype(np.float64) @ turn + 5, labels) == pytest.approx(value, rel=ROUNDING)
    assert score(x, 7 - labels) == pytest.approx(value, rel=ROUNDING)
    assert score(x, rng.permutation(labels)) < value


@pytest.mark.parametrize("lowest", [1.0, 0.1])
def test_energy_is_a_mean_of_log_sum_exp(lowest):
    x, labels = target(*SHAPES[0])
    values = np.sort(logsumexp(x.astype(np.float64), axis=1))[: int(60 * lowest)]
    assert energy(x, labels, lowest=lowest) == pytest.approx(values.mean(), rel=1e-12)


def test_leep_and_nce_are_conditional_likelihoods():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), size=40)
    labels = rng.integers(3, size=40)
    want, certain = 0.0, 0.0
    z = p.argmax(1)
    for i, y in enumerate(labels):
        total = sum(p[i, k] * p[labels == y, k].sum() / p[:, k].sum() for k in range(5))
        want += np.log(total) / 40
        certain += np.log(np.mean(labels[z == z[i]] == y)) / 40
    assert leep(p, labels) == pytest.approx(want, rel=1e-12)
    assert nce(p, labels) == pytest.approx(certain, rel=1e-12)


def test_probabilities_are_checked():
    with pytest.raises(ValueError, match=r"sum of 2: take the softmax"):
        leep(np.full((4, 4), 0.5), [0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"least of -0.5"):
        nce(np.tile([1.5, -0.5], (4, 1)), [0, 0, 1, 1])
