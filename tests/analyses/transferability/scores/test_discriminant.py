"""SFDA and NCTI against the published algorithms with scikit-learn's analysis, in float64."""

import numpy as np
import pytest
from scipy import linalg
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from substrate_jax.analyses.transferability.scores.discriminant import (
    NctiTerms,
    ncti,
    ncti_terms,
    sfda,
)

from .data import SHAPES, target

# A shrinkage of 1e-10 leaves directions without spread within classes a condition of 1e10.
ROUNDING = 1e-5


def fisher(x, labels, shrinkage=None):
    """p(c | x) by generalized eigenvectors, as published; x [n d] float64."""
    classes = np.unique(labels)
    shares = np.array([np.mean(labels == code) for code in classes])
    means = np.stack([x[labels == code].mean(0) for code in classes])
    within = sum(
        share * np.cov(x[labels == code].T, bias=True)
        for share, code in zip(shares, classes, strict=True)
    )
    if shrinkage is None:
        shrinkage = max(np.exp(-5 * np.linalg.eigvalsh(within)[-1]), 1e-10)
    d = x.shape[1]

    def shrink(matrix):
        return (1 - shrinkage) * matrix + shrinkage * np.trace(matrix) / d * np.eye(d)

    _, vectors = linalg.eigh(shrink(np.cov(x.T, bias=True)) - shrink(within), shrink(within))
    coefficients = means @ vectors @ vectors.T
    scores = x @ coefficients.T - 0.5 * np.sum(means * coefficients, 1) + np.log(shares)
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True), means, shrinkage


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_sfda_is_the_published_algorithm(shape, scale):
    x, labels = target(*shape)
    x = scale * x.astype(np.float64)
    probabilities, means, shrinkage = fisher(x, labels)
    soft = np.exp(probabilities) / np.exp(probabilities).sum(1, keepdims=True)
    mixed = x.copy()
    for i, code in enumerate(labels):
        others = np.mean([means[k] for k in range(3) if k != code], axis=0)
        mixed[i] = soft[i, code] * x[i] + (1 - soft[i, code]) * others
    probabilities, _, _ = fisher(mixed, labels, shrinkage)
    want = probabilities[np.arange(len(x)), labels].mean()
    assert sfda(x, labels) == pytest.approx(want, rel=ROUNDING)


def published_terms(x, labels):
    """By scikit-learn's analysis; n must exceed the kept components and the classes."""
    classes = len(np.unique(labels))
    kept = min(64, x.shape[1], len(x) - classes)
    fitted = PCA(kept, svd_solver="full")
    low = fitted.fit_transform(x)
    shrinkage = np.exp(-fitted.explained_variance_[:32].sum())
    if shrinkage <= 1e-10:
        model = LinearDiscriminantAnalysis(solver="svd")
    else:
        model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=float(shrinkage))
    projected = model.fit_transform(low, labels)
    probabilities = model.predict_proba(low)
    norms = [np.linalg.norm(probabilities[labels == code], "nuc") for code in range(classes)]
    return (
        np.linalg.norm(projected - projected.mean(0), "nuc"),
        probabilities[np.arange(len(x)), labels].mean(),
        np.log(np.sum(norms)),
    )


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_terms_of_ncti_are_scikit_learns(shape, scale, classes):
    x, labels = target(*shape, classes=classes)
    x = scale * x.astype(np.float64)
    terms = ncti_terms(x, labels)
    got = terms.spread, terms.confidence, terms.collapse
    assert got == pytest.approx(published_terms(x, labels), rel=1e-6)


def test_ncti_scales_its_terms_over_the_panel():
    labels = target(*SHAPES[0])[1]
    panel = {str(i): target(*SHAPES[0], apart=apart)[0] for i, apart in enumerate([0.2, 1, 3])}
    terms = np.array([published_terms(x.astype(np.float64), labels) for x in panel.values()])
    scaled = (terms - terms.min(0)) / (terms.max(0) - terms.min(0))
    want = scaled[:, 0] + scaled[:, 1] - scaled[:, 2]
    assert ncti(panel, labels) == pytest.approx(want, abs=1e-5)
    constant = np.ones((60, 10), np.float32)
    with_constant = ncti({**panel, "constant": constant}, labels)
    assert with_constant[:3] == pytest.approx(want, abs=1e-5)
    assert np.isnan(with_constant[3])
    assert np.array_equal(ncti({"a": panel["0"], "b": panel["0"]}, labels), [0, 0])
    with pytest.raises(ValueError, match="at least 2 encoders, got 1"):
        ncti({"a": panel["0"]}, labels)


def test_rounding_is_no_term_of_ncti():
    """Encoders that tell all classes apart have equal terms, summed in any order."""
    labels = target(*SHAPES[0])[1]
    terms = {
        "a": NctiTerms(3.0, 1.0, 2.5),
        "b": NctiTerms(4.0, 1.0 - 2**-52, 2.5),
        "c": NctiTerms(5.0, 1.0, 2.5 + 2**-51),
    }
    assert ncti(terms, labels).tolist() == [0, 0.5, 1]


def test_invariances_of_sfda():
    x, labels = target(*SHAPES[0])
    x = x.astype(np.float64)
    value = sfda(x, labels)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(x))
    assert sfda(x[order], labels[order]) == pytest.approx(value, rel=ROUNDING)
    turn = np.linalg.qr(rng.normal(size=(x.shape[1],) * 2))[0]
    assert sfda(x @ turn + 5, labels) == pytest.approx(value, rel=ROUNDING)
    assert sfda(x, 7 - labels) == pytest.approx(value, rel=ROUNDING)
    assert sfda(x, rng.permutation(labels)) < value


def test_a_class_for_each_row_is_refused():
    x = target(*SHAPES[0])[0]
    for score in (sfda, ncti_terms):
        with pytest.raises(ValueError, match="labels have 60 classes in 60 rows"):
            score(x, np.arange(60))
