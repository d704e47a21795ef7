"""The report of a detector: what tells the domains apart, and what it does with the unknown.

`detector_page` turns a `DetectorResult` into a `Page`: the finding beside its controls, confusion
and reliability, abstention, images, and what was asked.

Cost: about 0.1 s per figure.

Not guaranteed: that images are independent; intervals over images of one film or scan are too
narrow.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses.detector import figures
from substrate_jax.analyses.detector.controls import ENCODER, EVERYTHING, IMAGES, Control
from substrate_jax.analyses.detector.results import (
    LEFT_OUT,
    DetectorResult,
    Evaluation,
    Predictions,
    SheetLine,
)
from substrate_jax.analyses.detector.scores import TITLES
from substrate_jax.analyses.detector.unknown_blocks import unknown_blocks
from substrate_jax.analyses.detector.words import (
    asked,
    beside_encoders,
    between,
    finding,
    percent,
    points,
    reliability,
)
from substrate_jax.report import heatmaps, page, strips, thumbnails
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Block, Column, Figures, Page, Prose, Section, Sheet, Table
from substrate_jax.report.shared_blocks import (
    encoder_tables,
    image_caveats,
    images_in_words,
    mini_panel_caveat,
)
from substrate_jax.report.text import csv_text, matrix_csv

PLAIN = ("#d55e00", "s")
METHOD = (
    "Half of every domain's images are fitted to, a quarter calibrates the p-values, a quarter is "
    "held out; copies of an image are on one side. The substrate, all other inputs and their "
    "scales come from the images fitted to.",
    "The classifier is multinomial logistic regression; five folds of the images fitted to choose "
    "its L2 strength by their log loss. Accuracy has Wilson's interval over held-out images, a "
    "difference of two accuracies the paired interval of Agresti and Min.",
    "Every control is fitted and measured on the same images with the same classifier; that of all "
    "features is ridge regression. Size and color: height, width, their ratio, the share of gray "
    "pixels, mean and deviation of the channels and of color.",
    "p is the share of calibration images answered with the same domain that are no more usual. "
    "Abstaining where p ≤ α turns away at most a share α of the images of known domains, on "
    "average over calibration sets, whatever the score (split conformal prediction). Nothing is "
    "promised of the unknown: that is measured.",
    "A domain left out is unknown to everything, the substrate included. AUROC has Newcombe's "
    "interval over images. AUPR, AURC and accuracy at a coverage depend on how many unknown images "
    "there are beside the known; every answer to an unknown image counts as wrong.",
)


def detector_page(result: DetectorResult, sheets: Sequence[SheetLine] = ()) -> Page:
    """The page of one run.

    Args:
        result: of experiments.detector.
        sheets: images of a contact sheet.

    Returns:
        The page, its figures drawn.
    """
    found, said = result.evaluation, result.predictions
    sections, lede, tiles = [], [], []
    if found is not None:
        lede.append(finding(found))
        tiles += list(_tiles(found))
        sections += [
            Section("What tells the domains apart", list(_inputs(found))),
            Section("Confusion and reliability", list(_confusion(found))),
            Section("Images from none of the domains", list(unknown_blocks(found))),
        ]
    if said is not None:
        lede.append(asked(said))
        sections.append(Section("Images it was asked about", list(_asked(said))))
    if sheets:
        rows = [
            thumbnails.sheet_row(line.title, line.detail, {line.title: line.pictures})
            for line in sheets
        ]
        caption = "p says how usual an image is among those answered with the same domain."
        sections.append(Section("What it abstained from, and what it took", [Sheet(rows, caption)]))
    if found is not None:
        caveats = Prose([*_caveats(result, found)], points=True)
        sections += [Section("Method", [Prose(METHOD)]), Section("Caveats", [caveats])]
    elif result.run.notes:
        sections.append(Section("Caveats", [Prose(result.run.notes, points=True)]))
    sections.append(Section("Encoders", encoder_tables(result.run)))
    sections.append(Section("How this was made", page.provenance(result.run)))
    title = "Which domain is this image from, and is it from none?"
    return Page(title, " ".join(lede), tiles, sections)


def _tiles(found: Evaluation) -> Iterator[tuple[str, str, str]]:
    yield percent(found.accuracy.value), "right on held-out images", f"{found.k} substrate scores"
    plain = [one for one in found.controls if one.kind == IMAGES]
    if plain:
        best = max(plain, key=lambda one: one.accuracy.value)
        yield percent(best.accuracy.value), "right without any network", best.name
    yield percent(found.abstained.value), "of known images turned away", f"α = {found.alpha:g}"
    if left := found.of_kind(LEFT_OUT):
        mean = np.mean([one.abstained.value for one in left])
        yield percent(float(mean)), "of a domain left out turned away", TITLES[found.score]


def _inputs(found: Evaluation) -> Iterator[Block]:
    own = _lane(f"substrate, {found.k} scores", found.k, found.accuracy, strips.OURS)
    lanes = [own]
    for kind, hollow in ((IMAGES, False), (EVERYTHING, True)):
        for one in (one for one in found.controls if one.kind == kind):
            mark = PLAIN if kind == IMAGES else MARKS[2]
            lanes.append(_lane(one.name, one.width, one.accuracy, mark, hollow=hollow))
    singles = [one for one in found.controls if one.kind == ENCODER]
    if singles:
        values = [100 * one.accuracy.value for one in singles]
        mean = float(np.mean(values))
        note = f"{min(values):.1f} to {max(values):.1f}%"
        title = f"PCA-{found.k} of one encoder ({len(singles)})"
        lanes.append(strips.Lane(title, values, MARKS[3], note, middle=mean))
    least = min(v for lane in lanes for v in [*lane.values, *(lane.interval or ())])
    figure = strips.strip(
        lanes,
        quantity="right on held-out images, %",
        limits=(float(5 * np.floor(least / 5)), 100.0),
        line=100 * found.accuracy.value,
    )
    caption = (
        "95% intervals over images. The blue stroke in every lane is the substrate; orange "
        "squares see the images and no network; a dot per encoder in the last lane, the black "
        "stroke their mean."
    )
    rows = [_input_row(f"substrate, {found.k} scores", "substrate", found.k, found.accuracy, None)]
    rows += [_input_row(o.name, o.kind, o.width, o.accuracy, o) for o in found.controls]
    columns = [
        Column("input", "Input"),
        Column("kind", "kind", shown=False),
        Column("width", "Numbers", "count"),
        Column("shown", "Right on held-out images"),
        Column("lead_shown", "Substrate's lead, points"),
        *(Column(key, key, "score", shown=False) for key in ("accuracy", "low", "high")),
        *(Column(key, key, "score", shown=False) for key in ("lead", "lead_low", "lead_high")),
    ]
    csv = csv_text(
        ["input", "accuracy", "low", "high"],
        ([row["input"], row["accuracy"], row["low"], row["high"]] for row in rows),
    )
    alt = f"Accuracy of the substrate and of {len(found.controls)} other inputs. {finding(found)}"
    title = "The substrate beside other inputs"
    yield Figures([page.drawn("inputs", title, caption, alt, figure, csv)])
    caption = (
        "On the same held-out images; 95% intervals over images, paired for the lead. Kinds and "
        "ends are in the CSV."
    )
    yield Prose([beside_encoders(found)])
    yield Table("All inputs", caption, columns, rows, "inputs.csv", folded=len(rows) > 12)


def _lane(name: str, width: int, accuracy, mark, *, hollow: bool = False) -> strips.Lane:
    title = name if name.startswith(("substrate", "PCA")) else f"{name} ({width:,})"
    ends = (100 * accuracy.low, 100 * accuracy.high)
    value = 100 * accuracy.value
    return strips.Lane(title, [value], mark, between(accuracy), hollow, interval=ends)


def _input_row(name: str, kind: str, width: int, accuracy, control: Control | None) -> dict:
    lead = None if control is None else control.lead
    return {
        "input": name,
        "kind": kind,
        "width": width,
        "shown": between(accuracy),
        "lead_shown": "–" if lead is None else points(lead),
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "lead": None if lead is None else lead.value,
        "lead_low": None if lead is None else lead.low,
        "lead_high": None if lead is None else lead.high,
    }


def _confusion(found: Evaluation) -> Iterator[Block]:
    names = list(found.domains)
    share = found.confusion / np.maximum(found.confusion.sum(axis=1, keepdims=True), 1)
    figure = heatmaps.grid(
        share, names, names, quantity="share of the domain's images", titles=("from", "answered")
    )
    wrong = int(found.confusion.sum() - np.trace(found.confusion))
    alt = f"Confusion of {len(names)} domains; {wrong} held-out images are answered wrongly."
    caption = f"Rows sum to 1. {wrong} held-out images are answered wrongly."
    pictures = [
        page.drawn(
            "confusion",
            "Where images go",
            caption,
            alt,
            figure,
            matrix_csv(names, names, found.confusion.astype(float), "from"),
        )
    ]
    bins = found.calibration.bins
    csv = csv_text(
        ["rows", "confidence", "accuracy", "low", "high"],
        ([b.rows, b.confidence, b.accuracy.value, b.accuracy.low, b.accuracy.high] for b in bins),
    )
    words = reliability(found)
    figure = figures.reliability(bins)
    pictures.append(
        page.drawn("reliability", "What probabilities are worth", words, words, figure, csv)
    )
    yield Figures(pictures)
    rows = [
        {
            "domain": name,
            "fitted": one.fitted,
            "calibrated": one.calibrated,
            "held_out": one.held_out,
            "copies": one.copies,
            "right": between(one.accuracy),
            "turned": between(one.abstained),
            "turned_answered": between(one.answered_abstained),
            "accuracy": one.accuracy.value,
            "accuracy_low": one.accuracy.low,
            "accuracy_high": one.accuracy.high,
            "abstained": one.abstained.value,
            "abstained_low": one.abstained.low,
            "abstained_high": one.abstained.high,
            "answered_abstained": one.answered_abstained.value,
            "answered_abstained_low": one.answered_abstained.low,
            "answered_abstained_high": one.answered_abstained.high,
        }
        for name, one in found.domains.items()
    ]
    names_of_shares = ("accuracy", "abstained", "answered_abstained")
    ends = [f"{name}{end}" for name in names_of_shares for end in ("", "_low", "_high")]
    columns = [
        Column("domain", "Domain"),
        Column("right", "Right"),
        Column("turned", "Turned away"),
        Column("turned_answered", "Of those answered with it"),
        Column("held_out", "Held out", "count"),
        Column("fitted", "Fitted to", "count"),
        Column("calibrated", "Calibrating", "count"),
        Column("copies", "Copies", "count"),
        *(Column(key, key, "score", shown=False) for key in ends),
    ]
    caption = (
        f"Held-out images: right answers, and those turned away at α = {found.alpha:g}, which are "
        "mistakes here; α bounds their share of those answered with a domain. Copies are images "
        "equal to an earlier one."
    )
    yield Table("By domain", caption, columns, rows, "domains.csv")


def _asked(found: Predictions) -> Iterator[Block]:
    source = "the one fitted in this run" if found.detector is None else found.detector
    yield Prose(
        [
            f"{images_in_words(found.images, found.rows)} The detector is {source}; it knows "
            f"{', '.join(found.domains)}, and abstains by {TITLES[found.score]}. predictions.csv "
            "beside this page has a line for each image: id, domain, probability, p-value, and "
            "whether it abstained.",
        ]
    )


def _caveats(result: DetectorResult, found: Evaluation) -> Iterator[str]:
    yield (
        "Domains of one run differ in more than what they show: size, color, compression, "
        "background. The controls say how much of the answer that alone gives; a high accuracy "
        "beside them does not say that content is read."
    )
    yield (
        "An unknown image may lie anywhere. What is turned away here says nothing of sets that "
        "were not tried, and a domain left out is easier to see than a new set of a known kind."
    )
    yield (
        "AUROC of a score is of one threshold for all domains. Abstention has one for each, "
        "through the p-value, so it may turn away more or fewer than its score suggests."
    )
    yield from image_caveats(
        {name: (one.images, one.held_out) for name, one in found.domains.items()},
        "Held-out crops overlap with those fitted to, so accuracies and intervals are too good.",
        "Images of one patient, film or place may lie on both sides of the split: then accuracies "
        "are too good for new ones.",
    )
    if found.unsolved:
        yield f"{found.unsolved} fits of the classifier stopped before their tolerance."
    for name, one in found.domains.items():
        yield (f"{name}: {images_in_words(one.images, one.fitted + one.calibrated + one.held_out)}")
    yield from mini_panel_caveat(result.run.encoders)
    yield from result.run.notes
