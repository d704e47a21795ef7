"""Linear CKA of all pairs of encoders under many weightings of the rows, in one pass over the rows.

A bootstrap draw is a row of counts w_a: image a comes w_a times. With K the Gram matrix of an
encoder, centered over all rows once, what a draw's own centering leaves of a pair is

    H_ef = sum_ab w_a w_b K_e,ab K_f,ab - 2/N sum_a w_a R_ea R_fa + M_e M_f / N^2,

R_e = K_e w, M_e = w'K_e w, N = sum_a w_a, and CKA is H_ef / sqrt(H_ee H_ff). That holds for K about
any center; here it is the mean of the half of the rows that lie nearest to the mean of all, so that
draws that leave out a few outlying rows do not have to subtract their distance. R and M follow from
the features, R_e = X_e (X_e'w), and so does the diagonal |x_a|^2 - 2 R_ea/N + M_e/N^2 that
debiasing takes off (`hsic.PairwiseHsic`). The first sum needs the entries: every tile of K is
formed once (`row_pairs.symmetric_sums`), and its b weightings are one matrix product a pair.

Cost, for E encoders, D = sum d_e and b weightings: n^2 (D + E^2 b / 2) flops and 4 n D b for R,
against n^2 D b or 2 n D^2 b if each draw starts from the features. Memory: tiles of 1,024 x 2,048
of E encoders, and n b (E + 1) entries, debiased n b (2 E + 1).

Not guaranteed: a draw in which an encoder's spread is far below the distance of its mean from that
center, as of copies of one outlying row and little else: H loses the digits of (distance /
spread)^4, and is taken as 0, the encoder as constant, where eps N of the first sum or less is left.

References:
    Efron (1979), Bootstrap methods. Annals of Statistics 7.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..arithmetic import HIGHEST, AnyArray, divide, gather_rows, mirror, psum, valid_rows
from ..blocks import first_row
from .hsic import PairwiseHsic
from .normalization import normalized_blocks
from .row_pairs import halve, symmetric_sums


def weighted_cka(
    blocks: Sequence[Float[AnyArray, "n _"]],
    weights: Float[Array, "m b"],
    *,
    debiased: bool = False,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "b E E"]:
    """Linear CKA of all pairs of encoders for each of `b` weightings of the rows.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      weights: [m, b] of all rows of all shards, at least 0; 0 for rows that do not count.
      debiased: from the unbiased estimates of HSIC; counts are of rows, a copy a row of its own.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [b, E, E], each 1 on the diagonal; 0 where an encoder is constant over the rows of weight.
      Debiased, NaN for weights of fewer than 4 rows, and where rounding is all that debiasing
      leaves of an encoder.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0], [9.0]])
      >>> twice = jnp.array([[1.0], [1.0], [2.0], [0.0]])
      >>> jax.jit(weighted_cka)([x, x**2], twice)[0].round(3).tolist()
      [[1.0, 0.983], [0.983, 1.0]]
    """
    scaled, _, _ = normalized_blocks(blocks, mask, axis_name)
    scaled = [_about_most_rows(x, mask, axis_name) for x in scaled]
    local, dtype = scaled[0].shape[0], scaled[0].dtype
    own = jax.lax.dynamic_slice_in_dim(weights.astype(dtype), first_row(local, axis_name), local)
    upper = np.stack(np.triu_indices(len(blocks)), axis=1)
    halving = halve(local, 2)

    def tile_sums(left, right):
        grams = jnp.stack(
            [jnp.matmul(x, y.T, precision=HIGHEST) for x, y in zip(left[0], right[0], strict=True)]
        )

        def pair(at):
            product = jnp.matmul(grams[at[0]] * grams[at[1]], right[1], precision=HIGHEST)
            return jnp.sum(left[1] * product, axis=0)

        return jax.lax.map(pair, jnp.asarray(upper)), (), ()

    padded = jax.tree.map(lambda x: jnp.pad(x, ((0, halving.rows - local), (0, 0))), (scaled, own))
    sums = psum(symmetric_sums(padded, tile_sums, halving, axis_name)[0], axis_name)

    images = [psum(jnp.matmul(x.T, own, precision=HIGHEST), axis_name) for x in scaled]
    rows = jnp.stack(
        [jnp.matmul(x, y, precision=HIGHEST) for x, y in zip(scaled, images, strict=True)]
    )
    cross = psum(jnp.einsum("eab,ab,fab->bef", rows, own, rows, precision=HIGHEST), axis_name)
    total = psum(jnp.sum(own, axis=0), axis_name)[:, None, None]
    mean = jnp.stack([jnp.sum(y**2, axis=0) for y in images], axis=1)
    mean = divide(mean, total[:, :, 0])
    plain = mirror(jnp.zeros(cross.shape, dtype).at[:, *upper.T].set(sums.T))
    hsic = plain - 2 * divide(cross, total) + mean[:, :, None] * mean[:, None, :]
    norm, size = (jnp.diagonal(a, axis1=1, axis2=2) for a in (hsic, plain))
    # Equal terms round alike: what they should leave nothing of may leave eps N.
    some = ~(norm <= jnp.finfo(dtype).eps * total[:, 0] * size)  # NaN is something
    hsic = jnp.where(some[:, :, None] & some[:, None, :], hsic, 0)
    diagonal, trace = jnp.zeros_like(hsic), jnp.zeros_like(norm)
    if debiased:
        count = total[:, 0, 0]
        own_norms = jnp.stack([jnp.sum(x**2, axis=1) for x in scaled])
        entries = own_norms[:, :, None] - divide(2 * rows, count[None, None, :])
        centers = divide(mean, count[:, None]).T  # squared norms, from X'w / N
        entries = jnp.where(some.T[:, None, :], entries + centers[:, None, :], 0)
        trace = psum(jnp.einsum("eab,ab->be", entries, own, precision=HIGHEST), axis_name)
        products = jnp.einsum("eab,ab,fab->bef", entries, own, entries, precision=HIGHEST)
        diagonal = psum(products, axis_name)
    sums = PairwiseHsic(hsic, diagonal, trace, jnp.ones_like(norm), total[:, 0, 0])
    return jax.vmap(lambda draw: draw.cka(debiased=debiased))(sums)


def _about_most_rows(x, mask, axis_name):
    """`x` less the mean of the half of the rows that are nearest to 0."""
    norms = gather_rows(jnp.sum(x**2, axis=1), axis_name)
    valid = valid_rows(x.shape[0], mask, axis_name)
    ascending = jnp.sort(jnp.where(valid, norms, jnp.inf))
    near = valid & (norms <= ascending[jnp.sum(valid, dtype=jnp.int32) // 2])
    near = jax.lax.dynamic_slice_in_dim(near, first_row(x.shape[0], axis_name), x.shape[0])
    total = psum(jnp.sum(near, dtype=x.dtype), axis_name)
    mean = divide(psum(jnp.sum(jnp.where(near[:, None], x, 0), axis=0), axis_name), total)
    return x - mean[None, :]
