"""ETran's energy: how far the features are from those of an input the encoder does not know.

    S_en = mean_i log sum_j exp(x_ij),

the negative free energy of the features taken as logits, a score for inputs out of distribution.
It uses no labels. The paper means over all rows; its published code means over the 0.5% of lowest
value. The paper adds a score of classification, here `sfda` without its second step.

Cost: n d exponentials. It depends on the axes and the scale of the features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from .coordinates import Coordinates
from .inputs import checked_features


def energy(
    features: ArrayLike | Coordinates, labels: ArrayLike | None = None, *, lowest: float = 1.0
) -> float:
    """ETran's energy score, the mean of log sum exp of the features; higher is better.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: not used.
      lowest: share of the rows, those of lowest value, that the mean is over, in (0, 1]; rounded up
        to whole rows. 0.005 is that of the published code.

    Raises:
      ValueError: features or share that are not as said.

    Example:
      >>> round(energy(np.zeros((3, 8))), 4) == round(float(np.log(8)), 4)
      True

    References:
      M. Gholami et al., "ETran: energy-based transferability estimation", ICCV 2023,
      arXiv:2308.02027.
    """
    if not 0 < lowest <= 1:
        raise ValueError(f"lowest must be in (0, 1], got {lowest}: use 1 for all rows.")
    array = features.features if isinstance(features, Coordinates) else checked_features(features)
    values = np.sort(np.asarray(logsumexp(np.asarray(array, np.float64), axis=1)))
    return float(np.mean(values[: int(np.ceil(lowest * len(values)))]))
