r"""What all fits share: leading components of standardized features, and CKA of projections.

X in R^{n x D} are features standardized over their rows, b_1, b_2, ... its leading principal
directions, with variances v_i = ||X b_i||^2 in descending order (up to a factor). B in R^{D x k}
has b_i as column i, and zeros where b_i has no variance: such a component adds nothing to a score,
an inner product or a CKA, and a domain whose images do not vary has CKA and PCKA 0.

**No variance.** Rounding makes components of nothing, and their v_i must be told from real ones.
Whatever products the components were found from, a Gram matrix or those of an iteration, are off by
some E, ||E||_2 = c eps v_1. A computed direction of no variance then has a share of at most
||E||_2 / v_i in the direction b_i (Davis, Kahan), or all of it, and with that a variance of at most

    min(v_i, (c eps v_1)^2 / v_i) <= c eps v_1.

In float32 c is 1 to 7 for the eigenvalues of Gram matrices of 100 to 2,000 rows, whatever their
number, and below 2 for what `kernels.pca` calls variance. So no more than 8 eps of the first, 1e-6,
is none: a component below has no direction that float32 can tell.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import HIGHEST, divide, matmul, psum
from substrate_jax.kernels.moments import standardize_rows

COMPONENTS = 16


class Fit(NamedTuple):
    """Standardized features and their leading components.

    Attributes:
        x: [n, D] (block - origin - offset) scale, zeros where masked.
        origin: [D] a row of the block; the mean is origin + offset.
        offset: [D] mean of the block less the origin.
        scale: [D] one over the standard deviation; 0 for constant features.
        components: [D, k] orthonormal, by descending variance; zeros for those without.
        explained_variance_ratio: [k] share of the variance of X.
    """

    x: Float[Array, "n D"]
    origin: Float[Array, " D"]
    offset: Float[Array, " D"]
    scale: Float[Array, " D"]
    components: Float[Array, "D k"]
    explained_variance_ratio: Float[Array, " k"]


def fit(
    block: Float[Array, "n D"], k: int, mask: Bool[Array, " n"] | None = None, axis_name=None
) -> Fit:
    """Standardize features and find their leading components, under `jax.jit` or a map.

    Args:
        block: features of all encoders side by side.
        k: components, at most D and below the number of rows that count.
        mask: rows that count; all by default.
        axis_name: mesh axis the rows are split over, if any.
    """
    x, origin, offset, scale = standardize_rows(block, mask, axis_name)
    found = kernels.pca(x, k, mask=mask, axis_name=axis_name)
    held = has_variance(found.explained_variance).astype(x.dtype)
    ratio = found.explained_variance_ratio * held
    return Fit(x, origin, offset, scale, found.components * held[None, :], ratio)


def has_variance(variance: Float[Array, " k"]) -> Bool[Array, " k"]:
    """Which components vary by more than rounding; the module says where the line is.

    Args:
        variance: sums of squared scores (eigenvalues are too rough), the largest first.

    Example:
        >>> has_variance(jnp.array([4.0, 1e-3, 1e-6, 0.0])).tolist()
        [True, True, False, False]
    """
    return variance > 8 * jnp.finfo(variance.dtype).eps * variance[0]


def project(x: Float[Array, "n D"], bases: Float[Array, "M D K"]) -> Float[Array, "n M K"]:
    """Scores X B_j of the same rows on each of M bases, by one product."""
    m, width, k = bases.shape
    return matmul(x, bases.transpose(1, 0, 2).reshape(width, m * k)).reshape(-1, m, k)


def one_sided_cka(
    scores: Float[Array, "n M K"], own, ks: Sequence[int], axis_name=None
) -> Float[Array, "q M"]:
    """Linear CKA of one block of scores with every other, for several numbers of components.

    CKA(T, T_j) = ||T'T_j||_F^2 / (||T'T||_F ||T_j'T_j||_F), one of the two that PCKA is the mean
    of. Scores on fewer components are the first columns, so leading blocks of the K x K products
    serve all numbers.

    Args:
        scores: T_j, centered over the rows.
        own: which of the M is T.
        ks: numbers of components, at most K.
        axis_name: mesh axis the rows are split over, if any.

    Returns:
        For each number of components and each j; 0 where either has no variance.

    Example:
        >>> one_sided_cka(jnp.array([[[1.0], [2.0]], [[-1.0], [-2.0]]]), 0, (1,)).tolist()
        [[1.0, 1.0]]
    """

    def norms(left: Array, right: Array):  # ||left'right||_F^2 of the leading blocks, [q, M]
        product = jnp.einsum("nmk,nml->mkl", left, right, precision=HIGHEST)
        product = psum(product, axis_name)
        return jnp.stack([jnp.sum(product[:, :k, :k] ** 2, axis=(1, 2)) for k in ks])

    mine = jnp.broadcast_to(scores[:, own][:, None], scores.shape)
    inner, square = norms(mine, scores), norms(scores, scores)
    return divide(inner, jnp.sqrt(square) * jnp.sqrt(square[:, own])[:, None])
