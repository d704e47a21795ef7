"""What the comparison of encoders finds: typed results, fields named as in result.json.

E encoders stand in the order of `Run.encoders`. Entry [x, y] of a matrix is of the pair (x, y); NaN
stands for a number that does not exist, such as the p-value of an encoder with itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

Pairs = Float[np.ndarray, "a b"]


@dataclasses.dataclass(frozen=True)
class CalibratedPairs:
    """Scores of pairs against chance; see `kernels.nulls.calibration`.

    Attributes:
        method: "closed_form" or "permutation".
        skewness: of the closed form's tail, "exact" or "gamma"; None for permutations.
        alpha: level of tau.
        score: calibrated score max((s - tau) / (1 - tau), 0), in [0, 1].
        tau: the s that chance exceeds with probability alpha.
        p_value: chance of an s as high, in (0, 1]; 0 where float32 underflows.
        log10_p_value: its logarithm, which does not underflow.
        q_value: p after Benjamini-Hochberg over all pairs.
    """

    method: str
    skewness: str | None
    alpha: float
    score: Pairs
    tau: Pairs
    p_value: Pairs
    log10_p_value: Pairs
    q_value: Pairs


@dataclasses.dataclass(frozen=True)
class CalibratedRecall:
    """Mutual k-nearest-neighbor recall of all pairs, and its calibration.

    Attributes:
        recall: [E, E] in [0, 1].
        calibrated: against chance.
    """

    recall: Pairs
    calibrated: CalibratedPairs = dataclasses.field(metadata=INLINE)


@dataclasses.dataclass(frozen=True)
class EncoderComparison:
    """Every pair of encoders on one set of images.

    Attributes:
        n: images.
        cka: [E, E] linear CKA in [0, 1].
        cka_debiased: [E, E] from the unbiased HSIC, at most 1, may be negative.
        calibrated: of linear CKA.
        mutual_knn: k -> recall among the k nearest neighbors.
    """

    n: int
    cka: Pairs
    cka_debiased: Pairs
    calibrated: CalibratedPairs
    mutual_knn: Mapping[int, CalibratedRecall]


@dataclasses.dataclass(frozen=True)
class PairIntervals:
    """Intervals of a measure over resampled images; `kernels.measures.bootstrap` says how.

    Attributes:
        low: [E, E] lower ends.
        high: [E, E] upper ends.
        error: [E, E] standard errors.
        draws: resamples of the images.
        level: of the intervals, in (0, 1).
        resampling: "bootstrap" or "subsample".
    """

    low: Pairs
    high: Pairs
    error: Pairs
    draws: int
    level: float
    resampling: str


@dataclasses.dataclass(frozen=True)
class ClosestEncoder:
    """The encoder that is closest to another, and whether the next is further by more than luck.

    Attributes:
        encoder: whose neighbors they are.
        closest: with the highest measure of the pair (encoder, closest).
        next: with the second highest.
        difference: of the two.
        low: lower end of its interval over resampled images, in which both see the same.
        high: upper end.
        p_value: two-sided, of no difference; not corrected for having picked the two.
    """

    encoder: str
    closest: str
    next: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclasses.dataclass(frozen=True)
class MeasuredPairs:
    """One measure of `kernels.MEASURES`.

    Attributes:
        matrix: [E, E] in the measure's own range.
        intervals: over resampled images; None without draws.
        calibrated: against permuted images; None where there is no closed form and no draw.
        ceiling: [E] agreement of each encoder with itself by halves of its units, corrected to all
            of them; None without splits.
        seed_ceiling: [E] agreement of each encoder with itself trained from another seed, both
            ways averaged; NaN for those without another, None if there is none at all.
        closest: for each encoder, with three of them or more; None without resampled images.
    """

    matrix: Pairs
    intervals: PairIntervals | None = dataclasses.field(default=None, metadata=INLINE)
    calibrated: CalibratedPairs | None = None
    ceiling: Float[np.ndarray, " a"] | None = None
    seed_ceiling: Float[np.ndarray, " a"] | None = None
    closest: Sequence[ClosestEncoder] | None = None


@dataclasses.dataclass(frozen=True)
class SeparationOfMeans:
    """Mean calibrated score among discriminative and among masked-reconstruction (MIM) encoders.

    Attributes:
        discriminative_mean: over the pairs of discriminative encoders, None without a pair.
        discriminative_pairs: how many there are.
        mim_mean: over the pairs of MIM encoders, None without a pair.
        mim_pairs: how many there are.
        ratio: the first mean over the second; None where either is missing or the second is not
            above 0.
    """

    discriminative_mean: float | None
    discriminative_pairs: int
    mim_mean: float | None
    mim_pairs: int
    ratio: float | None


@dataclasses.dataclass(frozen=True)
class CkaDomain:
    """A domain of a run of experiments.cka.

    Attributes:
        images: what was compared on.
        comparison: of all pairs of encoders.
        separation: of discriminative from MIM encoders by calibrated CKA.
        measures: name in `kernels.MEASURES` -> values; None where none was asked for.
    """

    images: ImageSet = dataclasses.field(metadata=INLINE)
    comparison: EncoderComparison = dataclasses.field(metadata=INLINE)
    separation: SeparationOfMeans
    measures: Mapping[str, MeasuredPairs] | None = None


@dataclasses.dataclass(frozen=True)
class DomainAgreement:
    """PCKA of all pairs of m domains.

    Attributes:
        domains: names, in the order of the matrix.
        matrix: [m, m] PCKA in [0, 1].
        median: over the pairs.
        min: the least over the pairs.
        min_pair: the two domains it belongs to.
        k: components of a substrate.
    """

    domains: Sequence[str]
    matrix: Float[np.ndarray, "m m"]
    median: float
    min: float
    min_pair: Sequence[str]
    k: int


@dataclasses.dataclass(frozen=True)
class CkaResult:
    """Everything that experiments.cka finds.

    Attributes:
        run: how it was made.
        domains: name -> what was found on it.
        pcka: of all pairs of domains; None for a single one.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    domains: Mapping[str, CkaDomain]
    pcka: DomainAgreement | None


@dataclasses.dataclass(frozen=True)
class MeanScore:
    """Mean calibrated score of the pairs of one kind; None throughout without a pair.

    Attributes:
        mean: over the pairs.
        low: lower end of its interval over resampled images; None without draws or where open.
        high: upper end.
        pairs: how many.
    """

    mean: float | None
    low: float | None
    high: float | None
    pairs: int


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Ratio of two mean scores.

    Attributes:
        value: None where a mean is missing or the denominator is 0.
        low: lower end of its interval; None where it is open.
        high: upper end.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class PairScore:
    """A pair of encoders in a separation test.

    Attributes:
        a: one encoder.
        b: the other.
        kind: "discriminative", "mim" or "other".
        score: calibrated.
        raw: before calibration.
    """

    a: str
    b: str
    kind: str
    score: float
    raw: float


@dataclasses.dataclass(frozen=True)
class FamilyLeftOut:
    """A separation without the discriminative encoders of one family.

    Attributes:
        family: its name.
        encoders: those left out.
        ratio: as of all encoders; None where it does not exist.
        low: lower end of its interval.
        high: upper end.
        discriminative_mean: mean score of the pairs that remain; None without a pair.
    """

    family: str
    encoders: Sequence[str]
    ratio: float | None
    low: float | None
    high: float | None
    discriminative_mean: float | None


@dataclasses.dataclass(frozen=True)
class Separation:
    """Separation of discriminative from MIM encoders by one measure on one domain.

    Attributes:
        discriminative: mean score of their pairs.
        mim: of the MIM pairs.
        ratio: of the two.
        pairs: all pairs of encoders.
        leave_out: without each family in turn.
    """

    discriminative: MeanScore
    mim: MeanScore
    ratio: Ratio
    pairs: Sequence[PairScore]
    leave_out: Sequence[FamilyLeftOut]


@dataclasses.dataclass(frozen=True)
class DomainSeparation:
    """The separation test on one domain.

    Attributes:
        n: images.
        cka: by linear CKA.
        mutual_knn: k -> by recall among the k nearest neighbors.
    """

    n: int
    cka: Separation
    mutual_knn: Mapping[int, Separation]

    def by(self, measure: str | int) -> Separation | None:
        """The test by "cka", or by k of mutual kNN recall; None where it has none."""
        return self.mutual_knn.get(measure) if isinstance(measure, int) else self.cka


@dataclasses.dataclass(frozen=True)
class PanelTest:
    """The separation test on every domain, and on the images of all as one set.

    Attributes:
        domains: name -> test; `POOLED` for all together, if there are two or more.
        alpha: level of tau.
        draws: resamples of the images.
        level: of the intervals.
    """

    domains: Mapping[str, DomainSeparation]
    alpha: float
    draws: int
    level: float
