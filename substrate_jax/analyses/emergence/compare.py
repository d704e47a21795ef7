r"""From features at every step to curves, and from curves to times of half rise.

Targets are scores [p, k] of the probe images, of whatever is standardized and reduced to its k
leading components like a panel: the panel itself, the panel untrained, the images' pixels, and
another seed's network at the end of its training, which is what agreement two trainings of one
recipe have, a ceiling.

The network's own basis is compared with itself at the end as two domains are (`substrate.pcka`):
with X_t the standardized features at step t and B_t their leading components,

    PCKA_t = 1/2 [ CKA(X_t B_t, X_t B_T) + CKA(X_T B_t, X_T B_T) ],

1 at the end. Units keep their places while a network trains, so the bases live in one space; with
the panel's, which has other features, no such value exists.

Cost: a fit of k components per step of each training, and the measures of `alignment` per target.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from substrate_jax.analyses.emergence.alignment import TITLES, alignment
from substrate_jax.analyses.emergence.plan import SHUFFLED, SUPERVISED, Plan
from substrate_jax.analyses.emergence.results import Rise, Training
from substrate_jax.analyses.emergence.rise import Estimate, half_rise, lead
from substrate_jax.analyses.emergence.spectrum import spectrum
from substrate_jax.analyses.emergence.watch import Watched
from substrate_jax.features.constant import constant_blocks
from substrate_jax.substrate import Substrate, pairwise_pcka
from substrate_jax.substrate.components import COMPONENTS

PANEL, UNTRAINED, PIXELS, SEED = "panel", "untrained_panel", "pixels", "another_seed"
TARGETS = {
    PANEL: "the panel",
    UNTRAINED: "the panel untrained",
    PIXELS: "pixels",
    SEED: "another seed at its end",
}
FALLING = ("rankme", "effective_rank", "alpha")  # curves that may go either way

Found = Mapping[tuple[str, int], Sequence[Watched]]


def scores(features: Mapping[str, Float[np.ndarray, "p _"]], k: int = COMPONENTS) -> np.ndarray:
    """Scores of the images on the leading components of standardized, stacked features.

    Args:
        features: name -> [p, d].
        k: components, below p.

    Returns:
        float32 [p, k].
    """
    return np.asarray(Substrate.fit(features, k).transform(features), np.float32)


def trainings(
    plan: Plan,
    found: Found,
    targets: Mapping[str, Float[np.ndarray, "p k"]],
    *,
    seeds_as_targets: bool = True,
    k: int = COMPONENTS,
    alpha: float = 0.05,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[Training]:
    """The curves of every training.

    Args:
        plan: of the trainings.
        found: objective and seed -> what was watched.
        targets: name -> scores of the probe images.
        seeds_as_targets: compare supervised trainings with another seed's end, where there is one.
        k: components of the network's own bases.
        alpha: level of tau.
        mesh: where bases are fitted.
        progress: called with (trainings done, of all).
    """
    results = []
    ends = {seed: found[SUPERVISED, seed][-1].features for seed in plan.seeds}
    for objective, seed in plan.trainings:
        steps = found[objective, seed]
        features = [one.features for one in steps]
        of_all = dict(targets)
        if seeds_as_targets and objective == SUPERVISED and len(plan.seeds) > 1:
            after = plan.seeds[(list(plan.seeds).index(seed) + 1) % len(plan.seeds)]
            of_all[SEED] = scores({"student": ends[after]}, min(k, ends[after].shape[1]))
        spectra = [spectrum(x) for x in features]
        results.append(
            Training(
                objective=objective,
                seed=seed,
                accuracy=np.array([one.accuracy for one in steps]),
                probe_accuracy=np.array([one.probe_accuracy for one in steps]),
                rankme=np.array([one.rankme for one in spectra]),
                effective_rank=np.array([one.effective_rank for one in spectra]),
                alpha=np.array([one.alpha for one in spectra]),
                settled=_settled(features, k, mesh),
                alignments={
                    name: alignment(features, target, alpha=alpha)
                    for name, target in of_all.items()
                },
            )
        )
        if progress:
            progress(len(results), len(plan.trainings))
    return results


def _settled(
    features: Sequence[Float[np.ndarray, "p d"]], k: int, mesh: Mesh | None
) -> Float[np.ndarray, " T"]:
    """PCKA of every step with the last."""
    last = features[-1]
    k = min(k, last.shape[1])
    domains = [{"student": x} for x in features]
    return np.asarray(pairwise_pcka(domains, k, mesh=mesh), np.float64)[:, -1]


def rises(steps: Sequence[int], curves: Sequence[Training], *, level: float = 0.95) -> list[Rise]:
    """Start, top, end and time of half rise of every curve of every objective, over its seeds.

    Args:
        steps: watched.
        curves: of the trainings.
        level: of the intervals.

    Returns:
        The accuracy first. Leads are over the accuracy of the same objective: the classifier's, or
        the probe's where no classifier is trained; where labels are shuffled there are none.
    """
    found = []
    for objective in dict.fromkeys(one.objective for one in curves):
        of = [one for one in curves if one.objective == objective]
        named = list(_curves(of))
        halves = {key: _halves(steps, values, key[0]) for key, values in named}
        learned = np.isfinite(named[0][1]).all()
        base = halves[("accuracy" if learned else "probe_accuracy", "")]
        if objective == SHUFFLED:  # whose accuracy rises by chance alone
            base = np.full(len(of), np.nan)
        for (curve, target), values in named:
            if not np.isfinite(values).any():
                continue
            half = halves[curve, target]
            found.append(
                Rise(
                    objective=objective,
                    curve=curve,
                    target=target,
                    start=Estimate.over(values[:, 0], level),
                    top=Estimate.over(_tops(values, curve in FALLING), level),
                    end=Estimate.over(values[:, -1], level),
                    half=half,
                    lead=Estimate.over(lead(half, base), level),
                )
            )
    return found


def _curves(
    of: Sequence[Training],
) -> Iterator[tuple[tuple[str, str], Float[np.ndarray, "s T"]]]:
    """Curve and target -> values of every seed."""
    for curve in ("accuracy", "probe_accuracy"):
        yield (curve, ""), np.stack([getattr(one, curve) for one in of])
    for target in of[0].alignments:
        for curve in TITLES:
            values = [getattr(one.alignments[target], curve) for one in of]
            yield (curve, target), np.stack(values)
    for curve in ("settled", *FALLING):
        yield (curve, ""), np.stack([getattr(one, curve) for one in of])


def _halves(
    steps: Sequence[int], values: Float[np.ndarray, "s T"], curve: str
) -> Float[np.ndarray, " s"]:
    return np.array([half_rise(steps, one, falls=curve in FALLING) for one in values])


def _tops(values: Float[np.ndarray, "s T"], falls: bool) -> Float[np.ndarray, " s"]:
    found = np.full(len(values), np.nan)
    for row, one in enumerate(values):
        if np.isfinite(one).any():
            far = np.abs(one - one[0]) if falls else one
            found[row] = one[np.nanargmax(far)]
    return found


def constant_notes(plan: Plan, found: Found) -> list[str]:
    """A note on each training whose network gives every probe image the same features."""
    said = []
    for objective, seed in plan.trainings:
        for step, one in zip(plan.watched, found[objective, seed], strict=True):
            if constant_blocks({"student": one.features}):
                said.append(
                    f"{objective}, seed {seed}, step {step}: the network gives every image the "
                    "same features, so its agreement of 0 there is none at all."
                )
                break
    return said
