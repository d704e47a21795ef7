"""Leading principal components, without the covariance matrix.

Problem
    Rows of X (n x d) less their mean, Xc. The leading k eigenvectors V (d x k) of the covariance
    C = Xc'Xc / (n - 1) and their eigenvalues, the explained variances.

Methods
    "exact": the eigendecomposition of Xc'Xc (d x d) or Xc Xc' (n x n), whichever is smaller.
    "subspace": block subspace iteration. From an orthonormal block Q of l = k + oversampling
    columns, each pass forms Y = Xc Q and Xc'Y, two thin products; Rayleigh-Ritz on the l x l matrix
    Y'Y gives the current components, and a Householder QR of Xc'Y the next block. It stops when

        max_{i <= k} ||C v_i - lambda_i v_i|| / lambda_1 <= tolerance.

    The error of an eigenvector is at most this residual over its relative gap (Davis, Kahan 1970),
    and it shrinks by lambda_{l+1} / lambda_k a pass. Both methods end in the same Rayleigh-Ritz
    step, so both report an honest residual.

Cost
    "exact": 2 n d min(n, d) + O(min(n, d)^3) flops. "subspace": 4 n d l a pass and memory for
    d x l; d x d is never formed. With `axis_name` a pass sums d x l + l x l numbers over devices
    ("exact" with n < d gathers all rows on every device instead).

Not guaranteed
    Variances are exact to eps lambda_1, not relatively: in float32, components whose variance is
    below 1e-7 of the first are noise. Components with equal variances are any basis of their space.
    Rank-deficient input gives components that are orthonormal all the same, with variance zero up
    to rounding. "subspace" cannot be differentiated in reverse mode; "exact" can, where the
    eigenvalues are distinct.

References
    H. Rutishauser, "Simultaneous iteration method for symmetric matrices", 1970.
    N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness", SIAM Review 53, 2011.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .moments import HIGHEST, centre_rows, divide, psum
from .validate import all_rows, check_mask, check_matrix, check_option

EXACT_UP_TO = 512  # min(n, d) for which one eigendecomposition costs less than the passes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pca:
    """Leading principal components of a set of rows.

    Attributes:
      components: [d, k] orthonormal columns, by descending variance; the entry of largest magnitude
        in each column is positive.
      mean: [d] mean of the rows.
      explained_variance: [k] variances of the scores, divided by n - 1.
      explained_variance_ratio: [k] their share of the total variance, 0 if that is 0.
      residual: max_i ||C v_i - lambda_i v_i|| / lambda_1; above `tolerance` if it did not converge.
      iterations: passes over the rows; 1 for the exact method.
    """

    components: Float[Array, "d k"]
    mean: Float[Array, " d"]
    explained_variance: Float[Array, " k"]
    explained_variance_ratio: Float[Array, " k"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]


def pca(
    x: Float[Array, "n d"],
    k: int,
    *,
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
    method: str = "auto",
    oversampling: int = 16,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    key: Key[Array, ""] | None = None,
) -> Pca:
    """Leading `k` principal components of the rows of `x`.

    V = argmax tr V'CV over orthonormal [d, k] matrices, C = Xc'Xc / (n - 1).

    Args:
      x: [n, d] rows; halves are upcast to float32. Columns are centred but not scaled.
      k: components, 1 <= k <= min(n - 1, d). With a `mask` n still counts all rows: components
        beyond the rank come out with variance zero.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      method: "subspace", "exact", or "auto": exact if min(n, d) <= 512 or if the block would be
        wider than a quarter of it.
      oversampling: extra columns of the block, >= 0; they speed up convergence.
      tolerance: residual at which to stop, relative to the first variance.
      max_iterations: most passes over the rows, >= 1.
      key: of the Gaussian start; None is a fixed one. Converged results do not depend on it.

    Returns:
      Components and what they explain, the same on all devices.

    Raises:
      ValueError: if `x` is not a floating-point matrix, `mask` does not fit it, `method` is unknown
        or `k`, `oversampling` or `max_iterations` is out of range.

    Example:
      >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
      >>> result = pca(x, 1)
      >>> [round(float(v), 4) for v in result.components[:, 0]]
      [0.6, 0.8]
      >>> round(float(result.explained_variance[0]), 4)
      25.0

    References:
      Rutishauser 1970; Halko, Martinsson and Tropp 2011.
    """
    check_matrix("x", x)
    check_mask(mask, x.shape[0])
    check_option("method", method, ("auto", "subspace", "exact"))
    rows, d = all_rows(x.shape[0], axis_name), x.shape[1]
    if not 1 <= k <= min(rows - 1, d):
        raise ValueError(
            f"k must be in 1..{min(rows - 1, d)} = min(n - 1, d) for {rows} rows of {d} features, "
            f"got {k}: ask for fewer components or give more rows."
        )
    for name, value, least in (
        ("oversampling", oversampling, 0),
        ("max_iterations", max_iterations, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}: raise it.")

    small = min(rows, d)
    width = min(k + oversampling, small)
    if method == "auto":
        method = "exact" if small <= max(EXACT_UP_TO, 4 * width) else "subspace"

    centred, count, origin, offset = centre_rows(x, mask, axis_name)
    degrees = jnp.maximum(count - 1, 1).astype(centred.dtype)
    advance = partial(_rayleigh_ritz, centred, degrees, k, axis_name)
    if method == "exact":
        _, components, variance, residual = advance(_exact_block(centred, width, axis_name))
        iterations = jnp.int32(1)
    else:
        key = jax.random.key(0) if key is None else key
        start = jnp.linalg.qr(jax.random.normal(key, (d, width), centred.dtype))[0]
        components, variance, residual, iterations = _iterate(
            advance, start, tolerance, max_iterations
        )

    largest = jnp.argmax(jnp.abs(components), axis=0)
    peak = jnp.take_along_axis(components, largest[None, :], axis=0)
    components = jnp.where(peak < 0, -components, components)
    total = psum(jnp.sum(centred**2), axis_name) / degrees
    return Pca(components, origin + offset, variance, divide(variance, total), residual, iterations)


def _rayleigh_ritz(centred, degrees, k, axis_name, block):
    """One pass: the next block, and the best k components within the span of this one."""
    scores = jnp.matmul(centred, block, precision=HIGHEST)
    inner = psum(jnp.matmul(scores.T, scores, precision=HIGHEST), axis_name)
    _, turn = jnp.linalg.eigh(inner / degrees)
    turn = turn[:, ::-1]
    vectors = jnp.matmul(block, turn, precision=HIGHEST)
    scores = jnp.matmul(scores, turn, precision=HIGHEST)
    # Sums of squares keep small variances non-negative and far more accurate than eigh's.
    image, variance = psum(
        (jnp.matmul(centred.T, scores, precision=HIGHEST), jnp.sum(scores**2, axis=0)), axis_name
    )
    image, variance = image / degrees, variance / degrees
    error = jnp.linalg.norm((image - vectors * variance[None, :])[:, :k], axis=0)
    residual = divide(jnp.max(error), variance[0])
    return jnp.linalg.qr(image)[0], vectors[:, :k], variance[:k], residual


def _iterate(advance, start, tolerance, max_iterations):
    def keep_going(state):
        _, _, _, residual, iteration = state
        return (residual > tolerance) & (iteration < max_iterations)

    def step(state):
        return *advance(state[0]), state[-1] + 1

    first = *advance(start), jnp.int32(1)
    _, components, variance, residual, iterations = jax.lax.while_loop(keep_going, step, first)
    return components, variance, residual, iterations


def _exact_block(centred, width, axis_name):
    """Orthonormal basis of the leading right singular vectors, from the smaller Gram matrix."""
    rows, d = centred.shape
    if d <= all_rows(rows, axis_name):
        scatter = psum(jnp.matmul(centred.T, centred, precision=HIGHEST), axis_name)
        return jnp.linalg.eigh(scatter)[1][:, : -width - 1 : -1]
    everyone, first = centred, 0
    if axis_name is not None:
        everyone = jax.lax.all_gather(centred, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * rows
    gram = jnp.matmul(everyone, everyone.T, precision=HIGHEST)
    left = jnp.linalg.eigh(gram)[1][:, : -width - 1 : -1]
    left = jax.lax.dynamic_slice_in_dim(left, first, rows)
    # QR both normalises and, where the rank falls short, completes the basis.
    return jnp.linalg.qr(psum(jnp.matmul(centred.T, left, precision=HIGHEST), axis_name))[0]
