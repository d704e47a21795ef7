r"""How well a score tells rows that are known from rows that are not, and answers that are right.

A score is high for rows like those fitted to. With s_1..s_m of the known and u_1..u_n of the
unknown rows,

    AUROC     share of the m n pairs with s_i > u_j, those with s_i = u_j counted half
    FPR@95    share of u_j >= t, where t is the largest threshold that keeps 95% of the s_i
    AUPR      sum over thresholds of (recall gained) x precision: with known rows as positives
              ("in"), or unknown ones, by -score ("out"). Depends on m / n.

With an answer to each row, right or wrong, and rows answered in descending order of the score, the
risk at coverage k / n is the share of wrong answers among the first k, and AURC its mean over k.
Rows that tie are answered in random order: what is given is the expectation, in closed form.

Cost: one sort each.

References: J. Davis, M. Goadrich (2006) on AUPR; Y. Geifman, R. El-Yaniv (2017), "Selective
classification for deep neural networks" (risk and coverage); R. Newcombe (2006), "Confidence
intervals for an effect size measure based on the Mann-Whitney statistic, part 2" (method 5);
E. Wilson (1927); A. Agresti, Y. Min (2005) on paired shares.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy.typing import ArrayLike
from scipy import stats

KEPT = 0.95  # of the known rows, for FPR@95
LEVEL = 0.95  # of every interval


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with the ends of its interval.

    Attributes:
        value: NaN where nothing was measured.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Separation:
    """How a score tells m known rows from n unknown ones.

    Attributes:
        auroc: with Newcombe's interval over rows, which has a width at 1 too.
        fpr95: with Wilson's interval over the unknown rows; the threshold counts as fixed.
        aupr_in: known rows as positives.
        aupr_out: unknown rows as positives.
        aurc: mean risk over coverages of all m + n rows, every answer to an unknown row wrong.
        coverages: at which accuracy is given.
        accuracy: at them, of the rows that are answered.
    """

    auroc: Estimate
    fpr95: Estimate
    aupr_in: float
    aupr_out: float
    aurc: float
    coverages: tuple[float, ...]
    accuracy: tuple[float, ...]


COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


def separation(known: ArrayLike, unknown: ArrayLike, right: Bool[np.ndarray, " m"]) -> Separation:
    """All of them for one score.

    Args:
        known: score of each known row, higher for what is like the rows fitted to.
        unknown: score of each unknown row.
        right: whether the answer to each known row is right.

    Raises:
        ValueError: no row on one side, or a score that is NaN.

    Example:
        >>> found = separation([3.0, 2.0, 1.0], [1.0, 0.0], np.array([True, True, False]))
        >>> round(found.auroc.value, 3), found.fpr95.value, round(found.aurc, 3)
        (0.917, 0.5, 0.287)
    """
    s, u = _scores(known, "known"), _scores(unknown, "unknown")
    value = auroc(s, u)
    both = np.concatenate([s, u])
    wrong = np.concatenate([~np.asarray(right, bool), np.ones(len(u), bool)])
    risk = selective_risk(both, wrong)
    rows = [max(int(np.ceil(share * len(both) - 1e-9)), 1) for share in COVERAGES]
    return Separation(
        auroc=Estimate(value, *auroc_interval(value, len(s), len(u))),
        fpr95=wilson(int((u >= threshold_keeping(s)).sum()), len(u)),
        aupr_in=average_precision(s, u),
        aupr_out=average_precision(-u, -s),
        aurc=float(risk.mean()),
        coverages=COVERAGES,
        accuracy=tuple(float(1 - risk[row - 1]) for row in rows),
    )


def auroc(known: Float[np.ndarray, " m"], unknown: Float[np.ndarray, " n"]) -> float:
    """Share of pairs in which the known row has the higher score, ties counted half.

    Example:
        >>> auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
        0.875
    """
    ranks = stats.rankdata(np.concatenate([known, unknown]))[: len(known)]
    m, n = len(known), len(unknown)
    return float((ranks.sum() - m * (m + 1) / 2) / (m * n))


def auroc_interval(value: float, m: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Newcombe's interval of an AUROC of m and n rows: all values within z of their own error.

    Example:
        >>> low, high = auroc_interval(1.0, 100, 50)
        >>> round(low, 3), high
        (0.97, 1.0)
    """
    z = float(stats.norm.ppf((1 + level) / 2))
    half = (m + n) / 2 - 1

    def outside(true: float) -> float:
        spread = 1 + half * ((1 - true) / (2 - true) + true / (1 + true))
        return (value - true) ** 2 - z**2 * true * (1 - true) * spread / (m * n)

    def end(limit: float) -> float:
        inner, outer = value, limit
        if outside(limit) <= 0:
            return limit
        for _ in range(60):  # halves a distance of at most 1
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if outside(middle) <= 0 else (inner, middle)
        return inner

    return end(0.0), end(1.0)


def threshold_keeping(known: Float[np.ndarray, " m"], share: float = KEPT) -> float:
    """The largest threshold t such that at least a share of the scores is >= t.

    Example:
        >>> threshold_keeping(np.arange(1.0, 21.0))
        2.0
    """
    kept = max(int(np.ceil(share * len(known) - 1e-9)), 1)
    return float(np.sort(known)[len(known) - kept])


def average_precision(
    positive: Float[np.ndarray, " m"], negative: Float[np.ndarray, " n"]
) -> float:
    """Area under precision and recall in steps, rows of equal score taken together.

    Example:
        >>> round(average_precision(np.array([2.0, 1.0]), np.array([1.0])), 3)  # 1/2 + 1/2 x 2/3
        0.833
    """
    scores = np.concatenate([positive, negative])
    truth = np.arange(len(scores)) < len(positive)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(truth[order])[last]
    gained = np.diff(hits, prepend=0) / len(positive)
    return float(np.sum(gained * hits / (last + 1)))


def selective_risk(
    scores: Float[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Expected share of wrong answers among the first k = 1..n rows, those that tie at random.

    Example:
        >>> selective_risk(np.array([2.0, 1.0, 1.0]), np.array([False, True, False])).tolist()
        [0.0, 0.25, 0.3333333333333333]
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) + 1
    errors = np.cumsum(np.asarray(wrong, np.float64)[order])[ends - 1]
    k = np.arange(1, len(scores) + 1)
    # Within a group of equal scores every row is wrong with the same chance: linear in between.
    expected = np.interp(k, np.append(0, ends), np.append(0, errors))
    return expected / k


def wilson(hits: int, n: int, level: float = LEVEL) -> Estimate:
    """A share with Wilson's interval; NaN, from 0 to 1, of nothing.

    Example:
        >>> found = wilson(10, 10)
        >>> found.value, round(found.low, 3), found.high
        (1.0, 0.722, 1.0)
    """
    if not n:
        return Estimate(float("nan"), 0.0, 1.0)
    z = stats.norm.ppf((1 + level) / 2)
    share = hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if hits == 0 else float(max(middle - half, 0))
    return Estimate(share, low, 1.0 if hits == n else float(min(middle + half, 1)))


def paired_difference(
    right: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"], level: float = LEVEL
) -> Estimate:
    """Difference of two accuracies on the same rows, with the interval of Agresti and Min.

    Half a row is added to each of the four cells, so that it has a width where both are right
    everywhere.

    Example:
        >>> found = paired_difference(np.ones(98, bool), np.ones(98, bool))
        >>> found.value, round(found.low, 3), round(found.high, 3)
        (0.0, -0.02, 0.02)
    """
    n = len(right)
    gained, lost = int((right & ~other).sum()), int((~right & other).sum())
    total, up, down = n + 2, gained + 0.5, lost + 0.5
    middle = (up - down) / total
    spread = np.sqrt((up + down) / total - middle**2) / np.sqrt(total)
    half = float(stats.norm.ppf((1 + level) / 2) * spread)
    return Estimate((gained - lost) / n, float(middle - half), float(middle + half))


def over_units(
    values: ArrayLike, *, draws: int = 2000, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """Mean with a percentile bootstrap over units, such as domains; NaN ends below three of them.

    Example:
        >>> over_units([0.5, 0.5, 0.5])
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    found = np.asarray(values, np.float64)
    if len(found) < 3:
        return Estimate(float(found.mean()), float("nan"), float("nan"))
    picked = np.random.default_rng(seed).integers(0, len(found), (draws, len(found)))
    ends = np.quantile(found[picked].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(found.mean()), float(ends[0]), float(ends[1]))


def _scores(values: ArrayLike, name: str) -> Float64[np.ndarray, " n"]:
    found = np.asarray(values, np.float64)
    if not len(found):
        raise ValueError(f"{name} has no rows: give scores of one or more")
    if np.isnan(found).any():
        raise ValueError(f"{name} holds NaN in {np.isnan(found).sum()} rows: give numbers")
    return found
