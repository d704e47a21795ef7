"""The sums of HSIC for kernels that are functions of distances, by the tile of rows.

Cost, D = sum d_e: two passes over the tiles of `distances`, 2 n^2 D flops each; E^2 n^2 for the
products. Memory is n D plus tiles of rows of all encoders; n x n is never held.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, divide, mirror, psum
from .distances import DistanceTiles
from .hsic import PairwiseHsic


def hsic_of_kernel(
    tiles: DistanceTiles,
    count: Int[Array, ""],
    kernel: Callable[[Float[Array, "E t N"]], Float[Array, "E t N"]],
    diagonal: float,
    mask: Bool[AnyArray, " n"] | None,
    axis_name=None,
) -> PairwiseHsic:
    """The sums behind CKA of centered kernels H K H, scaled to unit trace.

    Args:
      tiles: squared distances of all encoders.
      count: rows that count.
      kernel: squared distances -> K.
      diagonal: K of a row with itself.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
    """
    n = count.astype(tiles.dtype)
    means = tiles.row_sums(kernel) / n  # [E, local]
    total = psum(jnp.sum(means, axis=1), axis_name) / n

    def sums(square, keep, _, __, here, others):
        centered = kernel(square) - here[:, :, None] - others[:, None, :]
        centered = jnp.where(keep[None], centered + total[:, None, None], 0)
        return jnp.einsum("iab,jab->ij", centered, centered, precision=HIGHEST)

    none = jnp.zeros((len(means),) * 2, tiles.dtype)
    # Symmetric to the bit.
    inner = mirror(psum(tiles.total(sums, none, means), axis_name))
    counts = jnp.ones(tiles.local, bool) if mask is None else mask
    norms = jnp.where(counts[None, :], diagonal - 2 * means + total[:, None], 0)
    products = psum(jnp.matmul(norms, norms.T, precision=HIGHEST), axis_name)
    trace = psum(jnp.sum(norms, axis=1), axis_name)
    both = trace[:, None] * trace[None, :]
    return PairwiseHsic(
        divide(inner, both), divide(products, both), divide(trace, trace), jnp.sqrt(trace), count
    )
