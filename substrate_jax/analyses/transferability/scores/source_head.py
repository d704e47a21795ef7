"""LEEP and NCE: scores of what an encoder's own classifier says of the target's images.

With p(z | x_i) the probabilities of the source classes z, the empirical joint distribution is
p(y, z) = 1/n sum_{i: y_i = y} p(z | x_i), and

    LEEP = 1/n sum_i log sum_z p(y_i | z) p(z | x_i),
    NCE  = 1/n sum_i log p(y_i | z_i) = -H(Y | Z) with z_i the most probable source class alone.

Cost: 2 n S C flops for S source classes. The published code of later papers leaves the logarithm of
LEEP out; it is taken here, as LEEP's own paper does.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from .inputs import Classes, checked_features, classes_of


def leep(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """LEEP, the log likelihood of the labels given the source classes; higher is better.

    Args:
      source_probabilities: [n, S] of a source classifier, rows that sum to 1.
      labels: [n] integers >= 0 of at least two classes.

    Returns:
      A number <= 0.

    Raises:
      ValueError: probabilities that are negative or do not sum to 1 within 1e-3, or labels that are
        not as said.

    Example:
      >>> leep(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [0, 0, 1])
      0.0
      >>> round(leep(np.full((4, 2), 0.5), [0, 0, 1, 1]), 4)  # log 1/2
      -0.6931

    References:
      C. Nguyen et al., "LEEP: a new measure to evaluate transferability of learned
      representations", ICML 2020, arXiv:2002.12462. Cost: n S C.
    """
    probabilities = _checked_probabilities(source_probabilities)
    return expected_likelihood(probabilities, classes_of(labels, len(probabilities), "LEEP"))


def nce(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """NCE, the negative conditional entropy of labels given source labels; higher is better.

    Args:
      source_probabilities: [n, S] of a source classifier, rows that sum to 1; of equal ones the
        first is the source label.
      labels: [n] integers >= 0 of at least two classes.

    Returns:
      A number <= 0, in nats.

    Raises:
      ValueError: as `leep`.

    Example:
      >>> round(nce(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), [0, 1, 1]), 4)  # 2/3 log 1/2
      -0.4621

    References:
      A. Tran, C. Nguyen, T. Hassner, "Transferability and hardness of supervised classification
      tasks", ICCV 2019, arXiv:1908.08142. Cost: n S.
    """
    probabilities = _checked_probabilities(source_probabilities)
    classes = classes_of(labels, len(probabilities), "NCE")
    certain = np.eye(probabilities.shape[1])[np.argmax(probabilities, axis=1)]
    return expected_likelihood(certain, classes)


def expected_likelihood(probabilities: Float[np.ndarray, "n S"], classes: Classes) -> float:
    """Mean of log sum_z p(y_i | z) p(z | x_i) for p(y | z) counted on the same rows."""
    one_hot = classes.one_hot[: len(probabilities), : classes.number]
    joint = one_hot.T @ probabilities
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    likelihood = probabilities @ conditional.T
    return float(np.mean(np.log(likelihood[np.arange(len(probabilities)), classes.codes])))


def _checked_probabilities(values: ArrayLike | Array) -> Float[np.ndarray, "n S"]:
    probabilities = np.asarray(checked_features(values, "source_probabilities"), np.float64)
    sums = probabilities.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if probabilities.min() < 0 or abs(sums[worst] - 1) > 1e-3:
        raise ValueError(
            "source_probabilities must be >= 0 in rows that sum to 1, got a least of "
            f"{probabilities.min():.3g} and a sum of {sums[worst]:.4g}: take the softmax of logits."
        )
    return probabilities / sums[:, None]
