"""What is pretrained and fine-tuned: ways to pretrain, numbers of labels, rates, seeds."""

import dataclasses
from collections.abc import Sequence

from substrate_jax.analyses.distill.plan import ENCODER, FILE
from substrate_jax.analyses.distill.plan import PIXELS as PIXELS_TARGET
from substrate_jax.analyses.distill.plan import SHUFFLED as SHUFFLED_TARGET
from substrate_jax.analyses.distill.plan import SUBSTRATE as SUBSTRATE_TARGET
from substrate_jax.analyses.distill.plan import UNTRAINED as UNTRAINED_TARGET
from substrate_jax.training.distillation import METHODS

ALL = 0  # as a number of labels: every one


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to pretrain.

    Attributes:
        title: in words, after "pretraining on".
        method: key of `training.distillation.METHODS`; "" where there is none.
        target: that features are compared with; "" where there is none.
        labels: whether the images' labels are read.
    """

    title: str
    method: str = ""
    target: str = ""
    labels: bool = False


SCRATCH, SUBSTRATE, SPREAD, SHUFFLED, UNTRAINED, PIXELS, SIMCLR, SUPERVISED = (
    "scratch",
    "substrate",
    "spread_substrate",
    "shuffled",
    "untrained",
    "pixels",
    "simclr",
    "supervised",
)
_CKA = "debiased_cka"
WAYS = {
    SCRATCH: Way("nothing"),
    SUBSTRATE: Way("the panel's substrate", _CKA, SUBSTRATE_TARGET),
    SPREAD: Way("the substrate with a variance term", "spread_cka", SUBSTRATE_TARGET),
    SHUFFLED: Way("the substrate of other images", _CKA, SHUFFLED_TARGET),
    UNTRAINED: Way("untrained encoders' substrate", _CKA, UNTRAINED_TARGET),
    PIXELS: Way("components of pixels", _CKA, PIXELS_TARGET),
    SIMCLR: Way("two views (SimCLR)"),
    SUPERVISED: Way("labels", "ce", labels=True),
}


def way(name: str) -> Way:
    """How one pretrains, by its name: a key of `WAYS`, encoder:NAME or file:PATH.

    Example:
        >>> way("substrate").method, way("encoder:mini_clip_base").title
        ('debiased_cka', 'components of mini_clip_base')
    """
    if name.startswith(ENCODER):
        return Way(f"components of {name.removeprefix(ENCODER)}", _CKA, name)
    return WAYS[name] if name in WAYS else Way(name, _CKA, name)


@dataclasses.dataclass(frozen=True)
class Condition:
    """A fine-tuning, but for its rate and seed.

    Attributes:
        pretraining: name of the way that the network was pretrained.
        images: name of the set.
        labels: images of each class, 0 for all.
    """

    pretraining: str
    images: str
    labels: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run trains.

    Attributes:
        pretrainings: names of ways, none at all first.
        epochs: passes over the images in pretraining.
        pretraining_rate: learning rate, at its peak.
        labels: images of each class to fine-tune on, 0 for all; the first is the main one.
        tune_steps: of every fine-tuning.
        rates: that every fine-tuning chooses among.
        seeds: of initialization, order, views and labeled images.
        batch_size: images per step.
        components: k of the targets.
    """

    pretrainings: Sequence[str]
    epochs: int
    pretraining_rate: float
    labels: Sequence[int]
    tune_steps: int
    rates: Sequence[float]
    seeds: Sequence[int]
    batch_size: int
    components: int

    @property
    def targets(self) -> list[str]:
        """Targets that features are compared with, the main one first."""
        return list(dict.fromkeys(way(one).target for one in self.pretrainings if way(one).target))

    @property
    def main(self) -> str | None:
        """The way that is judged: the first that has a target."""
        return next((one for one in self.pretrainings if way(one).target), None)

    def steps(self, images: int) -> int:
        """Of a pretraining on so many images."""
        return max(1, self.epochs * images // min(self.batch_size, images))

    def conditions(self, images: str, labels: int) -> list[Condition]:
        """All that is fine-tuned on a set with so many labels."""
        return [Condition(one, images, labels) for one in self.pretrainings]

    def tunings(self, sets: int) -> int:
        """Fine-tunings in all, over so many sets."""
        each = len(self.seeds) + len(self.rates) - 1
        return sets * len(self.labels) * len(self.pretrainings) * each


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be trained.

    Raises:
        ValueError: an unknown way to pretrain, or numbers out of range.
    """
    for name in plan.pretrainings:
        if name not in WAYS and not name.startswith((ENCODER, FILE)):
            raise ValueError(
                f"pretrain_on: {name!r} is none of {', '.join(WAYS)}, {ENCODER}NAME, {FILE}PATH"
            )
    for name, values in (("rates", plan.rates), ("pretraining_rate", [plan.pretraining_rate])):
        for value in values:
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: {value:g}: give numbers above 0")
    for name, found in (("rates", plan.rates), ("label_counts", plan.labels)):
        if not found or len(set(found)) < len(found):
            raise ValueError(f"{name}: give at least one, and none twice")
    if min(plan.labels) < 0:
        raise ValueError(f"label_counts: {min(plan.labels)}: give 1 or more, or all")
    if plan.epochs < 1:
        raise ValueError(f"epochs: {plan.epochs}: give 1 or more")
    if len(plan.seeds) < 2:
        raise ValueError(f"seeds={len(plan.seeds)}: give 2 or more; intervals are over them")
    if max(plan.seeds) >= 2**32:
        raise ValueError(f"seeds up to {max(plan.seeds)}: give them from 0, below 2^32")
    compared = {METHODS[way(one).method].needs for one in plan.pretrainings if way(one).method}
    if plan.batch_size < 4 and "target" in compared:
        raise ValueError(f"batch_size={plan.batch_size}: a CKA loss needs batches of 4 or more")
