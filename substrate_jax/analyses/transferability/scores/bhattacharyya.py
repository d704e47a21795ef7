"""GBC: how far Gaussians of the classes overlap, by their Bhattacharyya coefficients.

    GBC = - sum_{c != k} exp(-D(c, k)),     S = (S_c + S_k) / 2,
    D = 1/8 (m_c - m_k)' S^-1 (m_c - m_k) + 1/2 log(|S| / sqrt(|S_c| |S_k|)),

with a diagonal or spherical covariance S_c for each class (divided by n_c; variances below 1e-4
count as 1e-4, as published) in the first 64 principal components, as in the paper's experiments.

The determinants of spherical covariances are v^p here, as in the paper; the published code counts
log v once instead of p times.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul
from substrate_jax.kernels.validate import check_at_least, check_option

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program

LEAST_VARIANCE = 1e-4


def gbc(
    features: ArrayLike | Coordinates,
    labels: ArrayLike,
    *,
    covariance: Literal["spherical", "diagonal"] = "spherical",
    components: int | None = 64,
) -> float:
    """Gaussian Bhattacharyya coefficient of the classes, negative; higher is better.

    Minus the sum over ordered pairs of classes of exp(-D), in [-C (C - 1), 0]. Rotations leave it
    alone unless a "diagonal" covariance is of the features themselves; so does scale, but for the
    least variance.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes with two rows or more each.
      covariance: of each class, "spherical" or "diagonal".
      components: leading principal components that are kept; None for the features as they are.

    Returns:
      A number <= 0; NaN if all features are constant.

    Raises:
      ValueError: features, labels or options that are not as said.

    Example:
      >>> import numpy as np
      >>> x = np.array([[0.0], [2.0], [4.0], [6.0]])  # D = 4^2 / 8 / 1
      >>> round(gbc(x, [0, 0, 1, 1]), 4)  # -2 exp(-2)
      -0.2707

    References:
      M. Pándy et al., "Transferability estimation using Bhattacharyya class separability",
      CVPR 2022, arXiv:2111.12780. Cost: n d min(n, d) for the components; n p C + C^2 p.
    """
    check_option("covariance", covariance, ("spherical", "diagonal"))
    if components is not None:
        check_at_least("components", components, 1)
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "GBC", least=2)
    if found.constant:
        return float("nan")
    if components is None:
        rows, one_hot, number = found.centered, classes.one_hot[: found.n], found.d
    else:
        rows, one_hot = found.leading(components), classes.one_hot
        number = min(components, found.rank)
    return float(_gbc(rows, one_hot, number, covariance=covariance))


def _gbc(rows, one_hot, number, covariance):
    counts = jnp.sum(one_hot, axis=0)
    exists, real = counts > 0, jnp.arange(rows.shape[1]) < number
    means = divide(matmul(one_hot.T, rows), counts[:, None])
    deviation = rows - matmul(one_hot, means)
    variances = divide(matmul(one_hot.T, deviation**2), counts[:, None])
    variances = jnp.where(real[None, :], jnp.maximum(variances, LEAST_VARIANCE), 0)
    if covariance == "spherical":
        variances = jnp.sum(variances, axis=1, keepdims=True) / number
    variances = jnp.where(real[None, :] & exists[:, None], variances, 1)

    def overlaps(one):  # of one class with each
        mean, variance = one
        middle = (variance[None, :] + variances) / 2
        apart = jnp.sum((mean[None, :] - means) ** 2 / middle, axis=1) / 8
        logs = jnp.log(middle) - (jnp.log(variance)[None, :] + jnp.log(variances)) / 2
        coefficient = jnp.exp(-apart - jnp.sum(logs, axis=1) / 2)
        return jnp.sum(jnp.where(exists, coefficient, 0))

    each = jax.lax.map(overlaps, (means, variances))
    return -jnp.sum(jnp.where(exists, each - 1, 0))  # without itself


_gbc = program(_gbc, "covariance")
