"""Do discriminative encoders agree more with each other than masked-reconstruction (MIM) ones?

For each measure, linear CKA (global) and mutual kNN recall (local), a pair of encoders has a raw
value s and the calibrated score s_cal = max((s - tau) / (1 - tau), 0)
(`kernels.nulls.calibration`). With D the mean score of the pairs of discriminative encoders and M
that of the MIM pairs, the test is the ratio D / M, in every domain and over the images of all
domains as one set. It is repeated without the discriminative encoders of each family in turn: alike
architectures might agree for that alone.

Intervals are of the images, the encoders being given: with two MIM encoders M is a single pair, and
nothing here says how another would do. Draws of the rows (`kernels.resampled`: with replacement for
CKA, four fifths without for kNN) move the raw values of all pairs together. Those of a draw are
calibrated, averaged and divided as the observed ones are, and the interval lies between quantiles
of the results. tau stays that of all images, so its own sampling error is left out.

A ratio is taken of every draw, and its interval from whole draws, rounded outwards. A draw with
M = 0 is above every number, and may be below too if D = 0. An end that is not a number is None: the
interval is open there. So may a ratio of None (M = 0) have a lower end. Of 150 samples of 150
images, intervals of nominal 95% cover the ratio in 93% (CKA) and 99% (kNN, k = 10).

Cost, for n images, E encoders, D features in all, b draws: that of `compare_encoders`, as much
again for the searches and Gram tiles of `kernels.resampled`, and E^2 n (n / 2 + l) b operations, l
about 200 (n at most). Of one size of domain, programs are compiled once.

Not guaranteed: anything if images are not independent. The pooled images are compared across
domains, which any two encoders tell apart: expect high scores of all pairs and ratios near 1.

References:
    Radwan 2026, arXiv:2606.07882. Groeger, Wen, Brbic 2026, arXiv:2602.14486 (calibration).
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.analyses.cka.pairs import (
    KINDS,
    mean_interval,
    mean_of_kind,
    pair_kinds,
    ratio_interval,
)
from substrate_jax.analyses.cka.results import (
    DomainSeparation,
    FamilyLeftOut,
    PairScore,
    PanelTest,
    Separation,
    SeparationOfMeans,
)
from substrate_jax.kernels.nulls.calibration import rescale
from substrate_jax.kernels.validate import check_fraction
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS, make_mesh, over_rows, shard_blocks
from substrate_jax.substrate.domains import Domains, check_domains

POOLED = "pooled"


def panel_test(
    domains: Domains,
    groups: Sequence[frozenset[str]],
    families: Sequence[str],
    *,
    ks: Sequence[int] = (10, 30, 100),
    alpha: float = 0.05,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> PanelTest:
    """Separation of discriminative from MIM encoders, per domain and over all domains.

    Args:
        domains: for each, encoder name -> [n, d]; n may differ, encoders and widths may not.
        groups: of each encoder, as `EncoderSpec.groups` gives them.
        families: of each encoder, as `EncoderSpec.family`.
        ks: neighbors for mutual kNN recall. In a domain whose subsamples have no more than k
            images, that k is left out.
        alpha: level of tau.
        draws: resamples of the images; 0 for no intervals.
        level: of the intervals.
        seed: of the resamples.
        mesh: where to compute, with the rows of each domain split over the data axis; all devices
            by default.

    Returns:
        A test per domain, and one of all images together, named `POOLED`, if there are two or more
        domains.

    Raises:
        ValueError: other encoders or widths, groups or families that do not fit them, fewer than 4
            images, NaN or inf, a domain named "pooled", or an option out of range.

    Example:
        >>> z, *noise = np.random.default_rng(0).normal(size=(5, 60, 9)).astype(np.float32)
        >>> names = ["r", "v", "m", "n"]
        >>> x = {name: z + i * e for name, e, i in zip(names, noise, (0.5, 0.5, 2, 2))}
        >>> groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
        >>> found = panel_test({"a": x}, groups, ["resnet", "vit", "vit", "vit"], ks=(5,), draws=0)
        >>> found.domains["a"].cka.mim.pairs
        1
        >>> found.domains["a"].cka.ratio.value > 2
        True
    """
    encoders = check_domains(domains).encoders
    if len(groups) != len(encoders) or len(families) != len(encoders):
        raise ValueError(
            f"{len(groups)} groups and {len(families)} families for {len(encoders)} encoders: "
            "give one of each for every encoder"
        )
    if len(domains) > 1 and POOLED in domains:
        raise ValueError(f"a domain is named {POOLED!r}, as all of them together: rename it")
    check_fraction("level", level)
    if draws < 0 or draws == 1:
        raise ValueError(f"draws={draws}: give 0 for no intervals, or 100, say")
    if len(domains) > 1:
        domains = {**domains, POOLED: _pool(domains)}
    mesh = mesh or make_mesh()
    described = _Encoders(encoders, groups, families)
    tests = {}
    for domain, features in domains.items():
        n = len(features[encoders[0]])
        fitting = tuple(
            k for k in ks if kernels.rows_needed("mutual_knn", resampled=True, k=k) <= n
        )
        # Without any k that fits, one neighbor serves to calibrate CKA, and is not reported.
        found = compare_encoders(features, ks=fitting or (1,), alpha=alpha, mesh=mesh)
        knn = [found.mutual_knn[k] for k in fitting]
        measures = [(found.cka, found.calibrated), *((of.recall, of.calibrated) for of in knn)]
        tau = np.stack([calibrated.tau for _, calibrated in measures])
        drawn = _draw(features, fitting, tau, draws, seed, mesh)
        cka, *by_k = (
            _separation(described, raw, calibrated.score, drawn[:, i], level)
            for i, (raw, calibrated) in enumerate(measures)
        )
        tests[domain] = DomainSeparation(n, cka, dict(zip(fitting, by_k, strict=True)))
    return PanelTest(tests, alpha, draws, level)


def separation(
    scores: Float[np.ndarray, "E E"], groups: Sequence[frozenset[str]]
) -> SeparationOfMeans:
    """Mean score among discriminative encoders, among masked-reconstruction ones, and the ratio.

    Args:
        scores: symmetric, such as the calibrated CKA.
        groups: of each encoder, as `EncoderSpec.groups` gives them.

    Returns:
        Both means, the numbers of pairs behind them, and the ratio.

    Example:
        >>> groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
        >>> scores = np.full((4, 4), 0.2)
        >>> scores[0, 1] = scores[1, 0] = 0.8
        >>> separation(scores, groups).ratio
        4.0
    """
    kinds = pair_kinds(groups)
    counts = collections.Counter(kinds.values())
    high, low = (mean_of_kind(scores[None].astype(np.float64), kinds, kind) for kind in KINDS)
    return SeparationOfMeans(
        discriminative_mean=None if high is None else float(high[0]),
        discriminative_pairs=counts["discriminative"],
        mim_mean=None if low is None else float(low[0]),
        mim_pairs=counts["mim"],
        ratio=ratio_interval(high, low).value,
    )


def _pool(domains) -> dict[str, Float[np.ndarray, "n _"]]:
    """The rows of all domains, one domain after the other."""
    names = next(iter(domains.values()))
    return {
        name: np.concatenate([np.asarray(features[name]) for features in domains.values()])
        for name in names
    }


def _draw(features, ks, tau, draws: int, seed: int, mesh: Mesh) -> Float[np.ndarray, "b m E E"]:
    """Calibrated scores of every draw, of CKA and of mutual kNN for each k."""
    if not draws:
        return np.empty((0, *tau.shape), np.float32)
    blocks, mask = shard_blocks(features.values(), mesh)
    program = _draws_program(mesh, ks, draws)
    return np.asarray(program(blocks, mask, jax.random.key(seed), jnp.asarray(tau)))


@functools.lru_cache
def _draws_program(mesh: Mesh, ks: tuple[int, ...], draws: int):
    """The compiled draws, shared by domains of one size."""

    def compute(blocks: list[Array], mask: Array, key: Array, tau: Array):
        options = {"draws": draws, "mask": mask, "axis_name": DATA_AXIS}
        drawn = kernels.resampled("cka", blocks, key, **options)[1][:, None]
        if ks:
            local = kernels.resampled("mutual_knn", blocks, key, k=ks, **options)[1]
            drawn = jnp.concatenate([drawn, local], axis=1)
        return rescale(drawn, tau[None])

    return over_rows(compute, mesh, (ROWS, ROWS, EVERYWHERE, EVERYWHERE))


@dataclasses.dataclass(frozen=True)
class _Encoders:
    names: Sequence[str]
    groups: Sequence[frozenset[str]]
    families: Sequence[str]


def _separation(
    encoders: _Encoders,
    raw: Float[np.ndarray, "E E"],
    score: Float[np.ndarray, "E E"],
    drawn: Float[np.ndarray, "b E E"],
    level: float,
) -> Separation:
    """One measure of one domain: means, ratio, pairs, and the ratio without each family."""
    kinds = pair_kinds(encoders.groups)
    # Observed scores first, then those of the draws: all that follows treats them alike.
    scores = np.concatenate([score[None], drawn]).astype(np.float64)
    high, low = (mean_of_kind(scores, kinds, kind) for kind in KINDS)
    discriminative = [i for i, of in enumerate(encoders.groups) if "discriminative" in of]
    leave_out = []
    for family in dict.fromkeys(encoders.families[i] for i in discriminative):
        left = [i for i in discriminative if encoders.families[i] == family]
        rest = mean_of_kind(scores, kinds, "discriminative", without=left)
        ratio = ratio_interval(rest, low, level)
        leave_out.append(
            FamilyLeftOut(
                family=family,
                encoders=[encoders.names[i] for i in left],
                ratio=ratio.value,
                low=ratio.low,
                high=ratio.high,
                discriminative_mean=None if rest is None else float(rest[0]),
            )
        )
    counts = collections.Counter(kinds.values())
    return Separation(
        discriminative=mean_interval(high, counts["discriminative"], level),
        mim=mean_interval(low, counts["mim"], level),
        ratio=ratio_interval(high, low, level),
        pairs=[
            PairScore(
                encoders.names[i], encoders.names[j], kind, float(score[i, j]), float(raw[i, j])
            )
            for (i, j), kind in kinds.items()
        ],
        leave_out=leave_out,
    )
