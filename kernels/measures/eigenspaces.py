"""Eigenspace overlap: how much of the space that one encoder spans lies in that of another.

Rows X = U S V' and Y = P T Q' of two encoders, with ranks r_x and r_y, have

    overlap(X, Y) = ||U'P||_F^2 / max(r_x, r_y),

the sum of the squares of the canonical correlations over the larger rank (May et al. 2019, who
compare compressed features with what they were; their widths are the ranks). It bounds how much
worse linear regression from the one can be than from the other. No weight tells a direction of much
variance from one of little, and any invertible map of the features leaves it alone.

Rows are centered here, as by all measures of this folder, and a column of ones is thus left out of
the spaces; `center=False` takes them as they are, as the source does.

Cost, for widths up to d and r = min(n, d): an SVD of n x d per encoder and 2 n r^2 flops per pair.
Memory: n d E. Sharded rows stay where they are if n >= d, as for `canonical`; else a device holds
those of one encoder.

Not guaranteed: ranks where singular values are within rounding. Components below max(n, d) eps of
the largest singular value are dropped. Where the ranks are near n, as of encoders wider than there
are rows, the overlap is near 1 whatever the encoders.

References:
    May, Zhang, Dao, Re (2019), On the downstream performance of compressed word embeddings.
    NeurIPS.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..alignment.normalization import nan_pairs
from ..arithmetic import AnyArray, divide, matmul, mirror, psum
from ..jit_over import jit_over
from .shapes import centered_shapes, components, every_pair, uncentered_shapes


@jit_over("blocks", "mask")
def eigenspace_overlap(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    center: bool = True,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Overlap ||U'P||_F^2 / max(r_x, r_y) of the spaces that all pairs of encoders span.

    U and P are orthonormal bases of the columns of X and Y, r their ranks.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      center: whether columns are centered.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [0, 1] up to rounding, 1 on the diagonal; in the row and column of a
      constant encoder (of zeros if not centered) 0, of one with NaN or inf NaN.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are
        fewer than 2 rows.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> eigenspace_overlap([x, x[:, ::-1] + 7, x[:, :1]])[0].round(4).tolist()
      [1.0, 1.0, 0.5]

    References:
      May et al. 2019.
    """
    shapes = centered_shapes if center else uncentered_shapes
    scaled, scales = shapes(blocks, mask, axis_name)
    left, values, _ = components(scaled, 1.0, axis_name)
    ranks = jnp.sum(values > 0, axis=1)

    def overlap(pair):
        i, j = pair
        larger = jnp.maximum(ranks[i], ranks[j]).astype(left.dtype)
        return divide(jnp.sum(psum(matmul(left[i].T, left[j]), axis_name) ** 2), larger)

    return nan_pairs(mirror(every_pair(overlap, len(blocks))), scales)
