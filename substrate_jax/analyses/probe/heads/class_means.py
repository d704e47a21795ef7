"""Nearest class mean, and linear discriminant analysis with a shrunk covariance.

Nearest class mean: the class c with the least |x - m_c|, as a linear score m_c'x - |m_c|^2 / 2.

Discriminant analysis: of the rows r_i = x_i - m_{class of i}, S = sum r_i r_i' / n. It is shrunk to

    Sigma = (1 - a) S + a mu I,   mu = tr S / d,

and the score is m_c' Sigma^-1 x - m_c' Sigma^-1 m_c / 2 + log(share of class c), a log posterior
but for a constant. The share a is that of Ledoit and Wolf for rows of mean 0,

    a = min(1, (sum |r_i|^4 / n - |S|^2) / n / |S - mu I|^2),

of the residuals of all classes together. With one label per class residuals and S are 0 and Sigma
is taken as I: then this is nearest class mean with unit variance.

Both work in the row space where n < d. Features are used as they are given: LDA does not depend on
rotations, nor on one common scale, but does on the scale of single features, through the shrinking.

Cost: n d min(n, d) + min(n, d)^3 per episode for LDA, n d for means.

References: T. Mensink et al. (2013), "Distance-based image classification"; O. Ledoit, M. Wolf
(2004), "A well-conditioned estimator for large-dimensional covariance matrices".
"""

import jax.numpy as jnp
import numpy as np

from substrate_jax.analyses.probe.heads.batch import Batch, Linear, head_program, mean_of
from substrate_jax.kernels.arithmetic import HIGHEST, divide

LEDOIT_WOLF = -1.0  # as a share: to be estimated
_LEAST_VARIANCE = 1e-12  # of the largest, where residuals of one length and line give a = 0


def nearest_mean(batch: Batch) -> Linear:
    """Nearest class mean of all episodes, as linear scores of one strength.

    Args:
        batch: labeled rows.

    Returns:
        Scores whose differences are half the differences of squared distances.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x, codes = np.array([[0.0], [4.0], [1.0], [3.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1]]), np.array([2, 3]))
        >>> scores = nearest_mean(batch).of_test(batch)[0, 0]
        >>> (2 * (scores[:, 0] - scores[:, 1])).tolist()  # 9 - 1, and 1 - 9
        [8.0, -8.0]
    """
    return Linear(*_nearest(batch.train, batch.one_hot), batch.classes)


def discriminant(batch: Batch, shrinkage: float | None = None) -> Linear:
    """Linear discriminant analysis of all episodes, as linear scores of one strength.

    Args:
        batch: labeled rows.
        shrinkage: a in (0, 1]; estimated as by Ledoit and Wolf if None.

    Returns:
        Log posteriors up to a constant of each row; softmax gives probabilities.

    Raises:
        ValueError: a share outside (0, 1].

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x = np.array([[0.0, 0.1], [0.2, 0.0], [4.0, 0.3], [4.2, 0.1]])
        >>> batch = make_batch(x, np.array([0, 0, 1, 1]), np.array([[0, 1, 2, 3]]), np.arange(4))
        >>> discriminant(batch).of_test(batch)[0, 0].argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """
    if shrinkage is not None and not 0 < shrinkage <= 1:
        raise ValueError(
            f"shrinkage must lie in (0, 1], got {shrinkage}: leave it out to estimate it"
        )
    share = np.float64(LEDOIT_WOLF if shrinkage is None else shrinkage)
    weight, bias, _ = _discriminant(batch.train, batch.one_hot, np.float64(batch.width), share)
    return Linear(weight, bias, batch.classes)


def ledoit_wolf_shares(batch: Batch) -> np.ndarray:
    """[E] the share a that `discriminant` estimates in each episode; 1 where S is a multiple of I.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x = np.array([[0.0, 0.1], [0.2, 0.0], [4.0, 0.3], [4.2, 0.1]])
        >>> batch = make_batch(x, np.array([0, 0, 1, 1]), np.array([[0, 1, 2, 3]]), np.arange(4))
        >>> bool(0 <= ledoit_wolf_shares(batch)[0] <= 1)
        True
    """
    share = np.float64(LEDOIT_WOLF)
    found = _discriminant(batch.train, batch.one_hot, np.float64(batch.width), share)
    return np.asarray(found[2])


def _class_means(x, one_hot):
    """Centered rows, zeros where none; their origin [E, D]; class means [E, K, D]; rows [E, K]."""
    real = jnp.sum(one_hot, axis=2)
    origin = mean_of(x, real)
    centered = (x - origin[:, None]) * real[..., None]
    rows = jnp.sum(one_hot, axis=1)
    total = jnp.einsum("end,enk->ekd", centered, one_hot, precision=HIGHEST)
    return centered, origin, divide(total, rows[..., None]), rows


def _linear(weight, constant, origin):
    """[1, E, D, K] and [1, E, K] for rows that are not centered, of [E, K, D] for centered ones."""
    weight = jnp.swapaxes(weight, 1, 2)
    bias = constant - jnp.einsum("ed,edk->ek", origin, weight, precision=HIGHEST)
    return weight[None], bias[None]


@head_program
def _nearest(x, one_hot):
    _, origin, means, _ = _class_means(x, one_hot)
    return _linear(means, -jnp.sum(means**2, axis=2) / 2, origin)


@head_program
def _discriminant(x, one_hot, width, shrinkage):
    centered, origin, means, rows = _class_means(x, one_hot)
    n = jnp.sum(rows, axis=1)
    residual = centered - jnp.einsum("enk,ekd->end", one_hot, means, precision=HIGHEST)
    across = jnp.swapaxes(residual, 1, 2)

    def product(a, b):
        return jnp.matmul(a, b, precision=HIGHEST)

    if x.shape[1] > x.shape[2]:
        values, vectors = jnp.linalg.eigh(product(across, residual) / n[:, None, None])
        directions = vectors  # [E, D, r], orthonormal
    else:
        values, vectors = jnp.linalg.eigh(product(residual, across) / n[:, None, None])
        scale = jnp.where(_real(values), jnp.sqrt(jnp.maximum(values, 0) * n[:, None]), 0)
        directions = divide(product(across, vectors), scale[:, None])
    values = jnp.where(_real(values), values, 0)
    trace, square = jnp.sum(values, axis=1), jnp.sum(values**2, axis=1)
    mu = trace / width
    distance = square - width * mu**2  # |S - mu I|^2
    lengths = jnp.sum(residual**2, axis=2)
    noise = (jnp.sum(lengths**2, axis=1) / n - square) / n
    tiny = 8 * jnp.finfo(x.dtype).eps * square  # rounding of a difference that is 0
    estimated = jnp.where(distance > tiny, jnp.clip(divide(noise, distance), 0, 1), 1)
    share = jnp.where(shrinkage < 0, estimated, shrinkage)
    floor = jnp.maximum(share * mu, _LEAST_VARIANCE * values[:, -1])
    floor = jnp.where(mu > 0, floor, 1)
    inside = jnp.einsum("ekd,edr->ekr", means, directions, precision=HIGHEST)
    # Sigma^-1 = I / floor + V diag(1 / ((1 - a) s + floor) - 1 / floor) V'
    change = 1 / ((1 - share)[:, None] * values + floor[:, None]) - 1 / floor[:, None]
    solved = jnp.einsum("ekr,edr->ekd", inside * change[:, None], directions, precision=HIGHEST)
    weight = means / floor[:, None, None] + solved
    prior = jnp.log(jnp.where(rows > 0, rows, 1) / n[:, None])
    constant = prior - jnp.sum(weight * means, axis=2) / 2
    return *_linear(weight, constant, origin), share


def _real(values):
    """Eigenvalues that are more than what rounding leaves of nothing."""
    size = values.shape[-1]
    return values > 8 * jnp.finfo(values.dtype).eps * size * values[:, -1:]
