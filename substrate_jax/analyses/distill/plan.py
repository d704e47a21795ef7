"""What is trained: methods, targets, weights and shares of the labels, and in what order.

Not everything is crossed. At the main share of labels (10%, or the first) every method runs; the
first method that compares features with a target runs on every target, the controls among them, and
the CKA losses with every weight. At other shares only labels alone and the first such method run,
on the first target.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from substrate_jax.training.distillation import METHODS

MAIN_FRACTION = 0.1
LABELS_ALONE = "ce"
SUBSTRATE, LABELS, SHUFFLED, WITHIN, UNTRAINED, PIXELS, RANDOM = (
    "substrate",
    "labels",
    "shuffled",
    "shuffled_within",
    "untrained",
    "pixels",
    "random",
)
ENCODER = "encoder:"  # and its name: the components of one encoder
FILE = "file:"  # and a path: scores made elsewhere
TARGETS = {
    SUBSTRATE: "the panel's substrate",
    LABELS: "one-hot labels",
    SHUFFLED: "the substrate of other images",
    WITHIN: "the substrate of other images of the class",
    UNTRAINED: "untrained encoders' substrate",
    PIXELS: "components of pixels",
    RANDOM: "random numbers",
}
_WEIGHTED = ("debiased_cka", "cka")


@dataclasses.dataclass(frozen=True)
class Condition:
    """One way to train, at one share of the labels.

    Attributes:
        method: key of `training.distillation.METHODS`.
        target: what features are compared with: a target, the teacher's name, or nothing.
        weight: of the method's term.
        fraction: share of the labeled images, in (0, 1].
        epochs: passes over them.
    """

    method: str
    target: str
    weight: float
    fraction: float
    epochs: int

    @property
    def key(self) -> str:
        """Letters, digits, points and underscores that name it."""
        numbers = (self.weight, self.fraction, self.epochs)
        words = [self.method, self.target, *(f"{number:g}" for number in numbers)]
        return "_".join("".join(c if c.isalnum() or c in ".-" else "_" for c in w) for w in words)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run trains.

    Attributes:
        methods: in order; labels alone is always among them.
        targets: the first is the one that all methods share.
        teacher: name of the encoder that teachers are made of; "" without one.
        weights: of the CKA losses.
        fractions: shares of the labels.
        epochs: passes over the labeled images, for each share.
        rates: learning rates that every condition chooses among.
        seeds: of initialization, labels, order and views.
        batch_size: images per step.
        components: k of the targets.
    """

    methods: Sequence[str]
    targets: Sequence[str]
    teacher: str
    weights: Sequence[float]
    fractions: Sequence[float]
    epochs: Sequence[int]
    rates: Sequence[float]
    seeds: Sequence[int]
    batch_size: int
    components: int

    @property
    def main(self) -> float:
        """The share of labels at which everything is compared."""
        return MAIN_FRACTION if MAIN_FRACTION in self.fractions else self.fractions[0]

    @property
    def on_target(self) -> str | None:
        """The method that runs on every target."""
        return next((name for name in self.methods if METHODS[name].needs == "target"), None)

    def conditions(self, fraction: float) -> list[Condition]:
        """Everything trained at a share of the labels, methods together."""
        epochs = self.epochs[list(self.fractions).index(fraction)]
        found = dict.fromkeys(self._combinations(fraction == self.main))
        return [Condition(*one, fraction, epochs) for one in found]

    def _combinations(self, main: bool) -> Iterator[tuple[str, str, float]]:
        """Method, target and weight."""
        for name in self.methods:
            method = METHODS[name]
            if method.needs == "labels":
                yield name, "", 0.0
            elif method.needs == "teacher" and main:
                yield name, self.teacher, method.weight
            elif method.needs == "target" and (main or name == self.on_target):
                targets = self.targets if main and name == self.on_target else self.targets[:1]
                for target in targets:
                    yield name, target, method.weight
                if main and name in _WEIGHTED:
                    for weight in self.weights:
                        yield name, self.targets[0], weight

    def count(self) -> int:
        """Trainings in all: one of each condition and rate, then the other seeds at the best."""
        tried = len(self.rates) if len(self.rates) > 1 else 1
        each = tried + len(self.seeds) - 1
        return sum(each * len(self.conditions(fraction)) for fraction in self.fractions)


def check_plan(plan: Plan) -> None:
    """Refuse what cannot be trained.

    Raises:
        ValueError: an unknown method or target, a share or weight out of range, numbers of epochs
            that fit no shares, or methods without what they need.
    """
    for name in plan.methods:
        if name not in METHODS:
            raise ValueError(f"methods: {name!r} is none of {', '.join(METHODS)}")
        if METHODS[name].needs == "teacher" and not plan.teacher:
            raise ValueError(f"methods: {name!r} needs --teacher, the name of an encoder")
    for target in plan.targets:
        if target not in TARGETS and not target.startswith((ENCODER, FILE)):
            raise ValueError(
                f"targets: {target!r} is none of {', '.join(TARGETS)}, {ENCODER}NAME, {FILE}PATH"
            )
    for name, values, most in (
        ("weights", plan.weights, float("inf")),
        ("fractions", plan.fractions, 1.0),
        ("rates", plan.rates, float("inf")),
    ):
        for value in values:
            if not 0 < value <= most or value == float("inf"):
                upper = f", at most {most:g}" if most < float("inf") else ""
                raise ValueError(f"{name}: {value:g}: give numbers above 0{upper}")
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name}: give at least one, and none twice")
    if len(plan.epochs) != len(plan.fractions):
        raise ValueError(
            f"epochs: {len(plan.epochs)} numbers for {len(plan.fractions)} fractions; give as many"
        )
    if min(plan.epochs) < 1:
        raise ValueError(f"epochs: {min(plan.epochs)}: give 1 or more")
    if len(plan.seeds) < 2:
        raise ValueError(f"seeds={len(plan.seeds)}: give 2 or more; intervals are over them")
    if plan.batch_size < 4:
        raise ValueError(f"batch_size={plan.batch_size}: a CKA loss needs batches of 4 or more")
