"""Comparing subspaces, and domains through their subspaces.

Problem
    A (d x p) and B (d x q) span two subspaces of R^d. With orthonormal bases Q_A, Q_B,
    r = min(p, q) and the singular values cos t_1 >= ... >= cos t_r of Q_A'Q_B, the t_i in
    [0, pi/2] are the principal angles, and

        Grassmann similarity = mean_i cos^2 t_i = ||Q_A'Q_B||_F^2 / r.

    Angles weigh all directions alike. PCKA ("Procrustes-CKA", Radwan 2026) weighs them by the data:
    the features of each domain, projected on both bases, are compared by linear CKA,

        PCKA(A, B) = 1/2 [CKA(X_A B_A, X_A B_B) + CKA(X_B B_A, X_B B_B)].

    It is symmetric, lies in [0, 1], is 1 for one subspace seen twice with equal bases, and despite
    its name solves no Procrustes problem: CKA is blind to rotations as it stands.

Cost
    Angles: QR of both bases, 2 d (p^2 + q^2) flops. PCKA of M domains of n rows with K components:
    2 M^2 n d K flops for the projections, each domain on all bases in one product, and
    2 M n (M K)^2 for the CKAs.

Not guaranteed
    A basis whose columns are linearly dependent spans less than its width, and the missing
    directions would be arbitrary: angles and similarity are NaN if the least singular value of the
    basis, with columns of norm 1, is within p eps of the largest. PCKA depends on the basis, not
    only on its span: stretching one column changes it, rotating all of them does not.

References
    A. Björck, G. Golub, "Numerical methods for computing angles between linear subspaces", 1973.
    A. Knyazev, M. Argentati, "Principal angles between subspaces in an A-based scalar
    product", 2002.
    Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.linear_cka import cka, pairwise_cka
from ..alignment.normalization import normalized_blocks
from ..arithmetic import HIGHEST, AnyArray, divide, power_of_two
from ..jit_over import jit_over
from ..validate import check_mask, check_matrix, check_rows, check_sequence, compute_dtype


@jit_over("a", "b")
def principal_angles(a: Float[AnyArray, "d p"], b: Float[AnyArray, "d q"]) -> Float[Array, " r"]:
    """Principal angles between two column spaces, smallest first.

    Angles above 45 degrees come from the cosines, svd(Q_A'Q_B), smaller ones from the sines,
    svd(Q_B - Q_A Q_A'Q_B): arccos alone would lose all angles below sqrt(eps).

    Args:
      a: [d, p] basis with independent columns, not necessarily orthonormal; p <= d.
      b: [d, q] basis of the other subspace; q <= d.

    Returns:
      [min(p, q)] angles in radians, ascending, in [0, pi/2]; absolute error of order eps times the
      condition of the bases with columns of norm 1. NaN if one has dependent columns, NaN or inf.

    Raises:
      ValueError: if the arguments are not bases in one space.

    Example:
      >>> axes = jnp.eye(3)
      >>> [round(float(angle), 4) for angle in principal_angles(axes[:, :2], axes[:, 1:])]
      [0.0, 1.5708]

    References:
      Björck and Golub 1973; Knyazev and Argentati 2002.
    """
    q_a, q_b = _orthonormal(a, b)
    if q_a.shape[1] < q_b.shape[1]:
        q_a, q_b = q_b, q_a  # the sines are those of the smaller space off the larger
    inner = jnp.matmul(q_a.T, q_b, precision=HIGHEST)
    off = q_b - jnp.matmul(q_a, inner, precision=HIGHEST)
    cosines = jnp.clip(jnp.linalg.svd(inner, compute_uv=False), 0, 1)
    sines = jnp.clip(jnp.linalg.svd(off, compute_uv=False)[: q_b.shape[1]][::-1], 0, 1)
    wide = cosines**2 < 0.5  # each branch has a derivative where it is taken only
    wide_angles = jnp.arccos(jnp.where(wide, cosines, 0))
    return jnp.where(wide, wide_angles, jnp.arcsin(jnp.where(wide, 0, sines)))


@jit_over("a", "b")
def grassmann_similarity(a: Float[AnyArray, "d p"], b: Float[AnyArray, "d q"]) -> Float[Array, ""]:
    """Mean squared cosine of the principal angles.

    ||Q_A'Q_B||_F^2 / min(p, q). Two random subspaces of R^d score max(p, q) / d on average.

    Args:
      a: [d, p] basis with independent columns; p <= d.
      b: [d, q] basis of the other subspace; q <= d.

    Returns:
      A number in [0, 1]: 1 if one subspace contains the other, 0 if they are orthogonal. NaN where
      a basis has dependent columns, NaN or inf.

    Raises:
      ValueError: if the arguments are not bases in one space.

    Example:
      >>> axes = jnp.eye(3)
      >>> float(grassmann_similarity(axes[:, :2], axes[:, 1:]))
      0.5
    """
    q_a, q_b = _orthonormal(a, b)
    inner = jnp.matmul(q_a.T, q_b, precision=HIGHEST)
    return jnp.sum(inner**2) / min(inner.shape)


@jit_over("x_a", "basis_a", "x_b", "basis_b", "mask_a", "mask_b")
def pcka(
    x_a: Float[AnyArray, "n d"],
    basis_a: Float[AnyArray, "d p"],
    x_b: Float[AnyArray, "m d"],
    basis_b: Float[AnyArray, "d q"],
    *,
    mask_a: Bool[AnyArray, " n"] | None = None,
    mask_b: Bool[AnyArray, " m"] | None = None,
    axis_name=None,
) -> Float[Array, ""]:
    """Agreement of two domains' bases on both domains' features.

    1/2 [CKA(X_A B_A, X_A B_B) + CKA(X_B B_A, X_B B_B)]. The domains share features, not rows.

    Args:
      x_a: [n, d] features of domain A; CKA centers the scores.
      basis_a: [d, p] its basis, replicated over devices.
      x_b: [m, d] features of domain B.
      basis_b: [d, q] its basis.
      mask_a: [n] rows of `x_a` that count.
      mask_b: [m] rows of `x_b` that count.
      axis_name: mesh axis both domains' rows are sharded over, if any.

    Returns:
      A number in [0, 1], symmetric in the domains: the mean of 0 and the other CKA where the
      features of one domain are constant, NaN where one has NaN or inf.

    Raises:
      ValueError: if features and bases differ in width, or a mask does not fit its rows.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
      >>> turned = jnp.array([[0.6, -0.8], [0.8, 0.6]])
      >>> bool(jnp.isclose(pcka(x, jnp.eye(2), x, turned), 1.0))
      True

    References:
      Radwan 2026.
    """
    xs, masks, bases = [x_a, x_b], [mask_a, mask_b], [basis_a, basis_b]
    _check_domains(xs, bases, masks)
    values = [
        cka(*_project(x, bases, mask, axis_name), mask=mask, axis_name=axis_name)
        for x, mask in zip(xs, masks, strict=True)
    ]
    return (values[0] + values[1]) / 2


@jit_over("xs", "bases", "masks")
def pairwise_pcka(
    xs: Sequence[Float[AnyArray, "_ d"]],
    bases: Sequence[Float[AnyArray, "d _"]],
    *,
    masks: Sequence[Bool[AnyArray, " _"] | None] | None = None,
    axis_name=None,
) -> Float[Array, "m m"]:
    """PCKA of every pair of domains.

    Each domain is projected on all bases by one product, and row i of its pairwise CKA matrix
    gives CKA(X_i B_i, X_i B_j) for all j; the result is the mean of that matrix and its transpose.

    Args:
      xs: M matrices [n_i, d] of features; the numbers of rows may differ.
      bases: M matrices [d, k_i], replicated over devices.
      masks: M row masks or None, one per domain; None for all rows of all domains.
      axis_name: mesh axis the rows of every domain are sharded over, if any.

    Returns:
      [M, M] symmetric, with ones on the diagonal (NaN or 0 where CKA is undefined, as `cka` says).

    Raises:
      ValueError: if the lists differ in length, or `pcka` would raise for a pair.

    Example:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
      >>> pairwise_pcka([x, x[:2]], [jnp.eye(2), jnp.eye(2)]).round(5).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    check_sequence("xs", xs)
    masks = [None] * len(xs) if masks is None else masks
    _check_domains(xs, bases, masks)
    one_sided = jnp.stack(
        [
            pairwise_cka(_project(x, bases, mask, axis_name), mask=mask, axis_name=axis_name)[i]
            for i, (x, mask) in enumerate(zip(xs, masks, strict=True))
        ]
    )
    return (one_sided + one_sided.T) / 2


def _project(x, bases, mask, axis_name):
    """Scores of the centered rows on each basis, from one product with all of them."""
    dtype = compute_dtype(x, *bases)
    stacked = jnp.concatenate([basis.astype(dtype) for basis in bases], axis=1)
    (rows,), _, _ = normalized_blocks([x.astype(dtype)], mask, axis_name)
    scores = jnp.matmul(rows, stacked, precision=HIGHEST)
    widths = [basis.shape[1] for basis in bases]
    return jnp.split(scores, [sum(widths[: i + 1]) for i in range(len(widths) - 1)], axis=1)


def _orthonormal(a, b):
    for name, basis in (("a", a), ("b", b)):
        check_matrix(name, basis)
        if basis.shape[1] > basis.shape[0]:
            raise ValueError(
                f"{name} must be [d, k] with k <= d, got {basis.shape}: transpose or cut it."
            )
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"a and b have {a.shape[0]} and {b.shape[0]} rows: give bases in one space."
        )
    dtype = compute_dtype(a, b)
    return _orthonormal_columns(a.astype(dtype)), _orthonormal_columns(b.astype(dtype))


def _orthonormal_columns(basis):
    """An orthonormal basis of the same space, NaN if the columns are dependent."""
    unit = power_of_two(jnp.max(jnp.abs(basis), axis=0, keepdims=True))
    q, r = jnp.linalg.qr(divide(basis, unit))
    r = jax.lax.stop_gradient(r)
    r = divide(r, jnp.linalg.norm(r, axis=0, keepdims=True))
    size = jnp.linalg.svd(r, compute_uv=False)
    independent = size[-1] > r.shape[1] * jnp.finfo(r.dtype).eps * size[0]
    return jnp.where(independent, q, jnp.nan)


def _check_domains(xs, bases, masks):
    for name, items in (("xs", xs), ("bases", bases), ("masks", masks)):
        check_sequence(name, items)
    if not len(xs) == len(bases) == len(masks):
        raise ValueError(
            f"got {len(xs)} feature matrices, {len(bases)} bases and {len(masks)} masks: "
            "give one of each per domain."
        )
    check_matrix("features of domain 0", xs[0])
    width = xs[0].shape[1]
    for i, (x, basis, mask) in enumerate(zip(xs, bases, masks, strict=True)):
        check_matrix(f"features of domain {i}", x)
        check_rows(x.shape[0], 1, f"domain {i}")
        check_matrix(f"basis of domain {i}", basis)
        check_mask(mask, x.shape[0])
        if x.shape[1] != width or basis.shape[0] != width:
            raise ValueError(
                f"domain {i} has features {x.shape} and basis {basis.shape}, "
                f"domain 0 has {width} features: give all domains the same features."
            )
