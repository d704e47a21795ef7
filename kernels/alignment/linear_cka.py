"""Linear centered kernel alignment (CKA) of any number of encoders in one pass over their features.

Encoder e gives centered rows X_e [n, d_e] and the Gram matrix K_e = X_e X_e'. With <K, L> = tr KL,

    CKA(e, f) = <K_e, K_f> / sqrt(<K_e, K_e> <K_f, K_f>),

which equals the RV coefficient. All of it follows from three sums: <K_e, K_f>, <diag K_e, diag K_f>
and tr K_e, and so does debiased CKA. `hsic.PairwiseHsic` holds the sums, so that CKA, debiased CKA
and the calibration of `nulls.calibration` all come from one pass.

<K_e, K_f> is computed in the cheaper of two spaces (`inner_products`), D = sum d_e, E encoders:

    feature: ||X_e' X_f||^2, half of all tiles      n D^2 flops
    gram:    <K_e, K_f>, half of the tiles          n^2 (D + E^2) flops

Memory is three to four copies of the blocks, and tiles, which `memory` bounds; neither D x D nor
n x n of all encoders is ever held. On a mesh rows may be sharded over one axis and the features of
every encoder over another. `StreamingCka` does the same in a stream of batches of any size, exactly
(no average of per-batch values). Products are float32 at the highest precision; the sums' relative
error is about eps sqrt(n), which debiasing amplifies (`hsic`).

`precision` of "TF32_TF32_F32", "BF16_BF16_F32_X3" or "BF16_BF16_F32" is faster on accelerators. For
256 to 2,048 rows of 14 encoders, D = 1,933, rounding inputs as they do moves CKA and debiased CKA
by less than 1e-5, 1e-7 and 5e-5 (emulated). On CPUs JAX refuses the first and computes the others
in float32.

References:
    Escoufier (1973), Le traitement des variables vectorielles. Biometrics 29.
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..arithmetic import HIGHEST, AnyArray, MeshAxes, psum
from ..jit_over import jit_over
from ..validate import all_rows, axis_size, check_blocks, check_option, check_rows, compute_dtype
from .cubic_sums import cubic_sums
from .hsic import PairwiseHsic
from .inner_products import feature_bytes, feature_inner, gram_halving, gram_sums
from .normalization import nan_pairs, normalized_blocks, without_nan

GRAM_OVERHEAD = 6  # of an E x E product of tiles, as the flops run at a sixth of the rate (AVX2)
SPACES = ("auto", "feature", "gram")


def resolve_space(
    space: str,
    blocks: Sequence,
    axes: MeshAxes,
    *,
    cubic: bool = False,
    memory: int | None = None,
) -> str:
    """The space named, or for "auto" the one with fewer operations that fits `memory`.

    Raises:
      ValueError: if the space is unknown, or neither fits.
    """
    check_option("space", space, SPACES)
    shards = axis_size(axes.features)
    widths = [block.shape[1] * shards for block in blocks]
    total = sum(widths)
    rows, local = all_rows(blocks[0].shape[0], axes.rows), blocks[0].shape[0]
    flops = {
        "feature": total**2,
        "gram": rows * (total + GRAM_OVERHEAD * len(widths) ** 2),
    }
    if cubic:
        flops.pop("feature")  # sum K_ab^3 needs the entries
    itemsize = compute_dtype(*blocks).itemsize
    needed = {
        "feature": feature_bytes(blocks, axes, itemsize),
        "gram": gram_halving(blocks, axes, itemsize, cubic=cubic, memory=0)[1],
    }
    if space == "auto":
        fitting = [name for name in flops if memory is None or needed[name] <= memory]
        space = min(fitting or flops, key=flops.__getitem__)
    elif space not in flops:
        raise ValueError(f"space must be 'auto' or 'gram' for cubic sums, got {space!r}.")
    if memory is not None and needed[space] > memory:
        fits = ", ".join(f"{name} space needs {needed[name]:,}" for name in sorted(flops))
        raise ValueError(
            f"memory={memory:,} bytes beyond the blocks are too few for {len(blocks)} encoders of "
            f"{local} rows per device: {fits}; raise it or shard over more devices."
        )
    return space


@jit_over("blocks", "mask")
def pairwise_hsic(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    space: str = "auto",
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
    feature_axis_name=None,
    precision=HIGHEST,
    memory: int | None = None,
    cubic: bool = False,
) -> PairwiseHsic:
    """The sums behind CKA, debiased CKA and their calibration, for all pairs of encoders.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      space: "feature", "gram", or "auto" for the one with fewer operations.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      feature_axis_name: mesh axis the features of every encoder are sharded over, if any.
      precision: of the matrix products, whatever `jax.numpy.matmul` takes; the module docstring
        gives the error of cheaper ones.
      memory: bytes a device may use beyond the blocks, copies of them included; None for no bound.
      cubic: also the sums that the exact third moment of the permutation null needs. Gram space
        only; adds n d_e^2 + 2 d_e^3 flops for each encoder (n and d_e exchanged if n < d_e).

    Returns:
      A `PairwiseHsic`, of blocks centered and scaled to unit trace.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or `memory` is
        too small.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> pairwise_hsic([x, -2 * x]).inner.round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    check_blocks(blocks, mask)
    axes = MeshAxes(axis_name, feature_axis_name)
    space = resolve_space(space, blocks, axes, cubic=cubic, memory=memory)
    scaled, scale, count = normalized_blocks(blocks, mask, *axes)
    norms = jnp.stack([jnp.sum(rows**2, axis=1) for rows in scaled], axis=1)
    norms = psum(norms, axes.features)
    diagonal = psum(jnp.matmul(norms.T, norms, precision=HIGHEST), axes.rows)
    trace = psum(jnp.sum(norms, axis=0), axes.rows)
    if space == "feature":
        # One product has the features of all encoders.
        inner = nan_pairs(feature_inner(without_nan(scaled, scale), axes, precision), scale)
        return PairwiseHsic(inner, diagonal, trace, scale, count)
    sums = gram_sums(scaled, axes, precision=precision, memory=memory, cubic=cubic)
    hsic = PairwiseHsic(sums.inner, diagonal, trace, scale, count)
    if not cubic:
        return hsic
    third = cubic_sums(scaled, norms, sums, count, mask, axes, precision)
    return dataclasses.replace(hsic, cubic=jnp.where(scale == 0, 0, third))


@jit_over("blocks", "mask")
def pairwise_cka(
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    debiased: bool = False,
    space: str = "auto",
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
    feature_axis_name=None,
    precision=HIGHEST,
    memory: int | None = None,
) -> Float[Array, "E E"]:
    """Linear CKA of all pairs of encoders.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      debiased: use the unbiased estimate of HSIC (never clamped, so it can be negative).
      space: "feature", "gram", or "auto" for the one with fewer operations.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      feature_axis_name: mesh axis the features of every encoder are sharded over, if any.
      precision: of the matrix products, whatever `jax.numpy.matmul` takes.
      memory: bytes a device may use beyond the blocks; None for no bound.

    Returns:
      [E, E] symmetric, 1 on the diagonal; in the row and column of a constant encoder 0, of one
      with NaN or inf NaN.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, there are fewer
        than 4 rows for `debiased`, or `memory` is too small.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> [f"{value:.3f}" for value in pairwise_cka([x, -2 * x, x**2])[0]]
      ['1.000', '1.000', '0.976']
    """
    check_blocks(blocks, mask)
    if debiased:
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "debiased CKA")
    hsic = pairwise_hsic(
        blocks,
        space=space,
        mask=mask,
        axis_name=axis_name,
        feature_axis_name=feature_axis_name,
        precision=precision,
        memory=memory,
    )
    return hsic.cka(debiased=debiased)


@jit_over("x", "y", "mask")
def cka(
    x: Float[AnyArray, "n d"],
    y: Float[AnyArray, "n e"],
    *,
    debiased: bool = False,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, ""]:
    """Linear CKA of two representations of the same rows: ||X'Y||^2 / (||X'X|| ||Y'Y||).

    Args:
      x: [n, d] rows; halves are upcast to float32.
      y: [n, e] the same rows.
      debiased: use the unbiased estimate of HSIC (never clamped, so it can be negative).
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      A scalar in [0, 1] (up to rounding), or below 0 if debiased; 0 if either is constant.

    Raises:
      ValueError: if the inputs are not floating-point matrices with the same rows, or there are
        fewer than 4 rows for `debiased`.

    Example:
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
      >>> float(cka(x, 3 * x[:, ::-1] + 7).round(4))
      1.0
    """
    return pairwise_cka([x, y], debiased=debiased, mask=mask, axis_name=axis_name)[0, 1]
