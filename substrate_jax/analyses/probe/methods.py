"""The heads that are compared, under the names that tables and flags use."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from substrate_jax.analyses.probe.heads import logistic as logistic_head
from substrate_jax.analyses.probe.heads import ridge as ridge_head
from substrate_jax.analyses.probe.heads.adam import adam
from substrate_jax.analyses.probe.heads.batch import Batch, Linear
from substrate_jax.analyses.probe.heads.class_means import discriminant, nearest_mean
from substrate_jax.analyses.probe.heads.logistic import log_probabilities, logistic
from substrate_jax.analyses.probe.heads.neighbors import nearest_neighbors
from substrate_jax.analyses.probe.heads.ridge import ridge
from substrate_jax.analyses.probe.heads.tuning import averaged, by_folds

_BYTES = 4  # of float32


class Scores(NamedTuple):
    """What a head says of the held-out rows.

    Attributes:
        scores: [E, m, C], the largest is the class; probabilities where the head gives them.
        unsolved: fits that stopped before their tolerance.
    """

    scores: Float64[np.ndarray, "E m C"]
    unsolved: int = 0


@dataclasses.dataclass(frozen=True)
class Head:
    """One way to classify.

    Attributes:
        apply: fits all episodes and scores the held-out rows.
        probabilities: whether scores are probabilities, which may be averaged over inputs.
        chooses: whether it needs two labels per class to choose a strength.
        decomposes: whether it calls LAPACK, two batched calls of which must not run at once.
        linear: whether it keeps a weight for each feature and class, or else the labeled rows.
        kept: linear maps that it keeps, those of all strengths where probabilities are averaged.
    """

    apply: Callable[[Batch], Scores]
    probabilities: bool
    chooses: bool = False
    decomposes: bool = True
    linear: bool = True
    kept: int = 1

    def cost(self, width: int, classes: int, rows: int) -> tuple[int, int]:
        """Flops per image, and bytes that are kept.

        Args:
            width: features.
            classes: how many.
            rows: with labels.

        Example:
            >>> HEADS["ridge, 2^10"].cost(16, 4, 200), HEADS["neighbors"].cost(16, 4, 200)
            ((132, 272), (6432, 13600))
        """
        if self.linear:  # x W + b
            flops = 2 * width * classes + classes
            return self.kept * flops, self.kept * _BYTES * classes * (width + 1)
        # Unit length, and a product with each row; rows and their classes are kept.
        return (2 + 2 * rows) * width, _BYTES * rows * (width + 1)


def _probable(fitted: Linear, batch: Batch) -> Scores:
    return Scores(averaged(fitted, batch, probabilities=True), fitted.unsolved)


def _tuned(fit, strengths, *, probabilities: bool) -> Callable[[Batch], Scores]:
    def apply(batch: Batch) -> Scores:
        found = by_folds(fit, batch, strengths)
        scores = np.exp(log_probabilities(found.scores)) if probabilities else found.scores
        return Scores(scores, found.unsolved)

    return apply


def _fixed_ridge(batch: Batch) -> Scores:
    return Scores(ridge(batch, (1024.0,)).of_test(batch)[0])


def _mean_ridge(batch: Batch) -> Scores:
    return Scores(averaged(ridge(batch), batch, probabilities=False))


HEADS = {
    "paper": Head(lambda batch: _probable(adam(batch), batch), True, decomposes=False),
    "ridge, 2^10": Head(_fixed_ridge, False),
    "ridge, tuned": Head(
        _tuned(ridge, ridge_head.STRENGTHS, probabilities=False), False, chooses=True
    ),
    "ridge, averaged": Head(_mean_ridge, False),
    "logistic, tuned": Head(
        _tuned(logistic, logistic_head.STRENGTHS, probabilities=True), True, chooses=True
    ),
    "logistic, averaged": Head(
        lambda batch: _probable(logistic(batch), batch), True, kept=len(logistic_head.STRENGTHS)
    ),
    "nearest mean": Head(
        lambda batch: Scores(nearest_mean(batch).of_test(batch)[0]), False, decomposes=False
    ),
    "discriminant": Head(lambda batch: _probable(discriminant(batch), batch), True),
    "neighbors": Head(
        lambda batch: Scores(nearest_neighbors(batch)), True, decomposes=False, linear=False
    ),
}


def slug(head: str) -> str:
    """A head's name as flags have it.

    Example:
        >>> [slug(name) for name in HEADS]  # doctest: +NORMALIZE_WHITESPACE
        ['paper', 'ridge_2_10', 'ridge_tuned', 'ridge_averaged', 'logistic_tuned',
         'logistic_averaged', 'nearest_mean', 'discriminant', 'neighbors']
    """
    return re.sub(r"[^a-z0-9]+", "_", head)


def heads_named(words: Sequence[str]) -> list[str]:
    """Names in `HEADS` of the words of a flag: `slug`s, or "all".

    Raises:
        ValueError: a word that is none, or no words.

    Example:
        >>> heads_named(["ridge_tuned", "paper"])
        ['ridge, tuned', 'paper']
    """
    known = {slug(name): name for name in HEADS}
    if list(words) == ["all"]:
        return list(HEADS)
    if unknown := [word for word in words if word not in known]:
        raise ValueError(f"heads: {unknown[0]!r} is none; give all, or some of {', '.join(known)}")
    if not words:
        raise ValueError(f"heads: none given; give all, or some of {', '.join(known)}")
    return [known[word] for word in dict.fromkeys(words)]
