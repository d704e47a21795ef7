"""Logistic regression of the domain, its strength chosen by the loss of left-out folds.

The fit is `probe.heads.logistic`. Of its strengths the one with the least mean log loss over the
rows of left-out folds is taken, not the one that classifies most of them: where all classify
perfectly, the loss still says whose probabilities are right. Strengths are tried from the strongest
on, until the loss rises: weaker ones take longest to fit. Fits to folds stop at ten times the
tolerance of the last fit.

Cost: a fit per fold for each strength that is tried, the folds at once, and one of all rows.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from substrate_jax.analyses.probe.heads.batch import make_batch
from substrate_jax.analyses.probe.heads.logistic import (
    STRENGTHS,
    TOLERANCE,
    log_probabilities,
    logistic,
)
from substrate_jax.analyses.threads import decomposing
from substrate_jax.analyses.transferability.scores.inputs import classes_of
from substrate_jax.analyses.transferability.scores.probe import stratified_folds

FOLDS = 5
FOLD_TOLERANCE = 10 * TOLERANCE


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """Log probabilities of C classes up to a constant of each row, x W + b.

    Attributes:
        weight: [d, C].
        bias: [C].
        strength: of the penalty that was chosen, for features scaled as the fit scales them.
        fold_loss: mean log loss of left-out rows at that strength, in nats.
        unsolved: fits that did not reach their tolerance, those of the folds too.
    """

    weight: Float64[np.ndarray, "d C"]
    bias: Float64[np.ndarray, " C"]
    strength: float
    fold_loss: float
    unsolved: int

    def logits(self, x: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n C"]:
        """x W + b."""
        return np.asarray(x, np.float64) @ self.weight + self.bias


def fit_classifier(
    x: Float[np.ndarray, "n d"],
    codes: Int[np.ndarray, " n"],
    *,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = FOLDS,
    seed: int = 0,
) -> Classifier:
    """Fit to all rows at the strength that left-out folds choose.

    Args:
        x: features.
        codes: class of each row, 0..C-1, `folds` rows or more of each.
        strengths: to choose from.
        folds: stratified.
        seed: of the folds.

    Raises:
        ValueError: features that are no finite matrix, one class, or too few rows of one.

    Example:
        >>> x = np.array([[-1.0], [1.0]] * 10) * np.arange(1, 21)[:, None]
        >>> fitted = fit_classifier(x, np.arange(20) % 2)
        >>> fitted.logits(np.array([[-9.0], [9.0]])).argmax(axis=1).tolist()
        [0, 1]
    """
    classes = classes_of(codes, len(x), "the detector")
    fewest = int(classes.counts.min())
    if fewest < folds:
        raise ValueError(
            f"a class has {fewest} rows to fit to, too few for {folds} folds: give more images"
        )
    rows = np.arange(len(x))
    fold = stratified_folds(classes, folds, seed)
    batch = make_batch(x, codes, np.tile(rows, (folds, 1)), rows[:1])
    out = np.zeros(batch.codes.shape, bool)
    out[:, : len(x)] = fold == np.arange(folds)[:, None]
    kept = dataclasses.replace(batch, codes=np.where(out, -1, batch.codes))
    few = batch.train.shape[1] < batch.train.shape[2]  # rows are replaced by coordinates
    losses, unsolved = {}, 0
    for strength in sorted(strengths, reverse=True):
        with decomposing(few):
            fitted = logistic(kept, (strength,), tolerance=FOLD_TOLERANCE)
        found = log_probabilities(fitted.of_train(batch)[0])[fold, rows, codes]
        loss = -float(found.mean())
        losses[float(strength)] = loss
        unsolved += fitted.unsolved
        if loss > min(losses.values()):
            break
    best = min(losses, key=lambda strength: losses[strength])
    whole = make_batch(x, codes, rows[None], rows[:1])
    with decomposing(few):
        fitted = logistic(whole, (best,))
    weight = np.asarray(fitted.weight)[0, 0, : x.shape[1], : batch.classes]
    bias = np.asarray(fitted.bias)[0, 0, : batch.classes]
    return Classifier(weight, bias, best, losses[best], unsolved + fitted.unsolved)


def probabilities(logits: Float[np.ndarray, "n C"]) -> Float64[np.ndarray, "n C"]:
    """Softmax over the classes.

    Example:
        >>> probabilities(np.zeros((1, 4))).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """
    return np.exp(log_probabilities(logits))
