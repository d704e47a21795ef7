"""The report of pretraining without labels: what it gains, over what, and if features collapse.

`unlabeled_page` turns an `UnlabeledResult` into a `Page`: gains at the main number of labels in one
figure, sets and other numbers of labels, the pretrained networks, every fine-tuning, method and
caveats.

Cost: about 0.1 s per figure.

Not guaranteed: that networks of this size say what larger ones would do.
"""

import math
from collections.abc import Iterator

from substrate_jax.analyses import paper
from substrate_jax.analyses.effect_strips import EffectLane, effect_strip
from substrate_jax.analyses.effects import Effect, signed
from substrate_jax.analyses.unlabeled.plan import SCRATCH, SIMCLR, way
from substrate_jax.analyses.unlabeled.results import UnlabeledResult
from substrate_jax.analyses.unlabeled.words import (
    finding,
    labels_title,
    mean_of,
    of_way,
)
from substrate_jax.report import page
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Column, Figures, Page, Picture, Prose, Section, Table
from substrate_jax.report.shared_blocks import (
    encoder_tables,
    images_in_words,
    mini_panel_caveat,
)
from substrate_jax.report.text import counted, points, sentence

METHOD = (
    "A network is pretrained without labels: its loss is 1 − debiased CKA of a batch's features "
    "with a fixed target of the same images, computed once. All its weights are then fine-tuned on "
    "labeled images under a new linear layer. Every way to pretrain has the same initial weights, "
    "images, order and number of steps for one seed; a seed also draws the labeled images. "
    "Differences are paired by seed; intervals are Student's t over seeds.",
    "Shuffled over all images, the substrate keeps its spectrum and says nothing of an image. "
    "Components of pixels say what needs no network. SimCLR sees two strongly changed views of an "
    "image in each step, the others one that is shifted and mirrored. Pretraining on labels reads "
    "those of the images that the others see without.",
    "RankMe is the exponential of the entropy of the features' singular values. CKA asks for the "
    "target's directions only, in their proportions, so ranks fall towards the target's own; the "
    "variance term holds every feature's standard deviation at 1 or above.",
)
CAVEATS = (
    "Networks of all seeds are judged on the same test images: an interval over seeds says nothing "
    "of other images.",
    "The encoders of the panel have seen images of their own, and most of them labels: pretraining "
    "on their substrate hands that on, which no pretraining and SimCLR go without.",
    "The learning rate of pretraining and the number of steps are the same for all ways, and tuned "
    "for none; SimCLR is known to gain from longer training and larger batches.",
)


def unlabeled_page(result: UnlabeledResult) -> Page:
    """The page of one run.

    Args:
        result: of experiments.unlabeled.

    Returns:
        The page, its figures drawn.
    """
    main = labels_title(result.plan.labels[0])
    sections = []
    pictures = list(_main(result))
    if pictures:
        sections.append(Section(f"What pretraining gains with {main}", [Figures(pictures)]))
    others = list(_others(result))
    if others:
        sections.append(Section("Number of labels, and set by set", [Figures(others)]))
    sections += [
        Section("The pretrained networks", [_networks(result)]),
        Section("Every fine-tuning", [_table(result)]),
        Section("Method", [Prose(METHOD), Prose(list(_setting(result)), points=True)]),
        Section("Caveats", [Prose(list(_caveats(result)), points=True)]),
    ]
    if result.run.encoders:
        sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = "Pretraining without labels"
    return Page(title, finding(result), list(_tiles(result)), sections)


def _tiles(result: UnlabeledResult) -> Iterator[tuple[str, str, str]]:
    plan = result.plan
    labels = labels_title(plan.labels[0])
    for name in (SCRATCH, plan.main, SIMCLR):
        if name in plan.pretrainings and name is not None:
            accuracy = result.at(name, plan.labels[0]).accuracy
            about = "without pretraining" if name == SCRATCH else f"after {way(name).title}"
            yield points(accuracy), f"% {about}", labels


def _mark(name: str) -> tuple[str, str]:
    """By what is learned from: a target, labels, or neither."""
    how = way(name)
    return MARKS[0] if how.target else MARKS[1] if how.labels else MARKS[2]


def _strip(
    result: UnlabeledResult, key: str, title: str, found: list[tuple[str, Effect, tuple[str, str]]]
) -> Picture:
    lanes = [EffectLane(label, effect, mark) for label, effect, mark in found]
    return effect_strip(
        key,
        title,
        lanes,
        seeds=result.plan.seeds,
        level=result.level,
        finding=finding(result),
        what="pretraining",
    )


def _main(result: UnlabeledResult) -> Iterator[Picture]:
    plan = result.plan
    found = [result.at(name, plan.labels[0]) for name in plan.pretrainings]
    where = f", mean of {len(result.sets)} sets" if len(result.sets) > 1 else ""
    gains = [
        (way(one.pretraining).title, one.gain, _mark(one.pretraining)) for one in found if one.gain
    ]
    if gains:
        yield _strip(result, "gains", f"Gain over no pretraining{where}", gains)
    ahead = [
        (f"over {way(one.pretraining).title}", one.ahead, _mark(one.pretraining))
        for one in found
        if one.ahead and one.pretraining != SCRATCH
    ]
    if ahead and plan.main is not None:
        yield _strip(result, "ahead", f"Lead of {way(plan.main).title}{where}", ahead)


def _others(result: UnlabeledResult) -> Iterator[Picture]:
    plan = result.plan
    if len(plan.labels) > 1 and plan.main is not None:
        found = [(labels, result.at(plan.main, labels).gain) for labels in plan.labels]
        lanes = [(labels_title(labels), gain, _mark(plan.main)) for labels, gain in found if gain]
        yield _strip(result, "labels", f"{sentence(way(plan.main).title)[:-1]}, by labels", lanes)
    if len(result.sets) < 2:
        return
    for place, name in enumerate(result.sets):
        lanes = [
            (way(one.condition.pretraining).title, one.gain, _mark(one.condition.pretraining))
            for one in result.outcomes
            if one.gain and one.condition.images == name and one.condition.labels == plan.labels[0]
        ]
        if lanes:
            title = f"{name}, {labels_title(plan.labels[0])}"
            yield _strip(result, f"set_{place}", title, lanes)


def _networks(result: UnlabeledResult) -> Table:
    columns = [
        Column("title", "Pretrained on"),
        Column("pretraining", "", shown=False),
        Column("rank", "RankMe"),
        Column("effective", "Effective rank"),
        Column("deviation_text", "Deviation"),
        Column("varies", "Varies"),
        Column("flat", "Constant"),
        Column("aligned", "CKA"),
        Column("speed", "Images/s"),
        Column("time", "Time"),
        Column("memory_text", "Memory"),
    ]
    numbers = ("loss", "alignment", "rankme", "effective_rank", "deviation", "variation")
    numbers = (*numbers, "constant", "images_per_second")
    columns += [Column(key, key, "score", shown=False) for key in numbers]
    rows = []
    batch = min(result.plan.batch_size, result.count)
    for name in result.plan.pretrainings:
        means = {key: mean_of(result, name, key) for key in numbers}
        speed, memory = means["images_per_second"], max(o.memory for o in of_way(result, name))
        seconds = result.steps * batch / speed
        rows.append(
            {
                "title": way(name).title,
                "pretraining": name,
                "rank": points(means["rankme"]),
                "effective": points(means["effective_rank"]),
                "deviation_text": _digits(means["deviation"]),
                "varies": f"{means['variation']:.0%}",
                "flat": f"{means['constant']:.0%}",
                "aligned": _digits(means["alignment"]),
                "speed": f"{speed:,.0f}" if math.isfinite(speed) else "–",
                "time": f"{seconds:,.0f} s" if math.isfinite(seconds) else "–",
                "memory_text": f"{memory / 2**20:,.0f} MiB" if memory else "–",
            }
            | means
        )
    targets = [f"{name} {value:.1f}" for name, value in result.dimensions.items()]
    own = f" Directions of the targets, were all alike: {', '.join(targets)}." if targets else ""
    caption = (
        f"Means over seeds, of up to 1,024 of the images pretrained on; {result.width} features. "
        "Deviation: the median over features of their standard deviation. Varies: the share of "
        "their mean square that is variance. Constant: features whose deviation is below a "
        "thousandth of the largest. CKA: debiased, with the first target. Time: of the steps of "
        f"one pretraining, without compilation.{own}"
    )
    return Table("", caption, columns, rows, "pretrained.csv")


def _digits(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if math.isfinite(value) else "–"


def _table(result: UnlabeledResult) -> Table:
    columns = [
        Column("images", "Set"),
        Column("labels_text", "Labels"),
        Column("title", "Pretrained on"),
        Column("accuracy_text", "Accuracy"),
        Column("gain_text", "Over none"),
        Column("least_text", "Least shown"),
        Column("rate_text", "Rate"),
        Column("pretraining", "", shown=False),
        Column("labels", "", shown=False),
    ]
    columns += [Column(f"seed_{seed}", "", "score", shown=False) for seed in result.plan.seeds]
    rows = []
    for one in result.outcomes:
        rows.append(
            {
                "images": one.condition.images,
                "labels_text": labels_title(one.condition.labels),
                "title": way(one.condition.pretraining).title,
                "accuracy_text": points(float(one.accuracy.mean())),
                "gain_text": signed(one.gain),
                "least_text": points(one.gain.least) if one.gain else "–",
                "rate_text": f"{one.rate:g}",
                "pretraining": one.condition.pretraining,
                "labels": one.condition.labels,
            }
            | {
                f"seed_{seed}": float(value)
                for seed, value in zip(result.plan.seeds, one.accuracy, strict=True)
            }
        )
    caption = (
        "Test accuracy in percent, the mean over seeds; differences in points. Least shown: a mean "
        "difference below it would not have been told from none."
    )
    return Table("", caption, columns, rows, "conditions.csv")


def _setting(result: UnlabeledResult) -> Iterator[str]:
    plan = result.plan
    yield (
        f"Network: {result.student}, {result.family}, {result.width} features. Pretraining: "
        f"{counted(plan.epochs, 'pass', 'passes')} over {result.count:,} images, "
        f"{result.steps:,} steps in batches of {min(plan.batch_size, result.count)}, at a learning "
        f"rate of {plan.pretraining_rate:g}. Fine-tuning: {plan.tune_steps:,} steps."
    )
    rates = ", ".join(f"{rate:g}" for rate in plan.rates)
    choice = f"the best of {rates} for the first seed" if len(plan.rates) > 1 else rates
    yield f"Learning rate of fine-tuning: {choice}."
    yield f"Pretraining images: {images_in_words(result.images, result.count)}"
    for name, one in result.sets.items():
        held = f", {one.validation:,} to choose rates by" if one.validation else ""
        yield (
            f"{name}: {one.train:,} images to draw labels from{held}, {one.test:,} to test on, "
            f"{counted(one.classes, 'class', 'classes')}. "
            f"{images_in_words(one.images, one.train + one.validation)}"
        )


def _caveats(result: UnlabeledResult) -> Iterator[str]:
    yield from CAVEATS
    if len(result.plan.seeds) < 5:
        seeds = counted(len(result.plan.seeds), "seed")
        yield f"{seeds}: intervals are wide, and miss more often if differences are not normal."
    for name, one in result.sets.items():
        if one.seen:
            yield (
                f"{name}: test images with the very pixels of one that was pretrained on: "
                f"{one.seen} of {one.test:,}."
            )
    ours, theirs = paper.PRETRAINED
    yield (
        f"{paper.SOURCE} reports {ours} against {theirs}% on OrganAMNIST with a ResNet-50, and "
        "ties on three other sets; its network, images and length of training are others."
    )
    yield from mini_panel_caveat(result.run.encoders)
    yield from result.run.notes
