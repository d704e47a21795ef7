"""TransRate: how many nats per row the labels save in coding the features.

    TrR = R(X) - sum_c (n_c / n) R(X_c),     R(X) = 1/2 log det(I + X'X / (n eps)),

with X centered, X_c its rows of class c (not centered again) and eps = 1e-4, as in the paper's
listing; the listing divides the sum by the number of classes, which is the same for classes of
equal size, and the paper's text weighs by n_c / n, which is done here. Nothing is scaled: features
of twice the size have a higher rate.

Of the whole, the squares of the principal coordinates give the determinant. Of a class, the
Cholesky factor of the smaller of its Gram matrices does: about 2 C min(m, r)^2 max(m, r) flops for
classes of at most m rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import matmul

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program


def transrate(
    features: ArrayLike | Coordinates, labels: ArrayLike, *, distortion: float = 1e-4
) -> float:
    """TransRate, the rate of the features less that given the labels; higher is better.

    R(X) - sum_c (n_c / n) R(X_c) in nats, >= 0, unchanged by rotations.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.
      distortion: eps > 0, a squared distance in the units of the features.

    Returns:
      A number; NaN if all features are constant.

    Raises:
      ValueError: features, labels or distortion that are not as said.

    Example:
      >>> import numpy as np
      >>> x = np.array([[-1.0], [-1.0], [1.0], [1.0]])
      >>> abs(transrate(x, [0, 0, 1, 1])) < 1e-9, abs(transrate(x, [0, 1, 0, 1])) < 1e-9
      (True, True)

    References:
      L.-K. Huang et al., "Frustratingly easy transferability estimation", ICML 2022,
      arXiv:2106.09362.
    """
    if not distortion > 0:
        raise ValueError(f"distortion must be positive, got {distortion}: use 1e-4, say.")
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "TransRate")
    if found.constant:
        return float("nan")
    index, valid = classes.rows_by_class()
    return float(_transrate(found.rows, found.all_squares, index, valid, float(distortion)))


@program
def _transrate(rows, squares, index, valid, distortion):
    counts = jnp.sum(valid, axis=1).astype(rows.dtype)
    n = jnp.sum(counts)
    whole = jnp.sum(jnp.log1p(squares / (n * distortion)))

    def add(code, total):  # n_c times 2 R of one class
        count = counts[code]
        members = jnp.where(valid[code][:, None], rows[index[code]], 0)
        small = members.shape[0] <= members.shape[1]
        gram = matmul(members, members.T) if small else matmul(members.T, members)
        scaled = jnp.eye(gram.shape[0], dtype=rows.dtype) + gram / (count * distortion)
        factor = jnp.linalg.cholesky(scaled)
        return total + 2 * count * jnp.sum(jnp.log(jnp.diagonal(factor)))

    number = jnp.sum(counts > 0)  # classes that are only padding cost nothing
    parts = jax.lax.fori_loop(0, number, add, jnp.zeros((), rows.dtype))
    return (whole - parts / n) / 2
