"""One answer from many strengths: the best in inner folds, or the mean over all.

Folds are within the labeled rows of an episode and stratified; the strength that classifies most
left-out rows is taken, the strongest of those that tie. With few labels such a choice is nearly
random (A. Bendou et al., FewTrans: a validation set of few shots is an illusion), so the mean over
strengths is there too: of probabilities, or of outputs where a head has none.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from substrate_jax.analyses.probe.heads.batch import Batch, Linear
from substrate_jax.analyses.probe.heads.logistic import log_probabilities
from substrate_jax.analyses.transferability.scores.inputs import classes_of
from substrate_jax.analyses.transferability.scores.probe import stratified_folds

Fit = Callable[[Batch, Sequence[float]], Linear]


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """Scores of the held-out rows at the strength that each episode chose for itself.

    Attributes:
        scores: [E, m, C].
        strength: [E] that was chosen.
        accuracy: [S, E] share of labeled rows that are right when their fold is left out.
        unsolved: fits that did not reach their tolerance, those of the folds too.
    """

    scores: Float64[np.ndarray, "E m C"]
    strength: Float64[np.ndarray, " E"]
    accuracy: Float64[np.ndarray, "S E"]
    unsolved: int


def by_folds(
    fit: Fit, batch: Batch, strengths: Sequence[float], *, folds: int = 5, seed: int = 0
) -> Tuned:
    """Choose a strength in each episode by the labeled rows alone.

    Args:
        fit: a head.
        batch: labeled rows, of every class two or more.
        strengths: to choose from, the weakest first.
        folds: at most as many as the smallest class has rows are made.
        seed: of the folds.

    Raises:
        ValueError: one label of a class, so that nothing can be left out; fewer than two folds.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> from substrate_jax.analyses.probe.heads.ridge import ridge
        >>> x, codes = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1, 2, 3]]), np.array([2, 3]))
        >>> by_folds(ridge, batch, (1.0, 4.0)).strength.tolist()
        [4.0]
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}: use 5, say")
    fewest = int(batch.counts.min())
    if fewest < 2:
        raise ValueError(
            "a strength cannot be chosen with 1 label of a class: average over strengths instead"
        )
    fold = np.full(batch.codes.shape, -1)
    for number, codes in enumerate(batch.codes):
        rows = np.flatnonzero(codes >= 0)
        classes = classes_of(codes[rows], len(rows), "a head")
        fold[number, rows] = stratified_folds(classes, min(folds, fewest), seed + number)
    right = np.zeros((len(strengths), len(batch.codes)))
    unsolved = 0
    for number in range(fold.max() + 1):
        kept = dataclasses.replace(batch, codes=np.where(fold == number, -1, batch.codes))
        fitted = fit(kept, strengths)
        found = fitted.of_train(batch).argmax(axis=-1) == batch.codes
        right += (found & (fold == number)).sum(axis=-1)
        unsolved += fitted.unsolved
    strongest = len(strengths) - 1 - right[::-1].argmax(axis=0)  # of those that tie
    fitted = fit(batch, strengths)
    scores = fitted.of_strengths(strongest).of_test(batch)[0]
    total = (batch.codes >= 0).sum(axis=1)
    chosen = np.asarray(strengths, np.float64)[strongest]
    return Tuned(scores, chosen, right / total, unsolved + fitted.unsolved)


def averaged(fitted: Linear, batch: Batch, *, probabilities: bool) -> Float64[np.ndarray, "E m C"]:
    """Mean over strengths of the scores of the held-out rows.

    Args:
        fitted: a head at all strengths.
        batch: what it was fitted to.
        probabilities: whether scores are log probabilities up to a constant of each row, whose
            exponentials are to be averaged; else they are averaged as they are.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> from substrate_jax.analyses.probe.heads.logistic import logistic
        >>> x, codes = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1]]), np.array([2, 3]))
        >>> averaged(logistic(batch), batch, probabilities=True)[0].sum(axis=1).round(6).tolist()
        [1.0, 1.0]
    """
    scores = fitted.of_test(batch)
    if probabilities:
        scores = np.exp(log_probabilities(scores))
    return scores.mean(axis=0)
