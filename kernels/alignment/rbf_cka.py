"""CKA with Gaussian (RBF) kernels whose width is a multiple of the median distance.

Encoder e gives rows x_i and the kernel

    K_ij = exp(-||x_i - x_j||^2 / (2 (s m_e)^2)),     m_e = median of ||x_i - x_j|| over i < j,

with one multiple s for all encoders and the exact median of all pairs (`distances`). RBF CKA is the
ratio of `linear_cka` with K centered, H K H; the unbiased estimate of HSIC (Song et al. 2012, eq.
5) depends on the off-diagonal entries only up to a_i + a_j, which centering adds, so that
`PairwiseHsic` serves here as it stands. As s grows, K tends to a linear function of squared
distances, and CKA to that of linear kernels.

Cost, D = sum d_e: 2 n^2 D flops per pass over the tiles of `distances`; 2 passes for the kernels,
and 9 (float32) or 17 (float64) for the medians. Memory is n D plus tiles of rows of all encoders;
n x n is never held. Sharded rows go round the devices, as `distances` says.

A constant encoder gives 0 throughout. If more than half of the pairs coincide, m_e = 0, and K is
its limit: 1 for equal rows, else 0.

To differentiation the medians are constants: the gradient is that at the width at hand.

Not guaranteed: what `distances` does not: distances below sqrt(8 eps) of the rows' norms count as
0, and n is at most 46,340.

References:
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
    Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence maximization.
    JMLR 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..arithmetic import AnyArray
from ..jit_over import jit_over
from ..validate import all_rows, check_blocks, check_rows
from .distance_kernels import hsic_of_kernel
from .distances import distance_tiles, tile_median
from .hsic import PairwiseHsic


@jit_over("blocks", "mask")
def pairwise_rbf_cka(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    bandwidth: float = 1.0,
    debiased: bool = False,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """CKA of Gaussian kernels, for all pairs of encoders.

    K_ij = exp(-||x_i - x_j||^2 / (2 (s m)^2)), with m the median distance of the encoder.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      bandwidth: s > 0, the width of the kernel in median distances.
      debiased: use the unbiased estimate of HSIC (never clamped, so it can be negative).
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, 1 on the diagonal; 0 in the row and column of a constant encoder.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, `bandwidth` is
        not positive, or there are too few rows (2; 4 for `debiased`) or more than 46,340.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0], [6.0]])
      >>> [f"{value:.3f}" for value in pairwise_rbf_cka([x, 3 - 2 * x, x**2])[0]]
      ['1.000', '1.000', '0.984']

    References:
      Kornblith et al. 2019.
    """
    if debiased:
        check_blocks(blocks, mask)
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "debiased RBF CKA")
    hsic = pairwise_rbf_hsic(blocks, bandwidth=bandwidth, mask=mask, axis_name=axis_name)
    return hsic.cka(debiased=debiased)


@jit_over("blocks", "mask")
def pairwise_rbf_hsic(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    bandwidth: float = 1.0,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> PairwiseHsic:
    """The sums behind CKA and debiased CKA of centered Gaussian kernels.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      bandwidth: s > 0, the width of the kernel in median distances.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `PairwiseHsic` of kernels H K H scaled to unit trace.

    Raises:
      ValueError: as `pairwise_rbf_cka`.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> bool(jnp.allclose(pairwise_rbf_hsic([x, -2 * x]).trace, 1))
      True
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}: use 1, the median.")
    tiles, count = distance_tiles(blocks, mask, axis_name)
    width = 2 * (bandwidth * tile_median(tiles, count, axis_name)) ** 2

    def kernel(square):
        ratio = jnp.where(square == 0, 0, square / width[:, None, None])
        return jnp.exp(-ratio)

    return hsic_of_kernel(tiles, count, kernel, 1, mask, axis_name)
