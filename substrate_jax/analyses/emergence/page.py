"""The report of an emergence: curves over the steps of training, and when each has risen.

Cost: about 0.1 s per figure, five figures.

Not guaranteed: that one student on one set of images stands for others.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from substrate_jax.analyses import paper
from substrate_jax.analyses.emergence import figures
from substrate_jax.analyses.emergence.compare import PANEL, SEED
from substrate_jax.analyses.emergence.figures import Line
from substrate_jax.analyses.emergence.plan import OBJECTIVES, SELF_SUPERVISED, SHUFFLED, SUPERVISED
from substrate_jax.analyses.emergence.results import EmergenceResult, Rise
from substrate_jax.analyses.emergence.tables import controls_table, rise_table, values_table
from substrate_jax.analyses.emergence.words import CURVES, doublings, finding, middle_step
from substrate_jax.report import page, strips
from substrate_jax.report.drawing import MARKS
from substrate_jax.report.page import Figures, Page, Picture, Prose, Section
from substrate_jax.report.shared_blocks import encoder_tables, images_in_words, mini_panel_caveat
from substrate_jax.report.text import counted, csv_text, short

METHOD = (
    "A network is trained from scratch, and its features of the same held-out images (probe "
    "images) are taken at every watched step, in evaluation mode and by the extraction that all "
    "encoders go through. The target is fixed: scores of the probe images on the panel's "
    "substrate, the leading components of its standardized features.",
    "Debiased CKA is 0 on average for unrelated features at any number of images; the biased CKA, "
    "which the paper reports, is not. Calibrated CKA is the share above what permuted images reach "
    "at the level of tau. Predictivity is the held-out share of the target's variance that ridge "
    "regression on the features explains.",
    "Half rise: the first step at which a curve has come half of the way from its untrained value "
    "to its top, by a straight line in log(1 + step). The lead of a curve is the base-2 logarithm "
    "of accuracy's step over its own, both plus one, in the same training: 1 is half of the steps. "
    "Intervals are Student's t over seeds.",
    "RankMe is exp of the entropy of the features' singular values, as published; effective rank "
    "that of the covariance's eigenvalues, which other code calls RankMe. Alpha is the exponent of "
    "the eigenvalues 11 to 100. Probe accuracy is that of a ridge classifier on the features, "
    "cross-validated among the test images, which needs no trained classifier.",
)
CAVEATS = (
    "The interval is over seeds of one recipe on one set of images; it says nothing of other "
    "networks or images.",
    "In the first dozens of steps the running means of batch normalization lag behind the weights, "
    "and the first step has a learning rate of 0: changes there are not all learning.",
    "A time of half rise depends on the top of its curve, and so on how long training goes on.",
    "The network's basis agrees with its own end by definition there; read that curve's shape.",
)


def emergence_page(result: EmergenceResult) -> Page:
    """The page of one run.

    Args:
        result: of experiments.emergence.

    Returns:
        The page, its figures drawn.
    """
    sections = [
        Section(
            "Agreement and accuracy",
            [Figures([_learning(result), _times(result)]), rise_table(result)],
        ),
        Section(
            "Controls", [Figures([_targets(result), *_objectives(result)]), controls_table(result)]
        ),
        Section("The features' own shape", [Figures([_ranks(result), *_shape(result)])]),
        Section(
            "Method", [Prose([*METHOD, _recipe(result)]), Prose(list(_sets(result)), points=True)]
        ),
        Section("Caveats", [Prose(list(_caveats(result)), points=True)]),
        Section("All values", [values_table(result)]),
        Section("Encoders of the panel", encoder_tables(result.run)),
        Section("How this was made", page.provenance(result.run)),
    ]
    title = "Emergence: does a network agree with a panel before it is right?"
    return Page(title, finding(result), list(_tiles(result)), sections)


def _tiles(result: EmergenceResult) -> Iterator[tuple[str, str, str]]:
    one, accuracy = result.rise("debiased_cka", PANEL), result.rise("accuracy")
    if one is None or accuracy is None:
        return
    yield doublings(one.lead.mean), "doublings that agreement leads by", _ends(result, one)
    yield short(one.end.mean), "debiased CKA at the end", f"{short(one.start.mean)} untrained"
    words = f"{accuracy.start.mean:.0%} untrained, {result.majority:.0%} by the largest class"
    yield f"{accuracy.end.mean:.1%}", "test accuracy at the end", words


def _ends(result: EmergenceResult, one: Rise) -> str:
    seeds = counted(len(one.half), "seed")
    if not np.isfinite(one.lead.low):
        return seeds
    return f"{doublings(one.lead.low)} to {doublings(one.lead.high)} over {seeds}"


def _values(
    result: EmergenceResult, curve: str, target: str = "", objective: str = SUPERVISED
) -> np.ndarray:
    return np.stack(
        [getattr(one.alignments[target] if target else one, curve) for one in result.of(objective)]
    )


def _drawn(
    result: EmergenceResult, key: str, title: str, caption: str, lines: Sequence[Line], what: str
) -> Picture:
    figure = figures.trajectories(lines, result.steps, per_epoch=result.per_epoch, quantity=what)
    header = ["step"] + [f"{line.label}, {i}" for line in lines for i in range(len(line.values))]
    rows = zip(result.steps, *(seed for line in lines for seed in line.values), strict=True)
    ends = "; ".join(
        f"{line.label} from {line.values[:, 0].mean():.3g} to {line.values[:, -1].mean():.3g}"
        for line in lines
    )
    note = f"{caption} Thin lines are seeds, thick ones their mean; gray: end of the first epoch."
    return page.drawn(key, title, note, f"{title}: {ends}.", figure, csv_text(header, rows))


def _learning(result: EmergenceResult) -> Picture:
    kinds = [("accuracy", ""), ("debiased_cka", PANEL), ("cka", PANEL), ("mutual_knn", PANEL)]
    lines = [
        Line(
            CURVES[curve] + (" with the panel" if target else ""),
            _values(result, curve, target),
            mark,
        )
        for (curve, target), mark in zip(kinds, MARKS, strict=False)
    ]
    caption = "Accuracy on test images, and agreement of the features with the panel's substrate."
    return _drawn(result, "learning", "Accuracy and agreement", caption, lines, "value")


def _times(result: EmergenceResult) -> Picture:
    lanes, rows = [], []
    for one in result.rises:
        if one.objective != SUPERVISED or one.target not in ("", PANEL):
            continue
        half = one.half[np.isfinite(one.half)]
        note = middle_step(one.half)
        lanes.append(
            strips.Lane(
                CURVES[one.curve],
                (1 + half).tolist(),
                mark=MARKS[1] if one.target else MARKS[0],
                note=note if note == "never" else f"step {note}",
                middle=float(2 ** np.log2(1 + half).mean()) if len(half) else None,
            )
        )
        rows.append((one.curve, one.target, *one.half))
    accuracy = result.rise("accuracy")
    base = None
    if accuracy and np.isfinite(accuracy.half).any():
        base = float(2 ** np.nanmean(np.log2(1 + accuracy.half)))
    figure = strips.strip(
        lanes,
        quantity="1 + step of half rise (logarithmic)",
        limits=(1.0, 1.0 + result.steps[-1]),
        line=base,
        logarithmic=True,
    )
    caption = (
        "When each curve has half of its rise: a dot per seed, the black stroke their mean; orange "
        "curves are agreement with the panel. Left of the blue stroke is before accuracy."
    )
    seeds = max(len(row) for row in rows) - 2
    header = ["curve", "target", *(f"seed_{i}" for i in range(seeds))]
    alt = f"Steps of half rise by curve. {finding(result)}"
    return page.drawn("times", "Which comes first", caption, alt, figure, csv_text(header, rows))


def _targets(result: EmergenceResult) -> Picture:
    lines = [
        Line(title, _values(result, "debiased_cka", target), mark)
        for (target, title), mark in zip(result.targets.items(), MARKS[1:], strict=False)
    ]
    caption = "Debiased CKA of the same features with other targets."
    if SEED in result.targets:
        caption += " Another seed's network at its end is a ceiling for one recipe."
    return _drawn(result, "targets", "Agreement with what?", caption, lines, "debiased CKA")


def _objectives(result: EmergenceResult) -> Iterator[Picture]:
    found = list(dict.fromkeys(one.objective for one in result.trainings))
    if len(found) > 1:
        lines = [
            Line(OBJECTIVES[objective], _values(result, "debiased_cka", PANEL, objective), mark)
            for objective, mark in zip(found, MARKS[1:], strict=False)
        ]
        caption = "Debiased CKA with the panel, by what the network is trained for."
        yield _drawn(result, "objectives", "Trained for what?", caption, lines, "debiased CKA")


def _ranks(result: EmergenceResult) -> Picture:
    lines = [
        Line(CURVES[curve], _values(result, curve), mark)
        for curve, mark in zip(("rankme", "effective_rank"), MARKS, strict=False)
    ]
    caption = "Dimensions that the features fill, by two definitions of one name."
    return _drawn(result, "ranks", "How many dimensions", caption, lines, "dimensions")


def _shape(result: EmergenceResult) -> Iterator[Picture]:
    settled = [Line(CURVES["settled"], _values(result, "settled"), MARKS[2])]
    caption = "PCKA of the network's leading components with those at the end of its training."
    yield _drawn(result, "settled", "When its own basis settles", caption, settled, "PCKA")
    alpha = _values(result, "alpha")
    if np.isfinite(alpha).all():
        lines = [Line(CURVES["alpha"], alpha, MARKS[3])]
        caption = "Exponent of the eigenvalues 11 to 100: larger is steeper, fewer dimensions."
        yield _drawn(result, "alpha", "How steep the spectrum is", caption, lines, "alpha")


def _recipe(result: EmergenceResult) -> str:
    recipe = result.recipe
    return (
        f"{result.student} with {result.parameters:,} parameters: {recipe.epochs} epochs of "
        f"{counted(result.train_images, 'image')}, {result.steps[-1]:,} steps of "
        f"{recipe.batch_size}. AdamW at {recipe.learning_rate:g} after a warm-up of 5% of the "
        f"steps, cosine decay, weight decay {recipe.weight_decay:g}, gradients of norm 1 at most; "
        "cross entropy smoothed by .1, images shifted by up to 4 pixels and mirrored. "
        f"The paper watches a {paper.EMERGENCE['network']}: CKA {short(paper.EMERGENCE['start'])} "
        f"at the start, {short(paper.EMERGENCE['peak'])} at epoch {paper.EMERGENCE['epoch']}."
    )


def _sets(result: EmergenceResult) -> Iterator[str]:
    yield f"Trained on: {images_in_words(result.train, result.train_images)}"
    held = "" if result.test.source != result.train.source else " Held out, class by class."
    yield (
        f"Judged on: {images_in_words(result.test, result.test_images)}{held} Features are of "
        f"{result.probe_images} of them."
    )


def _caveats(result: EmergenceResult) -> Iterator[str]:
    seeds = len(result.of(SUPERVISED))
    if seeds < 3:
        words = "One seed has no interval" if seeds == 1 else "Two seeds have very wide intervals"
        yield (
            f"{words} (a factor of 12.7 on their standard error at 95%); --seeds=3 and more "
            "narrow them."
            if seeds == 2
            else f"{words}; give --seeds=3 or more."
        )
    yield from CAVEATS
    if SHUFFLED in {one.objective for one in result.trainings}:
        yield (
            "Shuffled labels leave the images' own statistics to learn; agreement that rises "
            "there too is not owed to the classes."
        )
    if SELF_SUPERVISED in {one.objective for one in result.trainings}:
        yield "SimCLR has the optimizer of the supervised training here, and is not tuned."
    yield from mini_panel_caveat(result.run.encoders)
    yield from result.run.notes
