"""Scores and accuracies of a panel on labeled targets, measured.

Every target is halved (`truth.halve`). Scores, and the alignment of an encoder, see one half; the
accuracy they should predict is that of a tuned probe on the other, or was measured elsewhere.

Some columns are no scores of transferability, and stand among them as what to compare with: the
number of an encoder's parameters, its accuracy on what it was trained on, and two alignments. One
is the mean calibrated CKA with the rest of the panel on the target; the other is the mean PCKA of
the encoder's own components between the target and the other targets, which needs no panel. The
paper reports that alignment does not rank accuracy; `least_tau` of the judgment says what these
models and targets could have shown.

Cost: that of the scores, a probe per encoder and target, and a PCKA per encoder.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from substrate_jax.analyses.cka.measured import measure_encoders
from substrate_jax.analyses.threads import fitting
from substrate_jax.analyses.transferability.filters import judge_filter
from substrate_jax.analyses.transferability.judgment import Judgment, judge
from substrate_jax.analyses.transferability.results import JudgedTable, Target
from substrate_jax.analyses.transferability.scores.inputs import filled_up
from substrate_jax.analyses.transferability.scores.table import (
    SCORES,
    SOURCE,
    score_encoders,
)
from substrate_jax.analyses.transferability.truth import Halves, halve, held_out_accuracy
from substrate_jax.features import Features
from substrate_jax.report.run import ImageSet
from substrate_jax.substrate import pairwise_pcka

PANEL, CLASSIFIERS = "panel", "classifiers"
ALIGNMENT, PCKA = "alignment", "pcka"
PARAMETERS, SOURCE_ACCURACY = "parameters", "source_accuracy"


def labeled_halves(
    features: Mapping[str, Features],
    *,
    least: int = 2,
    seed: int = 0,
    groups: Mapping[str, Int[np.ndarray, " n"]] | None = None,
) -> tuple[dict[str, Halves], list[str]]:
    """The halves of every target that has classes, and why others are left out.

    Args:
        features: target -> features, labeled or not.
        least: rows of every class in each half.
        seed: of the splits.
        groups: target -> group of each row, none of which is parted.

    Returns:
        Target -> halves, and a sentence per target without labels or with one class.

    Raises:
        ValueError: a class with too few rows, or no target that has two classes.

    Example:
        >>> rows = {"e": np.zeros((4, 2), np.float32)}
        >>> plain = Features(tuple("abcd"), None, rows)
        >>> labeled = Features(tuple("abcd"), np.array([0, 0, 1, 1]), rows)
        >>> halves, out = labeled_halves({"sky": plain, "sea": labeled}, least=1)
        >>> list(halves), out
        (['sea'], ['sky is left out: its images have no labels.'])
    """
    found, left_out = {}, []
    for name, of in features.items():
        if of.labels is None:
            left_out.append(f"{name} is left out: its images have no labels.")
        elif len(np.unique(of.labels)) < 2:
            left_out.append(f"{name} is left out: its images are of one class.")
        else:
            try:
                together = None if groups is None else groups[name]
                found[name] = halve(of.labels, least=least, seed=seed, groups=together)
            except ValueError as error:
                raise ValueError(f"target {name!r}: {error}") from error
    if not found:
        raise ValueError(f"no target has two classes: {' '.join(left_out)}")
    return found, left_out


def measure_targets(
    features: Mapping[str, Features],
    halves: Mapping[str, Halves],
    images: Mapping[str, ImageSet],
    *,
    families: Sequence[str],
    parameters: Sequence[int | None],
    source_accuracy: Sequence[float | None] = (),
    accuracy: Mapping[str, Float[np.ndarray, " m"]] | None = None,
    truth: str = "probe",
    scores: Sequence[str] | None = None,
    source_probabilities: Mapping[str, Mapping[str, Float[np.ndarray, "n _"]]] | None = None,
    without_classes: Mapping[str, str] | None = None,
    k: int = 16,
    draws: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[dict[str, JudgedTable], list[str]]:
    """Scores of every encoder for every target, judged by held-out accuracy.

    LEEP and NCE are of encoders with classes of their own. Where not all have any, the encoders
    that have, three at least, are judged in a table apart, by all scores: as computed in the whole
    panel, and beside the static order of these encoders alone.

    Args:
        features: target -> features of the encoders, all in one order.
        halves: target -> its halves; targets without are left out.
        images: target -> what they are.
        families: of the encoders.
        parameters: of the encoders; where one is unknown, the column is left out.
        source_accuracy: of the encoders on what they were trained on, likewise.
        accuracy: target -> that of every encoder, where it was measured elsewhere; by default that
            of a probe on the held-out half.
        truth: what the accuracy is of: "probe", "finetune", or the name of a file.
        scores: names in `scores.table.SCORES`; None for all, those that need a source head if there
            is any.
        source_probabilities: target -> encoder -> [n, S] of the classes it was trained on, of the
            rows of its features; of those that have classes.
        without_classes: other encoder -> why it has none.
        k: components of subs-rank.
        draws: bootstrap samples of targets and of models.
        alpha: level of calibration, and of the least tau.
        seed: of folds, clusters and draws.
        mesh: where CKA is computed.
        progress: called with (targets done, targets).

    Returns:
        `PANEL` -> the table, `CLASSIFIERS` -> that of encoders with classes if it is another; and
        notes: a sentence per score that has no value somewhere and is left out, and per target on
        which most encoders are equally good.

    Raises:
        ValueError: fewer than three encoders, or one whose features are constant on a target.
    """
    encoders = list(next(iter(features.values())))
    if len(encoders) < 3:
        raise ValueError(
            f"{len(encoders)} encoders cannot be ranked to any purpose; give three or more"
        )
    measured, tables, aligned, targets = [], [], [], {}
    for done, (name, parts) in enumerate(halves.items()):
        blocks = {encoder: np.asarray(features[name][encoder]) for encoder in encoders}
        fitted = {encoder: block[parts.fit] for encoder, block in blocks.items()}
        labels = parts.labels[parts.fit]
        measured.append(
            _accuracies(name, blocks, parts, seed) if accuracy is None else accuracy[name]
        )
        heads = (source_probabilities or {}).get(name, {})
        heads = {encoder: rows[parts.fit] for encoder, rows in heads.items()}
        options = {"scores": scores, "source_probabilities": heads, "k": k, "seed": seed}
        tables.append(score_encoders(fitted, labels, **options))
        aligned.append(_alignment(fitted, alpha, mesh))
        count = int(parts.fit.sum())
        targets[name] = Target(images[name], parts.classes, count, len(parts.fit) - count)
        progress(done + 1, len(halves))
    names = tables[0].scores
    values = {
        score: np.stack([table.values[:, column] for table in tables], axis=1)
        for column, score in enumerate(names)
    }
    reasons, of_heads = [], {}
    without = dict(without_classes or {})
    for score, value in list(values.items()):
        unknown = np.isnan(value)
        if not unknown.any():
            continue
        del values[score]
        with_classes = np.array([encoder not in without for encoder in encoders])
        if SOURCE in SCORES[score].needs and not unknown[with_classes].any():
            of_heads[score] = value
            continue
        why = _reason(score, encoders, list(halves), value, tables)
        reasons.append(f"{score} is left out: {why}")
    values[ALIGNMENT] = np.stack(aligned, axis=1)
    if len(halves) > 1:
        values[PCKA] = _pcka_with_others(features, halves, k, mesh)
    for name, column in ((PARAMETERS, parameters), (SOURCE_ACCURACY, source_accuracy)):
        known = [value for value in column if value is not None]
        if len(known) == len(encoders):
            values[name] = np.tile(np.array(known, np.float64)[:, None], (1, len(halves)))
    accuracies = np.stack(measured, axis=1)
    seconds = {
        score: float(sum(table.seconds[column] for table in tables))
        for column, score in enumerate(names)
    } | {"principal coordinates, shared": float(sum(table.shared_seconds for table in tables))}

    def judged(rows: list[int], scores: Mapping[str, np.ndarray]) -> Judgment:
        return judge(
            accuracies[rows],
            {name: value[rows] for name, value in scores.items()},
            models=[encoders[row] for row in rows],
            targets=list(halves),
            families=[families[row] for row in rows],
            draws=draws,
            alpha=alpha,
            seed=seed,
        )

    everyone = list(range(len(encoders)))
    choice = None
    if {"subs_rank", "logme"} <= values.keys():
        choice = judge_filter(
            accuracies, values["subs_rank"], values["logme"], draws=draws, seed=seed
        )
    panel = JudgedTable(
        accuracies,
        values,
        dict.fromkeys(values, 1),
        judged(everyone, values),
        choice,
        truth,
        targets,
        seconds,
    )
    found, rows = {PANEL: panel}, [i for i in everyone if encoders[i] not in without]
    if of_heads and len(rows) > 2:
        scores_of_heads = {name: value[rows] for name, value in (of_heads | values).items()}
        found[CLASSIFIERS] = JudgedTable(
            accuracies[rows],
            scores_of_heads,
            dict.fromkeys(scores_of_heads, 1),
            judged(rows, of_heads | values),
            None,
            truth,
            without=without,
        )
    elif of_heads:
        count = f"{len(rows)} of {len(encoders)} encoders"
        reasons.append(f"{', '.join(of_heads)}: only {count} have classes, too few to be ranked.")
    return found, reasons + _saturated(accuracies, list(halves))


def _accuracies(
    target: str, blocks: Mapping[str, Float[np.ndarray, "n _"]], parts: Halves, seed: int
) -> Float[np.ndarray, " m"]:
    with fitting("probe") as pool:
        each = pool.map(lambda block: held_out_accuracy(block, parts, seed=seed), blocks.values())
        found = np.array(list(each))
    if np.isnan(found).any():
        encoder = list(blocks)[int(np.isnan(found).argmax())]
        raise ValueError(
            f"{encoder} gives every image of {target} the same features; leave it out, or look at "
            "its weights"
        )
    return found


def _alignment(
    blocks: Mapping[str, Float[np.ndarray, "n _"]], alpha: float, mesh: Mesh | None
) -> Float[np.ndarray, " m"]:
    """Mean calibrated CKA of every encoder with the others."""
    chance = measure_encoders(blocks, ["cka"], alpha=alpha, mesh=mesh)["cka"].calibrated
    assert chance is not None  # of CKA there is a closed form
    score = chance.score
    others = ~np.eye(len(score), dtype=bool)
    return np.where(others, score, 0).sum(axis=1) / (len(score) - 1)


def _pcka_with_others(
    features: Mapping[str, Features], halves: Mapping[str, Halves], k: int, mesh: Mesh | None
) -> Float[np.ndarray, "m t"]:
    """Mean PCKA of every encoder alone between a target and each other one."""
    found = []
    for encoder in next(iter(features.values())):
        # Columns of zeros have no part in a component, and share the program of other widths.
        blocks = {name: np.asarray(of[encoder]) for name, of in features.items() if name in halves}
        alone = [{encoder: filled_up(blocks[name][of.fit])} for name, of in halves.items()]
        pcka = pairwise_pcka(alone, min(k, next(iter(blocks.values())).shape[1]), mesh=mesh)
        found.append((pcka.sum(axis=1) - np.diag(pcka)) / (len(pcka) - 1))
    return np.stack(found)


def _saturated(accuracy: Float[np.ndarray, "m t"], targets: Sequence[str]) -> list[str]:
    """A note on each target whose best accuracy most encoders share."""
    best = (accuracy == accuracy.max(axis=0)).sum(axis=0)
    return [
        f"{target} hardly ranks the encoders: {count} of {len(accuracy)} have the best accuracy, "
        f"{accuracy[:, column].max():.1f}%."
        for column, (target, count) in enumerate(zip(targets, best, strict=True))
        if 2 * count > len(accuracy)
    ]


def _reason(
    score: str, encoders: list[str], targets: list[str], value: np.ndarray, tables: list
) -> str:
    row, column = (int(place) for place in np.argwhere(np.isnan(value))[0])
    why = tables[column].reasons.get(score, {}).get(encoders[row], "it has no value there")
    return f"{encoders[row]} on {targets[column]}: {why.rstrip('.')}."
