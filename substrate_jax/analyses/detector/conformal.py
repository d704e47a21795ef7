r"""When to abstain: p-values by split conformal prediction, within the class that is answered.

Calibration rows are like those to come and were not fitted to. Of a row answered with class c and
score s (higher is more like the rows fitted to),

    p = (1 + #{calibration rows answered with c of score <= s}) / (1 + #{those answered with c}).

If calibration rows and a new row of the known domains are exchangeable, they are so among those
answered with c, for the answer is a function of the row. So P(p <= a) <= a for every a, whatever
the score, the distribution and the number of rows, and abstaining where p <= a turns away at most a
share a of the known rows, in every class answered; ties make it fewer. That is the mean over sets
of calibration rows: given one of q rows the share is distributed like Beta(j, q + 1 - j), with
j = floor(a (q + 1)).

A class with fewer than 1 / a - 1 calibration rows never abstains: p cannot fall to a.

Cost: one sort per class, then a search per row.

Not guaranteed: anything about rows from elsewhere; what share of them is turned away is measured.

References: V. Vovk, A. Gammerman, G. Shafer (2005), "Algorithmic learning in a random world"
(Mondrian conformal predictors); S. Bates et al. (2023), "Testing for outliers with conformal
p-values", arXiv:2104.08279.
"""

import math

import numpy as np
from jaxtyping import Float, Float64, Int


def p_values(
    scores: Float[np.ndarray, " n"],
    answers: Int[np.ndarray, " n"],
    calibration: Float[np.ndarray, " q"],
    calibration_answers: Int[np.ndarray, " q"],
) -> Float64[np.ndarray, " n"]:
    """p of each row, within the class that it is answered with; 1 where that has no rows.

    Args:
        scores: of the rows.
        answers: class that each is answered with.
        calibration: scores of the calibration rows.
        calibration_answers: classes that these are answered with.

    Example:
        >>> p_values(np.array([0.5, 9.0]), np.array([0, 1]), np.arange(3.0), np.zeros(3, int))
        array([0.5, 1. ])
    """
    found = np.ones(len(scores))
    for code in np.unique(answers):
        own = np.sort(calibration[calibration_answers == code])
        here = answers == code
        below = np.searchsorted(own, scores[here], side="right")
        found[here] = (1 + below) / (1 + len(own))
    return found


def rows_needed(alpha: float) -> int:
    """Calibration rows of a class from which p can be as low as alpha.

    Example:
        >>> rows_needed(0.05), rows_needed(0.1)
        (19, 9)
    """
    return max(math.ceil(1 / alpha - 1e-9) - 1, 1)
