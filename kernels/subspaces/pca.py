"""Leading principal components, without the covariance matrix.

Problem
    Rows of X (n x d) less their mean, Xc. The leading k eigenvectors V (d x k) of the covariance
    C = Xc'Xc / (n - 1) and their eigenvalues, the explained variances.

Methods
    "exact": the eigendecomposition of Xc'Xc (d x d) or Xc Xc' (n x n), whichever is smaller.
    "subspace": locally optimal block iteration. With l = k + oversampling columns, the basis
    B = [V, P, N] holds the current components, the direction in which they last moved and the
    residuals CV - V Lambda made orthonormal to both. A pass forms C N = Xc'(Xc N) / (n - 1), two
    thin products; C B is then known, and the Rayleigh-Ritz vectors of B'CB are the next components.
    It stops when

        max_{i <= k} ||C v_i - lambda_i v_i|| / lambda_1 <= tolerance.

    The error of an eigenvector is at most this residual over its relative gap (Davis, Kahan 1970).
    Three passes span the whole block Krylov space; from then on a pass shrinks the error as fast as
    conjugate gradients would, about exp(-2 sqrt(lambda_k / lambda_{l+1} - 1)) for small gaps, where
    plain subspace iteration has lambda_{l+1} / lambda_k.

Cost
    "exact": 2 n d min(n, d) + O(min(n, d)^3) flops. "subspace": 4 n d l + 70 d l^2 per pass and
    memory for 6 d l; d x d is never formed. With `axis_name` a pass sums d l numbers over devices;
    with `feature_axis_name`, n l, and every device holds its own [n, d] block, its rows of V and
    matrices of order l, nothing else ("exact" with n < d gathers all rows on every device instead).

Conventions
    The sign of a component: its entry of largest magnitude is positive; of entries that tie within
    sqrt(eps) of it, the first counts, so that rounding cannot flip [1, -1] / sqrt(2). Components of
    equal variance are any orthonormal basis of their space: compare the spaces, not the columns.

Not guaranteed
    Variances are exact to eps lambda_1, not relatively: in float32, components whose variance is
    below 1e-7 of the first are noise. Rank-deficient input gives components that are orthonormal
    all the same, with variance zero up to rounding. "subspace" cannot be differentiated in reverse
    mode; "exact" can, where the eigenvalues are distinct: its derivative is arbitrary or NaN where
    they repeat.

References
    A. Knyazev, "Toward the optimal preconditioned eigensolver: locally optimal block
    preconditioned conjugate gradient method", SIAM J. Sci. Comput. 23, 2001.
    U. Hetmaniuk, R. Lehoucq, "Basis selection in LOBPCG", J. Comput. Phys. 218, 2006.
    N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness", SIAM Review 53, 2011.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..arithmetic import AnyArray, divide, matmul, pmax, power_of_two, psum
from ..jit_over import jit_over
from ..moments import center_rows
from ..validate import all_rows, check_at_least, check_mask, check_matrix, check_option
from .tall_matrices import contract_rows, orthonormalize, peak_sign, random_block

USUAL_PASSES = 5
# What these cost on CPU, in flops of a product of large square matrices.
EIGH = 22  # of order m, over m^3: 21 for m = 512, 16 for 1,024
THIN = 3.4  # per flop of the two products of a pass
BASIS = 1.8  # per flop of what a pass does to the basis
STEP = 7e7  # a pass of nothing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pca:
    """Leading principal components of a set of rows.

    Attributes:
      components: [d, k] orthonormal columns, by descending variance, signs as `peak_sign` says.
      mean: [d] mean of the rows.
      explained_variance: [k] variances of the scores, divided by n - 1.
      explained_variance_ratio: [k] their share of the total variance, 0 if that is 0.
      residual: max_i ||C v_i - lambda_i v_i|| / lambda_1; above `tolerance` if it did not converge,
        an upper bound of it from `StreamingPca`.
      iterations: passes over the rows; 1 for the exact method.

    Example:
      >>> found = pca(jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
      >>> found.components.shape, found.mean.tolist()
      ((2, 1), [3.0, 4.0])
    """

    components: Float[Array, "d k"]
    mean: Float[Array, " d"]
    explained_variance: Float[Array, " k"]
    explained_variance_ratio: Float[Array, " k"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]


@jit_over("x", "mask", "key")
def pca(
    x: Float[AnyArray, "n d"],
    k: int,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
    feature_axis_name=None,
    method: str = "auto",
    oversampling: int = 16,
    tolerance: float = 1e-5,
    max_iterations: int = 100,
    key: Key[Array, ""] | None = None,
) -> Pca:
    """Leading `k` principal components of the rows of `x`.

    V = argmax tr V'CV over orthonormal [d, k] matrices, C = Xc'Xc / (n - 1).

    Args:
      x: [n, d] rows; halves are upcast to float32. Columns are centered but not scaled.
      k: components, 1 <= k <= min(n - 1, d). With a `mask` n still counts all rows: components
        beyond the rank come out with variance zero.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      feature_axis_name: mesh axis the features are sharded over, if any; "exact" refuses it.
      method: "subspace", "exact", or "auto": exact where it takes less time than five passes (a
        smaller side of 300 to 800, as the other is near or far) or the block would be wider than a
        quarter of that side.
      oversampling: extra columns of the block, >= 0; they speed up convergence.
      tolerance: residual at which to stop, relative to the first variance.
      max_iterations: most passes over the rows, >= 1.
      key: of the Gaussian start; None is a fixed one. Converged results do not depend on it.

    Returns:
      Components and what they explain, the same on all devices; with `feature_axis_name`,
      components and mean of the features a device holds. Variances too large or too small for the
      dtype are inf or 0, their shares as they should be. With NaN or inf in a row that counts all
      is NaN, but for the mean of features that have none.

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
    if method == "exact" and feature_axis_name is not None:
        raise ValueError(
            f"method 'exact' holds all features, got feature_axis_name={feature_axis_name!r}: "
            "use method='subspace'."
        )
    rows, d = all_rows(x.shape[0], axis_name), all_rows(x.shape[1], feature_axis_name)
    if not 1 <= k <= min(rows - 1, d):
        raise ValueError(
            f"k must be in 1..{min(rows - 1, d)} = min(n - 1, d) for {rows} rows of {d} features, "
            f"got {k}: ask for fewer components or give more rows."
        )
    check_at_least("oversampling", oversampling, 0)
    check_at_least("max_iterations", max_iterations, 1)

    width = min(k + oversampling, rows, d)
    if method == "auto":
        exact = feature_axis_name is None and _exact_is_cheaper(rows, d, width)
        method = "exact" if exact else "subspace"

    centered, count, origin, offset = center_rows(x, mask, axis_name)
    reach = pmax(pmax(jnp.max(jnp.abs(centered)), axis_name), feature_axis_name)
    unit = power_of_two(reach)  # in which squares neither overflow nor underflow
    centered = divide(centered, unit)
    degrees = jnp.maximum(count - 1, 1).astype(centered.dtype)
    if method == "exact":
        block = _exact_block(centered, width, axis_name)
        components, variance, residual = _rayleigh_ritz(centered, degrees, k, axis_name, block)
        iterations = jnp.int32(1)
    else:
        key = jax.random.key(0) if key is None else key

        def covariance_times(block):
            scores = psum(matmul(centered, block), feature_axis_name)
            return psum(contract_rows(centered, scores), axis_name) / degrees

        start = random_block(key, x.shape[1], width, centered.dtype, feature_axis_name)
        components, variance, residual, iterations = _iterate(
            covariance_times, start, k, tolerance, max_iterations, feature_axis_name
        )
        components = orthonormalize(components, feature_axis_name)[0]

    components = components * peak_sign(components, feature_axis_name)[None, :]
    total = psum(psum(jnp.sum(centered**2), axis_name), feature_axis_name) / degrees
    share, variance = divide(variance, total), variance * unit * unit
    return Pca(components, origin + offset, variance, share, residual, iterations)


def _exact_is_cheaper(rows: int, d: int, width: int) -> bool:
    """Whether one eigendecomposition costs less than the passes, on CPU."""
    small, large = sorted((rows, d))
    products = THIN * 4 * rows * d * width
    exact = 2 * small**2 * large + EIGH * small**3 + products
    a_pass = products + BASIS * 70 * d * width**2 + STEP
    return small <= 4 * width or exact <= USUAL_PASSES * a_pass


def _iterate(covariance_times, start, k, tolerance, max_iterations, axis_name):
    """Locally optimal block iteration; C B is carried along with B, so a pass multiplies N only."""
    width = start.shape[1]

    def keep_going(state):
        *_, residual, iteration = state
        return (residual > tolerance) & (iteration < max_iterations)

    def step(state):
        basis, image, block, _, _, iteration = state
        norm = jnp.sqrt(psum(jnp.sum(block**2, axis=0), axis_name))
        block = divide(block, norm[None, :])
        # Directions that the basis holds already, or the block holds twice, become zero columns.
        for floor in (8 * width * jnp.finfo(block.dtype).eps, 0.5):
            block = block - matmul(basis, _inner(basis, block, axis_name))
            size, turn = jnp.linalg.eigh(_inner(block, block, axis_name))
            scale = jnp.where(size > floor, jax.lax.rsqrt(jnp.maximum(size, floor)), 0)
            block = matmul(block, turn * scale[None, :])

        basis = jnp.concatenate([basis, block], axis=1)
        image = jnp.concatenate([image, covariance_times(block)], axis=1)
        inner = _inner(basis, image, axis_name)
        value, turn = jnp.linalg.eigh((inner + inner.T) / 2)
        value, turn = value[: -width - 1 : -1], turn[:, : -width - 1 : -1]
        moved = turn.at[:width].set(0)
        turn = jnp.linalg.qr(jnp.concatenate([turn, moved], axis=1))[0]  # V, then P
        basis, image = matmul(basis, turn), matmul(image, turn)
        block = image[:, :width] - basis[:, :width] * value[None, :]
        error = jnp.sqrt(psum(jnp.sum(block[:, :k] ** 2, axis=0), axis_name))
        return basis, image, block, value, divide(jnp.max(error), value[0]), iteration + 1

    empty = jnp.concatenate([start, start], axis=1) * 0
    value = jnp.zeros(width, start.dtype)
    state = empty, empty, start, value, jnp.full((), jnp.inf, start.dtype), jnp.int32(0)
    basis, _, _, value, residual, iterations = jax.lax.while_loop(keep_going, step, state)
    return basis[:, :k], jnp.maximum(value[:k], 0), residual, iterations


def _rayleigh_ritz(centered, degrees, k, axis_name, block):
    """The best k components within the span of an orthonormal block, and their residual."""
    scores = matmul(centered, block)
    inner = psum(matmul(scores.T, scores), axis_name)
    _, turn = jnp.linalg.eigh(inner / degrees)
    turn = turn[:, : -k - 1 : -1]
    vectors, scores = matmul(block, turn), matmul(scores, turn)
    # Sums of squares keep small variances non-negative and far more accurate than eigh's.
    image, variance = psum((contract_rows(centered, scores), jnp.sum(scores**2, axis=0)), axis_name)
    image, variance = image / degrees, variance / degrees
    error = jnp.linalg.norm(image - vectors * variance[None, :], axis=0)
    return vectors, variance, divide(jnp.max(error), variance[0])


def _exact_block(centered, width, axis_name):
    """Orthonormal basis of the leading right singular vectors, from the smaller Gram matrix."""
    rows, d = centered.shape
    if d <= all_rows(rows, axis_name):
        scatter = psum(matmul(centered.T, centered), axis_name)
        return jnp.linalg.eigh(scatter)[1][:, : -width - 1 : -1]
    everyone, first = centered, 0
    if axis_name is not None:
        everyone = jax.lax.all_gather(centered, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * rows
    gram = matmul(everyone, everyone.T)
    left = jnp.linalg.eigh(gram)[1][:, : -width - 1 : -1]
    left = jax.lax.dynamic_slice_in_dim(left, first, rows)
    # QR both normalizes and, where the rank falls short, completes the basis.
    return jnp.linalg.qr(psum(contract_rows(centered, left), axis_name))[0]


def _inner(a, b, axis_name):
    return psum(matmul(a.T, b), axis_name)
