"""LogME against a dense Gaussian evidence in float64, and a slow MacKay iteration."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from substrate_jax.analyses.transferability.scores.coordinates import principal_coordinates
from substrate_jax.analyses.transferability.scores.evidence import class_evidence, logme

from .data import SHAPES, target


def dense(x, y, alpha, beta):
    """log N(y; 0, I / beta + X X' / alpha) per row."""
    x = np.asarray(x, np.float64)
    covariance = np.eye(len(y)) / beta + x @ x.T / alpha
    return multivariate_normal(np.zeros(len(y)), covariance).logpdf(y) / len(y)


def mackay(x, y, steps):
    """Alpha and beta by the plain iteration with matrices of d by d."""
    x = np.asarray(x, np.float64)
    n, d = x.shape
    alpha = beta = 1.0
    for _ in range(steps):
        inverse = np.linalg.inv(alpha * np.eye(d) + beta * x.T @ x)
        w = beta * inverse @ x.T @ y
        gamma = d - alpha * np.trace(inverse)
        alpha, beta = gamma / (w @ w), (n - gamma) / np.sum((y - x @ w) ** 2)
    return alpha, beta


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 30.0])
def test_evidence_is_that_of_the_dense_gaussian(shape, mean):
    x, labels = target(*shape)
    x = x + np.float32(mean)
    found = class_evidence(x, labels)
    for code, (value, alpha, beta) in enumerate(
        zip(found.log_evidence, found.alpha, found.beta, strict=True)
    ):
        y = (labels == code).astype(float)
        noise = min(beta, 1e6 * alpha)  # for one that is infinite
        # Condition of the covariance: 60 * 30^2 * 60 features / 1e-6 at most; and the share of the
        # noise that is not infinite.
        assert dense(x, y, alpha, noise) == pytest.approx(value, abs=3e-4 if beta > noise else 1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_precisions_are_a_stationary_maximum(shape):
    x, labels = target(*shape)
    found = class_evidence(x, labels)
    for code, (value, alpha, beta) in enumerate(
        zip(found.log_evidence, found.alpha, found.beta, strict=True)
    ):
        y = (labels == code).astype(float)
        if np.isinf(beta):  # at the boundary: the less noise, the better
            noises = alpha * np.array([1e2, 1e3, 1e4])
            rising = [dense(x, y, alpha, noise) for noise in noises]
            assert rising == sorted(rising)
            assert rising[-1] < value
            continue
        step = 1e-2
        around = [
            dense(x, y, alpha * np.exp(a * step), beta * np.exp(b * step))
            for a, b in [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)]
        ]
        assert max(around) < value
        # Central differences: the odd part is the gradient, and of order step^3 where it is zero.
        assert abs(around[0] - around[1]) < step**3
        assert abs(around[2] - around[3]) < step**3


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[1]])
def test_it_is_where_the_published_iteration_goes(shape):
    x, labels = target(*shape)
    found = class_evidence(x, labels)
    for code in range(3):
        alpha, beta = mackay(x, (labels == code).astype(float), 300)
        assert found.alpha[code] == pytest.approx(alpha, rel=1e-6)
        assert found.beta[code] == pytest.approx(beta, rel=1e-6)


def test_unexplained_labels_prefer_no_weights():
    # Two classes of the same rows: nothing but the share of a class to be explained, and centered
    # features cannot even explain that.
    x = np.random.default_rng(0).normal(size=(20, 3))
    x = np.concatenate([x, -x])
    labels = np.tile([0, 1], 20)[np.argsort(np.tile(np.arange(20), 2), kind="stable")]
    labels = np.concatenate([np.arange(20) % 2, np.arange(20) % 2])
    found = class_evidence(np.concatenate([x, x]), np.concatenate([labels, 1 - labels]))
    assert np.all(np.isinf(found.alpha))
    assert np.allclose(found.log_evidence, -0.5 * (np.log(2 * np.pi * 0.5) + 1), atol=1e-12)


def test_labels_that_are_a_linear_function_have_no_largest_evidence():
    labels = np.arange(30) % 3
    assert logme(np.eye(3, dtype=np.float32)[labels], labels) == np.inf


def test_invariances():
    x, labels = target(*SHAPES[0])
    value = logme(x, labels)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(x))
    assert logme(x[order], labels[order]) == pytest.approx(value, rel=1e-12)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    assert logme(x.astype(np.float64) @ turn, labels) == pytest.approx(value, rel=1e-12)
    assert logme(3.0 * x, labels) == pytest.approx(value, rel=1e-5)
    assert logme(x, 7 - labels) == pytest.approx(value, rel=1e-12)
    assert logme(principal_coordinates(x), labels) == value
