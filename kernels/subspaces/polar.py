"""The orthogonal factor of a square matrix, by singular values or by products alone.

Problem
    M (k x k) = R H with R orthogonal and H symmetric positive semidefinite. R = U V' for
    M = U S V' is the orthogonal matrix nearest to M, and argmax tr R'M. It is unique only if M is
    nonsingular. In the null space, here singular values s <= 8 k eps s_max, the choice nearest to
    the identity is taken; every method keeps that rule.

Methods
    "svd": U V', and a second SVD of order k for the null space.
    "newton_schulz": X <- c X (3 I - c^2 X'X) / 2, products only, from X = M / ||M||_F. If the
    singular values lie in [a, 1], the step that raises the least of them most without letting any
    exceed 1 has (Chen, Chow 2014)

        c^2 = 3 / (1 + a + a^2),     a_next = c a (3 - c^2 a^2) / 2,

    so from a = 8 k eps the steps are known beforehand: about ln(1/a) / ln 2.6 + 5. Null directions
    would stay near zero, so whether H - 8 k eps ||M||_F I has a Cholesky factor decides: if not,
    "svd" takes over (all of a batch if one matrix needs it). As ||M||_F >= s_max, it takes over
    wherever its rule could apply.
    "auto": "svd" on CPU; elsewhere the iteration from k = 64.

Cost
    "svd": about 25 k^3 flops twice, in LAPACK's sequential steps. "newton_schulz": 4 k^3 per step,
    all in matrix products, and k^3 / 3 for the check. Which is faster has not been measured: that
    accelerators favor products, and from what k, is an assumption.

Not guaranteed
    R moves by up to 2 ||dM|| / (s_k + s_{k-1}) (Higham 2008): both methods lose that much, so
    float32 results agree to eps ||M|| / s_min, not to eps.

References
    N. Higham, "Functions of Matrices", SIAM 2008, chapter 8.
    J. Chen, E. Chow, "A stable scaling of Newton-Schulz for improving the sign function computation
    of a Hermitian matrix", Argonne National Laboratory ANL/MCS-P5059-0114, 2014.
    Y. Nakatsukasa, Z. Bai, F. Gygi, "Optimizing Halley's iteration for computing the matrix polar
    decomposition", SIAM J. Matrix Anal. Appl. 31, 2010.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import AnyArray, divide, matmul
from ..jit_over import jit_over
from ..validate import check_floating, check_option, compute_dtype

ITERATE_FROM = 64  # k from which "auto" iterates, on accelerators; a guess, see above
METHODS = ("auto", "svd", "newton_schulz")


@jit_over("a")
def polar(a: Float[AnyArray, "*batch k k"], *, method: str = "auto") -> Float[Array, "*batch k k"]:
    """Orthogonal polar factor R of A = R H.

    R = argmin ||A - R||_F over orthogonal R. Differentiable, in forward and reverse mode, wherever
    it is unique; undetermined directions have derivative zero.

    Args:
      a: [..., k, k] real matrices; halves are upcast to float32.
      method: "svd", "newton_schulz" or "auto".

    Returns:
      [..., k, k] orthogonal matrices.

    Raises:
      ValueError: if `a` is not square and floating-point, or `method` is unknown.

    Example:
      >>> polar(jnp.array([[0.0, -2.0], [3.0, 0.0]])).round(5).tolist()
      [[0.0, -1.0], [1.0, 0.0]]

    References:
      Higham 2008; Chen and Chow 2014.
    """
    check_floating("a", a)
    shape = a.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] == 0:
        raise ValueError(f"a must be [..., k, k] with k >= 1, got shape {shape}: make it square.")
    check_option("method", method, METHODS)
    return _polar(method, a.astype(compute_dtype(a)))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _polar(method, matrix):
    if method == "auto" and matrix.shape[-1] >= ITERATE_FROM:
        return jax.lax.platform_dependent(matrix, cpu=_by_svd, default=_by_products)
    return _by_products(matrix) if method == "newton_schulz" else _by_svd(matrix)


@_polar.defjvp
def _polar_jvp(method, primals, tangents):
    # R'dM - dM'R = W H + H W for W = R'dR, solved in the eigenbasis of H. Unlike the derivative
    # of the SVD it divides by s_i + s_j, never by s_i - s_j. Undetermined directions stay put.
    (matrix,), (dmatrix,) = primals, tangents
    rotation = _polar(method, matrix)
    h = matmul(rotation.mT, matrix)
    s, v = _one_by_one(jnp.linalg.eigh, (h + h.mT) / 2)
    turn = matmul(rotation.mT, dmatrix)
    turn = matmul(matmul(v.mT, turn - turn.mT), v)
    sums = s[..., :, None] + s[..., None, :]
    null = sums <= _relative_threshold(matrix) * s[..., -1:, None]
    turn = divide(turn, jnp.where(null, 0, sums))
    return rotation, matmul(matmul(matmul(rotation, v), turn), v.mT)


def _by_svd(matrix):
    u, s, vt = _one_by_one(jnp.linalg.svd, matrix)
    null = s <= _relative_threshold(matrix) * s[..., :1]
    # With U0, V0 spanning the null spaces, tr U0 W V0' is largest for W = polar(U0'V0).
    inner = jnp.where(null[..., :, None] & null[..., None, :], matmul(u.mT, vt.mT), 0)
    diagonal = jnp.where(null, 0, 1).astype(s.dtype)[..., None, :] * _eye_like(matrix)
    p, _, qt = _one_by_one(jnp.linalg.svd, inner + diagonal)
    return matmul(matmul(u, matmul(p, qt)), vt)


def _by_products(matrix):
    norm = jnp.sqrt(jnp.sum(matrix**2, axis=(-2, -1), keepdims=True))
    unit = divide(matrix, norm)
    eye = _eye_like(matrix)

    def step(x, c):
        return c * matmul(x, 1.5 * eye - 0.5 * c**2 * matmul(x.mT, x)), None

    threshold = _relative_threshold(matrix)
    scales = jnp.asarray(_scales(threshold), matrix.dtype)
    rotation, _ = jax.lax.scan(step, unit, scales)
    h = matmul(rotation.mT, unit)
    cholesky = partial(jnp.linalg.cholesky, symmetrize_input=False)
    factor = _one_by_one(cholesky, (h + h.mT) / 2 - threshold * eye)
    regular = jnp.all(jnp.isfinite(factor))
    return jax.lax.cond(regular, lambda: rotation, lambda: _by_svd(matrix))


def _scales(low: float) -> list[float]:
    """The c of each step until singular values that began in [low, 1] are 1 to rounding."""
    scales = []
    while 1 - low > 1e-9:
        c = (3 / (1 + low + low**2)) ** 0.5
        scales.append(c)
        low = c * low * (3 - c**2 * low**2) / 2
    return [*scales, 1.0]


def _one_by_one(decompose, matrices):
    """The factors of [..., k, k] matrices, one after another.

    Two batched decompositions at once, as on two devices, can wait for each other's threads for
    ever (jaxlib 0.10 on CPU).
    """
    if matrices.ndim == 2:
        return decompose(matrices)
    batch = matrices.shape[:-2]
    factors = jax.lax.map(decompose, matrices.reshape(-1, *matrices.shape[-2:]))
    return jax.tree.map(lambda factor: factor.reshape(*batch, *factor.shape[1:]), factors)


def _relative_threshold(matrix) -> float:
    return 8 * matrix.shape[-1] * float(jnp.finfo(matrix.dtype).eps)


def _eye_like(matrix):
    return jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
