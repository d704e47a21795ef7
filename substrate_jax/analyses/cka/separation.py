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
images, intervals of nominal 95 % cover the ratio in 93 % (CKA) and 99 % (kNN, k = 10).

Cost, for n images, E encoders, D features in all, b draws: that of `compare_encoders`, as much
again for the searches and Gram tiles of `kernels.resampled`, and E^2 n (n / 2 + l) b operations, l
about 200 (n at most). Of one size of domain, programs are compiled once.

Not guaranteed: anything if images are not independent. The pooled images are compared across
domains, which any two encoders tell apart: expect high scores of all pairs and ratios near 1.

References:
    Radwan 2026, arXiv:2606.07882. Groeger, Wen, Brbic 2026, arXiv:2602.14486 (calibration).
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.compare import compare_encoders
from substrate_jax.kernels.nulls.calibration import rescale
from substrate_jax.kernels.validate import check_fraction
from substrate_jax.mesh import DATA_AXIS, make_mesh, shard_rows

POOLED = "pooled"
KINDS = ("discriminative", "mim")


def panel_test(
    domains: Mapping[str, Mapping[str, Float[np.ndarray, "n _"]]],
    groups: Sequence[frozenset[str]],
    families: Sequence[str],
    *,
    ks: Sequence[int] = (10, 30, 100),
    alpha: float = 0.05,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> dict:
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
        `domains`, `alpha`, `draws` and `level`. `domains` maps each name, and "pooled" if there are
        two or more, to `n`, `cka`, and `mutual_knn` by k, these each with

        - `discriminative` and `mim`: `mean` of the scores, `low`, `high`, and the number of `pairs`
          (one for two encoders);
        - `ratio`: `value`, `low`, `high`;
        - `pairs`: for each `a`, `b`, `kind` ("other" for neither), `score` and `raw` value;
        - `leave_out`: for each `family` the `encoders` left out, all of them discriminative,
          `ratio`, `low`, `high` and `discriminative_mean`.

        What there is no pair for is None.

    Raises:
        ValueError: other encoders or widths, groups or families that do not fit them, fewer than 4
            images, NaN or inf, a domain named "pooled", or an option out of range.

    Example:
        >>> z, *noise = np.random.default_rng(0).normal(size=(5, 60, 9)).astype(np.float32)
        >>> names = ["r", "v", "m", "n"]
        >>> x = {name: z + i * e for name, e, i in zip(names, noise, (0.5, 0.5, 2, 2))}
        >>> groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
        >>> found = panel_test({"a": x}, groups, ["resnet", "vit", "vit", "vit"], ks=(5,), draws=0)
        >>> found["domains"]["a"]["cka"]["mim"]["pairs"]
        1
        >>> found["domains"]["a"]["cka"]["ratio"]["value"] > 2
        True
    """
    _check(domains, groups, families)
    check_fraction("level", level)
    if draws < 0 or draws == 1:
        raise ValueError(f"draws={draws}: give 0 for no intervals, or 100, say")
    if len(domains) > 1:
        domains = {**domains, POOLED: _pool(domains)}
    mesh = mesh or make_mesh()
    tests = {}
    for domain, features in domains.items():
        n, names = len(next(iter(features.values()))), list(features)
        fitting = tuple(
            k for k in ks if kernels.rows_needed("mutual_knn", resampled=True, k=k) <= n
        )
        # Without any k that fits, one neighbor serves to calibrate CKA, and is not reported.
        observed = compare_encoders(features, ks=fitting or (1,), alpha=alpha, mesh=mesh)
        measures = [{"raw": observed["cka"], **observed["calibrated"]}] + [
            {"raw": observed["mutual_knn"][str(k)]["recall"], **observed["mutual_knn"][str(k)]}
            for k in fitting
        ]
        tau = np.stack([measure["tau"] for measure in measures])
        drawn = _draw(features, fitting, tau, draws, seed, mesh)
        cka, *knn = (
            _separation(names, groups, families, measure, drawn[:, i], level)
            for i, measure in enumerate(measures)
        )
        by_k = {str(k): found for k, found in zip(fitting, knn, strict=True)}
        tests[domain] = {"n": n, "cka": cka, "mutual_knn": by_k}
    return {"domains": tests, "alpha": alpha, "draws": draws, "level": level}


def _check(domains, groups, families) -> None:
    shapes = [{name: block.shape[1] for name, block in of.items()} for of in domains.values()]
    if not shapes or not shapes[0]:
        raise ValueError(f"domains={dict(domains)}: give at least one domain with encoders")
    for widths in shapes:
        if list(widths.items()) != list(shapes[0].items()):
            raise ValueError(
                f"domains have encoders of widths {shapes[0]} and {widths}: give the same "
                "encoders in the same order"
            )
    if len(groups) != len(shapes[0]) or len(families) != len(shapes[0]):
        raise ValueError(
            f"{len(groups)} groups and {len(families)} families for {len(shapes[0])} encoders: "
            "give one of each for every encoder"
        )
    if len(domains) > 1 and POOLED in domains:
        raise ValueError(f"a domain is named {POOLED!r}, as all of them together: rename it")
    for domain, features in domains.items():
        rows = {name: len(block) for name, block in features.items()}
        if len(set(rows.values())) > 1 or min(rows.values()) < 4:
            raise ValueError(f"{domain} has rows {rows}: give encoders the same 4 or more images")


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
    blocks, masks = zip(*(shard_rows(block, mesh) for block in features.values()), strict=True)
    program = _draws_program(mesh, ks, draws)
    return np.asarray(program(list(blocks), masks[0], jax.random.key(seed), jnp.asarray(tau)))


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

    rows, everywhere = PartitionSpec(DATA_AXIS), PartitionSpec()
    mapped = jax.shard_map(
        compute, mesh=mesh, in_specs=(rows, rows, everywhere, everywhere), out_specs=everywhere
    )
    return jax.jit(mapped)


def _separation(names, groups, families, measure, drawn, level: float) -> dict:
    """One measure of one domain: means, ratio, pairs, and the ratio without each family."""
    pairs = list(itertools.combinations(range(len(names)), 2))
    kinds = [next((k for k in KINDS if k in groups[i] & groups[j]), "other") for i, j in pairs]
    # Observed scores first, then those of the draws: all that follows treats them alike.
    scores = np.concatenate([measure["score"][None], drawn]).astype(np.float64)
    scores = np.stack([scores[:, i, j] for i, j in pairs], axis=1) if pairs else scores[:, 0, :0]

    def mean(kind: str, without: Sequence[int] = ()) -> Float[np.ndarray, " b"] | None:
        chosen = [
            of == kind and not {*pair} & {*without} for of, pair in zip(kinds, pairs, strict=True)
        ]
        return scores[:, chosen].mean(axis=1) if any(chosen) else None

    means = {kind: mean(kind) for kind in KINDS}
    discriminative = [i for i, of in enumerate(groups) if "discriminative" in of]
    leave_out = []
    for family in dict.fromkeys(families[i] for i in discriminative):
        left = [i for i in discriminative if families[i] == family]
        rest = mean("discriminative", left)
        ratio = ratio_interval(rest, means["mim"], level)
        leave_out.append(
            {
                "family": family,
                "encoders": [names[i] for i in left],
                "ratio": ratio["value"],
                "low": ratio["low"],
                "high": ratio["high"],
                "discriminative_mean": None if rest is None else float(rest[0]),
            }
        )
    return {
        **{kind: {**_mean(means[kind], level), "pairs": kinds.count(kind)} for kind in KINDS},
        "ratio": ratio_interval(*means.values(), level),
        "pairs": [
            {
                "a": names[i],
                "b": names[j],
                "kind": kind,
                "score": float(measure["score"][i, j]),
                "raw": float(measure["raw"][i, j]),
            }
            for kind, (i, j) in zip(kinds, pairs, strict=True)
        ],
        "leave_out": leave_out,
    }


def _mean(values: Float[np.ndarray, " b"] | None, level: float) -> dict[str, float | None]:
    """Of the observed value, which comes first, and its draws."""
    if values is None:
        return dict.fromkeys(("mean", "low", "high"))
    low, high = _ends(values[1:], values[1:], level)
    return {"mean": float(values[0]), "low": low, "high": high}


def ratio_interval(high, low, level: float) -> dict[str, float | None]:
    """Of two means, each with its observed value first; an end that is not finite is None."""
    if high is None or low is None:
        return dict.fromkeys(("value", "low", "high"))
    room = low > 0
    above = np.divide(high, low, out=np.full_like(high, np.inf), where=room)
    below = np.where(room | (high > 0), above, 0)  # 0 / 0 may be anything
    ends = _ends(below[1:], above[1:], level)
    return {"value": float(above[0]) if room[0] else None, "low": ends[0], "high": ends[1]}


def _ends(below, above, level: float) -> list[float | None]:
    """Interval of draws that lie between two bounds: their quantiles, rounded outwards."""
    if not len(below):
        return [None, None]
    place = math.floor((1 - level) / 2 * (len(below) - 1))
    ends = np.sort(below)[place], np.sort(above)[-1 - place]
    return [float(end) if np.isfinite(end) else None for end in ends]


def separation(
    scores: Float[np.ndarray, "E E"], groups: Sequence[frozenset[str]]
) -> dict[str, float | int | None]:
    """Mean score among discriminative encoders, among masked-reconstruction ones, and the ratio.

    Args:
        scores: symmetric, such as the calibrated CKA.
        groups: of each encoder, as `EncoderSpec.groups` gives them.

    Returns:
        `discriminative_mean`, `mim_mean` (None without a pair), the `ratio` of the two (None if
        either is missing or the second is 0), and the numbers of pairs behind them.

    Example:
        >>> groups = [frozenset({"discriminative"})] * 2 + [frozenset({"mim"})] * 2
        >>> scores = np.full((4, 4), 0.2)
        >>> scores[0, 1] = scores[1, 0] = 0.8
        >>> separation(scores, groups)["ratio"]
        4.0
    """
    result: dict[str, float | int | None] = {}
    for name in ("discriminative", "mim"):
        members = [i for i, of in enumerate(groups) if name in of]
        pairs = [scores[i, j] for i in members for j in members if i < j]
        result[f"{name}_mean"] = float(np.mean(pairs)) if pairs else None
        result[f"{name}_pairs"] = len(pairs)
    high, low = result["discriminative_mean"], result["mim_mean"]
    result["ratio"] = high / low if high is not None and low else None
    return result
