"""Orthogonal Procrustes: rotate one point set, or many, onto another.

Problem
    Rows of A and B (n x k) describe the same n samples in coordinates that differ by an unknown
    rotation or reflection. One pair has a closed form (Schönemann 1966),

        R = argmin_{R'R = I} ||A - B R||_F = polar(B'A) = U V',     B'A = U S V',

    and so has its residual, the disparity ||A - B R||_F^2 / ||A||_F^2. For m blocks A_1..A_m,
    generalized Procrustes (Gower 1975) minimizes sum_i ||A_i R_i - Z||_F^2 over all rotations and
    the consensus Z = mean_i A_i R_i. Alternating the two steps never increases the loss.

Method
    Every step needs only the cross products G_ij = A_i'A_j. They are summed once over the rows
    (over all devices with `axis_name`), and the iteration runs on the small (mk x mk) matrix.

Cost
    Pair: 2 n k^2 flops and a k x k SVD. Generalized: 2 n (mk)^2 flops once, one eigendecomposition
    of order mk, then 2 m^2 k^3 flops and m SVDs of order k per iteration, whatever n is.

Not guaranteed
    R is unique only if B'A is nonsingular. In its null space, which is all where ||B'A|| is within
    8 k eps of ||A|| ||B||, the minimizer nearest to the identity is taken, as `polar` says. The
    generalized problem of two blocks is that of a pair and solved as
    one. That of more is not convex: the spectral start makes the result reproducible and
    independent of the order of the blocks, not globally optimal. Nothing is centered or scaled.

References
    P. Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    J. Gower, "Generalized Procrustes analysis", 1975.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, divide, matmul, pmax, power_of_two, psum
from ..jit_over import jit_over
from ..validate import check_blocks, compute_dtype
from .polar import polar
from .tall_matrices import peak_sign


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GeneralizedProcrustes:
    """Blocks in a common orientation.

    Attributes:
        aligned: A_i R_i, row-sharded where the input was.
        consensus: their mean; columns uncorrelated, in descending order of energy, signs as those
            of `pca`.
        rotations: R_i, orthogonal, reflections allowed.
        loss: sum_i ||A_i R_i - Z||^2 / sum_i ||A_i||^2, in [0, 1].
        change: ||Z - Z_previous|| / ||Z|| of the last iteration.
        iterations: how many were run.

    Example:
        >>> a = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
        >>> generalized_procrustes([a, a[:, ::-1]]).rotations.shape
        (2, 2, 2)
    """

    aligned: Float[Array, "m n k"]
    consensus: Float[Array, "n k"]
    rotations: Float[Array, "m k k"]
    loss: Float[Array, ""]
    change: Float[Array, ""]
    iterations: Int[Array, ""]


@jit_over("a", "b", "mask")
def orthogonal_procrustes(
    a: Float[AnyArray, "n k"],
    b: Float[AnyArray, "n k"],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "k k"]:
    """Rotation that brings `b` nearest to `a`.

    R = argmin ||A - B R||_F over orthogonal R, reflections included. Differentiable wherever the
    minimizer is unique, repeated singular values included.

    Args:
        a: the target.
        b: what is rotated, row for row with `a`.
        mask: rows that count; None for all.
        axis_name: mapped axis over which rows are sharded; None if they are not.

    Returns:
        Orthogonal R, the same on all devices.

    Raises:
        ValueError: the arguments are not matrices of one shape.

    Example:
        >>> a = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
        >>> quarter_turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
        >>> bool(jnp.allclose(orthogonal_procrustes(a @ quarter_turn, a), quarter_turn, atol=1e-5))
        True

    References:
        Schönemann 1966; the direction agrees with scipy.linalg.orthogonal_procrustes(b, a).
    """
    a, b = (_in_unit(x, axis_name)[0] for x in _prepare([a, b], mask))
    cross, *squares = psum((matmul(b.T, a), jnp.sum(a**2), jnp.sum(b**2)), axis_name)
    # Of spaces that are orthogonal within rounding no direction is determined.
    least = 8 * cross.shape[0] * jnp.finfo(cross.dtype).eps
    lost = jnp.sum(cross**2) <= least**2 * squares[0] * squares[1]
    return polar(jnp.where(lost, 0, cross))


@jit_over("a", "b", "mask")
def procrustes_disparity(
    a: Float[AnyArray, "n k"],
    b: Float[AnyArray, "n k"],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Share of `a` that no rotation of `b` explains.

    ||A - B R||_F^2 / ||A||_F^2 with R = orthogonal_procrustes(a, b). It is 0 exactly if B is a
    rotation of A, at most 1 + ||B||^2/||A||^2, and symmetric only if the norms are equal, as they
    are for two orthonormal bases.

    Args:
        a: the target; its norm is the unit. An all-zero target gives inf (NaN if `b` is 0 too).
        b: what is rotated, row for row with `a`.
        mask: rows that count; None for all.
        axis_name: mapped axis over which rows are sharded; None if they are not.

    Returns:
        A number >= 0; inf where it is too large for the dtype, NaN with NaN or inf in a row.

    Raises:
        ValueError: the arguments are not matrices of one shape.

    Example:
        >>> a = jnp.eye(3)[:, :2]
        >>> float(procrustes_disparity(a, jnp.eye(3)[:, 1:]))
        1.0
    """
    (a, unit), (b, other) = (_in_unit(x, axis_name) for x in _prepare([a, b], mask))
    ratio = jnp.where(unit == 0, 1, other / jnp.where(unit == 0, 1, unit))
    ratio = jnp.minimum(ratio, jnp.finfo(ratio.dtype).max)
    # R minimizes the norm, so its own derivative contributes nothing (envelope theorem).
    rotation = jax.lax.stop_gradient(orthogonal_procrustes(a, b, axis_name=axis_name))
    residual = a - ratio * matmul(b, rotation)
    residual_energy, energy = psum((jnp.sum(residual**2), jnp.sum(a**2)), axis_name)
    return residual_energy / energy


@jit_over("blocks", "mask")
def generalized_procrustes(
    blocks: Sequence[Float[AnyArray, "n k"]],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name: str | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
) -> GeneralizedProcrustes:
    """Consensus of several point sets, each free to rotate.

    Alternates R_i = polar(A_i'Z) and Z = mean_i A_i R_i from the leading eigenvectors of the
    stacked cross products, until Z moves by less than `tolerance` of its norm. The result depends
    neither on the order of the blocks nor on their orientation.

    To differentiation the rotations are constants. That gives the derivative of the loss, which is
    at a minimum over them, and that of the aligned blocks and the consensus at fixed rotations.

    Args:
        blocks: m matrices of one shape, rows aligned.
        mask: rows that count; the others come out zero. None for all.
        axis_name: mapped axis over which rows are sharded; None if they are not.
        tolerance: relative change of the consensus at which to stop, > 0.
        max_iterations: upper limit; `change` above `tolerance` tells that it was reached.

    Returns:
        Aligned blocks, consensus and rotations.

    Raises:
        ValueError: no block, or blocks that are not matrices of one shape.

    Example:
        >>> a = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
        >>> result = generalized_procrustes([a, a[:, ::-1], -a])
        >>> bool(result.loss < 1e-6)
        True

    References:
        Gower 1975.
    """
    stacked, unit = _in_unit(jnp.stack(_prepare(blocks, mask)), axis_name)
    m, n, k = stacked.shape
    flat = stacked.transpose(1, 0, 2).reshape(n, m * k)
    gram = jax.lax.stop_gradient(psum(matmul(flat.T, flat), axis_name))

    def times_gram(rotations):  # [m k k] -> A_i' (sum_j A_j R_j)
        product = matmul(gram, rotations.reshape(m * k, k))
        return product.reshape(m, k, k)

    def energy(rotations):  # ||sum_j A_j R_j||^2
        return jnp.maximum(jnp.sum(rotations * times_gram(rotations)), 0)

    def keep_going(state):
        _, change, iteration = state
        return (change > tolerance) & (iteration < max_iterations)

    def step(state):
        rotations, _, iteration = state
        updated = polar(times_gram(rotations))
        moved, total = energy(updated - rotations), energy(updated)
        return updated, jnp.sqrt(divide(moved, total)), iteration + 1

    if m == 2:  # one rotation is all there is, and known
        start = jnp.stack([jnp.eye(k, dtype=gram.dtype), polar(gram[k:, :k])])
    else:
        _, vectors = jnp.linalg.eigh(gram)
        start = polar(vectors[:, : -k - 1 : -1].reshape(m, k, k))
    infinite = jnp.full((), jnp.inf, gram.dtype)
    rotations, change, iterations = jax.lax.while_loop(
        keep_going, step, (start, infinite, jnp.int32(0))
    )
    rotations = jax.lax.stop_gradient(rotations)

    # The loss leaves one common rotation free: turn the consensus to its principal axes.
    second_moment = jnp.einsum("ikl,ikp->lp", rotations, times_gram(rotations), precision=HIGHEST)
    _, axes = jnp.linalg.eigh((second_moment + second_moment.T) / 2)
    rotations = matmul(rotations, axes[:, ::-1])
    sign = peak_sign(_align(stacked, rotations).mean(axis=0), axis_name)
    rotations = rotations * sign[None, None, :]
    aligned = _align(stacked, rotations)
    consensus = aligned.mean(axis=0)
    residual, total = psum(
        (jnp.sum((aligned - consensus[None]) ** 2), jnp.sum(aligned**2)), axis_name
    )
    loss = divide(residual, total)
    aligned, consensus = aligned * unit, consensus * unit
    return GeneralizedProcrustes(aligned, consensus, rotations, loss, change, iterations)


def _in_unit(x, axis_name):
    """`x` over a power of two, in which its squares neither overflow nor underflow, and that."""
    unit = power_of_two(pmax(jnp.max(jnp.abs(x)), axis_name))
    return divide(x, unit), unit


def _align(stacked, rotations):
    return jnp.einsum("mnk,mkl->mnl", stacked, rotations, precision=HIGHEST)


def _prepare(blocks, mask) -> list[Float[Array, "n k"]]:
    """Blocks of one shape and dtype, masked rows zeroed."""
    check_blocks(blocks, mask)
    if len({block.shape for block in blocks}) > 1:
        raise ValueError(
            f"shapes {[block.shape for block in blocks]} differ: give [n, k] blocks of one width."
        )
    blocks = [block.astype(compute_dtype(*blocks)) for block in blocks]
    return blocks if mask is None else [jnp.where(mask[:, None], x, 0) for x in blocks]
