"""What a run of experiments.emergence finds."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.emergence.alignment import Alignment
from substrate_jax.analyses.emergence.rise import Estimate
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE
from substrate_jax.training.mini_panel import Recipe


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """A training, watched at T steps.

    Attributes:
        objective: a key of `plan.OBJECTIVES`.
        seed: of its weights and of the order of its images.
        accuracy: [T] of the classifier on the test images, in [0, 1]; NaN where none is trained.
        probe_accuracy: [T] of a ridge probe on the features, in [0, 1].
        rankme: [T] from singular values, in [1, d].
        effective_rank: [T] from eigenvalues of the covariance, in [1, d].
        alpha: [T] exponent of the spectrum over eigenvalues 11 to 100; NaN where there are fewer.
        settled: [T] PCKA of the network's basis with its own at the end, in [0, 1].
        alignments: target -> agreement of the features with it.
    """

    objective: str
    seed: int
    accuracy: Float[np.ndarray, " T"]
    probe_accuracy: Float[np.ndarray, " T"]
    rankme: Float[np.ndarray, " T"]
    effective_rank: Float[np.ndarray, " T"]
    alpha: Float[np.ndarray, " T"]
    settled: Float[np.ndarray, " T"]
    alignments: Mapping[str, Alignment]


@dataclasses.dataclass(frozen=True, eq=False)
class Rise:
    """A curve over all seeds of an objective.

    Attributes:
        objective: of the trainings.
        curve: a field of `Training` or `Alignment`.
        target: of the alignment; "" for other curves.
        start: of the untrained network.
        top: the largest value on the way, or for a curve that may fall the farthest from the start.
        end: at the last step.
        half: [s] step of half rise for every seed; NaN for a curve that does not rise.
        lead: over seeds, doublings of the step count by which it rises before the accuracy.
    """

    objective: str
    curve: str
    target: str
    start: Estimate
    top: Estimate
    end: Estimate
    half: Float[np.ndarray, " s"]
    lead: Estimate


@dataclasses.dataclass(frozen=True, eq=False)
class EmergenceResult:
    """What experiments.emergence finds.

    Attributes:
        run: how it was made.
        student: what was trained.
        parameters: it has.
        recipe: of all trainings.
        level: of all intervals.
        components: k of the targets.
        train: images to train on.
        test: images to judge by.
        train_images: how many there are of the first.
        test_images: of the second.
        probe_images: of those, how many the features are of.
        classes: how many there are.
        majority: accuracy of answering with the class that is most frequent among test images.
        per_epoch: steps of a pass over the images.
        steps: [T] watched.
        targets: what features are compared with -> in words.
        trainings: one for each objective and seed.
        rises: of every curve over seeds; the first is that of the accuracy.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    student: str
    parameters: int
    recipe: Recipe
    level: float
    components: int
    train: ImageSet
    test: ImageSet
    train_images: int
    test_images: int
    probe_images: int
    classes: int
    majority: float
    per_epoch: int
    steps: Sequence[int]
    targets: Mapping[str, str]
    trainings: Sequence[Training]
    rises: Sequence[Rise]

    def rise(self, curve: str, target: str = "", objective: str = "supervised") -> Rise | None:
        """The curve of this name, if there is one."""
        key = (objective, curve, target)
        return next(
            (one for one in self.rises if (one.objective, one.curve, one.target) == key), None
        )

    def of(self, objective: str) -> list[Training]:
        """The trainings of an objective."""
        return [one for one in self.trainings if one.objective == objective]
