"""What experiments.detector finds: typed results, fields named as in result.json."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from substrate_jax.analyses.detector.calibration import Calibration
from substrate_jax.analyses.detector.controls import Control
from substrate_jax.analyses.detector.metrics import Estimate, Separation
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

LEFT_OUT, NEAR, FAR = "left out", "near", "far"


@dataclasses.dataclass(frozen=True)
class KnownDomain:
    """A domain that the detector knows.

    Attributes:
        images: what they are.
        fitted: rows that it was fitted to.
        calibrated: rows that p-values are counted in.
        held_out: rows that it is measured on.
        copies: rows that equal an earlier one of the domain; they share its part.
        accuracy: share of the held-out rows that are answered with it, with Wilson's interval.
        abstained: share of the held-out rows that it abstains from: mistakes, as they are known.
        answered_abstained: the same of all held-out rows answered with it, which is what alpha
            bounds.
    """

    images: ImageSet
    fitted: int
    calibrated: int
    held_out: int
    copies: int
    accuracy: Estimate
    abstained: Estimate
    answered_abstained: Estimate


@dataclasses.dataclass(frozen=True)
class Unknown:
    """Rows of no domain that a detector knows.

    Attributes:
        name: of the domain that was left out, or of the set.
        kind: "left out" of a detector fitted to the others; "near", a further set of a kind that is
            known; "far", anything else.
        rows: how many.
        known_rows: held-out rows of the domains that are known, which they are told from.
        images: what they are; None for those generated.
        scores: name -> how it tells them from the known ones; "p_value" is what abstention goes by.
        abstained: share that the detector abstains from, by its own score.
        answered: name of a domain -> share of the rows that are answered with it, unless abstained.
    """

    name: str
    kind: str
    rows: int
    known_rows: int
    images: ImageSet | None
    scores: Mapping[str, Separation]
    abstained: Estimate
    answered: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A detector of C domains, measured.

    Attributes:
        k: components of the substrate.
        width: features of the panel.
        score: that p-values are of.
        alpha: share of known rows that may be turned away.
        strength: of the classifier's penalty.
        unsolved: fits that stopped before their tolerance.
        domains: name -> what is known of it, in the order of all matrices.
        accuracy: on all held-out rows, abstained or not, with Wilson's interval.
        answered_accuracy: on those that it does not abstain from.
        abstained: share of held-out rows that it abstains from: the false abstentions.
        confusion: [C, C] held-out rows by domain and by answer.
        calibration: of the probabilities.
        controls: other inputs on the same rows.
        unknowns: sets of rows that are from none.
    """

    k: int
    width: int
    score: str
    alpha: float
    strength: float
    unsolved: int
    domains: Mapping[str, KnownDomain]
    accuracy: Estimate
    answered_accuracy: Estimate
    abstained: Estimate
    confusion: Int[np.ndarray, "C C"]
    calibration: Calibration
    controls: Sequence[Control]
    unknowns: Sequence[Unknown]

    def of_kind(self, kind: str) -> list[Unknown]:
        """The unknown sets of one kind."""
        return [unknown for unknown in self.unknowns if unknown.kind == kind]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a detector said of images; each of them is a line of predictions.csv.

    Attributes:
        images: what they are.
        detector: where it was read from; None for the one fitted in this run.
        domains: names that it knows.
        score: that p-values are of.
        alpha: p at which it abstains.
        rows: how many images.
        abstained: how many of them.
        counts: domain -> images that are answered with it.
    """

    images: ImageSet
    detector: str | None
    domains: Sequence[str]
    score: str
    alpha: float
    rows: int
    abstained: int
    counts: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class DetectorResult:
    """What one run found.

    Attributes:
        run: how it was made.
        evaluation: of the detector fitted; None where one was read.
        predictions: None without images to answer.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    evaluation: Evaluation | None = None
    predictions: Predictions | None = None


Pictures = Sequence[UInt8[np.ndarray, "_ _ 3"]]


@dataclasses.dataclass(frozen=True, eq=False)
class SheetLine:
    """Images of a contact sheet.

    Attributes:
        title: what they are of.
        detail: what is known of them.
        pictures: the images.
    """

    title: str
    detail: str
    pictures: Pictures
