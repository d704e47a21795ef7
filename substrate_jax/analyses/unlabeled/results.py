"""What pretraining without labels finds: typed results."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from numpy import ndarray

from substrate_jax.analyses.effects import Effect
from substrate_jax.analyses.unlabeled.plan import Condition, Plan
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A pretrained network, by its features of images that it was pretrained on.

    Attributes:
        pretraining: name of the way.
        seed: of initialization, order and views.
        loss: at the end, the mean of the last steps; NaN without pretraining.
        alignment: debiased CKA of the features with the first target; NaN without one.
        rankme: exp of the entropy of the features' singular values, in [1, d].
        effective_rank: exp of the entropy of their covariance's eigenvalues, in [1, d].
        deviation: median over features of their standard deviation.
        variation: share of the features' mean square that is variance, in [0, 1].
        constant: share of the features whose standard deviation is below a thousandth of the
            largest, in [0, 1].
        images_per_second: images trained on, of which SimCLR sees two views each; NaN where it was
            not measured.
        memory: bytes that a step takes.
    """

    pretraining: str
    seed: int
    loss: float
    alignment: float
    rankme: float
    effective_rank: float
    deviation: float
    variation: float
    constant: float
    images_per_second: float
    memory: int

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by."""
        return self.pretraining, self.seed


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A fine-tuned network.

    Attributes:
        condition: what it was pretrained and fine-tuned on.
        rate: learning rate at its peak.
        seed: of pretraining, labeled images, order and views.
        validation: accuracy on images that the rate is chosen by, percent; NaN where there is one
            rate only.
        accuracy: on the test images, percent.
        loss: at the end, the mean of the last steps.
        images_per_second: NaN where it was not measured.
    """

    condition: Condition
    rate: float
    seed: int
    validation: float
    accuracy: float
    loss: float
    images_per_second: float

    @property
    def key(self) -> tuple[Condition, float, int]:
        """What it is known by."""
        return self.condition, self.rate, self.seed


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One condition over all seeds, at the rate that it chose.

    Attributes:
        condition: what networks were pretrained and fine-tuned on.
        rate: of highest accuracy on the validation images, for the first seed.
        validation: rate -> accuracy on the validation images, percent.
        accuracy: [seeds] on the test images, percent.
        gain: points over no pretraining; None of that itself.
        ahead: points of the main way to pretrain over this one; None of that itself.
    """

    condition: Condition
    rate: float
    validation: Mapping[str, float]
    accuracy: Float[ndarray, " seeds"]
    gain: Effect | None
    ahead: Effect | None


@dataclasses.dataclass(frozen=True)
class Pooled:
    """A way to pretrain at one number of labels, the mean over all sets.

    Attributes:
        pretraining: name of the way.
        labels: images of each class, 0 for all.
        accuracy: mean over sets and seeds, percent.
        gain: points over no pretraining, differences averaged over sets for each seed.
        ahead: points of the main way over this one, likewise.
    """

    pretraining: str
    labels: int
    accuracy: float
    gain: Effect | None
    ahead: Effect | None


@dataclasses.dataclass(frozen=True)
class TuneSet:
    """A labeled set.

    Attributes:
        images: what they are.
        train: images that labels are drawn from.
        validation: images that rates are chosen by.
        test: images that accuracies are of.
        seen: test images whose pixels were among those pretrained on.
        classes: how many.
    """

    images: ImageSet
    train: int
    validation: int
    test: int
    seen: int
    classes: int


@dataclasses.dataclass(frozen=True)
class UnlabeledResult:
    """What experiments.unlabeled finds.

    Attributes:
        run: how it was made.
        student: what was trained.
        family: of its architecture.
        width: features per image.
        plan: ways, numbers of labels, seeds, rates.
        level: of all intervals.
        images: that were pretrained on.
        count: how many.
        steps: of a pretraining.
        dimensions: target -> how many directions of equal variance have its trace and norm.
        sets: name -> labeled set.
        pretrained: every network before fine-tuning.
        outcomes: by set, number of labels and way.
        pooled: by number of labels and way.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    student: str
    family: str
    width: int
    plan: Plan
    level: float
    images: ImageSet
    count: int
    steps: int
    dimensions: Mapping[str, float]
    sets: Mapping[str, TuneSet]
    pretrained: Sequence[Pretrained]
    outcomes: Sequence[Outcome]
    pooled: Sequence[Pooled]

    def at(self, pretraining: str, labels: int) -> Pooled:
        """A way at a number of labels, over all sets."""
        return next(
            one for one in self.pooled if (one.pretraining, one.labels) == (pretraining, labels)
        )
