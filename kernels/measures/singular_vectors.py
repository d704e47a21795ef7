"""Singular value decompositions whose derivative serves functions of subspaces.

With A = U S V' and dP = U'dA V, the derivative of the singular vectors is

    dU = U (F * (dP S + S dP')) + (I - U U') dA V / S,     F_ij = 1 / (s_j^2 - s_i^2),

and has no finite value where two singular values are equal: which vectors of their space are taken
is then arbitrary. A function of the space alone does not depend on the choice, and F_ij = 0 is as
good as any. So F is 0 here within rounding, and 1 / S where S is. Not differentiable in truth, and
not marked: functions of single vectors of a repeated singular value, and the place of a cut between
two equal ones.

Rows that are sharded stay where they are: A = Q R by `factor_rows`, whose R of min(n, d) rows is
the same on all devices, and R = U_R S V' gives U = Q U_R. No condition number is squared.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import divide, matmul, psum
from ..subspaces.tall_matrices import factor_rows
from ..validate import all_rows


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def singular_vectors(
    a: Float[Array, "n d"], axis_name=None
) -> tuple[Float[Array, "n r"], Float[Array, " r"], Float[Array, "r d"]]:
    """U, S, V' of the thin decomposition, r = min(n, d); U of the rows at hand, the rest of all."""
    if axis_name is None:
        u, s, vt = jnp.linalg.svd(a, full_matrices=False)
        return u, s, vt
    q, r = factor_rows(a, axis_name)
    u, s, vt = jnp.linalg.svd(r, full_matrices=False)
    return matmul(q, u), s, vt


@singular_vectors.defjvp
def _singular_vectors_jvp(axis_name, primals, tangents):
    (a,), (da,) = primals, tangents
    u, s, vt = singular_vectors(a, axis_name)
    rounding = max(all_rows(a.shape[0], axis_name), a.shape[1]) * jnp.finfo(s.dtype).eps
    beside = matmul(da, vt.T)
    inner = psum(matmul(u.T, beside), axis_name)
    gap = s[None, :] ** 2 - s[:, None] ** 2
    equal = jnp.abs(gap) <= 4 * rounding * s[0] ** 2
    factor = divide(1, jnp.where(equal, 0, gap))
    inverse = divide(1, jnp.where(s <= rounding * s[0], 0, s))
    left, right = inner * s[None, :], s[:, None] * inner
    du = matmul(u, factor * (left + left.T))
    dv = matmul(vt.T, factor * (right + right.T))
    du += (beside - matmul(u, inner)) * inverse[None, :]
    beside = psum(matmul(da.T, u), axis_name)
    dv += (beside - matmul(vt.T, matmul(vt, beside))) * inverse[None, :]
    return (u, s, vt), (du, jnp.diagonal(inner), dv.T)


@jax.custom_jvp
def in_own_columns(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Rows of d >= n features turned into n columns: X' = Q R gives X Q = R'.

    The derivative is dX Q, that of X Q with Q held: the same for what does not change as rows are
    turned.
    """
    return jnp.linalg.qr(x.T, mode="r").T


@in_own_columns.defjvp
def _in_own_columns_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    q, r = jnp.linalg.qr(x.T)
    return r.T, matmul(dx, q)
