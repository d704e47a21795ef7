"""What distillation finds: typed results."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from numpy import ndarray

from substrate_jax.analyses.distill.plan import Condition, Plan
from substrate_jax.analyses.effects import Effect
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE


@dataclasses.dataclass(frozen=True)
class Training:
    """One student.

    Attributes:
        condition: how it was trained.
        rate: learning rate at its peak.
        seed: of initialization, labels, order and views.
        validation: accuracy on images that the rate is chosen by, percent; NaN where there is one
            rate only.
        accuracy: on the test images, percent.
        loss: at the end, the mean of the last steps.
        images_per_second: views trained on; NaN where it was not measured.
        memory: bytes that a step takes.
    """

    condition: Condition
    rate: float
    seed: int
    validation: float
    accuracy: float
    loss: float
    images_per_second: float
    memory: int

    @property
    def key(self) -> tuple[Condition, float, int]:
        """What it is known by."""
        return self.condition, self.rate, self.seed


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One condition over all seeds, at the rate that it chose.

    Attributes:
        condition: how students were trained.
        rate: of highest accuracy on the validation images, for the first seed.
        validation: rate -> accuracy on the validation images, percent.
        accuracy: [seeds] on the test images, percent.
        images_per_second: median over seeds.
        memory: bytes that a step takes.
        gain: points over labels alone at the same share of labels.
        over_control: points of the substrate over this target, where this is another target of the
            same method and weight.
    """

    condition: Condition
    rate: float
    validation: Mapping[str, float]
    accuracy: Float[ndarray, " seeds"]
    images_per_second: float
    memory: int
    gain: Effect | None = None
    over_control: Effect | None = None


@dataclasses.dataclass(frozen=True)
class TeacherResult:
    """A teacher.

    Attributes:
        encoder: that was fine-tuned.
        family: of the encoder.
        fraction: share of the labels that it was trained on, those of the first seed.
        accuracy: on the test images, percent.
    """

    encoder: str
    family: str
    fraction: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class DistillResult:
    """What experiments.distill finds.

    Attributes:
        run: how it was made.
        student: what was trained.
        family: of its architecture.
        plan: conditions, seeds, rates.
        level: of all intervals.
        images: "train" and "test" -> the images.
        counts: "train", "validation" and "test" -> number of images.
        labeled: share of the labels -> labeled images.
        classes: how many.
        teacher: of the methods that have one.
        outcomes: by share, in the order of training.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    student: str
    family: str
    plan: Plan
    level: float
    images: Mapping[str, ImageSet]
    counts: Mapping[str, int]
    labeled: Mapping[str, int]
    classes: int
    teacher: TeacherResult | None
    outcomes: Sequence[Outcome]
