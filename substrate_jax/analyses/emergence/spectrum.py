r"""How many dimensions features fill: RankMe, two ways, and the exponent of their spectrum.

Features Z in R^{n x d} of n images have singular values s_i; less their mean, they have eigenvalues
l_i of the covariance, in descending order. With p_i = v_i / sum_j v_j and H(p) = -sum_i p_i log p_i

    RankMe          exp H(p),  v = s, the singular values of Z as it is    (Garrido et al.)
    effective rank  exp H(p),  v = l, the eigenvalues of its covariance    (as reptrix has RankMe)
    alpha           l_i ~ i^-alpha for i = 11..100, by least squares of log l_i on log i with
                    weights 1 / i, which give every octave the same say    (Stringer et al.)

The two ranks differ twice: eigenvalues are squares, which discount small directions, and the mean
counts as a direction in the first and not in the second. Published curves under one name are of
either kind.

Cost: one decomposition of n x d in float64, n d min(n, d).

Not guaranteed: that a spectrum is a power law; alpha is a slope whatever the spectrum is.

References: Q. Garrido et al. (2023), arXiv:2210.02885; C. Stringer et al. (2019), "High-dimensional
geometry of population responses in visual cortex"; K. Agrawal et al. (2022), arXiv:2204.05808.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

FIRST, LAST = 11, 100  # eigenvalues that alpha is fitted to, counted from 1


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """What the singular values of features come to.

    Attributes:
        rankme: exp of the entropy of the singular values, in [1, min(n, d)].
        effective_rank: exp of the entropy of the covariance's eigenvalues, in [1, min(n - 1, d)].
        alpha: exponent of the power law; NaN where there are not 100 eigenvalues above rounding.
    """

    rankme: float
    effective_rank: float
    alpha: float


def spectrum(features: Float[np.ndarray, "n d"]) -> Spectrum:
    """Ranks and exponent of features.

    Args:
        features: [n, d] finite, n >= 2.

    Returns:
        All NaN for features that are constant; RankMe then too, as nothing is told apart.

    Raises:
        ValueError: features that are no matrix of two rows or more, or not finite.

    Example:
        >>> found = spectrum(np.eye(4))
        >>> round(found.rankme, 6), round(found.effective_rank, 6)
        (4.0, 3.0)
    """
    z = np.asarray(features, np.float64)
    if z.ndim != 2 or len(z) < 2 or not z.shape[1]:
        raise ValueError(f"features have shape {list(z.shape)}; give [n, d] with n of 2 or more")
    if not np.isfinite(z).all():
        raise ValueError("features hold NaN or infinity; give finite ones")
    if not np.ptp(z, axis=0).any():
        return Spectrum(np.nan, np.nan, np.nan)
    z = z / np.abs(z).max()
    singular = np.linalg.svd(z, compute_uv=False)
    eigenvalues = np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2
    # Below this, float32 features are rounding: eps of the largest singular value, squared.
    floor = eigenvalues[0] * np.finfo(np.float32).eps ** 2 * max(z.shape)
    kept = eigenvalues[eigenvalues > floor]
    return Spectrum(_exp_entropy(singular), _exp_entropy(kept), _exponent(kept))


def _exp_entropy(values: Float[np.ndarray, " r"]) -> float:
    p = values[values > 0] / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def _exponent(eigenvalues: Float[np.ndarray, " r"]) -> float:
    """Minus the weighted slope of log l_i on log i."""
    if len(eigenvalues) < LAST:
        return float("nan")
    i = np.arange(FIRST, LAST + 1)
    x, y, weights = np.log(i), np.log(eigenvalues[FIRST - 1 : LAST]), 1 / i
    weights = weights / weights.sum()
    x, y = x - weights @ x, y - weights @ y
    return float(-(weights @ (x * y)) / (weights @ (x * x)))
