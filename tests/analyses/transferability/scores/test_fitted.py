"""NLEEP and the probe against scikit-learn's mixture and ridge, fitted in full."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.mixture import GaussianMixture

from substrate_jax.analyses.transferability.scores import mixture
from substrate_jax.analyses.transferability.scores.coordinates import principal_coordinates
from substrate_jax.analyses.transferability.scores.inputs import classes_of
from substrate_jax.analyses.transferability.scores.probe import (
    STRENGTHS,
    cross_validate,
    probe_accuracy,
    stratified_folds,
)
from substrate_jax.analyses.transferability.scores.source_head import leep

from .data import SHAPES, target


@pytest.mark.parametrize("shape", SHAPES)
def test_nleep_is_leep_of_scikit_learns_mixture(shape, monkeypatch):
    x, labels = target(*shape)
    found = principal_coordinates(x)
    seeds = []

    def spy(*arguments, **options):
        seeds.append(start(*arguments, **options))
        return seeds[-1]

    start = mixture._start
    monkeypatch.setattr(mixture, "_start", spy)
    got = mixture.nleep(found, labels, components_per_class=2)
    members = np.asarray(seeds[0])[: len(x), :6]
    assert np.array_equal(members.sum(1), np.ones(len(x)))
    rows, kept = mixture.leading_energy(found, 0.8)
    rows = np.asarray(rows)[: len(x), :kept]
    variances = np.asarray(found.squares)
    assert variances[:kept].sum() >= 0.8 * variances.sum() > variances[: kept - 1].sum()

    class Same(GaussianMixture):
        def _initialize_parameters(self, X, random_state, xp=None):
            self._initialize(X, members)

    probabilities = Same(6).fit(rows).predict_proba(rows)
    # scikit-learn's own bound of the same iteration; the variances added are 1e-6 of the rest.
    assert got == pytest.approx(leep(probabilities, labels), abs=1e-6)


def test_clusters_are_those_of_well_separated_groups():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    x = 100 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    assert mixture.nleep(x, labels, components_per_class=1) == pytest.approx(0, abs=1e-9)
    assert mixture.nleep(x, labels % 2, components_per_class=2, seed=3) == pytest.approx(
        0, abs=1e-9
    )


def test_nleep_does_not_depend_on_axes_or_names():
    x, labels = target(*SHAPES[0])
    x = x.astype(np.float64)
    value = mixture.nleep(x, labels, components_per_class=2)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    assert mixture.nleep(x @ turn + 5, labels, components_per_class=2) == pytest.approx(value, 1e-6)
    assert mixture.nleep(x, 7 - labels, components_per_class=2) == pytest.approx(value, 1e-9)
    assert mixture.nleep(x, labels, components_per_class=2, seed=1) != value


def test_more_components_than_rows_are_refused():
    x, labels = target(*SHAPES[2], classes=5)
    with pytest.raises(ValueError, match=r"1..24 components for 24 rows, got 5 for 5 classes"):
        mixture.nleep(x, labels)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_probe_is_a_ridge_fitted_to_the_other_folds(shape):
    x, labels = target(*shape, apart=0.5)
    x = x.astype(np.float64)
    found = cross_validate(x, labels, seed=3)
    squares = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    mean = squares.sum() / np.sum(squares > 1e-12 * squares[0])
    for strength, accuracy in zip(STRENGTHS, found.accuracy, strict=True):
        right = 0
        for fold in range(found.fold.max() + 1):
            out = found.fold == fold
            model = Ridge(alpha=strength * mean, solver="svd")
            model.fit(x[~out], np.eye(3)[labels[~out]])
            right += np.sum(model.predict(x[out]).argmax(1) == labels[out])
        assert accuracy == right / len(x)
    assert probe_accuracy(x, labels, seed=3) == found.accuracy.max() < 1


def test_folds_are_stratified_and_as_many_as_the_smallest_class_allows():
    labels = np.repeat([0, 1, 2], [3, 20, 37])
    fold = cross_validate(target(*SHAPES[0])[0], labels).fold
    assert fold.max() == 2
    for code in range(3):
        counts = np.bincount(fold[labels == code])
        assert counts.max() - counts.min() <= 1
    classes = classes_of(labels, 60, "the probe")
    assert not np.array_equal(stratified_folds(classes, 5, 0), stratified_folds(classes, 5, 1))
    with pytest.raises(ValueError, match="at least 2, got 1"):
        cross_validate(target(*SHAPES[0])[0], labels, folds=1)
