"""Balanced accuracy of heads and inputs on the same episodes, and what is left after pairing.

Intervals are Student's t over episodes, of differences paired by episode: mean +- t s / sqrt(E).
With the customary 5 episodes a bootstrap of 5 values would be too narrow. Intervals that hold for
all differences together are Bonferroni's: level 1 - (1 - level) / (how many).

Not guaranteed: that another set of held-out images, or another pool, would agree. All episodes
share the held-out images, so intervals are about the draw of labeled rows. Where all differences
are equal the interval has no width and says only that.

Cost: that of the heads; programs are compiled once per padded number of rows and features.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from substrate_jax.analyses.probe.episodes import Episodes
from substrate_jax.analyses.probe.heads.batch import make_batch
from substrate_jax.analyses.probe.inputs import Input
from substrate_jax.analyses.probe.methods import HEADS, Head, Scores
from substrate_jax.analyses.probe.results import Cost, Method, PairedDifferences, ProbeComparison
from substrate_jax.analyses.threads import decomposing, fitting

AVERAGE = "mean over encoders"


def balanced_accuracy(
    predicted: Int[np.ndarray, "*e m"], truth: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "*e"]:
    """Mean over classes of the share of its rows that are right, in percent.

    Args:
        predicted: classes from 0.
        truth: the same of the rows; classes without rows do not count.

    Example:
        >>> float(balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])))
        50.0
    """
    right = predicted == truth
    shares = [right[..., truth == code].mean(axis=-1) for code in np.unique(truth)]
    return 100 * np.mean(shares, axis=0)


def compare(
    inputs: Sequence[Input],
    episodes: Episodes,
    *,
    heads: Sequence[str] | Mapping[str, Head] = tuple(HEADS),
    average: Sequence[str] = (),
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> ProbeComparison:
    """Fit every head to every input in every episode.

    Args:
        inputs: features of the rows that episodes were drawn from.
        episodes: drawn once, the same for all methods.
        heads: names in `methods.HEADS`, or heads by name.
        average: names of inputs whose probabilities are averaged, for heads that give them, as a
            method more: what single encoders reach together without a basis.
        progress: called with (fits done, fits), an input at a number of labels each.

    Raises:
        ValueError: no input, two of one name, another number of rows, an unknown head, or an
            unknown name to average.

    Example:
        >>> from substrate_jax.analyses.probe.episodes import draw_episodes
        >>> labels = np.arange(40) % 2
        >>> x = np.random.default_rng(0).normal(size=(40, 3)) + 9 * labels[:, None]
        >>> drawn = draw_episodes(labels, shots=(1, 5), episodes=2)
        >>> found = compare([Input("x", x, ("x",))], drawn, heads=["nearest mean"])
        >>> found.accuracy.tolist(), found.methods[0].name
        ([[[100.0, 100.0], [100.0, 100.0]]], 'nearest mean on x')
    """
    used = dict(heads) if isinstance(heads, Mapping) else _named_heads(heads)
    _check_inputs(inputs, episodes, average)
    truth = episodes.codes[episodes.test]
    keys = [(one.name, head) for one in inputs for head in used]
    keys += [(AVERAGE, head) for head in used if average and used[head].probabilities]
    shape = len(keys), len(episodes.shots)
    accuracy = np.full((*shape, episodes.number), np.nan)
    unsolved = np.zeros(shape, int)

    def keep(key: tuple[str, str], column: int, found: Scores) -> None:
        row = keys.index(key)
        accuracy[row, column] = balanced_accuracy(found.scores.argmax(axis=-1), truth)
        unsolved[row, column] = found.unsolved

    work = [(column, one) for column in range(len(episodes.shots)) for one in inputs]

    def fitted(column: int, one: Input) -> dict[str, Scores]:
        shots, found = episodes.shots[column], {}
        batch = make_batch(one.features, episodes.codes, episodes.train(shots), episodes.test)
        for name, head in used.items():
            if not head.chooses or shots >= 2:
                with decomposing(head.decomposes):
                    found[name] = head.apply(batch)
        return found

    total: dict[tuple[int, str], Scores] = {}
    with fitting("probe") as pool:
        each = pool.map(fitted, *zip(*work, strict=True))
        for done, ((column, one), by_head) in enumerate(zip(work, each, strict=True)):
            for name, found in by_head.items():
                keep((one.name, name), column, found)
                if one.name in average and used[name].probabilities:
                    before = total.get((column, name), Scores(np.zeros_like(found.scores)))
                    total[column, name] = Scores(
                        before.scores + found.scores, before.unsolved + found.unsolved
                    )
            progress(done + 1, len(work))
    for (column, name), found in total.items():
        keep((AVERAGE, name), column, found)
    together = [one for one in inputs if one.name in average]
    methods = [
        _method(name, head, used[head], together if name == AVERAGE else by_name, episodes)
        for name, head in keys
        for by_name in [[one for one in inputs if one.name == name]]
    ]
    return ProbeComparison(
        methods, episodes.shots, episodes.classes, len(truth), accuracy, unsolved
    )


def paired_differences(
    comparison: ProbeComparison, baseline: int, *, level: float = 0.95
) -> PairedDifferences:
    """Every method less one, episode by episode.

    Args:
        comparison: of methods in the same episodes.
        baseline: row of the method to subtract, `comparison.place(input, head)`.
        level: of the intervals.

    Returns:
        Differences and t intervals; NaN ends with a single episode, and NaN where a method has no
        value.

    Raises:
        ValueError: a row that there is not, or a level outside (0, 1).

    Example:
        >>> methods = [Method(name, "ridge", (), 1, ()) for name in "ab"]
        >>> accuracy = np.array([[[50.0, 60.0]], [[52.0, 64.0]]])
        >>> found = ProbeComparison(methods, (5,), 2, 9, accuracy, np.zeros((2, 1), int))
        >>> found = paired_differences(found, 0)
        >>> found.mean.tolist(), found.low.round(2).tolist()
        ([[0.0], [3.0]], [[0.0], [-9.71]])
    """
    methods, _, episodes = comparison.accuracy.shape
    if not 0 <= baseline < methods:
        raise ValueError(f"baseline must be a row of the {methods} methods, got {baseline}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}: use 0.95, say")
    difference = comparison.accuracy - comparison.accuracy[baseline]
    mean = difference.mean(axis=2)
    others = np.delete(mean, baseline, axis=0)
    compared = int(np.isfinite(others).sum())

    def half_width(alpha: float) -> np.ndarray:
        half = np.full(mean.shape, np.nan)
        if episodes > 1:
            spread = difference.std(axis=2, ddof=1) / np.sqrt(episodes)
            half = stats.t.ppf(1 - alpha / 2, episodes - 1) * spread
        return half

    alone, of_all = half_width(1 - level), half_width((1 - level) / max(compared, 1))
    return PairedDifferences(
        baseline=baseline,
        difference=difference,
        mean=mean,
        low=mean - alone,
        high=mean + alone,
        low_of_all=mean - of_all,
        high_of_all=mean + of_all,
        compared=compared,
        level=level,
    )


def _method(
    name: str, head_name: str, head: Head, inputs: Sequence[Input], episodes: Episodes
) -> Method:
    costs = []
    for shots in episodes.shots:
        work = [head.cost(one.width, episodes.classes, shots * episodes.classes) for one in inputs]
        costs.append(
            Cost(
                flops=sum(one.flops for one in inputs) + sum(flops for flops, _ in work),
                image_bytes=sum(one.image_bytes for one in inputs),
                model_bytes=sum(one.model_bytes for one in inputs) + sum(kept for _, kept in work),
            )
        )
    encoders = tuple(dict.fromkeys(encoder for one in inputs for encoder in one.encoders))
    width = sum(one.width for one in inputs)
    kind = "average" if name == AVERAGE else inputs[0].kind
    return Method(name, head_name, encoders, width, tuple(costs), kind)


def _named_heads(heads: Sequence[str]) -> Mapping[str, Head]:
    if unknown := [name for name in heads if name not in HEADS]:
        raise ValueError(f"unknown head {unknown[0]!r}; give some of {'; '.join(HEADS)}")
    return {name: HEADS[name] for name in heads}


def _check_inputs(inputs: Sequence[Input], episodes: Episodes, average: Sequence[str]) -> None:
    names = [one.name for one in inputs]
    if not names or len(set(names)) < len(names) or AVERAGE in names:
        raise ValueError(
            f"inputs must have different names, none {AVERAGE!r}, got {names}: rename them"
        )
    for one in inputs:
        if len(one.features) != len(episodes.codes):
            raise ValueError(
                f"input {one.name!r} has {len(one.features)} rows, and episodes were drawn from "
                f"{len(episodes.codes)}: match features and labels"
            )
    if unknown := [name for name in average if name not in names]:
        raise ValueError(f"no input {unknown[0]!r} to average; there are {', '.join(names)}")
