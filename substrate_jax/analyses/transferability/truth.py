"""The accuracy that scores should predict: of a tuned linear probe, on rows that no score has seen.

The rows of a target are halved once, class by class. Scores see one half with its labels. A ridge
probe on one-hot labels is fitted to that half too, its strength chosen by cross-validation within
it, and judged on the other half.

Cost: n d min(n, d) per encoder and target.

Not guaranteed: that fine-tuning would rank encoders alike. Where rows are not independent, such as
crops of one picture, the held-out half is not new, and accuracies are too high.

References: X. Zhai et al. (2019), arXiv:1910.04867 (linear evaluation); L. Beyer et al. (2022),
big_vision (ridge on one-hot labels).
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from substrate_jax.analyses.transferability.scores.probe import cross_validate


@dataclasses.dataclass(frozen=True, eq=False)
class Halves:
    """The rows of a target.

    Attributes:
        fit: [n] true for rows that scores see and probes are fitted to.
        labels: [n] class from 0, in the order of the original labels.
        classes: how many.
    """

    fit: Bool[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    classes: int


def halve(
    labels: Int[np.ndarray, " n"],
    *,
    least: int = 2,
    seed: int = 0,
    groups: Int[np.ndarray, " n"] | None = None,
) -> Halves:
    """Halve rows class by class, at random; rows of one group stay together.

    Args:
        labels: of any integers.
        least: rows of every class in each half.
        seed: of the split.
        groups: of the rows, such as the pictures that crops are of; each row its own by default.

    Returns:
        The halves; of an odd class the larger part is fitted to. With groups, halves and classes in
        them are as equal as whole groups allow (`sklearn.model_selection.StratifiedGroupKFold`).

    Raises:
        ValueError: one class only, or a class of fewer than 2 * least rows, or of too few groups,
            which is named.

    Example:
        >>> found = halve(np.array([7, 7, 7, 7, 9, 9, 9, 9]))
        >>> found.classes, int(found.fit.sum()), np.bincount(found.labels[found.fit]).tolist()
        (2, 4, [2, 2])
    """
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError("one class only: there is nothing to tell apart; give two classes or more")
    if counts.min() < 2 * least:
        raise ValueError(
            f"class {names[counts.argmin()]} has {counts.min()} rows; give {2 * least} or more of "
            "each class, or leave it out"
        )
    if groups is not None:
        return Halves(_whole_groups(names, codes, groups, least, seed), codes, len(names))
    rng = np.random.default_rng(seed)
    fit = np.zeros(len(codes), bool)
    for code in range(len(names)):
        rows = rng.permutation(np.flatnonzero(codes == code))
        fit[rows[: -(-len(rows) // 2)]] = True
    return Halves(fit, codes, len(names))


def _whole_groups(names, codes, groups, least: int, seed: int) -> Bool[np.ndarray, " n"]:
    from sklearn.model_selection import StratifiedGroupKFold

    if len(np.unique(groups)) < 2:
        raise ValueError("all rows are of one group: no part of them can be held out")
    folds = StratifiedGroupKFold(2, shuffle=True, random_state=seed % 2**32)
    _, rows = next(folds.split(np.zeros(len(codes)), codes, groups))
    fit = np.isin(np.arange(len(codes)), rows)
    if fit.sum() * 2 < len(fit):
        fit = ~fit
    counts = np.stack([np.bincount(codes[part], minlength=len(names)) for part in (fit, ~fit)])
    if counts.min() < least:
        few = int(counts.min(0).argmin())
        count = len(np.unique(groups[codes == few]))
        raise ValueError(
            f"class {names[few]} has rows of {count} group{'s' * (count != 1)}, "
            f"{counts[:, few].min()} rows in one of the halves; give {least} or more in each, by "
            "more groups, or leave it out"
        )
    return fit


def held_out_accuracy(
    features: Float[np.ndarray, "n d"], halves: Halves, *, seed: int = 0
) -> float:
    """Accuracy on the held-out half of a ridge probe fitted to the other, in percent.

    Features are centered and divided by one number, the root of their mean square, on the half
    that is fitted to.

    Args:
        features: of one encoder.
        halves: of the rows.
        seed: of the folds that choose the strength.

    Returns:
        In [0, 100]; NaN where features are constant on the fitted half.

    Raises:
        ValueError: NaN or inf.

    Example:
        >>> labels = np.arange(80) % 2
        >>> features = np.random.default_rng(0).normal(size=(80, 3)) + 8 * labels[:, None]
        >>> held_out_accuracy(features, halve(labels))
        100.0
    """
    x = np.asarray(features, np.float64)
    fit, labels = x[halves.fit], halves.labels[halves.fit]
    found = cross_validate(fit, labels, seed=seed)
    if np.isnan(found.accuracy).any():
        return float("nan")
    mean = fit.mean(axis=0)
    left, values, right = np.linalg.svd(fit - mean, full_matrices=False)
    kept = values > values[0] * max(fit.shape) * np.finfo(np.float64).eps
    left, values, right = left[:, kept], values[kept], right[kept]
    one_hot = np.eye(halves.classes)[labels]
    share = one_hot.mean(axis=0)
    # Of strengths that do as well, the strongest: the fit that varies least.
    best = np.flatnonzero(found.accuracy == found.accuracy.max())[-1]
    penalty = found.strengths[best] * (values**2).mean()
    weight = right.T @ ((values / (values**2 + penalty))[:, None] * (left.T @ (one_hot - share)))
    predicted = ((x[~halves.fit] - mean) @ weight + share).argmax(axis=1)
    return float(100 * (predicted == halves.labels[~halves.fit]).mean())
