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
