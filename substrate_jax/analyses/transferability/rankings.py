"""How well a score ranks models by their accuracy, and what choosing by it costs.

All functions take scores and accuracies whose last axis is the model, and broadcast over the axes
before it: a bootstrap is one call. A higher score is better.

Ties. Rank correlations are corrected for them (tau-b). Where models tie in a score, the choice
among them counts as a random one, on average: the order in which models are written decides
nothing, and a score that cannot tell any apart does as well as chance.

Cost: O(m^2) per row of m models, in time and memory.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float, Real

Rows = Real[ArrayLike, "*#rows m"]
Values = Float[np.ndarray, "..."]


def tau(score: Rows, accuracy: Rows) -> Values:
    """Kendall's tau-b.

    tau = sum_ij sign(s_i - s_j) sign(a_i - a_j) / sqrt(#{s_i != s_j} #{a_i != a_j}), over ordered
    pairs; in [-1, 1].

    Args:
        score: [..., m] of m models.
        accuracy: [..., m].

    Returns:
        [...]; NaN where all scores or all accuracies are equal.

    Source: M. G. Kendall, Biometrika 33 (1945).

    Example:
        >>> float(tau([1, 2, 3], [10, 30, 20])).__round__(3)
        0.333
    """
    return _concordance(_signs(score), _signs(accuracy), np.ones(()))


def weighted_tau(score: Rows, accuracy: Rows) -> Values:
    """Kendall's tau with hyperbolic weights, so that errors among the best models count most.

    A pair weighs 1/(r_i + 1) + 1/(r_j + 1), with r the rank from 0 of the best; the mean over
    ranks by score and ranks by accuracy. In [-1, 1].

    Args:
        score: [..., m] of m models.
        accuracy: [..., m].

    Returns:
        [...]; NaN where all scores or all accuracies are equal.

    Source: S. Vigna, "A weighted correlation index for rankings with ties", WWW 2015; what
    `scipy.stats.weightedtau` computes, and most papers on transferability report.

    Example:
        >>> float(weighted_tau([1, 2, 3], [10, 30, 20])).__round__(3)
        0.182
    """
    s, a = _both(score, accuracy)
    signs = _signs(s), _signs(a)
    return (_concordance(*signs, _weights(s, a)) + _concordance(*signs, _weights(a, s))) / 2


def pearson(score: Rows, accuracy: Rows) -> Values:
    """Pearson's correlation, in [-1, 1]; NaN where either is constant.

    Args:
        score: [..., m] of m models.
        accuracy: [..., m].

    Example:
        >>> float(pearson([1, 2, 3], [10, 30, 20]))
        0.5
    """
    s, a = (x - x.mean(axis=-1, keepdims=True) for x in _both(score, accuracy))
    return _ratio((s * a).sum(axis=-1), np.sqrt((s**2).sum(axis=-1) * (a**2).sum(axis=-1)))


def regret(score: Rows, accuracy: Rows, top: int = 1) -> Values:
    """Accuracy lost by trying only the `top` models of highest score: 0 is best.

    Args:
        score: [..., m] of m models; -inf for one that is not to be chosen.
        accuracy: [..., m], in the unit of the result.
        top: models tried, of which the best is kept.

    Returns:
        [...] max_j a_j - max_{j among the top} a_j, at least 0; its mean where models tie.

    Example:
        >>> float(regret([1, 2, 3], [10, 30, 20])), float(regret([1, 2, 3], [10, 30, 20], top=2))
        (10.0, 0.0)
    """
    lost = _as_float(accuracy).max(axis=-1) - _best_of_top(score, accuracy, top)
    return np.maximum(lost, 0)  # a mean over ties is rounded


def relative(score: Rows, accuracy: Rows, top: int = 1) -> Values:
    """Rel@k: the best accuracy among the `top` models of highest score over the best of all.

    Args:
        score: [..., m] of m models.
        accuracy: [..., m], at least 0.
        top: models tried.

    Returns:
        [...] in [0, 1]; NaN where every accuracy is 0.

    Example:
        >>> float(relative([1, 2, 3], [10, 40, 20]))
        0.5
    """
    return _ratio(_best_of_top(score, accuracy, top), _as_float(accuracy).max(axis=-1))


class Metric(NamedTuple):
    """How a score is judged.

    Attributes:
        function: (score, accuracy) -> value, over the last axis.
        label: in tables.
        higher_is_better: or lower.
        of_a_choice: it is of the models chosen, and not of all of them.
    """

    function: Callable[[Rows, Rows], Values]
    label: str
    higher_is_better: bool = True
    of_a_choice: bool = False

    def by_chance(self, accuracy: Rows) -> Values:
        """The value that a random order has on average."""
        value = self.function(np.zeros_like(_as_float(accuracy)), accuracy)
        return np.where(np.isnan(value), 0, value)  # a correlation


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "weighted_tau": Metric(weighted_tau, "weighted τ"),
        "tau": Metric(tau, "τ"),
        "pearson": Metric(pearson, "r"),
        "regret_1": Metric(regret, "top-1 regret", higher_is_better=False, of_a_choice=True),
        "regret_3": Metric(
            functools.partial(regret, top=3),
            "top-3 regret",
            higher_is_better=False,
            of_a_choice=True,
        ),
        "rel_1": Metric(relative, "Rel@1", of_a_choice=True),
        "rel_3": Metric(functools.partial(relative, top=3), "Rel@3", of_a_choice=True),
    }
)


def concordance(accuracy: Float[ArrayLike, "m t"]) -> float:
    """Kendall's W: how far all targets agree on one order of the models.

    W = 12 S / (t^2 (m^3 - m) - t sum T), S the squared deviations of the rank sums and T the
    correction for ties; 1 where every target ranks the models alike, about 1/t by chance.

    Args:
        accuracy: of m models on t targets.

    Returns:
        In [0, 1]; NaN for one model, one target, or where all models tie on every target.

    Source: M. G. Kendall, B. Babington Smith, Annals of Mathematical Statistics 10 (1939).

    Example:
        >>> concordance([[1, 10], [2, 20], [3, 30]])
        1.0
    """
    from scipy.stats import rankdata

    table = _as_float(accuracy)
    m, t = table.shape
    if m < 2 or t < 2:
        return float("nan")
    sums = rankdata(table, axis=0).sum(axis=1)
    ties = sum(
        float((counts**3 - counts).sum())
        for counts in (np.unique(column, return_counts=True)[1] for column in table.T)
    )
    return float(_ratio(12 * ((sums - sums.mean()) ** 2).sum(), t**2 * (m**3 - m) - t * ties))


def static_order(accuracy: Float[ArrayLike, "m t"]) -> Float[np.ndarray, "m t"]:
    """The order to beat: a model's mean rank over the other targets, the target itself unseen.

    Args:
        accuracy: of m models on t targets, at least 2.

    Returns:
        [m, t] minus the mean rank, so that higher is better; it knows the accuracies elsewhere,
        but nothing of a target's own data.

    Raises:
        ValueError: a single target.

    Example:
        >>> static_order([[1, 10, 3], [2, 5, 6]]).tolist()
        [[-1.5, -2.0, -1.5], [-1.5, -1.0, -1.5]]
    """
    from scipy.stats import rankdata

    table = _as_float(accuracy)
    t = table.shape[1]
    if t < 2:
        raise ValueError("one target has no others to take an order from; give two or more")
    ranks = rankdata(-table, axis=0)
    return -(ranks.sum(axis=1, keepdims=True) - ranks) / (t - 1)


def filtered(first: Rows, second: Rows, share: float = 0.25) -> Values:
    """A score that keeps the models of highest `first`, and orders those by `second`.

    Args:
        first: [..., m] score of the filter.
        second: [..., m] score among the models kept.
        share: of the models that are kept, rounded up.

    Returns:
        [..., m] ranks from m - 1 of the best down to 0: models kept come first, all by `second`.
        Models that tie in `first` at the edge of the filter are kept as they stand.

    Raises:
        ValueError: share is outside (0, 1].

    Example:
        >>> filtered([4, 3, 2, 1], [1, 2, 3, 4], share=0.5).tolist()
        [2.0, 3.0, 0.0, 1.0]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a number above 0, 1 at most")
    f, s = _both(first, second)
    kept = _rank_from_best(-f) < np.ceil(share * f.shape[-1])
    order = np.lexsort((s, kept), axis=-1)
    return np.argsort(order, axis=-1).astype(np.float64)


def filtered_by_chance(second: Rows, accuracy: Rows, share: float = 0.25) -> Values:
    """Mean accuracy of the best by `second` of a random part of the models.

    What `filtered` has to beat: keeping any quarter, and choosing in it by the second score.

    Args:
        second: [..., m] score.
        accuracy: [..., m].
        share: of the models that are kept, rounded up.

    Example:
        >>> float(filtered_by_chance([1, 2, 3, 4], [10, 20, 30, 40]))
        25.0
    """
    s, a = _both(second, accuracy)
    order = np.argsort(-s, axis=-1, kind="stable")
    m = s.shape[-1]
    drawn = np.full(s.shape[:-1], np.ceil(share * m))
    return _first_drawn(np.take_along_axis(a, order, axis=-1), drawn, np.full_like(drawn, m))


def _best_of_top(score: Rows, accuracy: Rows, top: int) -> Values:
    """Mean best accuracy among the `top` of highest score, over random orders of those that tie."""
    s, a = _both(score, accuracy)
    top = min(top, s.shape[-1])
    edge = -np.sort(-s, axis=-1)[..., top - 1 : top]
    chosen, tied = s > edge, s == edge
    sure = np.where(chosen, a, -np.inf).max(axis=-1, keepdims=True)
    ordered = -np.sort(-np.where(tied, np.maximum(a, sure), -np.inf), axis=-1)
    return _first_drawn(ordered, top - chosen.sum(axis=-1), tied.sum(axis=-1))


def _first_drawn(ordered: np.ndarray, drawn: np.ndarray, among: np.ndarray) -> Values:
    """Mean of the value that comes first, of `drawn` taken at random from the first `among`.

    Value i is the first one drawn with probability C(among - 1 - i, drawn - 1) / C(among, drawn).
    """
    mean, probability = np.zeros(ordered.shape[:-1]), drawn / among
    for i in range(ordered.shape[-1]):
        mean = mean + probability * np.where(probability > 0, ordered[..., i], 0)
        left = np.maximum(among - 1 - i, 1)
        probability = probability * np.maximum(among - drawn - i, 0) / left
    return mean


def _as_float(x: Rows) -> np.ndarray:
    return np.asarray(x, np.float64)


def _both(a: Rows, b: Rows) -> tuple[np.ndarray, ...]:
    return np.broadcast_arrays(_as_float(a), _as_float(b))


def _signs(x: Rows) -> np.ndarray:
    values = _as_float(x)
    with np.errstate(invalid="ignore"):  # inf - inf of two models that are not to be chosen
        return np.nan_to_num(np.sign(values[..., :, None] - values[..., None, :]))


def _rank_from_best(key: np.ndarray, *tie_breakers: np.ndarray) -> np.ndarray:
    """Rank from 0 by ascending key."""
    order = np.lexsort((*tie_breakers, key), axis=-1)
    return np.argsort(order, axis=-1)


def _weights(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    weight = 1 / (1 + _rank_from_best(-first, -second))
    return weight[..., :, None] + weight[..., None, :]


def _concordance(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Values:
    def total(x):
        return (x * weight).sum(axis=(-2, -1))

    return _ratio(total(a * b), np.sqrt(total(a * a) * total(b * b)))


def _ratio(a, b) -> np.ndarray:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
