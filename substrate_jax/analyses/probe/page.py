"""The report of a low-shot probe: does a substrate of few dimensions beat full width?

`probe_page` turns a `ProbeResult` into a `Page`: the question and its answer per target, learning
curves, every input and head, method, caveats.

Cost: about 0.1 s per figure; one of the answers, and one per target.

Not guaranteed: that targets are a sample of anything.
"""

from collections.abc import Iterator

import numpy as np

from substrate_jax.analyses.probe.method_blocks import kinds_table, methods_table
from substrate_jax.analyses.probe.results import Answer, ProbeResult, Target
from substrate_jax.analyses.probe.target_blocks import learning_curves
from substrate_jax.analyses.probe.words import (
    finding,
    heads_in_words,
    interval_in_words,
)
from substrate_jax.report import page, strips
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Column, Figures, Page, Picture, Prose, Section, Table
from substrate_jax.report.shared_blocks import (
    encoder_tables,
    image_caveats,
    images_in_words,
    mini_panel_caveat,
)
from substrate_jax.report.text import counted, csv_text, points, slugs

METHOD = (
    "The images of a target are halved once, class by class. Labeled images are drawn from one "
    "half, the pool; its images without their labels fix all bases, means and deviations. The "
    "other half is what every head is judged on. All methods have the same draws, and fewer labels "
    "are part of more.",
    "Accuracy is balanced: the mean over classes of the share of held-out images that are right.",
    "PCA and random directions are of standardized features; a substrate is the principal "
    "components of all encoders side by side. The transductive one is fitted on the held-out "
    "images too, without labels, and is no fair competitor.",
    "The paper's head: a linear layer without bias, cross-entropy, Adam at 1e-3 for 200 epochs, "
    "weight decay 1e-4, class-balanced batches (of up to 64, from weights of 0: our reading). "
    "Ridge: on standardized features to targets of ±1, in closed form, its strength chosen among "
    "ten by five folds of the labeled images, fixed at 2^10, or averaged over. Logistic "
    "regression: seven strengths, chosen likewise or averaged over. Discriminant: Ledoit and "
    "Wolf's shrinkage. Neighbors: 20 by cosine, weighted.",
)
CAVEATS = (
    "An interval over draws of labels says nothing of other held-out images, which all draws "
    "share; one over targets does, as far as the targets are like those you care for.",
    "The best encoder is the one of highest accuracy on the very images that it is judged on, "
    "which favors it. The widest is chosen without looking.",
    "Where both reach 100% the difference is 0 in every draw, and its interval has no width: the "
    "target is too easy to tell them apart.",
    "A substrate needs all its encoders on every image: its few dimensions save storage and the "
    "head's work, not the encoders' work.",
)
OF_SAMPLES = (
    "Crops of one picture overlap or look alike, so held-out crops are hardly new and classes are "
    "single pictures: these accuracies show the method only."
)
OF_OTHERS = (
    "Halves are drawn at random. Where images are frames of one video, slices of one patient or "
    "crops of one picture, the held-out half is not new, and accuracies are too high."
)


def probe_page(result: ProbeResult) -> Page:
    """The page of one run.

    Args:
        result: of experiments.probe.

    Returns:
        The page, its figures drawn.
    """
    slug = slugs(list(result.targets))
    curves = [
        learning_curves(name, target, slug[name], result)
        for name, target in result.targets.items()
        if np.isfinite(target.comparison.accuracy).any()
    ]
    sections = [Section(f"{result.components} dimensions or full width", list(_answers(result)))]
    sections.append(Section("Learning curves", [Figures(curves)]))
    tables = [kinds_table(result), methods_table(result)]
    sections.append(Section("Every input and head", tables))
    sections.append(Section("Method", [Prose(METHOD), Prose(list(_targets(result)), points=True)]))
    sections.append(Section("Caveats", [Prose(list(_caveats(result)), points=True)]))
    sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = f"Few labels per class: {result.components} substrate scores or one encoder?"
    return Page(title, finding(result), list(_tiles(result)), sections)


def _first(result: ProbeResult) -> Iterator[tuple[str, Target, Answer]]:
    """The main answer of every target that has one."""
    for name, target in result.targets.items():
        if target.answers:
            yield name, target, target.answers[0]


def _tiles(result: ProbeResult) -> Iterator[tuple[str, str, str]]:
    best = [one for one in result.overall if one.rival == "best"]
    if best:
        for one in best:
            words = f"{heads_in_words(one.head, one.rival_head)}"
            ends = f"{interval_in_words(one.low, one.high)} over {counted(one.targets, 'target')}"
            yield f"{points(one.mean)}", f"points, {words}", ends
        return
    for name, _, one in list(_first(result))[:3]:
        yield points(one.accuracy), f"{result.components} substrate scores", name
        yield points(one.rival_accuracy), f"{one.encoder}, {one.width} features", name


def _answers(result: ProbeResult):
    found = list(_first(result))
    if not found:
        return
    yield Figures([_figure(result)])
    yield _answer_table(result)
    count = sum(len(target.answers) for target in result.targets.values())
    yield Prose(
        [
            f"Intervals of single rows are {result.level:.0%} ones, over the draws of labels. For "
            f"all {counted(count, 'row')} to hold together they must be as wide as in the last "
            "column (Bonferroni). Those of means are over targets."
        ]
    )


def _figure(result: ProbeResult) -> Picture:
    lanes, rows = [], []
    pairs = dict.fromkeys(
        answer.pair for target in result.targets.values() for answer in target.answers
    )
    marks = dict(zip((pair for pair in pairs if pair[0] == "best"), MARKS, strict=False))
    for name, target in result.targets.items():
        for one in target.answers:
            if one.rival != "best" or (one.head != one.rival_head and len(marks) > 1):
                continue
            lanes.append(
                strips.Lane(
                    f"{name}, {counted(one.shots, 'label')}: {one.head}",
                    one.difference.tolist(),
                    mark=marks[one.pair],
                    note=f"{points(one.mean)} ({interval_in_words(one.low, one.high)})",
                    middle=one.mean,
                    interval=(one.low, one.high),
                )
            )
            rows.append((name, one.shots, one.head, one.encoder, *one.difference))
    ends = [abs(end) for lane in lanes for end in (*(lane.interval or ()), *lane.values)]
    reach = max(1.0, *ends)
    figure = strips.strip(
        lanes, quantity="points of balanced accuracy", limits=(-reach, reach), line=0.0
    )
    caption = (
        f"{result.components} substrate scores less the best single encoder at full width, the "
        "same head on both; right of the blue stroke the substrate is better. A dot per draw of "
        f"labels, the black stroke is their mean, the line its {result.level:.0%} interval."
    )
    header = ["target", "labels", "head", "encoder"]
    header += [f"draw_{number}" for number in range(max(len(row) for row in rows) - 4)]
    alt = f"Differences by target. {finding(result)}"
    title = "What the substrate gains over full width"
    return page.drawn("answers", title, caption, alt, figure, csv_text(header, rows))


def _answer_table(result: ProbeResult) -> Table:
    columns = [
        Column("target", "Target"),
        Column("shots", "Labels", "count"),
        Column("heads", "Head: substrate, encoder"),
        Column("accuracy_text", f"{result.components} scores"),
        Column("against", "Encoder at full width"),
        Column("rival_text", "its accuracy"),
        Column("difference_text", "Difference"),
        Column("of_all_text", "for all rows"),
    ]
    columns += [
        Column(key, key, "score", shown=False)
        for key in (
            "rival",
            "encoder",
            "width",
            "head",
            "rival_head",
            "accuracy",
            "rival_accuracy",
            "mean",
            "low",
            "high",
            "low_of_all",
            "high_of_all",
        )
    ]
    rows = []
    for one in result.overall:
        same = one.head == one.rival_head
        ends = interval_in_words(one.low, one.high)
        cells = {column.key: getattr(one, column.key, None) for column in columns}
        rows.append(
            cells
            | {
                "target": f"mean of {counted(one.targets, 'target')}",
                "heads": f"{one.head} on both" if same else f"{one.head}; {one.rival_head}",
                "against": one.rival,
                "difference_text": f"{points(one.mean)} ({ends})",
            }
        )
    for name, target in result.targets.items():
        for one in target.answers:
            same = one.head == one.rival_head
            cells = {column.key: getattr(one, column.key, None) for column in columns}
            rows.append(
                cells
                | {
                    "target": name,
                    "heads": f"{one.head} on both" if same else f"{one.head}; {one.rival_head}",
                    "accuracy_text": points(one.accuracy),
                    "against": f"{one.rival}: {one.encoder}, {one.width}",
                    "rival_text": points(one.rival_accuracy),
                    "difference_text": (
                        f"{points(one.mean)} ({interval_in_words(one.low, one.high)})"
                    ),
                    "of_all_text": interval_in_words(one.low_of_all, one.high_of_all),
                }
            )
    caption = (
        "Balanced accuracy in percent, differences in points. Best: the encoder of highest "
        "accuracy with that head; widest: of most features."
    )
    return Table("", caption, columns, rows, "answers.csv")


def _targets(result: ProbeResult) -> Iterator[str]:
    for name, target in result.targets.items():
        n = target.pool + target.held_out
        classes = counted(len(target.classes), "class", "classes")
        if target.by_domain:
            what = f"{counted(n, 'image')} of {counted(len(target.domains), 'domain')}."
        else:
            what = images_in_words(result.images[target.domains[0]], n)
        text = f"{name}: {what} {classes}, {target.pool} in the pool, {target.held_out} held out."
        if target.left_out:
            numbers = ", ".join(map(str, target.left_out))
            text += f" Its smallest class cannot supply {numbers} labels."
        yield text


def _caveats(result: ProbeResult) -> Iterator[str]:
    yield from CAVEATS
    for name, target in result.targets.items():
        if target.repeated:
            yield (
                f"{name}: {target.repeated} of {target.held_out} held-out images are also in the "
                "pool, equal to the last bit of what was compared; near-duplicates are not counted."
            )
        stopped = int(target.comparison.unsolved.sum())
        if stopped:
            yield f"{name}: {counted(stopped, 'fit')} stopped before the optimizer's tolerance."
    pools = {name: 0 for name in result.images}
    for target in result.targets.values():
        for name in target.domains:
            pools[name] = max(pools[name], 0 if target.by_domain else target.pool + target.held_out)
    images = {name: (found, pools[name]) for name, found in result.images.items()}
    yield from image_caveats(images, OF_SAMPLES, OF_OTHERS)
    yield from mini_panel_caveat(result.run.encoders)
    yield from result.run.notes
