"""PARC: whether rows are alike in their features where they are alike in their labels.

    PARC = 100 rho(1 - corr(x_i, x_j), 1 - corr(y_i, y_j)) over pairs i < j,

rho Spearman's correlation, corr that of two rows: of their features, reduced to the first 32
principal components of unit variance, and of their one-hot labels. The distance of labels has two
values, so all that is needed of the ranks of the other is their mean over pairs of one class.

As the published code: principal components are standardized, so that the least of 32 counts as much
as the first, and correlations subtract a row's mean over components, so that the sign of a
component matters. Here the signs are those that make the largest entry of a component's scores
positive.

Distances that agree in float32 tie: it makes copies of a row tie whatever rounding does, and moves
the score by about 1e-5.

Cost: n d min(n, d) for the components, n^2 p flops and the sort of n (n - 1) / 2 distances on the
host: for n = 10,000 they take 400 MB. The published code samples 15,000 rows of more.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul
from substrate_jax.kernels.validate import check_at_least

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program


def parc(features: ArrayLike | Coordinates, labels: ArrayLike, *, components: int = 32) -> float:
    """PARC, the rank correlation of distances of features and of labels; higher is better.

    In [-100, 100]; unchanged by rotation, shift and scale of the features.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes, one of them with two rows or more.
      components: principal components that are kept, at most; >= 3, as of two the correlation of
        two rows is 1 or -1.

    Returns:
      A number; NaN if all distances are the same, as when features are constant or of rank < 2.

    Raises:
      ValueError: features, labels or components that are not as said.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> x = rng.normal(size=(60, 8)) + 3 * np.eye(3, 8)[labels]
      >>> parc(x, labels) > parc(rng.normal(size=(60, 8)), labels)
      True

    References:
      D. Bolya, R. Mittapalli, J. Hoffman, "Scalable diverse model selection for accessible transfer
      learning", NeurIPS 2021, arXiv:2111.06977.
    """
    check_at_least("components", components, 3)
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "PARC")
    if classes.number == found.n:
        raise ValueError(
            f"labels have {found.n} classes in {found.n} rows, and PARC needs two rows of one: "
            "give more rows."
        )
    if found.rank < 2:
        return float("nan")
    kept = min(components, found.rank)
    distances = np.asarray(_distances(found.leading(components), found.n, kept))
    distances = distances[: found.n, : found.n]
    upper = np.triu_indices(found.n, 1)
    same = classes.codes[upper[0]] == classes.codes[upper[1]]
    return 100 * _spearman_of_two(distances[upper], ~same)


def _spearman_of_two(values: np.ndarray, high: np.ndarray) -> float:
    """Spearman's correlation with a variable of two values, tied ranks averaged."""
    first, second = np.sort(values[high]), np.sort(values[~high])
    pairs = len(values)
    below = np.searchsorted(first, second, "left") + np.searchsorted(first, second, "right")
    mean_second = np.sum(below, dtype=np.float64) / 2 / len(second) + (len(second) + 1) / 2
    # Of tied ranks, t (t^2 - 1) is what their average takes from the sum of squares.
    ordered = np.sort(values)
    edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    ties = np.diff(edges).astype(np.float64)
    spread = (float(pairs) ** 3 - pairs - np.sum(ties**3 - ties)) / 12
    if spread <= 0:
        return float("nan")
    between = (pairs + 1) / 2 - mean_second  # how far the mean rank of the others is above
    share = len(second) / len(first)
    return float(between * np.sqrt(share * pairs / spread))


@program
def _distances(rows, n, kept):
    real = jnp.arange(rows.shape[1]) < kept
    scale = jnp.sqrt(jnp.sum(rows**2, axis=0) / n)
    rows = jnp.where(real[None, :], divide(rows, scale[None, :]), 0)
    rows = jnp.where(real[None, :], rows - jnp.sum(rows, axis=1, keepdims=True) / kept, 0)
    rows = divide(rows, jnp.linalg.norm(rows, axis=1, keepdims=True))
    return (1 - matmul(rows, rows.T)).astype(jnp.float32)
