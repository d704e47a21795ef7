"""subs-rank: how well the leading directions of an encoder agree with those of a panel.

    Features are standardized; of each encoder e the first K principal component scores, each of
    unit variance, are A_e [n, K]. Generalized Procrustes turns all A_e towards their consensus
    Z = mean_e A_e R_e, whose columns are uncorrelated, in descending order of variance. Then

        subs-rank(e) = 1/K sum_k |r(A_e R_e[:, k], Z[:, k])|,     r Pearson's correlation,

    in [0, 1]. It takes no labels, so it ranks the encoders of a panel for the images at hand
    whatever the target is. An encoder is part of the consensus that it is held against.

Cost: of each encoder the principal components, 4 n d (K + 16) flops per pass of a subspace
iteration or the eigendecomposition of the smaller Gram matrix, whichever is less; and 2 n (E K)^2.

Not guaranteed: the components are exact to a residual of 1e-7 of the largest variance, the
consensus to 1e-6 a turn, of 300 at most; if variances K and K + 1 are equal, which directions are
kept is arbitrary, and so is the score.

References
    Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
    J. Gower, "Generalized Procrustes analysis", 1975.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul
from substrate_jax.kernels.moments import standardize
from substrate_jax.kernels.subspaces.pca import pca
from substrate_jax.kernels.subspaces.procrustes import generalized_procrustes
from substrate_jax.kernels.validate import check_at_least

from .coordinates import Coordinates
from .inputs import checked_features, filled_up, in_float64

TOLERANCE = 1e-7
MOST_PASSES = 300
MOVED = 1e-6  # share of the consensus, at which to stop turning
MOST_TURNS = 300


def subs_rank(
    panel: Mapping[str, ArrayLike | Coordinates], labels: ArrayLike | None = None, *, k: int = 16
) -> Float64[np.ndarray, " E"]:
    """subs-rank of each encoder of a panel; higher is better.

    Mean over k of |Pearson r| between an encoder's k-th aligned component score and the
    consensus's, in [0, 1]; unchanged by scale and shift of single features.

    Args:
      panel: at least two encoders' features of the same rows.
      labels: not used.
      k: components, at most min(n - 1, d) of every encoder.

    Returns:
      [E] in the order of the panel; NaN for encoders whose features are constant, which the
      consensus leaves out. A component beyond the rank of an encoder counts 0.

    Raises:
      ValueError: fewer than two encoders, different numbers of rows, features that are no finite
        matrices, or `k` out of range.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> shared = rng.normal(size=(80, 6))
      >>> turned = shared @ np.linalg.qr(rng.normal(size=(6, 6)))[0]
      >>> panel = {"a": shared, "b": turned, "noise": rng.normal(size=(80, 6))}
      >>> values = subs_rank(panel, k=6)
      >>> [bool(value > 0.9) for value in values]
      [True, True, False]

    References:
      Radwan 2026, arXiv:2606.07882.
    """
    if len(panel) < 2:
        raise ValueError(
            f"panel must hold at least 2 encoders, got {len(panel)}: the consensus is theirs."
        )
    check_at_least("k", k, 1)
    arrays = {}
    for name, features in panel.items():
        given = features.features if isinstance(features, Coordinates) else features
        arrays[name] = checked_features(given, f"panel[{name!r}]")
    rows = {array.shape[0] for array in arrays.values()}
    if len(rows) > 1:
        counts = {name: array.shape[0] for name, array in arrays.items()}
        raise ValueError(
            f"panel must hold the same rows for all encoders, got {counts}: align them."
        )
    narrowest = min(arrays, key=lambda name: arrays[name].shape[1])
    most = min(rows.pop() - 1, arrays[narrowest].shape[1])
    if k > most:
        raise ValueError(
            f"k must be at most {most} = min(n - 1, d) of {narrowest!r}, got {k}: lower it."
        )
    blocks = [component_scores(array, k) for array in arrays.values()]
    varies = np.array([bool(jnp.any(block)) for block in blocks])
    scores = np.full(len(blocks), np.nan)
    if varies.sum() > 1:
        kept = [block for block, varied in zip(blocks, varies, strict=True) if varied]
        scores[varies] = np.asarray(_agreement(kept))
    return scores


@in_float64
def component_scores(features, k: int) -> Float64[jax.Array, "n k"]:
    """The first k principal component scores of standardized features, of unit variance or zero."""
    return _component_scores(filled_up(np.asarray(features)), k)


@partial(jax.jit, static_argnames="k")
def _component_scores(x, k):
    x = standardize(x.astype(jnp.float64))
    found = pca(x, k, tolerance=TOLERANCE, max_iterations=MOST_PASSES)
    # The mean of standardized features is rounding: to subtract it from them would copy them.
    scores = matmul(x, found.components) - matmul(found.mean[None, :], found.components)
    scale = jnp.sqrt(jnp.mean(scores**2, axis=0))
    # A component whose deviation is rounding of the first is none.
    real = scale > 1e-7 * jnp.maximum(scale[0], 1e-300)
    return jnp.where(real[None, :], divide(scores, scale[None, :]), 0)


@in_float64
@jax.jit
def _agreement(blocks):
    found = generalized_procrustes(blocks, tolerance=MOVED, max_iterations=MOST_TURNS)
    consensus = found.consensus - jnp.mean(found.consensus, axis=0)[None, :]
    aligned = found.aligned - jnp.mean(found.aligned, axis=1, keepdims=True)
    inner = jnp.abs(jnp.sum(aligned * consensus[None], axis=1))
    lengths = jnp.linalg.norm(aligned, axis=1) * jnp.linalg.norm(consensus, axis=0)[None, :]
    return jnp.mean(divide(inner, lengths), axis=1)
