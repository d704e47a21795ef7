"""Linear centred kernel alignment (CKA) of any number of encoders in one pass over their features.

Encoder e gives centred rows X_e [n, d_e] and the Gram matrix K_e = X_e X_e'. With <K, L> = tr KL,

    CKA(e, f) = <K_e, K_f> / sqrt(<K_e, K_e> <K_f, K_f>),

which equals the RV coefficient. All of it follows from three sums: <K_e, K_f>, <diag K_e, diag K_f>
and tr K_e. The unbiased estimate of HSIC for centred rows is, up to the factor 1 / (n (n-3)),

    <K, L> - n/(n-2) <diag K, diag L> + tr K tr L / ((n-1)(n-2)),

(Song et al. 2012, eq. 5, whose K~ 1 is -diag K when K 1 = 0); debiased CKA is its ratio. It can be
negative and is not clamped. `PairwiseHsic` holds the sums, so that CKA, debiased CKA and the
calibration of `null` all come from one pass.

<K_e, K_f> is computed in the cheaper of two spaces, D = sum d_e, E encoders:

    feature: ||X_e' X_f||^2 for e <= f              n (D^2 + sum d_e^2) flops
    gram:    tiles of rows of every K_e at once     2 n^2 (D + E^2) flops

Memory is n D plus the products X_e' X_f, used one by one (a compiler may keep several, D^2 / 2 in
all), or plus one tile; n x n x E is never held. `CkaState` does the same in a stream of batches of
any size, exactly (no average of per-batch values). Products are float32 at the highest
precision; the sums' relative error is about eps sqrt(n). Debiasing subtracts: its relative error
grows by <K, K> / HSIC, which is large when d >> n and features are nearly white.

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
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .moments import HIGHEST, centre_rows, divide, is_constant, pmax, psum
from .validate import all_rows, check_blocks, check_option, check_rows, compute_dtype

TILE_BYTES = 1 << 26  # of Gram rows held at once, all encoders together
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
    """

    inner: Float[Array, "E E"]
    diagonal: Float[Array, "E E"]
    trace: Float[Array, " E"]
    scale: Float[Array, " E"]
    count: Int[Array, ""]

    def debiased(self) -> Float[Array, "E E"]:
        """n (n-3) times the unbiased estimate of HSIC; needs n >= 4."""
        n = self.count.astype(self.inner.dtype)
        traces = self.trace[:, None] * self.trace[None, :]
        return self.inner - n / (n - 2) * self.diagonal + traces / ((n - 1) * (n - 2))

    def cka(self, *, debiased: bool = False) -> Float[Array, "E E"]:
        """CKA of all pairs; 0, with a zero gradient, where an encoder is constant.

        With `debiased`, NaN if fewer than 4 rows count.
        """
        hsic = self.debiased() if debiased else self.inner
        # What is left of the norm after debiasing may be nothing but rounding.
        norm, rounding = jnp.diagonal(hsic), 8 * jnp.finfo(hsic.dtype).eps
        empty = norm <= rounding * jnp.diagonal(self.inner)
        root = jnp.where(empty, 0, jnp.sqrt(jnp.where(empty, 1, norm)))
        result = divide(hsic, root[:, None] * root[None, :])
        return jnp.where(self.count < 4, jnp.nan, result) if debiased else result


def normalised_blocks(blocks, mask, axis_name):
    """Centred blocks of unit trace, in one dtype, with their scales [E] and the number of rows."""
    dtype = compute_dtype(*blocks)
    scaled, scales = [], []
    for block in blocks:
        rows, count, origin, offset = centre_rows(block.astype(dtype), mask, axis_name)
        reach = pmax(jnp.max(jnp.abs(rows), initial=0), axis_name)
        rows = divide(rows, reach)  # at most 1: squares cannot overflow
        trace = psum(jnp.sum(jnp.sum(jax.lax.stop_gradient(rows) ** 2, axis=1)), axis_name)
        scale = kernel_scale(reach, trace, count, origin + offset)
        scaled.append(rows * divide(reach, scale))
        scales.append(scale)
    return scaled, jnp.stack(scales), count


def kernel_scale(unit, trace, count, mean):
    """Root of unit^2 tr K, or 0 if the root mean square deviation is within rounding of 0."""
    scale = unit * jnp.sqrt(trace)
    entries = count.astype(scale.dtype) * mean.size
    constant = is_constant(scale, jnp.sqrt(entries) * jnp.max(jnp.abs(mean)), scale.dtype)
    return jax.lax.stop_gradient(jnp.where(constant, 0, scale))


def mirror(upper: Float[Array, "*b E E"]) -> Float[Array, "*b E E"]:
    """The symmetric matrix with this upper triangle."""
    return jnp.triu(upper) + jnp.swapaxes(jnp.triu(upper, 1), -1, -2)


def feature_inner(left, right, axis_name, precision) -> Float[Array, "E E"]:
    """||X_i' Y_j||^2 for i <= j (mirrored), one d_i x d_j product at a time."""
    encoders = len(left)
    inner = jnp.zeros((encoders, encoders), left[0].dtype)
    upper = jnp.triu_indices(encoders)
    norms = []
    for i, j in zip(*np.triu_indices(encoders), strict=True):
        product = psum(jnp.matmul(left[i].T, right[j], precision=precision), axis_name)
        # Two short sums: one of d_i d_j terms would lose digits in float32.
        norms.append(jnp.sum(jnp.sum(product**2, axis=0)))
    return mirror(inner.at[upper].set(jnp.stack(norms)))


def gram_inner(blocks, orders, axis_name, precision) -> Float[Array, "p E E"]:
    """<K_i, P K_j P'> for each order of the rows in `orders` [p, n], or p = 1 in place if None."""
    local = blocks[0].shape[0]
    everyone = blocks
    first = 0
    if axis_name is not None:
        everyone = [jax.lax.all_gather(block, axis_name, tiled=True) for block in blocks]
        first = jax.lax.axis_index(axis_name) * local
    n = everyone[0].shape[0]
    tile = max(8, TILE_BYTES // (len(blocks) * n * blocks[0].dtype.itemsize))
    tile = min(tile, local)
    padding = -local % tile
    padded = [jnp.pad(block, ((0, padding), (0, 0))) for block in blocks]  # zero rows add nothing

    def gram_rows(rows):
        pairs = zip(rows, everyone, strict=True)
        return jnp.stack([jnp.matmul(r, e.T, precision=precision) for r, e in pairs])

    def inner(a, b):
        return jnp.einsum("iab,jab->ij", a, b, precision=precision)

    @jax.checkpoint
    def body(start):
        grams = gram_rows([jax.lax.dynamic_slice_in_dim(b, start, tile) for b in padded])
        if orders is None:
            return inner(grams, grams)[None]

        def permuted(order):
            here = jnp.take(order, first + start + jnp.arange(tile), mode="clip")
            return inner(grams, gram_rows([e[here] for e in everyone])[:, :, order])

        return jax.lax.map(permuted, orders)

    tiles = jax.lax.map(body, jnp.arange(0, local + padding, tile))
    return psum(jnp.sum(tiles, axis=0), axis_name)


def resolve_space(space, blocks, axis_name) -> str:
    """The space named, or for "auto" the one with fewer operations (module docstring)."""
    check_option("space", space, SPACES)
    if space != "auto":
        return space
    widths = [block.shape[1] for block in blocks]
    total, squares = sum(widths), sum(width**2 for width in widths)
    gram = 2 * all_rows(blocks[0].shape[0], axis_name) * (total + len(widths) ** 2)
    return "feature" if total**2 + squares <= gram else "gram"


def hsic_of_normalised(scaled, scale, count, space, axis_name, precision) -> PairwiseHsic:
    """The sums of blocks that `normalised_blocks` made."""
    if space == "feature":
        inner = feature_inner(scaled, scaled, axis_name, precision)
    else:
        inner = gram_inner(scaled, None, axis_name, precision)[0]
    norms = jnp.stack([jnp.sum(rows**2, axis=1) for rows in scaled], axis=1)
    diagonal = psum(jnp.matmul(norms.T, norms, precision=HIGHEST), axis_name)
    return PairwiseHsic(inner, diagonal, psum(jnp.sum(norms, axis=0), axis_name), scale, count)


def pairwise_hsic(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
    precision=HIGHEST,
) -> PairwiseHsic:
    """The sums behind CKA, debiased CKA and their calibration, for all pairs of encoders.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      space: "feature", "gram", or "auto" for the one with fewer operations.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      precision: of the matrix products.

    Returns:
      A `PairwiseHsic`, of blocks centred and scaled to unit trace.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> pairwise_hsic([x, -2 * x]).inner.round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    check_blocks(blocks, mask)
    space = resolve_space(space, blocks, axis_name)
    scaled, scale, count = normalised_blocks(blocks, mask, axis_name)
    return hsic_of_normalised(scaled, scale, count, space, axis_name, precision)


def pairwise_cka(
    blocks: Sequence[Float[Array, "n _"]],
    *,
    debiased: bool = False,
    space: str = "auto",
    mask: Bool[Array, " n"] | None = None,
    axis_name=None,
    precision=HIGHEST,
) -> Float[Array, "E E"]:
    """Linear CKA of all pairs of encoders.

    Args:
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      debiased: use the unbiased estimate of HSIC (never clamped, so it can be negative).
      space: "feature", "gram", or "auto" for the one with fewer operations.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      precision: of the matrix products.

    Returns:
      [E, E] symmetric, 1 on the diagonal; 0 in the row and column of a constant encoder.

    Raises:
      ValueError: if the blocks are not floating-point matrices with the same rows, or there are
        fewer than 4 rows for `debiased`.

    Example:
      >>> x = jnp.array([[0.0], [1.0], [5.0]])
      >>> [f"{value:.3f}" for value in pairwise_cka([x, -2 * x, x**2])[0]]
      ['1.000', '1.000', '0.976']
    """
    check_blocks(blocks, mask)
    if debiased:
        check_rows(all_rows(blocks[0].shape[0], axis_name), 4, "debiased CKA")
    hsic = pairwise_hsic(blocks, space=space, mask=mask, axis_name=axis_name, precision=precision)
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
