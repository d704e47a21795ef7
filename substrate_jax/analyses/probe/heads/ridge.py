"""Ridge regression of the classes in closed form, for many strengths by one decomposition.

Features are standardized on the labeled rows, z = (x - mean) / (std + 1e-5), and joined by a
constant feature 100, so large that the bias is hardly penalized; the targets are y = 1 for a row's
class and -1 for the others. Then

    W = argmin sum |z W - y|^2 + l |W|^2 = (Z'Z + l I)^-1 Z'Y = Z' (ZZ' + l I)^-1 Y

from the eigenvalues of the smaller of Z'Z and ZZ', and the class is the largest output. This is the
recipe of big_vision's few-shot evaluator (l = 2^10 there).

Cost: n d min(n, d) + min(n, d)^3 per episode, n d C more for each strength.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from substrate_jax.analyses.probe.heads.batch import Batch, Linear, head_program, mean_of
from substrate_jax.kernels.arithmetic import HIGHEST

STRENGTHS = tuple(4.0**power for power in range(10))
BIAS = 100.0
_LEAST_DEVIATION = 1e-5


def ridge(batch: Batch, strengths: Sequence[float] = STRENGTHS) -> Linear:
    """Ridge classifiers of all episodes and strengths.

    Args:
        batch: labeled rows.
        strengths: [S] l, positive; for the sum of squares, not its mean.

    Returns:
        Outputs that aim at 1 for the class of a row and -1 for others.

    Raises:
        ValueError: no strengths, or one that is not positive.

    Example:
        >>> from substrate_jax.analyses.probe.heads.batch import make_batch
        >>> x, codes = np.array([[-1.0], [1.0], [-2.0], [2.0]]), np.array([0, 1, 0, 1])
        >>> batch = make_batch(x, codes, np.array([[0, 1]]), np.array([2, 3]))
        >>> ridge(batch, (1024.0,)).of_test(batch)[0, 0].argmax(axis=1).tolist()
        [0, 1]

    References:
      L. Beyer, X. Zhai, A. Kolesnikov, big_vision, 2022 (evaluators/fewshot_lsr.py).
    """
    penalties = checked_strengths(strengths)
    weight, bias = _ridge(batch.train, batch.one_hot, penalties)
    return Linear(weight, bias, batch.classes)


def checked_strengths(strengths: Sequence[float]) -> np.ndarray:
    """Strengths as an array.

    Raises:
        ValueError: none, or one that is not positive and finite.
    """
    found = np.asarray(strengths, np.float64)
    if found.ndim != 1 or not found.size or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"strengths must be positive numbers, got {strengths}: use (1.0, 1024.0), say"
        )
    return found


@head_program
def _ridge(x, one_hot, penalties):
    n, d = x.shape[1:]
    real = jnp.sum(one_hot, axis=2)
    count = jnp.sum(real, axis=1)
    mean = mean_of(x, real)
    centered = (x - mean[:, None]) * real[..., None]
    deviation = jnp.sqrt(jnp.sum(centered**2, axis=1) / count[:, None]) + _LEAST_DEVIATION
    z = jnp.concatenate([centered / deviation[:, None], BIAS * real[..., None]], axis=2)
    target = (2 * one_hot - 1) * real[..., None]
    across = jnp.swapaxes(z, 1, 2)

    def product(a, b):
        return jnp.matmul(a, b, precision=HIGHEST)

    if n > d:
        values, vectors = jnp.linalg.eigh(product(across, z))
        left, right = vectors, product(jnp.swapaxes(vectors, 1, 2), product(across, target))
    else:
        values, vectors = jnp.linalg.eigh(product(z, across))
        left, right = product(across, vectors), product(jnp.swapaxes(vectors, 1, 2), target)
    values = jnp.maximum(values, 0)  # below it is rounding
    filtered = right[None] / (values[None] + penalties[:, None, None])[..., None]
    w = jnp.einsum("edr,serk->sedk", left, filtered, precision=HIGHEST)
    weight = w[:, :, :d] / deviation[None, :, :, None]
    bias = BIAS * w[:, :, d] - jnp.einsum("ed,sedk->sek", mean, weight, precision=HIGHEST)
    return weight, bias
