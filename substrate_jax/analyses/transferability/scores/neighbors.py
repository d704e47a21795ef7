"""Accuracy of k nearest neighbors, each row left out in turn.

Neighbors are those of largest cosine, as in `kernels.neighbors.search`, which finds them in float32
to 1e-7; they vote, and of classes with equal votes the one with the nearest neighbor wins. Copies
of a row are each other's neighbors, so data with copies reach a higher accuracy than they should.

Cost: n^2 r flops and memory for a part of n^2 similarities.
"""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from numpy.typing import ArrayLike

from substrate_jax.kernels.neighbors.search import nearest_neighbors

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of


def knn_accuracy(features: ArrayLike | Coordinates, labels: ArrayLike, *, k: int = 5) -> float:
    """Share of rows that their k nearest neighbors give the right class; higher is better.

    In [0, 1]; unchanged by rotation and scale, not by shifts, as the neighbors are by cosine.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes; a class of one row is never right.
      k: neighbors that vote, 1 <= k < n.

    Returns:
      A number; NaN if all features are constant.

    Raises:
      ValueError: features, labels or `k` that are not as said.

    Example:
      >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
      >>> knn_accuracy(x, [0, 0, 1, 1], k=1)
      1.0

    References:
      E. Fix, J. Hodges, "Discriminatory analysis", 1951; as in M. Caron et al., "Emerging
      properties in self-supervised vision transformers", 2021, arXiv:2104.14294, with equal votes.
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "kNN accuracy")
    if not 1 <= k < found.n:
        raise ValueError(f"k must be in 1..{found.n - 1} for {found.n} rows, got {k}: change it.")
    if found.constant:
        return float("nan")
    rows, mean = (np.asarray(each) for each in found.signed)
    # The mean may lie outside the span of the rows: it is given a column of its own.
    outside = np.full((len(rows), 1), np.sqrt(float(found.mean_rest)))
    absolute = np.concatenate([rows + mean[None, :], outside], axis=1).astype(np.float32)
    real = np.arange(len(rows)) < found.n
    nearest = np.asarray(_nearest(absolute, real, k=k))[: found.n]
    # Bonuses by rank of 1/4, 1/8, ... sum to less than a vote and order ties by the nearest.
    votes = np.zeros((found.n, classes.number))
    for rank in range(k):
        votes[np.arange(found.n), classes.codes[nearest[:, rank]]] += 1 + 0.25 * 0.5**rank
    return float(np.mean(np.argmax(votes, axis=1) == classes.codes))


@partial(jax.jit, static_argnames="k")
def _nearest(rows, real, *, k):
    return nearest_neighbors(rows, k, mask=real)
