"""Held-out accuracy against scikit-learn's ridge, and halves that are halves."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from substrate_jax.analyses.transferability.filters import judge_filter
from substrate_jax.analyses.transferability.scores.probe import cross_validate
from substrate_jax.analyses.transferability.truth import halve, held_out_accuracy


def made(n: int, d: int, classes: int, seed: int = 0, apart: float = 1.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, d)) + apart * rng.normal(size=(classes, d))[labels]
    return features.astype(np.float32), labels


@pytest.mark.parametrize(("n", "d", "classes"), [(80, 5, 2), (80, 60, 4), (60, 90, 3)])
def test_accuracy_is_that_of_an_independent_ridge(n, d, classes):
    features, labels = made(n, d, classes, apart=0.6)
    halves = halve(labels)
    fit = features[halves.fit].astype(np.float64)
    found = cross_validate(fit, labels[halves.fit])
    best = np.flatnonzero(found.accuracy == found.accuracy.max())[-1]
    # Strengths are in units of the mean square of the principal coordinates.
    squares = np.linalg.svd(fit - fit.mean(0), compute_uv=False) ** 2
    squares = squares[squares > squares[0] * 1e-15 * n]
    ridge = Ridge(alpha=found.strengths[best] * squares.mean())
    ridge.fit(fit, np.eye(classes)[labels[halves.fit]])
    right = ridge.predict(features[~halves.fit]).argmax(axis=1) == labels[~halves.fit]
    assert held_out_accuracy(features, halves) == pytest.approx(100 * right.mean(), abs=1e-9)


def test_accuracy_is_unchanged_by_rotation_shift_and_scale():
    features, labels = made(90, 8, 3, apart=0.5)
    halves = halve(labels)
    value = held_out_accuracy(features, halves)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))[0]
    for changed in (features @ rotation, features + 5, features * 1e-20, features * 1e15):
        assert held_out_accuracy(changed.astype(np.float32), halves) == value


def test_chance_and_constant_features():
    features, labels = made(2000, 4, 2, apart=0.0)
    # Of 1,000 fair coins; four standard errors of 1.6 points.
    assert abs(held_out_accuracy(features, halve(labels)) - 50) < 4 * 1.6
    assert np.isnan(held_out_accuracy(np.ones((40, 3), np.float32), halve(np.arange(40) % 2)))


def test_halves():
    labels = np.repeat([5, 2, 9], [7, 4, 10])
    found = halve(labels, seed=3)
    assert found.classes == 3
    counts = np.bincount(found.labels[found.fit]).tolist()
    assert counts == [2, 4, 5]  # of 4, 7 and 10 rows
    assert (halve(labels, seed=3).fit == found.fit).all()
    assert (halve(labels, seed=4).fit != found.fit).any()
    order = np.unique(labels)
    assert (order[found.labels] == labels).all()


BAD = {
    "one class": (np.ones(9, int), {}, "one class only"),
    "few rows": (np.repeat([1, 6], [9, 3]), {}, "class 6 has 3 rows; give 4 or more"),
    "more asked for": (np.repeat([1, 6], 9), {"least": 5}, "class 1 has 9 rows; give 10"),
}


@pytest.mark.parametrize("case", BAD)
def test_halves_refused(case):
    labels, options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        halve(labels, **options)


def test_a_choice_in_two_steps():
    rng = np.random.default_rng(0)
    accuracy = 70 + rng.normal(size=(8, 5))
    bad = rng.normal(size=(8, 5))
    found = judge_filter(accuracy, accuracy, bad, draws=300)
    second_best = accuracy.max(axis=0) - np.sort(accuracy, axis=0)[-2]
    assert (found.regret <= second_best + 1e-12).all()
    assert found.over_alone.value == pytest.approx((found.alone - found.regret).mean())
    assert found.over_random.low <= found.over_random.value <= found.over_random.high
    nothing = judge_filter(accuracy, bad, accuracy, share=1.0, draws=0)
    assert (nothing.regret == 0).all()
    assert (nothing.random == 0).all()
    assert nothing.over_alone.low is None
