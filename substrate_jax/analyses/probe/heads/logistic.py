"""Multinomial logistic regression, all episodes and strengths in one program.

Features are centered on the labeled rows and divided by one number, the root of their mean squared
length, so that strengths mean the same for any width and unit. Then

    (W, b) = argmin  sum_i -log softmax(z_i W + b)_{y_i} + l/2 |W|^2,

b without penalty. l = 1 / C of scikit-learn's LogisticRegression. The function is strongly convex
in W: two points with gradients g and g' have |W - W'|^2 <= |g - g'| |(W, b) - (W', b')| / l.

Where n < d rows are replaced by their coordinates in the space they span, which changes no
solution: W has no part outside.

Cost: passes x strengths x 4 n min(n, d) C flops per episode.

References: D. Liu, J. Nocedal (1989), "On the limited memory BFGS method"; evaluation with many
strengths as M. Oquab et al. (2023), "DINOv2", arXiv:2304.07193.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64

from substrate_jax.analyses.probe.heads.batch import Batch, Linear, head_program, mean_of
from substrate_jax.analyses.probe.heads.lbfgs import minimize
from substrate_jax.analyses.probe.heads.ridge import checked_strengths
from substrate_jax.kernels.arithmetic import HIGHEST, divide

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
TOLERANCE = 1e-5
PASSES = 1000


def logistic(
    batch: Batch,
    strengths: Sequence[float] = STRENGTHS,
    *,
    tolerance: float = TOLERANCE,
    passes: int = PASSES,
) -> Linear:
    """Logistic regressions of all episodes and strengths.

    Args:
        batch: labeled rows.
        strengths: [S] l, positive.
        tolerance: of the largest derivative, per labeled row.
        passes: of the optimizer at most.

    Returns:
        Log probabilities up to a constant of each row, and how many fits stopped before their
        tolerance (`unsolved`): their scores are those of the last step.

    Raises:
        ValueError: no strengths, or one that is not positive.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x, codes = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1]]), np.array([2, 3]))
        >>> fitted = logistic(batch)
        >>> fitted.unsolved, fitted.of_test(batch)[0, 0].argmax(axis=1).tolist()
        (0, [0, 1])
    """
    penalties = checked_strengths(strengths)
    bounds = np.float64(tolerance), np.int32(passes)
    weight, bias, solved = _logistic(batch.train, batch.one_hot, penalties, *bounds)
    return Linear(weight, bias, batch.classes, int(np.sum(~np.asarray(solved))))


def log_probabilities(scores: Float64[np.ndarray, "*s C"]) -> Float64[np.ndarray, "*s C"]:
    """Scores less the logarithm of the sum of their exponentials.

    Example:
        >>> np.exp(log_probabilities(np.array([0.0, 1000.0]))).tolist()
        [0.0, 1.0]
    """
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def scale_rows(x, real) -> tuple[Array, Array, Array]:
    """Rows centered and scaled, zeros where none; the center [E, D]; the scale [E], 1 for none."""
    mean = mean_of(x, real)
    centered = (x - mean[:, None]) * real[..., None]
    square = jnp.sum(centered**2, axis=(1, 2)) / jnp.sum(real, axis=1)
    scale = jnp.where(square > 0, jnp.sqrt(square), 1)
    return centered / scale[:, None, None], mean, scale


def _span(z):
    """Coordinates [E, N, N] of rows in an orthonormal basis [E, D, N] of the space they span."""
    across = jnp.swapaxes(z, 1, 2)
    values, vectors = jnp.linalg.eigh(jnp.matmul(z, across, precision=HIGHEST))
    least = 8 * jnp.finfo(z.dtype).eps * z.shape[1] * values[:, -1:]
    length = jnp.where(values > least, jnp.sqrt(jnp.maximum(values, 0)), 0)
    basis = divide(jnp.matmul(across, vectors, precision=HIGHEST), length[:, None])
    return vectors * length[:, None], basis


@head_program
def _logistic(x, one_hot, penalties, tolerance, passes):
    real = jnp.sum(one_hot, axis=2)
    z, mean, scale = scale_rows(x, real)
    basis = None
    if z.shape[1] < z.shape[2]:
        z, basis = _span(z)
    z = jnp.concatenate([z, real[..., None]], axis=2)
    episodes, _, width = z.shape
    classes, strengths = one_hot.shape[2], penalties.shape[0]
    exists = jnp.sum(one_hot, axis=1) > 0  # [E, K]
    penalized = jnp.ones(width).at[-1].set(0)
    shape = strengths, episodes, width, classes

    def function(flat):
        w = flat.reshape(shape)
        scores = jnp.einsum("end,sedk->senk", z, w, precision=HIGHEST)
        scores = jnp.where(exists[None, :, None], scores, -jnp.inf)
        log = jax.nn.log_softmax(scores, axis=-1)
        loss = -jnp.sum(jnp.where(one_hot[None] > 0, log, 0), axis=(2, 3))
        shrunk = penalties[:, None, None, None] * penalized[None, None, :, None] * w
        value = loss + jnp.sum(shrunk * w, axis=(2, 3)) / 2
        wrong = (jnp.exp(log) - one_hot[None]) * real[None, ..., None]
        gradient = jnp.einsum("end,senk->sedk", z, wrong, precision=HIGHEST) + shrunk
        return value.reshape(-1), gradient.reshape(flat.shape)

    rows = jnp.broadcast_to(jnp.sum(real, axis=1)[None], (strengths, episodes))
    # The Hessian of a row is at most half of |z|^2 = its squared length + 1, which have mean 2.
    first = 1 / (rows + penalties[:, None])
    found = minimize(
        function,
        jnp.zeros((strengths * episodes, width * classes)),
        first_step=first.reshape(-1),
        tolerance=(tolerance * rows).reshape(-1),
        passes=passes,
    )
    w = found.point.reshape(shape)
    weight, bias = w[:, :, :-1], w[:, :, -1]
    if basis is not None:
        weight = jnp.einsum("edr,serk->sedk", basis, weight, precision=HIGHEST)
    weight = weight / scale[None, :, None, None]
    bias = bias - jnp.einsum("ed,sedk->sek", mean, weight, precision=HIGHEST)
    return weight, bias, found.solved
