"""Linear centered kernel alignment (CKA) of any number of encoders in one pass over their features.

Encoder e gives centered rows X_e [n, d_e] and the Gram matrix K_e = X_e X_e'. With <K, L> = tr KL,

    CKA(e, f) = <K_e, K_f> / sqrt(<K_e, K_e> <K_f, K_f>),

which equals the RV coefficient. All of it follows from three sums: <K_e, K_f>, <diag K_e, diag K_f>
and tr K_e. The unbiased estimate of HSIC for centered rows is, up to the factor 1 / (n (n-3)),

    <K, L> - n/(n-2) <diag K, diag L> + tr K tr L / ((n-1)(n-2)),

(Song et al. 2012, eq. 5, whose K~ 1 is -diag K when K 1 = 0); debiased CKA is its ratio. It can be
negative and is not clamped. `PairwiseHsic` holds the sums, so that CKA, debiased CKA and the
calibration of `null` all come from one pass.

<K_e, K_f> is computed in the cheaper of two spaces (`inner_products`), D = sum d_e, E encoders:

    feature: ||X_e' X_f||^2, half of all tiles      n D^2 flops
    gram:    <K_e, K_f>, half of the tiles          n^2 (D + E^2) flops

Memory is three to four copies of the blocks, and tiles, which `memory` bounds; neither D x D nor
n x n of all encoders is ever held. On a mesh rows may be sharded over
one axis and the features of every encoder over another. `StreamingCka` does the same in a stream of
batches of any size, exactly (no average of per-batch values). Products are float32 at the highest
precision; the sums' relative error is about eps sqrt(n). Debiasing subtracts: its relative error
grows by <K, K> / HSIC, which is large when d >> n and features are nearly white.

`precision` of "TF32_TF32_F32", "BF16_BF16_F32_X3" or "BF16_BF16_F32" is faster on accelerators. For
256 to 2,048 rows of 14 encoders, D = 1,933, rounding inputs as they do moves CKA and debiased CKA
by less than 1e-5, 1e-7 and 5e-5 (emulated). On CPUs JAX refuses the first and computes the
others in float32.

References:
    Escoufier (1973), Le traitement des variables vectorielles. Biometrics 29.
    Kornblith, Norouzi, Lee, Hinton (2019), Similarity of neural network representations revisited.
    Song, Smola, Gretton, Bedo, Borgwardt (2012), Feature selection via dependence maximization.
    JMLR 13.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, divide, is_constant, pmax, psum
from ..moments import center_rows
from ..validate import all_rows, axis_size, check_blocks, check_option, check_rows, compute_dtype
from .inner_products import feature_bytes, feature_inner, gram_halving, gram_sums, trace_of_cube

GRAM_OVERHEAD = 6  # of an E x E product of tiles, as the flops run at a sixth of the rate (AVX2)
SPACES = ("auto", "feature", "gram")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairwiseHsic:
    """The sums that every statistic of a pair of linear kernels needs.

    Each encoder is divided by `scale` (so that tr K = 1), which no alignment depends on: the inner
    product of the kernels as given is `inner[i, j] * scale[i]**2 * scale[j]**2`. An encoder that is
    constant over the rows has zeros throughout.

    Attributes:
      inner: [E, E] <K_i, K_j>.
      diagonal: [E, E] <diag K_i, diag K_j>.
      trace: [E] tr K_i: 1, or 0 where constant.
      scale: [E] root of the trace of the kernel as given; a constant to differentiation.
      count: rows n.
      cubic: [5, E] the sums of third order of each K less its trace, in the order that
        `permutation_moments` lists; None unless asked for. Constants to differentiation.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0], [2.0]])
      >>> hsic = pairwise_hsic([x, 0 * x])
      >>> hsic.trace.round(3).tolist(), int(hsic.count)
      ([1.0, 0.0], 4)
    """

    inner: Float[Array, "E E"]
    diagonal: Float[Array, "E E"]
    trace: Float[Array, " E"]
    scale: Float[Array, " E"]
    count: Int[Array, ""]
    cubic: Float[Array, "5 E"] | None = None

    def debiased(self) -> Float[Array, "E E"]:
        """n (n-3) times the unbiased estimate of HSIC; needs n >= 4.

        Example:
          >>> x = jnp.array([[1.0], [-1.0], [0.0], [0.0]])
          >>> pairwise_hsic([x]).debiased().round(3).tolist()  # 1 - 4/2 x 1/2 + 1/6
          [[0.167]]
        """
        n = self.count.astype(self.inner.dtype)
        traces = self.trace[:, None] * self.trace[None, :]
        return self.inner - n / (n - 2) * self.diagonal + traces / ((n - 1) * (n - 2))

    def cka(self, *, debiased: bool = False) -> Float[Array, "E E"]:
        """CKA of all pairs; 0, with a zero gradient, where an encoder is constant.

        With `debiased`, NaN if fewer than 4 rows count.

        Example:
          >>> x = jnp.array([[0.0], [1.0], [5.0]])
          >>> pairwise_hsic([x, x**2]).cka()[0].round(3).tolist()
          [1.0, 0.976]
        """
        hsic = self.debiased() if debiased else self.inner
        # What is left of the norm after debiasing may be nothing but rounding.
        norm, rounding = jnp.diagonal(hsic), 8 * jnp.finfo(hsic.dtype).eps
        empty = norm <= rounding * jnp.diagonal(self.inner)
        root = jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, norm)))
        result = divide(hsic, root[:, None] * root[None, :])
        return jnp.where(self.count < 4, jnp.nan, result) if debiased else result


def normalized_blocks(blocks, mask, axis_name, feature_axis_name=None):
    """Centered blocks of unit trace, in one dtype, with their scales [E] and the number of rows."""
    dtype = compute_dtype(*blocks)
    scaled, scales = [], []
    for block in blocks:
        rows, count, origin, offset = center_rows(block.astype(dtype), mask, axis_name)
        reach = pmax(pmax(jnp.max(jnp.abs(rows), initial=0), axis_name), feature_axis_name)
        rows = divide(rows, reach)  # at most 1: squares cannot overflow
        trace = jnp.sum(jnp.sum(jax.lax.stop_gradient(rows) ** 2, axis=1))
        trace = psum(psum(trace, axis_name), feature_axis_name)
        scale = kernel_scale(reach, trace, count, origin + offset, feature_axis_name)
        scaled.append(rows * divide(reach, scale))
        scales.append(scale)
    return scaled, jnp.stack(scales), count


def kernel_scale(unit, trace, count, mean, feature_axis_name=None):
    """Root of unit^2 tr K, or 0 where that is within rounding of the norm of the means."""
    scale = unit * jnp.sqrt(trace)
    largest = pmax(jnp.max(jnp.abs(mean)), feature_axis_name)
    square = psum(jnp.sum(divide(mean, largest) ** 2), feature_axis_name)
    magnitude = largest * jnp.sqrt(count.astype(scale.dtype) * square)
    constant = is_constant(scale, magnitude, scale.dtype)
    return jax.lax.stop_gradient(jnp.where(constant, 0, scale))


def resolve_space(
    space: str,
    blocks,
    axis_name,
    feature_axis_name=None,
    *,
    cubic: bool = False,
    memory: int | None = None,
) -> str:
    """The space named, or for "auto" the one with fewer operations that fits `memory`.

    Raises:
      ValueError: if the space is unknown, or neither fits.
    """
    check_option("space", space, SPACES)
    shards = axis_size(feature_axis_name)
    widths = [block.shape[1] * shards for block in blocks]
    total = sum(widths)
    rows, local = all_rows(blocks[0].shape[0], axis_name), blocks[0].shape[0]
    flops = {
        "feature": total**2,
        "gram": rows * (total + GRAM_OVERHEAD * len(widths) ** 2),
    }
    if cubic:
        flops.pop("feature")  # sum K_ab^3 needs the entries
    axes = axis_name, feature_axis_name
    itemsize = compute_dtype(*blocks).itemsize
    needed = {
        "feature": feature_bytes(blocks, *axes, itemsize),
        "gram": gram_halving(blocks, *axes, itemsize, cubic=cubic, memory=0)[1],
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
            f"{local} rows a device: {fits}; raise it or shard over more devices."
        )
    return space


def hsic_of_normalized(
    scaled,
    scale,
    count,
    space,
    axis_name,
    precision,
    *,
    feature_axis_name=None,
    memory=None,
    cubic=False,
    mask=None,
) -> PairwiseHsic:
    """The sums of blocks that `normalized_blocks` made."""
    norms = jnp.stack([jnp.sum(rows**2, axis=1) for rows in scaled], axis=1)
    norms = psum(norms, feature_axis_name)
    diagonal = psum(jnp.matmul(norms.T, norms, precision=HIGHEST), axis_name)
    trace = psum(jnp.sum(norms, axis=0), axis_name)
    if space == "feature":
        inner = feature_inner(scaled, axis_name, feature_axis_name, precision)
        return PairwiseHsic(inner, diagonal, trace, scale, count)
    inner, squares, cubes = gram_sums(
        scaled,
        axis_name=axis_name,
        feature_axis_name=feature_axis_name,
        precision=precision,
        memory=memory,
        cubic=cubic,
    )
    hsic = PairwiseHsic(inner, diagonal, trace, scale, count)
    if not cubic:
        return hsic
    scaled, norms, inner = jax.lax.stop_gradient((scaled, norms, inner))
    sums = _cubic_sums(
        scaled, norms, inner, squares, cubes, count, mask, axis_name, feature_axis_name, precision
    )
    return dataclasses.replace(hsic, cubic=sums)


def _cubic_sums(
    scaled, norms, inner, squares, cubes, count, mask, axis_name, feature_axis_name, precision
) -> Float[Array, "5 E"]:
    """The five sums of `permutation_moments`, of K - H / (n-1): K has trace 1."""
    n = count.astype(norms.dtype)
    share = 1 / (n - 1)
    valid = jnp.ones((norms.shape[0], 1), bool) if mask is None else mask[:, None]
    k = jnp.where(valid, norms - 1 / n, 0)
    rows = jnp.where(valid, squares - 2 * share * norms + share / n, 0)  # (K0^2)_aa
    # Off the diagonal K0 is K + c: cubed over all entries (K sums to 0), the diagonal put right.
    c = share / n
    off = norms + c
    fix = jnp.where(valid, (off - share) ** 3 - off**3, 0)
    images = [
        jnp.sum(psum(jnp.matmul(k[:, e], x, precision=HIGHEST), axis_name) ** 2)
        for e, x in enumerate(scaled)
    ]
    images = psum(jnp.stack(images), feature_axis_name)
    traces = []
    for x in scaled:
        if traces:  # one encoder after another, or their squares would be held together
            x, _ = jax.lax.optimization_barrier((x, traces[-1]))
        traces.append(trace_of_cube(x, axis_name, feature_axis_name, precision))
    powers, mixed, energy, fixes = psum(
        tuple(jnp.sum(a, axis=0) for a in (k**3, k * rows, k**2, fix)), axis_name
    )
    t = jnp.diagonal(inner)
    return jnp.stack(
        [
            jnp.stack(traces) - 3 * share * t + 2 * share**2,
            powers,
            mixed,
            images - share * energy,
            cubes + 3 * c * t + n**2 * c**3 + fixes,
        ]
    )


def pairwise_hsic(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
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
    space = resolve_space(space, blocks, axis_name, feature_axis_name, cubic=cubic, memory=memory)
    scaled, scale, count = normalized_blocks(blocks, mask, axis_name, feature_axis_name)
    return hsic_of_normalized(
        scaled,
        scale,
        count,
        space,
        axis_name,
        precision,
        feature_axis_name=feature_axis_name,
        memory=memory,
        cubic=cubic,
        mask=mask,
    )


def pairwise_cka(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    debiased: bool = False,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
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
      [E, E] symmetric, 1 on the diagonal; 0 in the row and column of a constant encoder.

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


def cka(
    x: Float[Array, "n d"],
    y: Float[Array, "n e"],
    *,
    debiased: bool = False,
    mask: Bool[Array, " n"] | None = None,
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
