"""The sums of third order that the exact skewness of CKA's permutation null needs.

For each encoder, with K its centered kernel of trace 1, K0 = K - H / (n-1), H = I - 11'/n, and
k = diag K0, they are

    tr K0^3,  sum_a k_a^3,  sum_a k_a (K0^2)_aa,  k' K0 k,  sum_ab K0_ab^3.

The first comes from the smaller of X'X and XX', the last and (K0^2)_aa from the tiles of Gram space
that `inner_products.gram_sums` forms anyway, the others from the features.

Cost, for each encoder: n d^2 + 2 d^3 flops for the trace (n and d exchanged if n < d), of which
every device does its share; memory for three matrices of order min(n, d). All are constants to
differentiation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, MeshAxes, gather_rows, psum
from ..validate import axis_size
from .inner_products import GramSums


def cubic_sums(
    scaled: list[Float[Array, "n _"]],
    norms: Float[Array, "n E"],
    sums: GramSums,
    count: Int[Array, ""],
    mask: Bool[AnyArray, " n"] | None,
    axes: MeshAxes,
    precision,
) -> Float[Array, "5 E"]:
    """The five sums of each encoder.

    Args:
      scaled: blocks of unit trace (`normalization.normalized_blocks`).
      norms: diagonals of their kernels.
      sums: of the entries of their kernels.
      count: rows that count, n.
      mask: local rows that count.
      axes: mesh axes of the blocks.
      precision: of the large matrix products.
    """
    scaled, norms, inner = jax.lax.stop_gradient((scaled, norms, sums.inner))
    n = count.astype(norms.dtype)
    share = 1 / (n - 1)
    valid = jnp.ones((norms.shape[0], 1), bool) if mask is None else mask[:, None]
    k = jnp.where(valid, norms - 1 / n, 0)
    rows = jnp.where(valid, sums.squares - 2 * share * norms + share / n, 0)  # (K0^2)_aa
    # Off the diagonal K0 is K + c: cubed over all entries (K sums to 0), the diagonal put right.
    c = share / n
    off = norms + c
    fix = jnp.where(valid, (off - share) ** 3 - off**3, 0)
    images = [
        jnp.sum(psum(jnp.matmul(k[:, e], x, precision=HIGHEST), axes.rows) ** 2)
        for e, x in enumerate(scaled)
    ]
    images = psum(jnp.stack(images), axes.features)
    traces = []
    for x in scaled:
        if traces:  # one encoder after another, or their squares would be held together
            x, _ = jax.lax.optimization_barrier((x, traces[-1]))
        traces.append(trace_of_cube(x, axes, precision))
    powers, mixed, energy, fixes = psum(
        tuple(jnp.sum(a, axis=0) for a in (k**3, k * rows, k**2, fix)), axes.rows
    )
    t = jnp.diagonal(inner)
    return jnp.stack(
        [
            jnp.stack(traces) - 3 * share * t + 2 * share**2,
            powers,
            mixed,
            images - share * energy,
            sums.cubes + 3 * c * t + n**2 * c**3 + fixes,
        ]
    )


def trace_of_cube(x: Float[Array, "n d"], axes: MeshAxes, precision) -> Float[Array, ""]:
    """tr (X X')^3 from the smaller of X'X and XX', which every device holds whole."""
    rows = x.shape[0] * axis_size(axes.rows)
    if rows < x.shape[1] * axis_size(axes.features):
        x, axes = x.T, MeshAxes(axes.features, axes.rows)
    gathered = gather_rows(x, axes.features, axis=1)
    columns = jax.lax.optimization_barrier(gathered.T)
    own = psum(jnp.matmul(columns, x, precision=precision), axes.rows)
    whole = gather_rows(own, axes.features, axis=1)
    # `whole` is symmetric. Transposed, XLA's CPU product is 17 times as fast here (jax 0.10).
    square = jnp.matmul(whole.T, own, precision=precision)
    cube = jnp.sum(square * own, axis=0)
    return psum(jnp.sum(cube), axes.features)
