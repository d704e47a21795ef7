r"""Whether probabilities mean what they say: reliability, calibration error, and what is chance.

A row's confidence is the probability c_i of its answer, which is right (r_i = 1) or not. Rows are
put into `BINS` bins of equal width on [0, 1], the last closed; with n_b rows in bin b,

    ECE = sum_b n_b / n | mean r_i - mean c_i |.

ECE of a perfectly calibrated model is not 0: in every bin the mean of n_b coin tosses is off by
chance. It is drawn here: r_i ~ Bernoulli(c_i) with the confidences as they are.

    log loss = -mean log p(truth);  Brier = mean_i sum_c (p_c - [c is the truth])^2.

Cost: draws x n.

Not guaranteed: bins hide errors of opposite sign within them.

References: C. Guo et al. (2017), "On calibration of modern neural networks" (ECE, 15 bins);
J. Bröcker, L. Smith (2007), "Increasing the reliability of reliability diagrams" (what is chance).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from substrate_jax.analyses.detector.metrics import Estimate, wilson

BINS = 15


@dataclasses.dataclass(frozen=True)
class Bin:
    """Rows of similar confidence.

    Attributes:
        rows: how many.
        confidence: their mean.
        accuracy: share that is right, with Wilson's interval.
    """

    rows: int
    confidence: float
    accuracy: Estimate


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Reliability of n rows.

    Attributes:
        bins: those that hold rows, by confidence.
        ece: expected calibration error of `BINS` bins of equal width.
        ece_by_chance: mean of the error that a calibrated model with these confidences has.
        ece_most_by_chance: what it exceeds with probability 5%.
        log_loss: in nats.
        brier: in [0, 2].
    """

    bins: tuple[Bin, ...]
    ece: float
    ece_by_chance: float
    ece_most_by_chance: float
    log_loss: float
    brier: float


def calibration(
    probabilities: Float[np.ndarray, "n C"],
    codes: Int[np.ndarray, " n"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Reliability of the most probable class.

    Args:
        probabilities: rows sum to 1.
        codes: class of each row.
        draws: of calibrated models.
        seed: of the draws.

    Raises:
        ValueError: no rows, or another number of codes.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
        >>> found = calibration(p, np.array([0, 1, 1, 1]))
        >>> round(found.ece, 3), [one.rows for one in found.bins]
        (0.35, [1, 1, 1, 1])
    """
    n = len(probabilities)
    if not n or codes.shape != (n,):
        raise ValueError(f"codes have shape {codes.shape} for {n} rows: give one each, of one row")
    answer = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), answer]
    right = answer == codes
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(place):
        here = place == number
        share = wilson(int(right[here].sum()), int(here.sum()))
        bins.append(Bin(int(here.sum()), float(confidence[here].mean()), share))
    tossed = np.random.default_rng(seed).random((draws, n)) < confidence
    by_chance = expected_error(tossed, confidence, place)
    truth = np.maximum(probabilities[np.arange(n), codes], np.finfo(np.float64).tiny)
    one_hot = np.eye(probabilities.shape[1])[codes]
    return Calibration(
        bins=tuple(bins),
        ece=float(expected_error(right[None], confidence, place)[0]),
        ece_by_chance=float(by_chance.mean()),
        ece_most_by_chance=float(np.quantile(by_chance, 0.95)),
        log_loss=float(-np.log(truth).mean()),
        brier=float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
    )


def expected_error(
    right: np.ndarray, confidence: Float[np.ndarray, " n"], place: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " draws"]:
    """ECE of each row of `right` [draws, n], given the bin of each row of the data.

    Example:
        >>> right, confidence = np.array([[True, False]]), np.array([0.9, 0.9])
        >>> expected_error(right, confidence, np.array([5, 5])).round(3)
        array([0.4])
    """
    total = np.zeros(len(right))
    for number in np.unique(place):
        here = place == number
        total += np.abs((right[:, here] - confidence[here]).sum(axis=1))
    return total / len(confidence)
