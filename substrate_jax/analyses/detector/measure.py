"""A detector fitted and measured: held-out accuracy, calibration, controls, and unknown rows.

The detector is fitted to half of every domain's rows and calibrated by a quarter; everything is
measured on the last quarter. Then every domain is left out in turn: substrate, classifier and
reference are fitted to the others alone, and the held-out rows of the domain left out are told from
those of the others. Further sets, near or far, are told from them by the detector of all domains.

Cost: a substrate for the detector, for each domain left out and for each encoder alone.

Not guaranteed: that what tells these unknown rows tells others. No score sees them before.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from substrate_jax.analyses.detector.calibration import calibration
from substrate_jax.analyses.detector.controls import ImageNumbers, measure_controls
from substrate_jax.analyses.detector.detector import (
    ALPHA,
    SCORE,
    Answers,
    DomainDetector,
    stacked,
)
from substrate_jax.analyses.detector.metrics import separation, wilson
from substrate_jax.analyses.detector.parts import Parts, deal
from substrate_jax.analyses.detector.results import (
    LEFT_OUT,
    Evaluation,
    KnownDomain,
    Predictions,
    Unknown,
)
from substrate_jax.analyses.detector.scores import P_VALUE
from substrate_jax.analyses.threads import fitting
from substrate_jax.features import Features
from substrate_jax.features.constant import constant_blocks
from substrate_jax.report.run import ImageSet
from substrate_jax.substrate import COMPONENTS
from substrate_jax.substrate.domains import Panel


@dataclasses.dataclass(frozen=True, eq=False)
class UnknownSet:
    """Rows of no domain, to be told from the known ones.

    Attributes:
        kind: "near" or "far".
        features: encoder -> [n, d].
        images: what they are; None for those generated.
    """

    kind: str
    features: Panel
    images: ImageSet | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A detector, its evaluation, and what it says of every row.

    Attributes:
        detector: fitted to part of the rows.
        evaluation: on the others.
        parts: of the rows.
        held_out: answers to the held-out rows.
        unknowns: name -> answers to its rows.
    """

    detector: DomainDetector
    evaluation: Evaluation
    parts: Parts
    held_out: Answers
    unknowns: Mapping[str, Answers]


def measure(
    features: Mapping[str, Features],
    images: Mapping[str, ImageSet],
    numbers: ImageNumbers | None = None,
    unknowns: Mapping[str, UnknownSet] | None = None,
    *,
    k: int = COMPONENTS,
    score: str = SCORE,
    alpha: float = ALPHA,
    seed: int = 0,
    groups: Mapping[str, Int[np.ndarray, " n"]] | None = None,
    encoders: Mapping[str, str | None] | None = None,
    settings: Mapping[str, str] | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Measured:
    """Fit a detector of the domains and measure it.

    Args:
        features: domain -> features of one panel, rows with ids.
        images: domain -> what its images are.
        numbers: of the images themselves, for controls and to find copies; None without images.
        unknowns: name -> rows from elsewhere.
        k: components of the substrate.
        score: that p-values are of.
        alpha: share of known rows that may be turned away.
        seed: of the deal and of the folds.
        groups: domain -> group of each row, none of which is parted.
        encoders: name -> hash of its weights, kept with the detector.
        settings: kept with the detector.
        progress: called with (steps done, steps).

    Raises:
        ValueError: fewer than two domains, rows in two of them, too few rows, or an encoder whose
            features are constant.
    """
    names = tuple(features)
    panel = stacked(features)
    if dead := constant_blocks(panel):
        raise ValueError(
            f"{', '.join(dead)} gives every image of every domain the same features; leave it out, "
            "or look at its weights"
        )
    ids = {name: of.ids for name, of in features.items()}
    parts = deal(_equal_by(features, numbers), ids, seed=seed, groups=groups)
    options = {"k": k, "score": score, "alpha": alpha, "seed": seed}
    rest = len(names) if len(names) > 2 else 0
    progress(0, 2 + rest)
    found, said = [], {}
    with fitting("detector") as pool:
        without = [
            pool.submit(_left_out, panel, parts, names, number, images[names[number]], options)
            for number in range(rest)
        ]
        detector = DomainDetector.of_rows(
            panel,
            parts.codes,
            parts.fit,
            parts.calibrate,
            names,
            **options,
            encoders=encoders,
            settings=settings,
        )
        answers = detector(_rows(panel, parts.held_out))
        truth = parts.codes[parts.held_out]
        right = answers.codes == truth
        progress(1, 2 + rest)
        controls = measure_controls(panel, parts, right, numbers, k=k, seed=seed, pool=pool)
        for number, one in enumerate(without):
            found.append(one.result())
            progress(2 + number, 2 + rest)
        for name, one in (unknowns or {}).items():
            said[name] = detector(one.features)
            found.append(_unknown(name, one.kind, answers, right, said[name], one.images))
        controls = list(controls)
    progress(2 + rest, 2 + rest)
    kept = ~answers.abstained
    evaluation = Evaluation(
        k=k,
        width=sum(detector.substrate.widths),
        score=score,
        alpha=alpha,
        strength=detector.classifier.strength,
        unsolved=detector.classifier.unsolved,
        domains=_known(names, images, parts, answers, right),
        accuracy=wilson(int(right.sum()), len(right)),
        answered_accuracy=wilson(int(right[kept].sum()), int(kept.sum())),
        abstained=wilson(int((~kept).sum()), len(kept)),
        confusion=_confusion(truth, answers.codes, len(names)),
        calibration=calibration(answers.probabilities, truth, seed=seed),
        controls=controls,
        unknowns=found,
    )
    return Measured(detector, evaluation, parts, answers, said)


def predictions(answers: Answers, detector: DomainDetector, images: ImageSet, path: str | None):
    """What answers to images come to.

    Args:
        answers: to the images.
        detector: that gave them.
        images: what they are.
        path: where the detector was read from; None for one just fitted.
    """
    counts = np.bincount(answers.codes[~answers.abstained], minlength=len(detector.domains))
    return Predictions(
        images=images,
        detector=path,
        domains=detector.domains,
        score=detector.score,
        alpha=detector.alpha,
        rows=len(answers.codes),
        abstained=int(answers.abstained.sum()),
        counts=dict(zip(detector.domains, counts.tolist(), strict=True)),
    )


def _equal_by(features: Mapping[str, Features], numbers: ImageNumbers | None):
    """What makes two rows copies: pixels and size where there are images, else the features."""
    if numbers is None:
        return {name: [np.asarray(x) for x in of.values()] for name, of in features.items()}
    ends = np.cumsum([len(of.ids) for of in features.values()])[:-1]
    pairs = (np.split(x, ends) for x in (numbers.pixels, numbers.statistics))
    return dict(zip(features, map(list, zip(*pairs, strict=True)), strict=True))


def _rows(panel: Panel, where: Bool[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    return {name: np.asarray(block)[where] for name, block in panel.items()}


def _left_out(
    panel: Panel, parts: Parts, names: Sequence[str], number: int, images: ImageSet, options
) -> Unknown:
    """A detector of the other domains, and the held-out rows of the one left out."""
    rest = parts.without(number)
    others = tuple(name for name in names if name != names[number])
    detector = DomainDetector.of_rows(
        panel, rest.codes, rest.fit, rest.calibrate, others, **options
    )
    known = detector(_rows(panel, rest.held_out))
    right = known.codes == rest.codes[rest.held_out]
    own = parts.held_out & (parts.codes == number)
    answers = detector(_rows(panel, own))
    return _unknown(names[number], LEFT_OUT, known, right, answers, images)


def _unknown(
    name: str,
    kind: str,
    known: Answers,
    right: Bool[np.ndarray, " h"],
    answers: Answers,
    images: ImageSet | None,
) -> Unknown:
    n = len(answers.codes)
    counts = np.bincount(answers.codes[~answers.abstained], minlength=len(answers.domains))
    return Unknown(
        name=name,
        kind=kind,
        rows=n,
        known_rows=len(known.codes),
        images=images,
        scores={
            score: separation(known.scores[score], values, right)
            for score, values in answers.scores.items()
        }
        | {P_VALUE: separation(known.p_values, answers.p_values, right)},
        abstained=wilson(int(answers.abstained.sum()), n),
        answered=dict(zip(answers.domains, (counts / n).tolist(), strict=True)),
    )


def _known(
    names: Sequence[str],
    images: Mapping[str, ImageSet],
    parts: Parts,
    answers: Answers,
    right: Bool[np.ndarray, " h"],
) -> dict[str, KnownDomain]:
    truth = parts.codes[parts.held_out]
    found = {}
    for number, name in enumerate(names):
        here, own, said = truth == number, parts.codes == number, answers.codes == number
        count = int(here.sum())
        found[name] = KnownDomain(
            images=images[name],
            fitted=int((parts.fit & own).sum()),
            calibrated=int((parts.calibrate & own).sum()),
            held_out=count,
            copies=parts.copies[number],
            accuracy=wilson(int(right[here].sum()), count),
            abstained=wilson(int(answers.abstained[here].sum()), count),
            answered_abstained=wilson(int(answers.abstained[said].sum()), int(said.sum())),
        )
    return found


def _confusion(
    truth: Int[np.ndarray, " h"], answered: Int[np.ndarray, " h"], classes: int
) -> Int[np.ndarray, "C C"]:
    return np.bincount(classes * truth + answered, minlength=classes**2).reshape(classes, classes)
