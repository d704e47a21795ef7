"""GULP: how far apart the predictions of ridge regression from two encoders can be.

Centered rows X, scaled so that tr X'X = 1, predict a target y by ridge regression as A_X y, with

    A_X = X (X'X + c I)^-1 X',     c the ridge.

Over targets of one norm in random directions, the mean square of A_X y - A_Y y is in proportion to

    GULP^2(X, Y) = ||A_X - A_Y||_F^2 = ||A_X||^2 + ||A_Y||^2 - 2 <A_X, A_Y>,

which is tr(S_X^-c S_X S_X^-c S_X) + the same of Y - 2 tr(S_X^-c S_XY S_Y^-c S_YX) of the source,
S^-c = (S + c I)^-1 (Boix-Adsera et al. 2022). It is a distance, in [0, sqrt(r_x + r_y)] for ranks
r. The similarity is the cosine of the same angle, <A_X, A_Y> / (||A_X|| ||A_Y||): 1 where the
distance is 0. Directions count by s^2 / (s^2 + c), s their singular value: for large c like those
of CKA, for c -> 0 all alike, and then it is near 1 for unrelated encoders as wide as there are
rows.

With the R of [X; sqrt(c) I] = Q R, Q_X = X R^-1 has A_X = Q_X Q_X', and thus <A_X, A_Y> is
||Q_X'Q_Y||^2. That squares no condition number: the error is eps / sqrt(c).

Cost, for widths up to d and r = min(n, d): 4 n r^2 flops per encoder and 2 n r^2 per pair. Memory:
n r E. Sharded rows stay where they are if n >= d (a device holds 4 factors of r x r at once); else
they are gathered, one encoder after another.

Not guaranteed: distances below sqrt(8 eps) ||A||, which are differences of equal numbers. Rounding
of the features counts as features if their squares are no less than the ridge.

References:
    Boix-Adsera, Lawrence, Stepaniants, Rigollet (2022), GULP: a prediction-based metric between
    representations. NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import AnyArray, divide, matmul, mirror, psum, root
from ..jit_over import jit_over
from ..subspaces.tall_matrices import triangle_of_all
from ..validate import axis_size
from .shapes import (
    centered_shapes,
    every_pair,
    of_unit_norm,
    rotated_to_fewer_columns,
    stack_padded,
)

LEAST_RIDGE = 1e-8  # below, directions of rounding would count as much as others


@jit_over("blocks", "mask")
def pairwise_gulp(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    ridge: float = 0.01,
    distance: bool = False,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """GULP of all pairs of encoders, as a cosine or as the distance.

    <A_X, A_Y> / (||A_X|| ||A_Y||), or ||A_X - A_Y||, with A_X = X (X'X + ridge I)^-1 X' of centered
    rows with tr X'X = 1.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      ridge: penalty as a share of the whole variance, at least 1e-8.
      distance: return the distance of the source instead.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [0, 1] up to rounding, 1 on the diagonal; in the row and column of a
      constant encoder 0, of one with NaN or inf NaN. Or distances, 0 on the diagonal.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `ridge` is out
        of range, or there are fewer than 2 rows.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> found = pairwise_gulp([x, 3 * x[:, ::-1] + 7, x[:, :1]])[0]
      >>> [f"{value:.3f}" for value in found]
      ['1.000', '1.000', '0.731']

    References:
      Boix-Adsera et al. 2022.
    """
    if not ridge >= LEAST_RIDGE:
        raise ValueError(f"ridge must be at least {LEAST_RIDGE}, got {ridge}: use 0.01.")
    scaled, scales = centered_shapes(blocks, mask, axis_name)
    scaled = [of_unit_norm(x, axis_name) for x in scaled]
    stacked = stack_padded(rotated_to_fewer_columns(scaled, axis_name))
    width, dtype = stacked.shape[2], stacked.dtype
    devices = axis_size(axis_name)
    # Each device adds its share, so that no factor is wide or of less than full rank.
    penalty = jnp.sqrt(jnp.asarray(ridge / devices, dtype)) * jnp.eye(width, dtype=dtype)

    def whitened(x):
        r = jnp.linalg.qr(jnp.concatenate([x, penalty]), mode="r")
        r = triangle_of_all(r, axis_name)
        return jax.scipy.linalg.solve_triangular(r, x.T, trans=1).T

    bases = jax.lax.map(whitened, stacked)

    def inner(pair):
        cross = matmul(bases[pair[0]].T, bases[pair[1]])
        return jnp.sum(psum(cross, axis_name) ** 2)

    products = mirror(every_pair(inner, len(blocks)))
    squares = jnp.diagonal(products)
    if distance:
        result = root(squares[:, None] + squares[None, :] - 2 * products)
        itself = jnp.zeros_like(squares)
    else:
        norms = root(squares)
        result = divide(products, norms[:, None] * norms[None, :])
        itself = (scales > 0).astype(dtype)
    # By definition, as rounding would be most of a small distance.
    result = jnp.where(jnp.eye(len(blocks), dtype=bool), itself[:, None], result)
    return nan_pairs(result, scales)
