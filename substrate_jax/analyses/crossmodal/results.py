"""What experiments.crossmodal finds: typed results, fields named as in result.json."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

SUBSTRATE, COMPONENTS, ENCODERS, CONTROL = "substrate", "components", "encoders", "control"
CKA, DEBIASED, KNN = "cka", "debiased_cka", "mutual_knn"
MEASURES = {CKA: "linear CKA", DEBIASED: "debiased CKA", KNN: "mutual kNN recall"}


@dataclasses.dataclass(frozen=True)
class Null:
    """A measure against chance of one kind.

    Attributes:
        mean: of the null.
        deviation: its standard deviation.
        tau: its upper alpha quantile.
        p_value: chance of a value as high.
        score: calibrated, max((value - tau) / (1 - tau), 0).
        least: the value that would have been detected with the power of the run, if the
            alternative is spread as the null is.
        method: "closed_form" or "permutation".
    """

    mean: float
    deviation: float
    tau: float
    p_value: float
    score: float
    least: float
    method: str


@dataclasses.dataclass(frozen=True)
class Measured:
    """A measure of two blocks.

    Attributes:
        value: on all pairs of rows.
        low: end of the 95% interval over resampled rows; NaN without.
        high: its upper end.
        nulls: kind of null -> the measure against it.
    """

    value: float
    low: float
    high: float
    nulls: Mapping[str, Null]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Two blocks of features of matched rows.

    Attributes:
        kind: "substrate" of both panels, "components" of two encoders, "encoders" at full width,
            or "control".
        left: what the first is of.
        right: what the second is of.
        k: components; None at full width.
        rows: pairs of rows.
        measures: name of the measure -> what was found.
    """

    kind: str
    left: str
    right: str
    k: int | None
    rows: int
    measures: Mapping[str, Measured]


@dataclasses.dataclass(frozen=True)
class Control:
    """An agreement of which one knows what it should be.

    Attributes:
        name: what is compared.
        positive: whether there is something to find.
        agreement: what was found.
    """

    name: str
    positive: bool
    agreement: Agreement


@dataclasses.dataclass(frozen=True)
class Planted:
    """A shared signal of known strength, planted in rows that have nothing to do with each other.

    Attributes:
        measure: that looks for it.
        strength: shares of the right block's variance that were arranged as the left block's.
        value: mean of the measure at each.
        detected: share of draws in which it is above tau.
        draws: for each strength.
        least_strength: at which as many are detected as the power says; NaN if none is enough.
        least: the measure there.
        by_null: the same from the null alone.
        expected: the same in closed form, with the spread that the signal has; NaN for recall.
    """

    measure: str
    strength: Sequence[float]
    value: Float[np.ndarray, " s"]
    detected: Float[np.ndarray, " s"]
    draws: int
    least_strength: float
    least: float
    by_null: float
    expected: float


@dataclasses.dataclass(frozen=True)
class SideRows:
    """The rows of one side.

    Attributes:
        name: of the side.
        images: what they are.
        rows: read.
        encoders: names.
        widths: features of each.
        groups: how many, such as speakers; None where nothing is known.
    """

    name: str
    images: ImageSet
    rows: int
    encoders: Sequence[str]
    widths: Sequence[int]
    groups: int | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two modalities on matched rows.

    Attributes:
        rows: pairs.
        classes: names; empty without.
        per_class: pairs of each.
        arbitrary: whether rows of a class are paired at will.
        k: components of the substrates of the finding.
        neighbors: of mutual kNN.
        alpha: level of tau.
        power: share of draws in which an effect is to be found.
        permutations: draws of each sampled null.
        agreements: the substrates at every number of components first.
        controls: what they should be, and are.
        planted: by measure, at `k`.
    """

    rows: int
    classes: Sequence[str]
    per_class: Sequence[int]
    arbitrary: bool
    k: int
    neighbors: int
    alpha: float
    power: float
    permutations: int
    agreements: Sequence[Agreement]
    controls: Sequence[Control]
    planted: Sequence[Planted]

    @property
    def main(self) -> Agreement:
        """The two substrates at `k`."""
        return next(one for one in self.agreements if one.kind == SUBSTRATE and one.k == self.k)

    def of_kind(self, kind: str) -> list[Agreement]:
        """Agreements of one kind."""
        return [one for one in self.agreements if one.kind == kind]


@dataclasses.dataclass(frozen=True)
class CrossmodalResult:
    """Everything of one run.

    Attributes:
        run: how it was made.
        left: one side.
        right: the other.
        comparison: of both.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    left: SideRows
    right: SideRows
    comparison: Comparison
