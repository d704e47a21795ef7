"""What the comparison of domains finds: typed results, fields named as in result.json.

m domains stand in the order of `DomainsResult.domains`. NaN in an array and None elsewhere stand
for a number that does not exist.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from substrate_jax.analyses.cka.results import PanelTest
from substrate_jax.report.run import ImageSet, Run
from substrate_jax.report.values import INLINE

DomainPairs = Float[np.ndarray, "m m"]


@dataclasses.dataclass(frozen=True)
class CalibratedPcka:
    """PCKA of all pairs of domains, with intervals and its null under permuted rows.

    Attributes:
        matrix: [m, m] in [0, 1].
        low: [m, m] lower ends of bootstrap intervals; None without draws.
        high: [m, m] upper ends.
        error: [m, m] bootstrap standard errors.
        draws: bootstrap samples of the images.
        level: of the intervals.
        median: over the pairs.
        median_low: lower end of the median's interval; None without draws.
        median_high: upper end.
        min: the least over the pairs.
        min_pair: the two domains it belongs to.
        alpha: level of tau.
        tau: [m, m] PCKA that permuted rows exceed with probability alpha.
        p_value: [m, m], NaN on the diagonal.
        log10_p_value: its logarithm, which does not underflow.
        q_value: p after Benjamini-Hochberg over all pairs.
    """

    matrix: DomainPairs
    low: DomainPairs | None
    high: DomainPairs | None
    error: DomainPairs | None
    draws: int
    level: float
    median: float
    median_low: float | None
    median_high: float | None
    min: float
    min_pair: Sequence[str]
    alpha: float
    tau: DomainPairs
    p_value: DomainPairs
    log10_p_value: DomainPairs
    q_value: DomainPairs


@dataclasses.dataclass(frozen=True)
class Companion:
    """A second measure of all pairs of bases.

    Attributes:
        matrix: [m, m].
        median: over the pairs.
        rank_correlation: Spearman's with PCKA over the pairs, the sign turned where a low value
            means alike; None with fewer than three pairs or where either is constant.
    """

    matrix: DomainPairs
    median: float
    rank_correlation: float | None


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Median PCKA against the number of components, a list entry for each number.

    Attributes:
        ks: numbers of components.
        median: over the pairs of domains.
        low: lower ends of its intervals; None without draws.
        high: upper ends.
        least: of the pairs.
        greatest: of the pairs.
    """

    ks: Sequence[int]
    median: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None
    least: Sequence[float]
    greatest: Sequence[float]


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """PCKA without an encoder, or without a family.

    Attributes:
        left_out: name of the encoder or family.
        median: over the pairs of domains.
        min: the least of them.
        encoders: members of the family; None for a single encoder.
    """

    left_out: str
    median: float
    min: float
    encoders: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class LeaveOneOut:
    """The panel's stability.

    Attributes:
        none: median PCKA with all encoders.
        encoders: without each encoder; empty for a single one.
        families: without each family.
    """

    none: float
    encoders: Sequence[LeftOut]
    families: Sequence[LeftOut]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean, least and greatest of several values; None where there is none."""

    mean: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class SplitHalf:
    """PCKA of halves of the images.

    Attributes:
        splits: random halvings.
        n: images of the larger halves.
        ceiling: domain -> PCKA of its own two halves.
        between: median over pairs of domains, between halves of both.
    """

    splits: int
    n: int
    ceiling: Mapping[str, Spread]
    between: float


@dataclasses.dataclass(frozen=True)
class DomainComparison:
    """Domains compared by their substrates.

    Attributes:
        pcka: of all pairs.
        grassmann: mean cos^2 of principal angles, in [0, 1].
        procrustes: disparity after the best rotation, at least 0.
        sweep: over the number of components.
        leave_one_out: without each encoder and family.
        split_half: halves of the images; None where there are too few, or no splits.
    """

    pcka: CalibratedPcka
    grassmann: Companion
    procrustes: Companion
    sweep: Sweep
    leave_one_out: LeaveOneOut
    split_half: SplitHalf | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlValues:
    """One reading of one control.

    Attributes:
        matrix: [m, m] PCKA, the median over the draws; None for a reading of single domains.
        median: over pairs (or domains) of the median over draws.
        values: per pair (or domain) for a single draw, else the median of each draw.
        low: 5% quantile of the medians of the draws; None for a single draw.
        high: 95% quantile.
        item_high: 95% quantile of all pairs (or domains) of all draws.
        draws: how many.
        paper: median that arXiv:2606.07882 reports; None where it does not.
        paper_high: its 95% tail, likewise.
    """

    matrix: DomainPairs | None = None
    median: float | None
    values: Float[np.ndarray, " items"]
    low: float | None
    high: float | None
    item_high: float | None
    draws: int
    paper: float | None
    paper_high: float | None


@dataclasses.dataclass(frozen=True)
class LargestCorrelation:
    """The correlation of largest magnitude.

    Attributes:
        correlation: Pearson's r.
        component: its number, from 0.
        feature: name of the hand-made feature.
    """

    correlation: float
    component: int
    feature: str


@dataclasses.dataclass(frozen=True)
class ComponentCorrelations:
    """Pearson correlations of k components of a domain with p named features of its images.

    Attributes:
        features: p names.
        correlation: [k, p]; NaN where either is constant, as all that follows.
        low: [k, p] lower ends of Fisher's intervals.
        high: [k, p] upper ends.
        p_value: [k, p] two-sided.
        q_value: [k, p] Benjamini-Hochberg over all of the domain.
        energy_of_first: r of component 0 with the image energy.
        largest_of_others: of components 1 and up with hand-crafted features; None without any.
        paper: what arXiv:2606.07882 says of the magnitudes of the two.
    """

    features: Sequence[str]
    correlation: Float[np.ndarray, "k p"]
    low: Float[np.ndarray, "k p"]
    high: Float[np.ndarray, "k p"]
    p_value: Float[np.ndarray, "k p"]
    q_value: Float[np.ndarray, "k p"]
    energy_of_first: float
    largest_of_others: LargestCorrelation | None
    paper: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Extremes:
    """Images at the two ends of a component, the most extreme first.

    Attributes:
        component: its number, from 0.
        top: those with the highest scores.
        bottom: those with the lowest.
    """

    component: int
    top: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    bottom: Sequence[UInt8[np.ndarray, "_ _ 3"]]


@dataclasses.dataclass(frozen=True)
class ComparedDomain:
    """A domain of a run of experiments.domains.

    Attributes:
        images: what it is.
        n: images that could be read.
        explained_variance_ratio: [K] share of the variance in each component, K the most of the
            sweep.
    """

    images: ImageSet = dataclasses.field(metadata=INLINE)
    n: int
    explained_variance_ratio: Float[np.ndarray, " K"]


@dataclasses.dataclass(frozen=True)
class DomainsResult:
    """Everything that experiments.domains finds.

    Attributes:
        run: how it was made.
        k: components of a substrate.
        domains: name -> domain.
        comparison: of all pairs.
        panel_test: discriminative against MIM encoders; None where it was not asked for.
        controls: control -> reading -> values; None where they were not asked for.
        components: domain -> correlations, likewise.
    """

    run: Run = dataclasses.field(metadata=INLINE)
    k: int
    domains: Mapping[str, ComparedDomain]
    comparison: DomainComparison = dataclasses.field(metadata=INLINE)
    panel_test: PanelTest | None
    controls: Mapping[str, Mapping[str, ControlValues]] | None = None
    components: Mapping[str, ComponentCorrelations] | None = None
