"""Cross-validated accuracy of a linear probe, exact, without fitting a fold.

Problem
    Ridge regression of the one-hot labels with an intercept: W = argmin ||Y - 1 b' - Xc W||^2 +
    l ||W||^2, and the class of a row is its largest output. Of the fitted values H Y, with

        H = 1 1'/n + U diag(s / (s + l)) U',

    the prediction for a fold F by the fit to all other rows has the residual
    (I - H_FF)^-1 (Y - H Y)_F, exactly, as for any quadratic loss. So one decomposition serves all
    folds and strengths, and what is left is one Cholesky factor of order n / folds for each.

Method
    Folds are stratified: the rows of each class, in a random order, are dealt out in turn.
    Strengths l are multiples of the mean square of the principal coordinates. The score is the best
    accuracy over strengths; choosing among 7 makes it high by a fraction of its standard error.

Cost: n d min(n, d), then 2 n^2 r / folds flops and n^3 / (3 folds^2) for each strength.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul

from .coordinates import Coordinates, principal_coordinates
from .inputs import Classes, classes_of, program, shared_size

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)


@dataclasses.dataclass(frozen=True, eq=False)
class CrossValidation:
    """Accuracy of a probe over strengths.

    Attributes:
      strengths: [L] of the penalty, in units of the mean square of the principal coordinates.
      accuracy: [L] share of rows that are right when their fold is left out.
      fold: [n] fold of each row.
    """

    strengths: Float64[np.ndarray, " L"]
    accuracy: Float64[np.ndarray, " L"]
    fold: Int[np.ndarray, " n"]


def probe_accuracy(
    features: ArrayLike | Coordinates, labels: ArrayLike, *, folds: int = 5, seed: int = 0
) -> float:
    """Cross-validated accuracy of a ridge probe at its best strength; higher is better.

    In [0, 1]; unchanged by rotation, shift and scale.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes with two rows or more each.
      folds: at most as many as the rows of the smallest class are made, 2 at least.
      seed: of the folds.

    Returns:
      A number; NaN if all features are constant.

    Raises:
      ValueError: features, labels or folds that are not as said.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> probe_accuracy(rng.normal(size=(60, 8)) + 9 * np.eye(3, 8)[labels], labels)
      1.0

    References:
      R. Cook, "Detection of influential observation in linear regression", 1977; ridge on one-hot
      labels as X. Zhai et al., "A large-scale study of representation learning with the visual task
      adaptation benchmark", 2019, arXiv:1910.04867.
    """
    return float(np.max(cross_validate(features, labels, folds=folds, seed=seed).accuracy))


def cross_validate(
    features: ArrayLike | Coordinates, labels: ArrayLike, *, folds: int = 5, seed: int = 0
) -> CrossValidation:
    """The accuracies that `probe_accuracy` is the best of; arguments as there.

    Raises:
      ValueError: features, labels or folds that are not as said.

    Example:
      >>> x = np.array([[0.0], [0.1], [1.0], [1.1]])
      >>> cross_validate(x, [0, 0, 1, 1], folds=2).accuracy.tolist()
      [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}: use 5, say.")
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "the probe", least=2)
    fold = stratified_folds(classes, min(folds, int(classes.counts.min())), seed)
    if found.constant:
        return CrossValidation(np.array(STRENGTHS), np.full(len(STRENGTHS), np.nan), fold)
    size = shared_size(int(np.bincount(fold).max()), 16)
    index = np.zeros((fold.max() + 1, size), np.int32)
    valid = np.zeros(index.shape, bool)
    for number in range(len(index)):
        members = np.flatnonzero(fold == number)
        index[number, : len(members)], valid[number, : len(members)] = members, True
    mean = np.sum(np.asarray(found.squares)) / found.rank
    penalties = np.array(STRENGTHS) * mean
    arguments = found.rows, found.all_squares, classes.one_hot, index, valid, penalties
    right = np.asarray(_right(*arguments))
    return CrossValidation(np.array(STRENGTHS), right / found.n, fold)


def stratified_folds(classes: Classes, folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Fold of each row: every class is spread evenly, and so are the rows left over.

    Example:
      >>> classes = classes_of([0, 1, 0, 1, 0, 1, 0, 1], 8, "the probe")
      >>> np.bincount(stratified_folds(classes, 2, 0) * 2 + classes.codes).tolist()
      [2, 2, 2, 2]
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(classes.codes))
    order = order[np.argsort(classes.codes[order], kind="stable")]
    fold = np.empty(len(order), np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold


@program
def _right(rows, squares, one_hot, index, valid, penalties):
    """[L] rows that are given their class when their fold is left out."""
    n = jnp.sum(one_hot)
    exists = jnp.sum(one_hot, axis=0) > 0
    centered = one_hot - (jnp.sum(one_hot, axis=0) / n)[None, :]
    left = matmul(rows.T, one_hot)  # diag(s)^1/2 U'Y
    real = squares > 0

    def of_fold(one):
        numbers, members = one
        weight = members.astype(rows.dtype)
        own = rows[numbers] * weight[:, None]
        mean = weight[:, None] * weight[None, :] / n

        def of_strength(penalty):
            # U diag(s / (s + l)) U' = Z diag(1 / (s + l)) Z'
            filtered = own * jnp.where(real, divide(1, squares + penalty), 0)[None, :]
            residual = (centered[numbers] - matmul(filtered, left)) * weight[:, None]
            remaining = jnp.eye(len(numbers), dtype=rows.dtype) - mean - matmul(filtered, own.T)
            factor = jnp.linalg.cholesky(remaining)
            wrong = jax.scipy.linalg.cho_solve((factor, True), residual)
            predicted = jnp.where(exists[None, :], one_hot[numbers] - wrong, -jnp.inf)
            hits = jnp.argmax(predicted, axis=1) == jnp.argmax(one_hot[numbers], axis=1)
            return jnp.sum(hits & members)

        return jax.lax.map(of_strength, penalties)

    return jnp.sum(jax.lax.map(of_fold, (index, valid)), axis=0)
