"""H-score: how much of the spread of whitened features lies between the classes.

    H = tr(C^+ B),     C = Xc'Xc / n,     B = sum_c (n_c / n) (m_c - m)(m_c - m)',

the sum of the squared canonical correlations of features and classes: between 0 and
min(C - 1, rank). Once n - 1 <= rank every labeling reaches C - 1, so the score says nothing for
n <= d; the shrunk H-score replaces C by the estimate of Ledoit and Wolf, (1 - a) C + a mu I with
mu = tr C / d, and B by (1 - a) B.

The published code of both divides by n - 1 in places; here all sums are divided by n, as Ledoit and
Wolf do. In principal coordinates C is diagonal, so either takes 2 n r C flops once they are there.
"""

from __future__ import annotations

import jax.numpy as jnp
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program


def h_score(features: ArrayLike | Coordinates, labels: ArrayLike) -> float:
    """H-score; higher is better.

    tr(C^+ B) in [0, min(classes - 1, rank)], unchanged by any invertible affine map of features.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.

    Returns:
      A number; classes - 1 whatever the labels if the centered features have rank n - 1, and NaN if
      all features are constant.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> import numpy as np
      >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
      >>> round(h_score(x, [0, 0, 1, 1]), 6), round(h_score(x, [0, 1, 1, 0]), 6)
      (1.0, 0.0)

    References:
      Y. Bao et al., "An information-theoretic approach to transferability in task transfer
      learning", ICIP 2019, arXiv:2212.10082. Cost: n d min(n, d) + n r C.
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "the H-score")
    if found.constant:
        return float("nan")
    return float(_h_score(found.rows, found.all_squares, classes.one_hot))


def shrunk_h_score(features: ArrayLike | Coordinates, labels: ArrayLike) -> float:
    """H-score with the covariance of Ledoit and Wolf; higher is better.

    tr(((1 - a) C + a mu I)^-1 (1 - a) B) with their a, in [0, classes - 1], unchanged by rotations
    and by one scale for all features.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.

    Returns:
      A number; NaN if all features are constant.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> import numpy as np
      >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
      >>> round(shrunk_h_score(x, [0, 0, 1, 1]), 6)  # C is mu I: nothing to shrink
      1.0

    References:
      S. Ibrahim, N. Ponomareva, R. Mazumder, "Newer is not always better: rethinking
      transferability metrics, their peculiarities, stability and performance", ECML 2022,
      arXiv:2110.06893.
      O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
      2004. Cost: n d min(n, d) + n r C.
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "the shrunk H-score")
    if found.constant:
        return float("nan")
    arguments = found.rows, found.all_squares, classes.one_hot, float(found.d)
    return float(_shrunk_h_score(*arguments))


def _between(rows, one_hot):
    """[R] diagonal of n B."""
    sums = matmul(one_hot.T, rows)
    return jnp.sum(divide(sums**2, jnp.sum(one_hot, axis=0)[:, None]), axis=0)


@program
def _h_score(rows, squares, one_hot):
    return jnp.sum(divide(_between(rows, one_hot), squares))


@program
def _shrunk_h_score(rows, squares, one_hot, d):
    n = jnp.sum(one_hot)
    covariance = squares / n
    mu = jnp.sum(covariance) / d
    fourth = jnp.sum(jnp.sum(rows**2, axis=1) ** 2)
    second = jnp.sum(covariance**2)
    noise = (fourth / n - second) / n
    distance = second - d * mu**2
    shrinkage = divide(jnp.minimum(noise, distance), distance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * mu
    return (1 - shrinkage) * jnp.sum(divide(_between(rows, one_hot) / n, shrunk))
