"""The report of a distillation run: what a substrate adds to labels, and what its controls add.

`distill_page` turns a `DistillResult` into a `Page`: gains at the main share of the labels in one
figure, every condition in a table, other shares and weights, method and caveats.

Cost: about 0.1 s per figure.

Not guaranteed: that a student of this size says what a larger one would do.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from substrate_jax.analyses import paper
from substrate_jax.analyses.distill.effects import gains
from substrate_jax.analyses.distill.plan import Condition
from substrate_jax.analyses.distill.results import DistillResult, Outcome
from substrate_jax.analyses.distill.words import (
    condition_title,
    finding,
    main_outcome,
    target_title,
)
from substrate_jax.analyses.effect_strips import EffectLane, effect_strip
from substrate_jax.analyses.effects import Effect, signed
from substrate_jax.report import page
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Column, Figures, Page, Picture, Prose, Section, Table
from substrate_jax.report.shared_blocks import (
    encoder_tables,
    images_in_words,
    mini_panel_caveat,
)
from substrate_jax.report.text import counted, points
from substrate_jax.training.distillation import METHODS

_MARKS = dict(zip(("labels", "target", "teacher"), MARKS, strict=False))
METHOD = (
    "Students are trained from scratch by cross entropy plus a weighted term, on the same share of "
    "every class. A seed decides the share, the initial weights, the order of images and their "
    "shifts and mirrorings, so students of one seed differ in the term only, and differences are "
    "paired by seed; intervals are Student's t over seeds.",
    "A target is a row of numbers for every training image, computed once. Shuffled over all "
    "images, the substrate keeps its spectrum and says nothing of an image: what it still gains is "
    "regularization. Shuffled within classes, and as one-hot labels, it says the class. Untrained "
    "encoders say what their architectures see.",
    "A teacher is an encoder fine-tuned on the labeled images of the first seed; it runs on every "
    "view. Weights of terms are those of their authors.",
)
CAVEATS = (
    "Students of all seeds are judged on the same test images: an interval over seeds says nothing "
    "of other images.",
    "A panel whose encoders were trained on labels hands them on: compare with one-hot labels and "
    "with a panel that saw none.",
    "The learning rate is chosen by the first seed only, and weights are not tuned.",
)


def distill_page(result: DistillResult) -> Page:
    """The page of one run.

    Args:
        result: of experiments.distill.

    Returns:
        The page, its figures drawn.
    """
    main = f"{result.plan.main:.0%}"
    sections = [Section(f"What is gained with {main} of the labels", list(_main(result)))]
    others = list(_others(result))
    if others:
        sections.append(Section("Other shares of the labels, other weights", [Figures(others)]))
    sections.append(Section("Every way to learn", [_table(result)]))
    sections.append(Section("Method", [Prose(METHOD), Prose(list(_setting(result)), points=True)]))
    sections.append(Section("Caveats", [Prose(list(_caveats(result)), points=True)]))
    sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = "Learning from labels and a substrate"
    return Page(title, finding(result), list(_tiles(result)), sections)


def _tiles(result: DistillResult) -> Iterator[tuple[str, str, str]]:
    one = main_outcome(result)
    if one is None or one.gain is None:
        return
    accuracy = float(one.accuracy.mean())
    labels = f"{one.condition.fraction:.0%} of the labels"
    yield points(accuracy - one.gain.mean), "% with labels alone", labels
    yield points(accuracy), f"% with {condition_title(one.condition)}", labels
    for other in result.outcomes:
        if METHODS[other.condition.method].needs == "teacher":
            title = condition_title(other.condition)
            yield points(float(other.accuracy.mean())), f"% with {title}", labels
            return


def _main(result: DistillResult) -> Iterator[Figures]:
    pictures = []
    main = [one for one in gains(result.outcomes) if one[0].condition.fraction == result.plan.main]
    if main:
        pictures.append(_strip("gains", "Gain over labels alone", main, condition_title, result))
    controls = [(one, one.over_control) for one in result.outcomes if one.over_control is not None]
    if controls:
        first = target_title(result.plan.targets[0])
        pictures.append(
            _strip(
                "controls",
                f"Gain of {first} over other targets",
                controls,
                lambda condition: f"over {target_title(condition.target)}",
                result,
            )
        )
    if pictures:
        yield Figures(pictures)


def _others(result: DistillResult) -> Iterator[Picture]:
    plan, found = result.plan, list(gains(result.outcomes))
    shares = [
        (one, gain)
        for one, gain in found
        if one.condition.method == plan.on_target
        and one.condition.target == plan.targets[0]
        and one.condition.weight == METHODS[one.condition.method].weight
    ]
    if len(shares) > 1:
        yield _strip(
            "shares",
            "By share of the labels",
            shares,
            lambda condition: f"{condition.fraction:.0%} of the labels",
            result,
        )
    weighted = [
        (one, gain)
        for one, gain in found
        if one.condition.fraction == plan.main and one.condition.target == plan.targets[0]
    ]
    for name in dict.fromkeys(one.condition.method for one, _ in weighted):
        same = [pair for pair in weighted if pair[0].condition.method == name]
        if len(same) > 1:
            same.sort(key=lambda pair: pair[0].condition.weight)
            yield _strip(
                f"weights_{name}",
                f"By weight: {METHODS[name].title}",
                same,
                lambda condition: f"weight {condition.weight:g}",
                result,
            )


def _strip(
    key: str,
    title: str,
    effects: Sequence[tuple[Outcome, Effect]],
    name: Callable[[Condition], str],
    result: DistillResult,
) -> Picture:
    lanes = [
        EffectLane(
            name(one.condition),
            effect,
            _MARKS[METHODS[one.condition.method].needs],
            {"labels": one.condition.fraction, "weight": one.condition.weight},
        )
        for one, effect in effects
    ]
    seeds, level = result.plan.seeds, result.level
    return effect_strip(key, title, lanes, seeds=seeds, level=level, finding=finding(result))


def _table(result: DistillResult) -> Table:
    columns = [
        Column("labels", "Labels"),
        Column("learned_from", "Learned from"),
        Column("accuracy_text", "Accuracy"),
        Column("gain_text", "Over labels alone"),
        Column("least_text", "Least shown"),
        Column("rate_text", "Rate"),
        Column("speed", "Images/s"),
        Column("seconds_text", "Seconds"),
        Column("memory_text", "Memory"),
    ]
    hidden = ("method", "target", "weight", "fraction", "epochs")
    columns += [Column(key, key, shown=False) for key in hidden]
    columns += [Column(f"seed_{seed}", "", "score", shown=False) for seed in result.plan.seeds]
    rows = []
    for one in result.outcomes:
        speed, of = one.images_per_second, one.condition
        seconds = result.labeled[f"{of.fraction:g}"] * of.epochs / speed
        rows.append(
            {
                "labels": f"{one.condition.fraction:.0%}",
                "learned_from": condition_title(one.condition),
                "accuracy_text": points(float(one.accuracy.mean())),
                "gain_text": signed(one.gain),
                "least_text": "–" if one.gain is None else points(one.gain.least),
                "rate_text": f"{one.rate:g}",
                "speed": f"{speed:,.0f}" if math.isfinite(speed) else "–",
                "seconds_text": f"{seconds:,.0f}" if math.isfinite(seconds) else "–",
                "memory_text": f"{one.memory / 2**20:,.0f} MiB" if one.memory else "–",
            }
            | {key: getattr(one.condition, key) for key in hidden}
            | {
                f"seed_{seed}": float(value)
                for seed, value in zip(result.plan.seeds, one.accuracy, strict=True)
            }
        )
    caption = (
        "Test accuracy in percent, the mean over seeds; differences in points. Least shown: a mean "
        "difference below it would not have been told from none. Seconds: of one training, of the "
        "steps after compiling."
    )
    return Table("", caption, columns, rows, "conditions.csv")


def _setting(result: DistillResult) -> Iterator[str]:
    plan, counts = result.plan, result.counts
    held = f", {counts['validation']} of them to choose rates by" if counts["validation"] else ""
    yield (
        f"Student: {result.student}, {result.family}. {counts['train']:,} training images{held}, "
        f"{counts['test']:,} test images, {counted(result.classes, 'class', 'classes')}."
    )
    for fraction, epochs in zip(plan.fractions, plan.epochs, strict=True):
        images = result.labeled[f"{fraction:g}"]
        yield (
            f"{fraction:.0%} of the labels: {images:,} images, {epochs} passes in batches of "
            f"{min(plan.batch_size, images)}."
        )
    rates = ", ".join(f"{rate:g}" for rate in plan.rates)
    yield f"Learning rate: {f'the best of {rates}' if len(plan.rates) > 1 else rates}."
    if result.teacher is not None:
        same = " The student is of its family." if result.teacher.family == result.family else ""
        yield (
            f"Teacher: {result.teacher.encoder}, {points(result.teacher.accuracy)}% on the test "
            f"images after fine-tuning.{same}"
        )
    for name, images in result.images.items():
        yield images_in_words(images, counts[name])


def _caveats(result: DistillResult) -> Iterator[str]:
    yield from CAVEATS
    if len(result.plan.seeds) < 5:
        seeds = counted(len(result.plan.seeds), "seed")
        yield f"{seeds}: intervals are wide, and miss more often if differences are not normal."
    yield (
        f"{paper.SOURCE} reports {paper.DISTILL_GAINS[0.1]:+.1f} points at 10% of CIFAR-100's "
        "labels with a ResNet-18; its student, images and length of training are others."
    )
    yield from mini_panel_caveat(result.run.encoders)
    yield from result.run.notes
