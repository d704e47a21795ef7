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

Cost: a fit takes 2 u^2 D flops and an eigendecomposition of order u a domain, u its distinct rows
(D^2 u and order D where D < u), and 2 u D m K for the scores on m bases of K components. Devices
share the draws. Memory a device: all features, the drawn ones, min(u, D)^2 and D m K numbers.

Not guaranteed: that the null is the one to beat. It asks whether two bases order the same images
alike more than at random, which any two bases of strong directions do; `analyses.domains.controls`
has the others. Bootstrap errors assume independent images, and are of order 1 / sqrt(2 draws)
themselves.

References: Radwan 2026, arXiv:2606.07882 (PCKA). Efron 1979 (bootstrap). Kazi-Aoual et al. 1995.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from substrate_jax import kernels
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
from substrate_jax.substrate.fitted import COMPONENTS

SWEEP = (4, 8, 12, 16, 24, 32, 64)

Domains = Mapping[str, Mapping[str, Float[np.ndarray, "n _"]]]


class Fits(NamedTuple):
    """Substrates of m domains.

    Attributes:
        names: of the domains.
        x: for each, its [n_i, D] standardized features.
        bases: for each, [D, k] components, by descending variance.
        explained_variance_ratio: [m, K] share of each component, K the most of the sweep.
    """

    names: tuple[str, ...]
    x: list[Float[Array, "n D"]]
    bases: list[Float[Array, "D k"]]
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
) -> tuple[dict, Fits]:
    """PCKA of all pairs of domains with its companions, intervals, null, ceiling and stability.

    Args:
        domains: name -> encoder -> [n, d]; n may differ, encoders and widths may not.
        families: of the encoders, in order; each is left out in turn.
        k: components of a substrate.
        ks: components of the sweep; those not below half of the smallest n are left out.
        draws: bootstrap samples; 0 for no intervals.
        splits: random halvings; 0 for no ceiling.
        level: of the intervals.
        alpha: level of tau.
        seed: of draws and halvings.
        mesh: whose devices share the draws; all devices by default.

    Returns:
        `pcka`, `grassmann`, `procrustes`, `sweep`, `leave_one_out`, `split_half` (None where there
        are too few images or no splits) and `explained_variance_ratio` by domain; and the fits.

    Raises:
        ValueError: fewer than two domains, other encoders or widths, NaN or inf, a domain with
            fewer than k + 1 images, or an option out of range.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(2, 40, 6)).astype(np.float32)
        >>> result, fits = compare_domains(
        ...     {"a": {"one": x[0]}, "b": {"one": x[0, ::-1]}}, ["f"], k=3, ks=(2, 3), draws=4)
        >>> result["sweep"]["ks"], round(result["pcka"]["median"], 4), fits.bases[0].shape
        ([2, 3], 1.0, (6, 3))
    """
    names, counts, widths = _check(domains, families, k)
    if draws < 0 or draws == 1 or splits < 0:
        raise ValueError(f"draws={draws}, splits={splits}: give 0 for none, or 2 draws or more")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: give a share between 0 and 1, such as 0.95")
    mesh = mesh or make_mesh()
    ks = tuple(sorted({k} | {one for one in ks if one < min(counts) // 2}))
    most = min(max(ks), sum(widths))
    x = np.zeros((len(names), max(counts), sum(widths)), np.float32)
    for row, (domain, n) in zip(x, zip(domains.values(), counts, strict=True), strict=True):
        row[:n] = np.concatenate([np.asarray(block) for block in domain.values()], axis=1)
    placed = replicate(x, mesh)
    del x

    whole = whole_sample(counts)
    found = whole_program(ks, k, most, alpha)(placed, whole)
    fits = Fits(
        tuple(names),
        [found["x"][i, :n] for i, n in enumerate(counts)],
        list(found["basis"][:, :, :k]),
        np.asarray(found["ratio"]),
    )
    found = {key: np.asarray(found[key]) for key in found.keys() - {"x", "basis"}}
    pcka, at = found["pcka"], ks.index(k)
    keys = jax.random.split(jax.random.key(seed), 2)
    values = _pairs(pcka)
    median = np.median(values, axis=-1)
    least = int(np.argmin(values[at]))
    interval = dict.fromkeys(("low", "high", "error"))
    band = {"low": None, "high": None}
    if draws:
        drawn = run_samples(mesh, placed, bootstrap_sample(keys[0], counts, draws), ks, most)
        z = statistics.NormalDist().inv_cdf((1 + level) / 2)
        error = np.std(drawn, axis=0, ddof=1)[at]
        interval = {"low": pcka[at] - z * error, "high": pcka[at] + z * error, "error": error}
        half = z * np.std(np.median(_pairs(drawn), axis=-1), axis=0, ddof=1)
        band = {"low": (median - half).tolist(), "high": (median + half).tolist()}
    result = {
        "pcka": {
            "matrix": pcka[at],
            **interval,
            "draws": draws,
            "level": level,
            "median": float(median[at]),
            "median_low": band["low"] and band["low"][at],
            "median_high": band["high"] and band["high"][at],
            "min": float(values[at, least]),
            "min_pair": list(list(itertools.combinations(names, 2))[least]),
            "alpha": alpha,
            **{key: found[key] for key in ("tau", "p_value", "log10_p_value", "q_value")},
        },
        "grassmann": _companion(found["grassmann"], pcka[at], 1),
        "procrustes": _companion(found["procrustes"], pcka[at], -1),
        "sweep": {
            "ks": list(ks),
            "median": median.tolist(),
            **band,
            "least": values.min(-1).tolist(),
            "greatest": values.max(-1).tolist(),
        },
        "explained_variance_ratio": dict(zip(names, found["ratio"], strict=True)),
        "leave_one_out": {
            "none": float(median[at]),
            **_left_out(mesh, placed, whole, next(iter(domains.values())), families, widths, k),
        },
        "split_half": _split_half(mesh, placed, keys[1], names, counts, splits, k),
    }
    return result, fits


def _check(domains: Domains, families: Sequence[str], k: int) -> tuple[list, list, list]:
    """Names and images of the domains, and widths of the encoders."""
    if len(domains) < 2:
        raise ValueError(f"domains are {list(domains)}: give two or more to compare")
    first = {name: block.shape[1] for name, block in next(iter(domains.values())).items()}
    if len(families) != len(first):
        raise ValueError(f"{len(families)} families for {len(first)} encoders: give one for each")
    counts = []
    for name, domain in domains.items():
        widths = {encoder: block.shape[1] for encoder, block in domain.items()}
        rows = {len(block) for block in domain.values()}
        if not widths or list(widths.items()) != list(first.items()) or len(rows) > 1:
            raise ValueError(
                f"domain {name!r} has encoders of widths {widths} and rows {sorted(rows)}, the "
                f"first has {first}: give the same encoders on the same images, in the same order"
            )
        kernels.check_finite(list(domain.values()), [f"{name}, {e}" for e in domain])
        counts += rows
    needed = max(k + 1, 4)
    for name, n in zip(domains, counts, strict=True):
        if n < needed:
            raise ValueError(
                f"domain {name!r} has {n} images: k={k} components need {needed} or more; "
                "add images or lower k"
            )
    if not 1 <= k <= sum(first.values()):
        raise ValueError(f"k={k}: give 1 to {sum(first.values())}, the features of the panel")
    return list(domains), counts, list(first.values())


def _pairs(matrices: Float[np.ndarray, "*b m m"]) -> Float[np.ndarray, "*b pairs"]:
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    return matrices[..., rows, columns]


def _companion(matrix: np.ndarray, pcka: np.ndarray, sign: int) -> dict:
    """A second measure of all pairs, and its rank correlation with PCKA over the pairs."""
    values, reference = sign * _pairs(matrix), _pairs(pcka)
    known = len(values) > 2 and np.ptp(values) > 0 and np.ptp(reference) > 0
    return {
        "matrix": matrix,
        "median": float(np.median(sign * values)),
        "rank_correlation": float(spearmanr(values, reference).statistic) if known else None,
    }


def _left_out(mesh, placed, whole: Sample, encoders, families, widths, k) -> dict:
    """Median and minimum of PCKA without each encoder, and without each family."""
    names = list(encoders)
    members = {family: [] for family in families}
    for name, family in zip(names, families, strict=True):
        members[family].append(name)
    sets = [(name, [name]) for name in names] + list(members.items())
    distinct = sorted({tuple(out) for _, out in sets if len(out) < len(names)})
    if not distinct:
        return {"encoders": [], "families": []}
    owner = np.repeat(names, widths)
    keep = np.stack([~np.isin(owner, out) for out in distinct]).astype(np.float32)
    samples = Sample(
        *(np.broadcast_to(part, (len(distinct), *part.shape)) for part in whole[:-1]), keep
    )
    values = _pairs(run_samples(mesh, placed, samples, (k,), k)[:, 0])
    found = {
        out: {"median": float(np.median(row)), "min": float(row.min())}
        for out, row in zip(distinct, values, strict=True)
    }
    return {
        "encoders": [{"left_out": name, **found[(name,)]} for name in names],
        "families": [
            {"left_out": family, "encoders": out, **found[tuple(out)]}
            for family, out in members.items()
            if tuple(out) in found
        ],
    }


def _split_half(mesh, placed, key, names, counts, splits, k) -> dict | None:
    if not splits or min(counts) // 2 <= k:
        return None
    m = len(names)
    found = run_samples(mesh, placed, half_sample(key, counts, splits), (k,), k)[:, 0]
    ceiling = found[:, np.arange(m), m + np.arange(m)]
    return {
        "splits": splits,
        "n": max(counts) // 2,
        "ceiling": {
            name: {"mean": float(v.mean()), "low": float(v.min()), "high": float(v.max())}
            for name, v in zip(names, ceiling.T, strict=True)
        },
        "between": float(np.median(_pairs(found[:, :m, m:]))),
    }
