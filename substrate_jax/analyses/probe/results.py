"""What a low-shot probe finds: typed results."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

Kind = Literal[
    "substrate",
    "transductive",
    "encoder",
    "principal",
    "random",
    "pixels",
    "all",
    "average",
    "other",
]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Work and memory per image that is judged, beyond the encoders' own.

    Attributes:
        flops: from the encoders' features to the class scores; a multiplication and an addition
            count two.
        image_bytes: of what a head reads per image, in float32.
        model_bytes: of what is kept for all images in float32: bases, weights, labeled rows.
    """

    flops: int
    image_bytes: int
    model_bytes: int


@dataclasses.dataclass(frozen=True)
class Method:
    """A head on an input.

    Attributes:
        input: its name.
        head: its name.
        encoders: that must run on every image.
        width: features that the head reads; the sum over the heads that are averaged.
        costs: for each number of labels; only that of neighbors depends on it.
        kind: what sort of input it is; "other" for those of a caller's own.
    """

    input: str
    head: str
    encoders: Sequence[str]
    width: int
    costs: Sequence[Cost]
    kind: Kind = "other"

    @property
    def name(self) -> str:
        """Head and input in words."""
        return f"{self.head} on {self.input}"


@dataclasses.dataclass(frozen=True)
class ProbeComparison:
    """Accuracy of every method in every episode.

    Attributes:
        methods: in the order of the rows.
        shots: labels per class.
        classes: how many.
        held_out: images that accuracy is measured on.
        accuracy: [methods, shots, episodes] balanced accuracy in percent: the mean over classes of
            the share of its held-out images that are right. NaN where a strength should be chosen
            by folds of one label per class.
        unsolved: [methods, shots] fits that stopped before their tolerance.
    """

    methods: Sequence[Method]
    shots: Sequence[int]
    classes: int
    held_out: int
    accuracy: Float[np.ndarray, "methods shots episodes"]
    unsolved: Int[np.ndarray, "methods shots"]

    @property
    def mean(self) -> Float[np.ndarray, "methods shots"]:
        """Mean over the episodes."""
        return self.accuracy.mean(axis=2)

    def place(self, input: str, head: str) -> int:
        """Row of a method.

        Raises:
            ValueError: no such method.
        """
        for number, method in enumerate(self.methods):
            if (method.input, method.head) == (input, head):
                return number
        raise ValueError(
            f"no method {head!r} on {input!r}: there are "
            f"{', '.join(method.name for method in self.methods)}"
        )


@dataclasses.dataclass(frozen=True)
class PairedDifferences:
    """Every method less one of them, in the same episodes.

    Attributes:
        baseline: row of the method that is subtracted.
        difference: [methods, shots, episodes] in points.
        mean: [methods, shots].
        low: [methods, shots] of the interval for one difference looked at alone.
        high: its upper end.
        low_of_all: [methods, shots] of intervals that hold together for all differences.
        high_of_all: their upper end.
        compared: how many differences those are for: all of other methods, at all numbers of
            labels, that have a value.
        level: of the intervals.
    """

    baseline: int
    difference: Float[np.ndarray, "methods shots episodes"]
    mean: Float[np.ndarray, "methods shots"]
    low: Float[np.ndarray, "methods shots"]
    high: Float[np.ndarray, "methods shots"]
    low_of_all: Float[np.ndarray, "methods shots"]
    high_of_all: Float[np.ndarray, "methods shots"]
    compared: int
    level: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """Substrate scores less one encoder at full width, in the same episodes.

    Attributes:
        rival: "best", the encoder of highest accuracy with its head at this number of labels, or
            "widest".
        encoder: that encoder.
        width: its features.
        head: of the substrate's scores.
        rival_head: of the encoder's features.
        shots: labels per class.
        accuracy: of the substrate's scores, mean over the episodes in percent.
        rival_accuracy: likewise of the encoder.
        difference: [episodes] in points.
        mean: of the differences.
        low: of the interval over episodes, for this answer looked at alone.
        high: its upper end.
        low_of_all: of intervals that hold together for all answers of a run.
        high_of_all: their upper end.
    """

    rival: str
    encoder: str
    width: int
    head: str
    rival_head: str
    shots: int
    accuracy: float
    rival_accuracy: float
    difference: Float[np.ndarray, " episodes"]
    mean: float
    low: float
    high: float
    low_of_all: float
    high_of_all: float

    @property
    def pair(self) -> tuple[str, str, str]:
        """What is compared, whatever the target: which encoder, and the two heads."""
        return self.rival, self.head, self.rival_head


@dataclasses.dataclass(frozen=True)
class Overall:
    """One comparison over all targets whose labels came with their images.

    Attributes:
        rival: as in `Answer`.
        head: of the substrate's scores.
        rival_head: of the encoder's features.
        targets: how many.
        mean: over targets, of their mean differences in points.
        low: of the t interval over targets.
        high: its upper end.
        better: targets where the substrate is surely better, by intervals that hold together.
        worse: where it is surely worse.
    """

    rival: str
    head: str
    rival_head: str
    targets: int
    mean: float
    low: float
    high: float
    better: int
    worse: int


@dataclasses.dataclass(frozen=True)
class Target:
    """Labeled images, and what heads reach on them.

    Attributes:
        domains: the domains that the images are of.
        by_domain: whether the label is the domain itself.
        classes: names.
        pool: images that labels are drawn from and bases are fitted on.
        held_out: images that accuracy is measured on.
        left_out: numbers of labels that the smallest class cannot supply.
        repeated: held-out images that are also in the pool: equal pixels, or equal features where
            there are no pixels.
        comparison: of all methods.
        answers: whether the substrate's scores beat full width.
    """

    domains: Sequence[str]
    by_domain: bool
    classes: Sequence[str]
    pool: int
    held_out: int
    left_out: Sequence[int]
    repeated: int
    comparison: ProbeComparison
    answers: Sequence[Answer]


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """What experiments.probe finds.

    Attributes:
        run: how it was made.
        components: k, scores of the substrate.
        level: of all intervals.
        images: domain -> its images.
        targets: name -> what was found.
        overall: the answers over the labeled targets; none of fewer than two.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    components: int
    level: float
    images: Mapping[str, ImageSet]
    targets: Mapping[str, Target]
    overall: Sequence[Overall]
