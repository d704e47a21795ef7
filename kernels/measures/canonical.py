"""Measures from the singular values of a cross product: SVCCA, PWCCA and Procrustes similarity.

Centered rows X = U S V' and Y = P T Q' of two encoders are compared through one small matrix.

    Procrustes: ||X'Y||_* / (||X||_F ||Y||_F),     the nuclear norm: S U'P T's singular values,
    CCA:        rho_1 >= rho_2 >= ... = the singular values of U'P.

Procrustes similarity is the cosine of the angle between the shapes X / ||X||_F and Y / ||Y||_F
after the best rotation; its arccos is the angular shape distance, a metric (Williams et al. 2021).
It is also the normalized Bures similarity, or fidelity, of the Gram matrices (Tang et al. 2020).
Encoders of different width are compared as if the narrower one had columns of zeros.

The best rotation may reflect. Over those of determinant 1 alone, the nuclear norm loses twice the
least singular value s_d of X'Y if det X'Y < 0 (Kabsch 1976), which only encoders of one width d < n
can have: with a column of zeros, or more columns than the rank, s_d is 0.

CCA weighs all directions alike, noise too, and is 1 whenever the widths add up to n or more. SVCCA
(Raghu et al. 2017) therefore keeps, of each encoder, the fewest leading components that hold 99 %
of its variance, and is the mean of the min(r_x, r_y) canonical correlations that these allow.
PWCCA (Morcos et al. 2018) weighs rho_i by how much of X its canonical variable h_i = U p_i
(U'P = p diag(rho) q') accounts for, over the columns x_j of X:

    PWCCA(X; Y) = sum_i w_i rho_i / sum_i w_i,     w_i = sum_j |h_i'x_j|.

It is not symmetric: the weights are those of X, the row of the result; "mean" is the mean of both
sides. The source leaves open whether components are cut first; here they are, as for SVCCA, and
`variance=1` keeps all of them. Where two or more rho_i are 1, but not all, as is so when the ranks
add up to more than n, no weight belongs to any one of them, and PWCCA is NaN (more than one within
`ONES` eps of 1).

Cost, for widths up to d and r = min(n, d): an SVD of n x d per encoder for the CCAs; 2 n r^2 flops
and an SVD of order r per pair. Widths are padded to the largest: one program serves all pairs.
Memory: n d E. Sharded rows stay where they are if n >= d: X'Y and U'P are summed over them, and an
SVD is that of factors of r rows, of which a device holds 4 at once (`tall_matrices.factor_rows`);
else a device holds the rows of one encoder.

Not guaranteed: where the 99 % fall between nearly equal variances, rounding decides which
components are kept. Components below max(n, d) eps of the largest singular value are dropped.
An angle below sqrt(2 eps) (5e-4 in float32) is not resolved by the arccos.

References:
    Raghu, Gilmer, Yosinski, Sohl-Dickstein (2017), SVCCA. NeurIPS.
    Morcos, Raghu, Bengio (2018), Insights on representational similarity in neural networks with
    canonical correlation. NeurIPS.
    Kabsch (1976), A solution for the best rotation to relate two sets of vectors. Acta
    Crystallographica A 32.
    Tang, Maddox, Dickens, Diethe, Damianou (2020), Similarity of neural networks with gradients.
    arXiv:2003.11498.
    Williams, Kunz, Kornblith, Linderman (2021), Generalized shape metrics on neural
    representations. NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import HIGHEST, AnyArray, divide, mirror, psum
from ..jit_over import jit_over
from ..validate import check_option
from .shapes import (
    centered_shapes,
    components,
    every_pair,
    of_unit_norm,
    rotated_to_fewer_columns,
    stack_padded,
)
from .singular_vectors import singular_vectors

SIDES = ("row", "mean")
ONES = 64  # eps that a correlation of 1 may be off


@jit_over("blocks", "mask")
def pairwise_procrustes(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    angle: bool = False,
    reflections: bool = True,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Procrustes similarity ||X'Y||_* / (||X||_F ||Y||_F) of all pairs, or the angle it is of.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      angle: return the angular shape distance arccos(similarity) in radians instead.
      reflections: whether rotations may reflect; False for those of determinant 1.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [0, 1] up to rounding; in the row and column of a constant encoder 0, of
      one with NaN or inf NaN. Or angles in [0, pi/2]. Without reflections, two encoders of one
      feature each may be as low as -1, and as far as pi.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are
        fewer than 2 rows.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
      >>> compiled = jax.jit(pairwise_procrustes, static_argnames="reflections")
      >>> compiled([x, 3 * x[:, ::-1] + 7]).round(4).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
      >>> found = compiled([x, x[:, ::-1]], reflections=False)
      >>> f"{found[0, 1]:.3f}"
      '0.760'

    References:
      Williams et al. 2021; Tang et al. 2020; Kabsch 1976.
    """
    scaled, scales = centered_shapes(blocks, mask, axis_name)
    scaled = [of_unit_norm(x, axis_name) for x in scaled]
    stacked = stack_padded(rotated_to_fewer_columns(scaled, axis_name))

    widths = jnp.asarray([x.shape[1] for x in blocks])

    def similarity(pair):
        cross = jnp.matmul(stacked[pair[0]].T, stacked[pair[1]], precision=HIGHEST)
        cross = psum(cross, axis_name)
        values = jnp.linalg.svd(cross, compute_uv=False)
        total = jnp.sum(values)
        if reflections:
            return total
        width = widths[pair[0]]
        beyond = (jnp.arange(len(values)) >= width).astype(cross.dtype)
        sign, _ = jnp.linalg.slogdet(jax.lax.stop_gradient(cross) + jnp.diag(beyond))
        reflected = (sign < 0) & (width == widths[pair[1]]) & (width <= len(values))
        return total - 2 * jnp.where(reflected, values[jnp.minimum(width, len(values)) - 1], 0)

    result = mirror(every_pair(similarity, len(blocks)))
    # By definition, as rounding would be most of a small angle.
    itself = (scales > 0).astype(result.dtype)
    result = jnp.where(jnp.eye(len(blocks), dtype=bool), itself[:, None], result)
    if angle:
        inside = result < 1  # where the arccos has a derivative
        result = jnp.where(inside, jnp.arccos(jnp.clip(jnp.where(inside, result, 0), -1, 1)), 0)
    return nan_pairs(result, scales)


@jit_over("blocks", "mask")
def pairwise_svcca(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    variance: float = 0.99,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Mean canonical correlation of the leading components of all pairs of encoders.

    sum_i rho_i / min(r_x, r_y), with r the fewest components that hold `variance` of the variance.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      variance: share of the variance that is kept, in (0, 1]; 1 keeps every component.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [0, 1] up to rounding; in the row and column of a constant encoder 0, of
      one with NaN or inf NaN.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `variance` is
        out of range, or there are fewer than 2 rows.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> pairwise_svcca([x, x @ jnp.array([[1.0, 1.0], [0.0, 2.0]])]).round(4).tolist()
      [[1.0, 1.0], [1.0, 1.0]]

    References:
      Raghu et al. 2017.
    """
    left, values, _, scales = _components(blocks, variance, mask, axis_name)

    def mean(pair):
        i, j = pair
        inner = psum(jnp.matmul(left[i].T, left[j], precision=HIGHEST), axis_name)
        correlations = jnp.linalg.svd(inner, compute_uv=False)
        fewest = jnp.minimum(jnp.sum(values[i] > 0), jnp.sum(values[j] > 0))
        return divide(jnp.sum(correlations), fewest.astype(inner.dtype))

    return nan_pairs(mirror(every_pair(mean, len(blocks))), scales)


@jit_over("blocks", "mask")
def pairwise_pwcca(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    variance: float = 0.99,
    side: str = "row",
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Projection-weighted canonical correlation of all pairs of encoders.

    Entry [x, y] is sum_i w_i rho_i / sum_i w_i with w_i = sum_j |h_i'x_j|, weights of the row's X.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      variance: share of the variance that is kept, in (0, 1]; 1 keeps every component.
      side: "row" for the weights of the row's encoder, "mean" for the mean of both sides.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] in [0, 1] up to rounding, 1 on the diagonal, symmetric for "mean" only; 0 in the row
      and column of a constant encoder, NaN in those of one with NaN or inf, and NaN where several
      correlations, but not all, are 1.

    Raises:
      ValueError: as `pairwise_svcca`, or if `side` is unknown.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> pairwise_pwcca([x, x[:, :1]]).round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0]]

    References:
      Morcos et al. 2018.
    """
    check_option("side", side, SIDES)
    left, values, loads, scales = _components(blocks, variance, mask, axis_name)

    def weighted(pair):
        i, j = pair
        inner = psum(jnp.matmul(left[i].T, left[j], precision=HIGHEST), axis_name)
        p, correlations, q = singular_vectors(inner)
        fewest = jnp.minimum(jnp.sum(values[i] > 0), jnp.sum(values[j] > 0))
        counted = jnp.arange(len(correlations)) < fewest
        ones = counted & (correlations >= 1 - ONES * jnp.finfo(inner.dtype).eps)
        ones = jnp.sum(ones)
        shared = (ones > 1) & (ones < fewest)

        def value(e, directions):  # x_j'h_i for all columns x_j, [d, r]
            along = jnp.matmul(loads[e], directions, precision=HIGHEST)
            weights = jnp.where(counted, jnp.sum(jnp.abs(along), axis=0), 0)
            value = divide(jnp.sum(weights * correlations), jnp.sum(weights))
            return jnp.where(shared, jnp.nan, value)

        return jnp.stack([value(i, p), value(j, q.T)])

    result = every_pair(weighted, len(blocks))  # [2, E, E], above the diagonal
    result = jnp.triu(result[0]) + jnp.triu(result[1], 1).T
    if side == "mean":
        result = (result + result.T) / 2
    return nan_pairs(result, scales)


def _components(blocks, variance, mask, axis_name):
    """`components` of the centered blocks, and their scales [E]."""
    if not 0 < variance <= 1:
        raise ValueError(f"variance must be in (0, 1], got {variance}: use 0.99.")
    scaled, scales = centered_shapes(blocks, mask, axis_name)
    return *components(scaled, variance, axis_name), scales
