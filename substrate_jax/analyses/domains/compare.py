r"""Domains compared by the substrates of one panel: PCKA, its error, chance level and stability.

Domain i has standardized stacked features X_i [n_i, D] of its own images, and the basis B_i [D, k]
of their leading principal components. PCKA of i and j is the mean of

    c_ij = CKA(X_i B_i, X_i B_j) = ||T_ii'T_ij||_F^2 / (||T_ii'T_ii||_F ||T_ij'T_ij||_F)

and c_ji, with scores T_ij = X_i B_j. A basis of fewer components is its first columns, so leading
blocks of the k x k products give every k of a sweep at once. Beside it: the mean cos^2 of the
principal angles (Grassmann), and the Procrustes disparity of the bases.

Everything that varies the data is one computation (`analyses.domains.samples`) on other rows or
features:

    bootstrap     n_i images drawn with replacement in each domain, standardized and fitted anew. A
                  copy is a row of weight 2. Interval theta +- z s, s the deviation of the draws.
    split halves  two halves of the images of each domain. PCKA of the halves of one domain is what
                  PCKA can reach at that number of images; between halves of two domains it is the
                  value to read against it.
    left out      one encoder's block, or one family's, set to 0.

The row-permutation null pairs X_i B_i with other rows of X_i B_j. c_ij and c_ji have independent
permutations, of other images, so the moments of their mean add: mean (e_ij + e_ji) / 2, variance
(v_ij + v_ji) / 4, third central moment (m_ij + m_ji) / 8, each exact over all permutations
(`kernels.nulls.permutation_moments`), with the tail of `kernels.tail_from_moments`.

Cost: a fit takes 2 u^2 D flops and an eigendecomposition of order u per domain, u its distinct rows
(D^2 u and order D where D < u), and 2 u D m K for the scores on m bases of K components. Devices
share the draws. Memory per device: all features, the drawn ones, min(u, D)^2 and D m K numbers.

Not guaranteed: that the null is the one to beat. It asks whether two bases order the same images
alike more than at random, which any two bases of strong directions do; `analyses.domains.controls`
has the others. Bootstrap errors assume independent images, and are of order 1 / sqrt(2 draws)
themselves.

References: Radwan 2026, arXiv:2606.07882 (PCKA). Efron 1979 (bootstrap). Kazi-Aoual et al. 1995.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from substrate_jax.analyses.domains.results import (
    CalibratedPcka,
    Companion,
    DomainComparison,
    LeaveOneOut,
    LeftOut,
    SplitHalf,
    Spread,
    Sweep,
)
from substrate_jax.analyses.domains.samples import (
    Sample,
    bootstrap_sample,
    half_sample,
    run_samples,
    whole_program,
    whole_sample,
)
from substrate_jax.kernels.arithmetic import matmul
from substrate_jax.mesh import make_mesh, replicate
from substrate_jax.report.values import upper
from substrate_jax.substrate.components import COMPONENTS
from substrate_jax.substrate.domains import (
    Domains,
    DomainShapes,
    check_components,
    check_domains,
)

SWEEP = (4, 8, 12, 16, 24, 32, 64)


@dataclasses.dataclass(frozen=True)
class Fits:
    """Substrates of m domains.

    Attributes:
        names: of the domains.
        x: for each, its [n_i, D] standardized features.
        bases: for each, [D, k] components, by descending variance; zeros for those without.
        explained_variance_ratio: [m, K] share of each component, K the most of the sweep.
    """

    names: Sequence[str]
    x: Sequence[Float[Array, "_ D"]]
    bases: Sequence[Float[Array, "D k"]]
    explained_variance_ratio: Float[np.ndarray, "m K"]

    def scores(self, i: int) -> Float[np.ndarray, "n k"]:
        """Images of domain i on its own components."""
        return np.asarray(matmul(self.x[i], self.bases[i]))


# LAPACK's own threads wait for each other in every step of an eigendecomposition of this size: two
# take a third less time than one on an idle machine, and four times as much on a busy one.
@threadpool_limits.wrap(limits=1, user_api="blas")
def compare_domains(
    domains: Domains,
    families: Sequence[str],
    *,
    k: int = COMPONENTS,
    ks: Sequence[int] = SWEEP,
    draws: int = 50,
    splits: int = 10,
    level: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> tuple[DomainComparison, Fits]:
    """PCKA of all pairs of domains with its companions, intervals, null, ceiling and stability.

    Args:
        domains: name -> encoder -> [n, d]; n may differ, encoders and widths may not.
        families: of the encoders, in order; each is left out in turn.
        k: components of a substrate; those without variance count nothing.
        ks: components of the sweep; those not below half of the smallest n are left out.
        draws: bootstrap samples; 0 for no intervals.
        splits: random halvings; 0 for no ceiling.
        level: of the intervals.
        alpha: level of tau.
        seed: of draws and halvings.
        mesh: whose devices share the draws; all devices by default.

    Returns:
        What was found, and the fits that it was found with.

    Raises:
        ValueError: fewer than two domains, other encoders or widths, NaN or inf, a domain with
            fewer than k + 1 images, or an option out of range.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(2, 40, 6)).astype(np.float32)
        >>> result, fits = compare_domains(
        ...     {"a": {"one": x[0]}, "b": {"one": x[0, ::-1]}}, ["f"], k=3, ks=(2, 3), draws=4)
        >>> result.sweep.ks, round(result.pcka.median, 4), fits.bases[0].shape
        ([2, 3], 1.0, (6, 3))
    """
    shapes = _check(domains, families, k)
    if draws < 0 or draws == 1 or splits < 0:
        raise ValueError(f"draws={draws}, splits={splits}: give 0 for none, or 2 draws or more")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: give a share between 0 and 1, such as 0.95")
    data = _place(domains, shapes, mesh or make_mesh())
    ks = tuple(sorted({k} | {one for one in ks if one < min(shapes.counts) // 2}))
    found = whole_program(ks, k, alpha)(data.x, whole_sample(shapes.counts))
    fits = Fits(
        shapes.names,
        [found.x[i, :n] for i, n in enumerate(shapes.counts)],
        list(found.bases[:, :, :k]),
        np.asarray(found.ratio),
    )
    for_draws, for_halves = jax.random.split(jax.random.key(seed), 2)
    drawn = None
    if draws:
        drawn = data.pcka(bootstrap_sample(for_draws, shapes.counts, draws), ks)
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    sweep, at = _sweep(ks, np.asarray(found.pcka), drawn, z), ks.index(k)
    matrix = np.asarray(found.pcka)[at]
    error = None if drawn is None else np.std(drawn, axis=0, ddof=1)[at]
    values = upper(matrix)
    least = int(np.argmin(values))
    pcka = CalibratedPcka(
        matrix=matrix,
        low=None if error is None else matrix - z * error,
        high=None if error is None else matrix + z * error,
        error=error,
        draws=draws,
        level=level,
        median=sweep.median[at],
        median_low=None if sweep.low is None else sweep.low[at],
        median_high=None if sweep.high is None else sweep.high[at],
        min=float(values[least]),
        min_pair=list(list(itertools.combinations(shapes.names, 2))[least]),
        alpha=alpha,
        tau=np.asarray(found.tau),
        p_value=np.asarray(found.p_value),
        log10_p_value=np.asarray(found.log10_p_value),
        q_value=np.asarray(found.q_value),
    )
    comparison = DomainComparison(
        pcka=pcka,
        grassmann=_companion(np.asarray(found.grassmann), matrix, 1),
        procrustes=_companion(np.asarray(found.procrustes), matrix, -1),
        sweep=sweep,
        leave_one_out=_left_out(data, families, k, sweep.median[at]),
        split_half=_split_half(data, for_halves, splits, k),
    )
    return comparison, fits


@dataclasses.dataclass(frozen=True)
class _Data:
    """Features of all domains on every device, filled up to the rows of the longest."""

    shapes: DomainShapes
    x: Float[Array, "m n D"]
    mesh: Mesh

    def pcka(self, samples: Sample, ks: Sequence[int]) -> Float[np.ndarray, "B q M M"]:
        """Of all pairs of fits of every sample, for each number of components."""
        return run_samples(self.mesh, self.x, samples, ks)


def _place(domains: Domains, shapes: DomainShapes, mesh: Mesh) -> _Data:
    x = np.zeros((len(shapes.names), max(shapes.counts), sum(shapes.widths)), np.float32)
    for row, panel, n in zip(x, domains.values(), shapes.counts, strict=True):
        row[:n] = np.concatenate([np.asarray(block) for block in panel.values()], axis=1)
    return _Data(shapes, replicate(x, mesh), mesh)


def _check(domains: Domains, families: Sequence[str], k: int) -> DomainShapes:
    if len(domains) < 2:
        raise ValueError(f"domains are {list(domains)}: give two or more to compare")
    shapes = check_domains(domains)
    if len(families) != len(shapes.encoders):
        raise ValueError(
            f"{len(families)} families for {len(shapes.encoders)} encoders: give one for each"
        )
    check_components(shapes, k)
    return shapes


def _pairs(matrices: Float[np.ndarray, "*b m m"]) -> Float[np.ndarray, "*b pairs"]:
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    return matrices[..., rows, columns]


def _sweep(
    ks: Sequence[int],
    pcka: Float[np.ndarray, "q m m"],
    drawn: Float[np.ndarray, "B q m m"] | None,
    z: float,
) -> Sweep:
    """Medians over the pairs, and their intervals from bootstrap samples."""
    values = _pairs(pcka)
    median = np.median(values, axis=-1)
    low = high = None
    if drawn is not None:
        half = z * np.std(np.median(_pairs(drawn), axis=-1), axis=0, ddof=1)
        low, high = (median - half).tolist(), (median + half).tolist()
    return Sweep(
        ks=list(ks),
        median=median.tolist(),
        low=low,
        high=high,
        least=values.min(-1).tolist(),
        greatest=values.max(-1).tolist(),
    )


def _companion(
    matrix: Float[np.ndarray, "m m"], pcka: Float[np.ndarray, "m m"], sign: int
) -> Companion:
    """A second measure of all pairs, and its rank correlation with PCKA over the pairs."""
    values, reference = sign * upper(matrix), upper(pcka)
    known = len(values) > 2 and np.ptp(values) > 0 and np.ptp(reference) > 0
    correlation = None
    if known:
        found = spearmanr(values, reference)
        correlation = float(found.statistic)  # pyright: ignore[reportAttributeAccessIssue]
    return Companion(matrix, float(np.median(sign * values)), correlation)


def _left_out(data: _Data, families: Sequence[str], k: int, none: float) -> LeaveOneOut:
    """Median and minimum of PCKA without each encoder, and without each family."""
    names = data.shapes.encoders
    members = {
        family: [name for name, of in zip(names, families, strict=True) if of == family]
        for family in dict.fromkeys(families)
    }
    sets = [[name] for name in names] + list(members.values())
    distinct = sorted({tuple(out) for out in sets if len(out) < len(names)})
    if not distinct:
        return LeaveOneOut(none, [], [])
    owner = np.repeat(names, data.shapes.widths)
    keep = np.stack([~np.isin(owner, out) for out in distinct]).astype(np.float32)
    samples = jax.tree.map(
        lambda part: np.broadcast_to(part, (len(distinct), *part.shape)),
        whole_sample(data.shapes.counts),
    )._replace(keep=keep)
    pcka = dict(zip(distinct, data.pcka(samples, (k,))[:, 0], strict=True))

    def without(name: str, out: Sequence[str], encoders: Sequence[str] | None = None) -> LeftOut:
        values = upper(pcka[tuple(out)])
        return LeftOut(name, float(np.median(values)), float(values.min()), encoders)

    return LeaveOneOut(
        none,
        [without(name, [name]) for name in names],
        [without(family, out, out) for family, out in members.items() if tuple(out) in pcka],
    )


def _split_half(data: _Data, key: Array, splits: int, k: int) -> SplitHalf | None:
    names, counts = data.shapes.names, data.shapes.counts
    if not splits or min(counts) // 2 <= k:
        return None
    m = len(names)
    found = data.pcka(half_sample(key, counts, splits), (k,))[:, 0]
    ceiling = found[:, np.arange(m), m + np.arange(m)]
    return SplitHalf(
        splits=splits,
        n=max(counts) // 2,
        ceiling={
            name: Spread(float(v.mean()), float(v.min()), float(v.max()))
            for name, v in zip(names, ceiling.T, strict=True)
        },
        between=float(np.median(_pairs(found[:, :m, m:]))),
    )
