"""What is trained and when it is watched: objectives, seeds, steps, recipe.

Every training of a plan has as many steps, the same optimizer and the same batch size. Trainings of
one seed begin at the same weights and take the same images in the same order:

    supervised        cross entropy on the labels, smoothed by 0.1, shifted and mirrored images
    shuffled          the same on labels that are permuted over all training images, once
    self_supervised   SimCLR: two strongly changed views of an image attract; labels are not read

The optimizer is AdamW, its gradients clipped to norm 1, its rate warmed up over 5% of the steps
and then a cosine (`training.mini_panel.make_optimizer`). The first step has rate 0: it moves only
the running means of normalization.

Not guaranteed: that one recipe suits all objectives; none is tuned.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from substrate_jax.training.mini_panel import Recipe

SUPERVISED, SHUFFLED, SELF_SUPERVISED = "supervised", "shuffled", "self_supervised"
OBJECTIVES = {
    SUPERVISED: "supervised",
    SHUFFLED: "labels shuffled",
    SELF_SUPERVISED: "self-supervised (SimCLR)",
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is trained, and when it is watched.

    Attributes:
        student: a key of `training.students`.
        objectives: keys of `OBJECTIVES`.
        seeds: of the trainings of each.
        steps: of every training.
        per_epoch: steps of a pass over the images; the last is begun anew where it has a fraction.
        watched: steps after which features are taken, from 0, the untrained network, to the last.
        recipe: optimizer, rate, batch size, epochs.
    """

    student: str
    objectives: Sequence[str]
    seeds: Sequence[int]
    steps: int
    per_epoch: int
    watched: Sequence[int]
    recipe: Recipe

    @property
    def trainings(self) -> list[tuple[str, int]]:
        """Objective and seed of every training, in the order that they are done."""
        return [(objective, seed) for objective in self.objectives for seed in self.seeds]


def make_plan(
    student: str,
    objectives: Sequence[str],
    seeds: Sequence[int],
    images: int,
    *,
    epochs: int = 8,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
) -> Plan:
    """The plan of trainings on so many images.

    Args:
        student: a key of `training.students`.
        objectives: keys of `OBJECTIVES`.
        seeds: different ones.
        images: to train on.
        epochs: passes over them.
        batch_size: images of a step.
        learning_rate: at its peak.

    Raises:
        ValueError: a batch above the number of images, or options out of range.

    Example:
        >>> plan = make_plan("mini_resnet18", ["supervised"], [0, 1], 640)
        >>> plan.steps, list(plan.watched)
        (80, [0, 1, 2, 4, 8, 10, 14, 20, 28, 40, 57, 80])
    """
    if not 2 <= batch_size <= images:
        raise ValueError(
            f"train_batch={batch_size}: there are {images} images to train on; give 2 to {images}"
        )
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: give 1 or more")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate={learning_rate}: give a positive number")
    if min(seeds) < 0 or max(seeds) >= 2**32:
        raise ValueError(f"seeds {min(seeds)} to {max(seeds)}: give them from 0, below 2^32")
    if epochs * images // batch_size >= 2**31:
        raise ValueError(f"epochs={epochs}: these are more than 2^31 steps; give fewer")
    recipe = Recipe("supervised", epochs, "adamw", learning_rate, batch_size=batch_size)
    steps, per_epoch = max(1, epochs * images // batch_size), images // batch_size
    watched = watch_steps(per_epoch, steps)
    return Plan(student, tuple(objectives), tuple(seeds), steps, per_epoch, watched, recipe)


def watch_steps(per_epoch: int, steps: int) -> tuple[int, ...]:
    """0, 1, 2, 4, ... within the first epoch, its end, then two per doubling, and the last.

    Those just before the last are left out.

    Example:
        >>> watch_steps(5, 21)
        (0, 1, 2, 4, 5, 7, 10, 14, 21)
    """
    within = [2**i for i in range(max(per_epoch, 1).bit_length())]
    count = max(0, int(np.ceil(2 * np.log2(steps / per_epoch)))) + 1
    after = [round(per_epoch * 2 ** (i / 2)) for i in range(count)]
    before = (step for step in {0, *within, *after} if 1.2 * step <= steps)
    return (*sorted(before), steps)


def shuffled(labels: Int[np.ndarray, " n"], seed: int) -> Int[np.ndarray, " n"]:
    """Labels permuted over all images: as many of each class, none of them known by the image.

    Example:
        >>> shuffled(np.array([0, 0, 1, 1, 2, 2]), 0).tolist()
        [0, 2, 1, 0, 1, 2]
    """
    return labels[np.random.default_rng([seed, 1]).permutation(len(labels))]
