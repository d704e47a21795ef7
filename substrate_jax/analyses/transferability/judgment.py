"""Scores judged by the accuracies they should predict, with intervals and beside plain orders.

Every score is a matrix [m, t] of m models on t targets, higher is better; a metric of `rankings`
compares a target's column with its column of accuracies, and what is reported is the mean over the
targets.

Intervals. Two resamplings answer two questions, and both are paired: all scores, and their
differences from the static order, see the same draws. Over targets: would the mean hold on other
targets like these? Over models: would it hold for another set of models? Each is the percentile
interval of the bootstrap. With few targets or models it is too narrow, as every bootstrap of few
is; fewer than three targets or five models are not resampled. A resample of models holds some 63%
of them, so its best is less far ahead: regrets over models lean toward 0, for all scores alike.

Cost: draws x scores x targets x m^2 operations, in blocks of a few dozen MB.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import ArrayLike, Float

from substrate_jax.analyses.threads import fitting
from substrate_jax.analyses.transferability.rankings import (
    METRICS,
    concordance,
    static_order,
    tau,
)

STATIC = "static order"
CHANCE = "random order"
_BLOCK = 4_000_000  # entries of the largest array of pairs


@dataclasses.dataclass(frozen=True)
class Interval:
    """Percentile intervals.

    Attributes:
        low: lower ends.
        high: upper ends, of the same shape.
    """

    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Judgment:
    """How well scores rank models: s scores, q metrics, t targets, m models.

    Attributes:
        scores: names; the static order is among them where there are two targets or more.
        metrics: names in `rankings.METRICS`.
        models: names.
        targets: names.
        value: [s, q] mean over the targets.
        per_target: [s, q, t].
        over_targets: [s, q] intervals under resampled targets; None below three targets.
        over_models: [s, q] intervals under resampled models; None below five models.
        lead: [s, q] value minus that of the static order; None with a single target.
        lead_over_targets: its paired interval.
        lead_over_models: its paired interval.
        without_model: [s, q, m] value when a model is left out; None below four models.
        within_families: [s, q] mean over targets and over families of three models or more; None
            if there is no such family.
        by_chance: [q] of a random order.
        concordance: Kendall's W of the accuracies; None for one target.
        least_tau: mean tau over the targets that an order of models, the same for every target,
            exceeds in size by chance with probability alpha: no smaller one is evidence.
        alpha: of `least_tau`.
        draws: bootstrap samples of either kind.
        level: of the intervals.
    """

    scores: Sequence[str]
    metrics: Sequence[str]
    models: Sequence[str]
    targets: Sequence[str]
    value: Float[np.ndarray, "s q"]
    per_target: Float[np.ndarray, "s q t"]
    over_targets: Interval | None
    over_models: Interval | None
    lead: Float[np.ndarray, "s q"] | None
    lead_over_targets: Interval | None
    lead_over_models: Interval | None
    without_model: Float[np.ndarray, "s q m"] | None
    within_families: Float[np.ndarray, "s q"] | None
    by_chance: Float[np.ndarray, " q"]
    concordance: float | None
    least_tau: float
    alpha: float
    draws: int
    level: float


def judge(
    accuracy: Float[ArrayLike, "m t"],
    scores: Mapping[str, Float[ArrayLike, "m t"]],
    *,
    models: Sequence[str],
    targets: Sequence[str],
    families: Sequence[str] | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    draws: int = 1000,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Judgment:
    """Judge scores of models by their accuracies, beside the static order.

    Args:
        accuracy: of m models on t targets, in percent or any unit in which higher is better.
        scores: name -> [m, t], higher is better. The static order is added.
        models: names.
        targets: names.
        families: of the models, such as resnet.
        metrics: names in `rankings.METRICS`.
        draws: bootstrap samples; 0 for no intervals.
        level: of the intervals.
        alpha: of the least tau that chance rarely exceeds.
        seed: of the draws.

    Raises:
        ValueError: a value that is missing, fewer than three models, shapes that differ, an
            unknown metric.

    Example:
        >>> found = judge([[1, 9], [2, 7], [3, 5]], {"size": [[3, 3], [2, 2], [1, 1]]},
        ...               models="abc", targets=["x", "y"], metrics=["tau"], draws=0)
        >>> found.scores, found.value.tolist(), found.concordance
        (('size', 'static order'), [[0.0], [-1.0]], 0.0)
    """
    accuracy = _checked("accuracy", accuracy, models, targets)
    given = {name: _checked(name, score, models, targets) for name, score in scores.items()}
    if len(models) < 3:
        raise ValueError(f"{len(models)} models cannot be ranked to any purpose; give 3 or more")
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; give some of {', '.join(METRICS)}")
    m, t = accuracy.shape
    if t > 1:
        given[STATIC] = static_order(accuracy)
    names = tuple(given)
    table = np.stack([given[name].T for name in names])  # [s, t, m]
    truth = accuracy.T
    per_target = _values(metrics, table, truth)
    value = _mean(per_target)
    static = names.index(STATIC) if STATIC in given else None
    rng = np.random.default_rng(seed)
    over_targets = over_models = None
    if draws and t >= 3:
        picked = rng.integers(t, size=(draws, t))
        over_targets = _mean(per_target[..., picked].transpose(2, 0, 1, 3))
    if draws and m >= 5:
        over_models = _over_models(metrics, table, truth, rng.integers(m, size=(draws, m)))

    def interval(samples, *, lead: bool = False) -> Interval | None:
        if samples is None:
            return None
        if lead:
            if static is None:
                return None
            samples = samples - samples[:, static, None]
        nowhere = np.isnan(samples).all(axis=0)
        ends = np.nanquantile(
            np.where(nowhere, 0, samples), [(1 - level) / 2, (1 + level) / 2], axis=0
        )
        return Interval(*np.where(nowhere, np.nan, ends))

    return Judgment(
        scores=names,
        metrics=tuple(metrics),
        models=tuple(models),
        targets=tuple(targets),
        value=value,
        per_target=per_target,
        over_targets=interval(over_targets),
        over_models=interval(over_models),
        lead=None if static is None else value - value[static],
        lead_over_targets=interval(over_targets, lead=True),
        lead_over_models=interval(over_models, lead=True),
        without_model=_without_each(metrics, table, truth) if m > 3 else None,
        within_families=_within(metrics, table, truth, families),
        by_chance=np.stack([METRICS[name].by_chance(truth).mean() for name in metrics]),
        concordance=concordance(accuracy) if t > 1 else None,
        least_tau=least_tau(accuracy, alpha=alpha, seed=seed),
        alpha=alpha,
        draws=draws,
        level=level,
    )


def least_tau(
    accuracy: Float[ArrayLike, "m t"], *, alpha: float = 0.05, draws: int = 4000, seed: int = 0
) -> float:
    """The mean tau over targets that a random order of the models exceeds with probability alpha.

    One order for all targets, as a property of the models is, compared with every column of the
    accuracies: targets that agree on the models are not independent evidence, and this counts it.

    Args:
        accuracy: of m models on t targets.
        alpha: probability.
        draws: random orders.
        seed: of the draws.

    Returns:
        The 1 - alpha quantile of |mean tau|, in [0, 1].

    Example:
        >>> one = [[i] for i in range(11)]  # 11 models; a second target like the first adds nothing
        >>> round(least_tau(one), 2), round(least_tau([2 * row for row in one]), 2)
        (0.45, 0.45)
    """
    truth = np.asarray(accuracy, np.float64).T
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(truth.shape[1]), (draws, 1)), axis=1)
    found = np.stack([tau(orders, column) for column in truth])
    return float(np.nanquantile(np.abs(_mean(found.T)), 1 - alpha))


def _checked(name: str, values, models: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != (len(models), len(targets)):
        raise ValueError(
            f"{name} has shape {list(values.shape)} for {len(models)} models and {len(targets)} "
            "targets; give [models, targets]"
        )
    if np.isnan(values).any():
        model, target = np.argwhere(np.isnan(values))[0]
        count = int(np.isnan(values).sum())
        more = f" ({count} such cells)" if count > 1 else ""
        raise ValueError(
            f"{name} of {models[model]} on {targets[target]} is missing{more}; "
            "fill it in, or leave out the model or the target"
        )
    return values


def _values(metrics: Sequence[str], table: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[..., s, q, t] of scores [..., s, t, m] and accuracies [..., t, m]."""
    truth = np.expand_dims(truth, -3)
    return np.stack([METRICS[name].function(table, truth) for name in metrics], axis=-2)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of the values that exist; NaN where none does."""
    exist = ~np.isnan(values)
    count = exist.sum(axis=-1)
    total = np.where(exist, values, 0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _over_models(metrics, table, truth, picked) -> np.ndarray:
    """[draws, s, q] means over the targets for resampled models.

    Copies tie with each other. A choice among models is one among those that were drawn, each
    once: copies are set aside where models are chosen.
    """
    s, t, m = table.shape
    size = max(1, _BLOCK // (s * t * m * m))

    def of(rows) -> np.ndarray:
        copy = np.zeros(rows.shape, bool)
        copy[:, 1:] = rows[:, 1:] == rows[:, :-1]
        scores = table[..., rows].transpose(2, 0, 1, 3)
        accuracies = truth[:, rows].transpose(1, 0, 2)
        absent = copy[:, None, None, :]
        chosen = np.where(absent, -np.inf, scores)
        kept = np.where(absent[:, 0], -np.inf, accuracies)
        pairs = {True: (chosen, kept[:, None]), False: (scores, accuracies[:, None])}
        metric = [METRICS[name] for name in metrics]
        return np.stack([_mean(one.function(*pairs[one.of_a_choice])) for one in metric], axis=-1)

    parts = np.split(np.sort(picked, axis=1), range(size, len(picked), size))
    with fitting("models") as pool:
        return np.concatenate(list(pool.map(of, parts)))


def _without_each(metrics, table, truth) -> np.ndarray:
    m = truth.shape[1]
    return np.stack(
        [
            _mean(_values(metrics, np.delete(table, i, axis=-1), np.delete(truth, i, axis=-1)))
            for i in range(m)
        ],
        axis=-1,
    )


def _within(metrics, table, truth, families) -> np.ndarray | None:
    if families is None:
        return None
    members = [np.flatnonzero(np.array(families) == name) for name in dict.fromkeys(families)]
    found = [
        _mean(_values(metrics, table[..., rows], truth[..., rows]))
        for rows in members
        if len(rows) >= 3
    ]
    return _mean(np.stack(found, axis=-1)) if found else None
