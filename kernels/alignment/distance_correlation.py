"""Distance correlation, which is 0 for independent features alone.

Rows x_i of an encoder have distances D_ij = ||x_i - x_j||, and A = H D H is that matrix centered:

    dCor^2(X, Y) = <A, B> / (||A|| ||B||),

the CKA of kernels -D. In the limit of many rows it is 0 if and only if the encoders are independent
(Szekely, Rizzo, Bakirov 2007), which no measure of linear relations is. Of few rows and wide
features it is high by chance, as CKA is. The unbiased estimate of Szekely and Rizzo (2013), of
U-centered distances, is here that of HSIC (Song et al. 2012, eq. 5), for the two are one sum.

Being sums over Gram matrices, `PairwiseHsic` serves, and with it the permutation moments of
`kernels.cka_null_moments`: those of dCor^2.

Cost, D = sum d_e: 2 passes of 2 n^2 D flops over the tiles of `distances`; n x n is never held.

Debiased it is NaN where the unbiased norm is within rounding of what it is taken from: for rows at
equal distances, and for an outlying row beyond some 1,000 times the distance of the others.

Not guaranteed: what `distances` does not: distances below sqrt(8 eps) of the rows' norms count as
0, and n is at most 46,340. The derivative where two rows are equal is taken as 0.

References:
    Szekely, Rizzo, Bakirov (2007), Measuring and testing dependence by correlation of distances.
    Annals of Statistics 35.
    Szekely, Rizzo (2013), The distance correlation t-test of independence in high dimension.
    Journal of Multivariate Analysis 117.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxtyping import Array, Bool, Float

from ..arithmetic import AnyArray, root
from ..jit_over import jit_over
from ..validate import all_rows, check_blocks, check_rows
from .distance_kernels import hsic_of_kernel
from .distances import distance_tiles
from .hsic import PairwiseHsic


@jit_over("blocks", "mask")
def pairwise_distance_correlation(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    debiased: bool = False,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Distance correlation of all pairs of encoders.

    dCor = sqrt(<A, B> / (||A|| ||B||)), with A and B the centered matrices of Euclidean distances;
    or the unbiased estimate of its square.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      debiased: give the unbiased estimate of dCor^2 (never clamped, so it can be negative).
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, 1 on the diagonal; 0 in the row and column of a constant encoder, NaN in
      those of one with NaN or inf; debiased also where only rounding is left (see the module).

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are too
        few rows (2; 4 for `debiased`) or more than 46,340.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[-2.0], [-1.0], [1.0], [2.0]])
      >>> [f"{value:.3f}" for value in pairwise_distance_correlation([x, 3 - 2 * x, x**2])[0]]
      ['1.000', '1.000', '0.431']

    References:
      Szekely, Rizzo, Bakirov 2007; Szekely, Rizzo 2013.
    """
    if debiased:
        check_blocks(blocks, mask)
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "debiased distance correlation")
    hsic = pairwise_distance_hsic(blocks, mask=mask, axis_name=axis_name)
    ratio = hsic.cka(debiased=debiased)
    return ratio if debiased else root(ratio)


@jit_over("blocks", "mask")
def pairwise_distance_hsic(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> PairwiseHsic:
    """The sums behind distance correlation, of kernels -H D H scaled to unit trace.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A `PairwiseHsic`, whose CKA is dCor^2.

    Raises:
      ValueError: as `pairwise_distance_correlation`.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> bool(jnp.allclose(pairwise_distance_hsic([x, -2 * x]).trace, 1))
      True
    """
    tiles, count = distance_tiles(blocks, mask, axis_name)
    found = hsic_of_kernel(tiles, count, lambda square: -root(square), 0, mask, axis_name)
    # The tiles are of features scaled to one size, and the trace is of their distances.
    return dataclasses.replace(found, scale=found.scale * root(tiles.scales))
