"""Results as experiments.domains makes them, of numbers drawn at random, and contact sheets."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from substrate_jax.analyses.cka.results import (
    DomainSeparation,
    FamilyLeftOut,
    MeanScore,
    PairScore,
    PanelTest,
    Ratio,
    Separation,
)
from substrate_jax.analyses.cka.separation import POOLED
from substrate_jax.analyses.domains.readings import READINGS
from substrate_jax.analyses.domains.results import (
    CalibratedPcka,
    Companion,
    ComparedDomain,
    ComponentCorrelations,
    ControlValues,
    DomainComparison,
    DomainsResult,
    Extremes,
    LargestCorrelation,
    LeaveOneOut,
    LeftOut,
    SplitHalf,
    Spread,
    Sweep,
)
from substrate_jax.features.handcrafted import FEATURE_NAMES
from substrate_jax.report.run import EncoderRecord, ImageSet
from substrate_jax.report.values import upper
from tests.analyses.cka.synthetic import PICTURES, panel, run_of, symmetric

K, K_MAX, N = 16, 64, 512
FEATURES = (*FEATURE_NAMES[:2], *FEATURE_NAMES[8:14], "luminance", "image energy")
KS = (4, 8, 12, 16, 24, 32, 64)


def agreement(rng: np.random.Generator, names: Sequence[str]) -> CalibratedPcka:
    m = len(names)
    matrix = symmetric(rng, m, 0.42, 0.78, 1.0)
    error = symmetric(rng, m, 0.005, 0.02, 0.0)
    p_value = symmetric(rng, m, 1e-40, 1e-30, np.nan)
    values, pairs = upper(matrix), list(itertools.combinations(names, 2))
    median = float(np.median(values))
    return CalibratedPcka(
        matrix=matrix,
        low=matrix - 2 * error,
        high=matrix + 2 * error,
        error=error,
        draws=50,
        level=0.95,
        median=median,
        median_low=median - 0.02,
        median_high=median + 0.02,
        min=float(values.min()),
        min_pair=list(pairs[int(np.argmin(values))]),
        alpha=0.05,
        tau=np.full((m, m), 0.09),
        p_value=p_value,
        log10_p_value=np.log10(p_value),
        q_value=2 * p_value,
    )


def companion(matrix: np.ndarray) -> Companion:
    rank = 0.93 if len(matrix) > 2 else None
    return Companion(matrix, float(np.median(upper(matrix))), rank)


def sweep_of(median: float) -> Sweep:
    medians = [median + 0.25 * (np.log(k / 16) / 3 - (k > 16) * np.log(k / 16) / 2.6) for k in KS]

    def moved(change: float) -> list[float]:
        return [value + change for value in medians]

    return Sweep(KS, medians, moved(-0.02), moved(0.02), moved(-0.18), moved(0.17))


def left_out(
    rng: np.random.Generator, encoders: Sequence[EncoderRecord], median: float
) -> LeaveOneOut:
    def moved(by: float) -> float:
        return median + rng.normal(0, by)

    return LeaveOneOut(
        none=median,
        encoders=[LeftOut(encoder.name, moved(0.02), 0.3) for encoder in encoders],
        families=[
            LeftOut(family, moved(0.04), 0.3, members)
            for family, members in families_of(encoders).items()
        ],
    )


def families_of(encoders: Iterable[EncoderRecord]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for encoder in encoders:
        found.setdefault(encoder.family, []).append(encoder.name)
    return found


def split_half(rng: np.random.Generator, names: Sequence[str], median: float) -> SplitHalf:
    means = zip(names, rng.uniform(0.85, 0.95, len(names)).tolist(), strict=True)
    ceiling = {name: Spread(mean, mean - 0.03, mean + 0.02) for name, mean in means}
    return SplitHalf(splits=10, n=N // 2, ceiling=ceiling, between=median - 0.03)


def control_results(
    rng: np.random.Generator, names: Sequence[str]
) -> dict[str, dict[str, ControlValues]]:
    """What `control_agreement` gives; pixels stand above the substrate."""
    middles = {"pixels": 0.75, "handcrafted": 0.31, "random": 0.06, "shuffled": 0.1}
    middles["untrained"] = 0.55
    found: dict[str, dict[str, ControlValues]] = {}
    for reading in READINGS:
        center = middles[reading.control] - 0.05 * (not reading.primary)
        draws = {"random": 50, "shuffled": 5}.get(reading.control, 1)
        matrix = None
        if reading.name == "overlap":
            values = rng.uniform(0.1, 0.8, len(names))
        else:
            matrix = np.clip(symmetric(rng, len(names), center - 0.1, center + 0.1, 1.0), 0, 1)
            values = upper(matrix)
        low, high = None, None
        if draws > 1:
            values = rng.normal(center, 0.005, draws)
            low, high = (float(np.quantile(values, share)) for share in (0.05, 0.95))
        found.setdefault(reading.control, {})[reading.name] = ControlValues(
            matrix=matrix,
            median=float(np.median(values)),
            values=values,
            low=low,
            high=high,
            item_high=None if draws == 1 else center + 0.1,
            draws=draws,
            paper=reading.paper,
            paper_high=reading.paper_high,
        )
    return found


def component_correlations(rng: np.random.Generator) -> ComponentCorrelations:
    correlation = np.clip(rng.normal(0, 0.12, (K, len(FEATURES))), -1, 1)
    correlation[0, -1], correlation[1, 2] = 0.82, -0.44
    correlation[:, 0] = np.nan
    p_value = np.exp(-(correlation**2) * N)
    return ComponentCorrelations(
        features=FEATURES,
        correlation=correlation,
        low=correlation - 0.08,
        high=correlation + 0.08,
        p_value=p_value,
        q_value=p_value,
        energy_of_first=0.82,
        largest_of_others=LargestCorrelation(-0.44, 1, FEATURES[2]),
        paper={"energy": 0.6, "others": 0.25},
    )


def separation_test(
    rng: np.random.Generator, encoders: Sequence[EncoderRecord], high: float, low: float
) -> Separation:
    letters = {"supervised": "D", "self_supervised": "D", "masked_reconstruction": "M"}
    pairs = []
    for a, b in itertools.combinations(encoders, 2):
        both = {letters.get(encoder.paradigm, "?") for encoder in (a, b)}
        kind = {"D": "discriminative", "M": "mim"}.get("".join(both), "other")
        score = rng.uniform(0.8, 1.2) * (high if kind == "discriminative" else low)
        pairs.append(PairScore(a.name, b.name, kind, score, score + 0.05))
    discriminative, mim = (mean_score(pairs, kind) for kind in ("discriminative", "mim"))
    ratio = Ratio(None, None, None)
    if discriminative.mean is not None and mim.mean is not None:
        value = discriminative.mean / mim.mean
        ratio = Ratio(value, 0.9 * value, 1.2 * value)
    return Separation(
        discriminative=discriminative,
        mim=mim,
        ratio=ratio,
        pairs=pairs,
        leave_out=[
            FamilyLeftOut(family, members, ratio.value, ratio.value, None, discriminative.mean)
            for family, members in families_of(encoders).items()
        ],
    )


def mean_score(pairs: Iterable[PairScore], kind: str) -> MeanScore:
    scores = [pair.score for pair in pairs if pair.kind == kind]
    if not scores:
        return MeanScore(None, None, None, 0)
    mean = float(np.mean(scores))
    return MeanScore(mean, mean - 0.01, mean + 0.01, len(scores))


def panel_test(
    rng: np.random.Generator, encoders: Sequence[EncoderRecord], names: Sequence[str]
) -> PanelTest:
    tests = {
        name: DomainSeparation(
            n=N,
            cka=separation_test(rng, encoders, 0.6, 0.15 + 0.05 * i),
            mutual_knn={
                k: separation_test(rng, encoders, 0.3 + k / 300, 0.1) for k in (10, 30, 100)
            },
        )
        for i, name in enumerate([*names, POOLED])
    }
    return PanelTest(tests, alpha=0.05, draws=50, level=0.95)


def domains_result(encoders: int = 15, domains: int = 8, seed: int = 0) -> DomainsResult:
    """A result as experiments.domains makes it, of numbers drawn at random."""
    rng = np.random.default_rng(seed)
    records, names = panel(encoders), list(PICTURES)[:domains]
    compared = {
        name: ComparedDomain(
            images=ImageSet(
                source=f"sample:{name}",
                fingerprint="0123456789abcdef" * 4,
                description=f"Pictures of {name}.",
                pictures=PICTURES[name],
            ),
            n=N,
            explained_variance_ratio=np.sort(rng.dirichlet(np.full(200, 0.15)))[::-1][:K_MAX],
        )
        for name in names
    }
    pcka = agreement(rng, names)
    return DomainsResult(
        run=run_of("domains", records),
        k=K,
        domains=compared,
        comparison=DomainComparison(
            pcka=pcka,
            grassmann=companion(0.95 * pcka.matrix),
            procrustes=companion(1 - pcka.matrix),
            sweep=sweep_of(pcka.median),
            leave_one_out=left_out(rng, records, pcka.median),
            split_half=split_half(rng, names, pcka.median),
        ),
        panel_test=panel_test(rng, records, names),
        controls=control_results(rng, names),
        components={name: component_correlations(rng) for name in names},
    )


def contact_sheets(
    names: Iterable[str], components: int = K, images: int = 6, seed: int = 0
) -> dict[str, list[Extremes]]:
    """Images whose brightness is that of their end, of three shapes."""
    rng = np.random.default_rng(seed)
    shapes = [(48, 48), (32, 64), (90, 60)]

    def pictures(level: int) -> list[np.ndarray]:
        return [
            (
                level + rng.integers(0, 40, (*shapes[rng.integers(3)], 3)) + rng.integers(0, 30, 3)
            ).astype(np.uint8)
            for _ in range(images)
        ]

    return {
        name: [Extremes(i, top=pictures(170), bottom=pictures(20)) for i in range(components)]
        for name in names
    }
