r"""What agreement between domains is worth: PCKA of things that are no substrate of the panel.

Domain A has standardized stacked features X_A [n, D] of the panel and the substrate's basis
B_A [D, k]; PCKA(A, B) is that of `kernels.subspaces.angles`. The paper names controls without
defining them. Each has one or more readings here, all in a space where PCKA is defined; `READINGS`
is the table, one reading of each control primary. F_A [n, p] are features of the same images that
no network made: pixels or `handcrafted`. V_A are the leading components of standardized F_A, and
P_A = F_A V_A its scores.

    pixels, handcrafted
      own        F and V in place of X and B: do plain image statistics transport as well?
      carried    PCKA on X with the bases orth(X_A' P_A): the directions of the panel's space that
                 go along with the components of F, so both controls and substrate are compared in
                 the same coordinates.
      overlap    CKA(X_A B_A, P_A), of one domain: how much of the substrate's arrangement of the
                 images their statistics give. Not a PCKA.
    random
      both       an independent random subspace for each domain (Haar), R_A, PCKA on X.
      one        one domain keeps its basis: 1/2 [CKA(X_A B_A, X_A R_B) + CKA(X_B R_A, X_B B_B)].
      carried,   as above with Gaussian numbers for P_A: what features that have nothing to do with
      overlap    the images give. X'P leans to the strong directions of X whatever P is.
    shuffled
      panel      the rows of every encoder's block in an order of their own, and the substrate
                 fitted anew: each encoder keeps its covariance, what they share is destroyed.
    untrained
      panel      the panel's architectures with weights drawn at random (`encoders.untrained`), and
                 the substrate fitted.

Random projections keep a spectrum's strong directions, so PCKA of random bases is far from 0 where
few components hold most of the variance; high values say as much about X as about the bases.

F may have fewer than k components (59 hand-crafted features, or images of one color each, which
vary in few ways): those without variance are left out, as columns of zeros.

Cost, for m domains, all but small terms: 2 m^2 n D k flops a draw for random bases, m substrates a
draw for shuffled rows. Memory: the features once on the devices, and twice more, on the host and on
the devices, while shuffled or untrained ones are fitted.

Not guaranteed: that draws cover the null of a single pair; `low` and `high` are of the median over
pairs. Carried directions are found on the images that PCKA is taken on, with k of n degrees of
freedom.

References:
    Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from substrate_jax import kernels
from substrate_jax.analyses.domains.readings import READINGS
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate.sharded import PlacedDomains


def control_agreement(
    xs: Mapping[str, Float[np.ndarray, "n D"]],
    bases: Mapping[str, Float[np.ndarray, "D k"]],
    widths: Sequence[int],
    images: Mapping[str, Mapping[str, Float[np.ndarray, "n _"]]],
    *,
    untrained_panels: Sequence[Mapping[str, Mapping[str, Float[np.ndarray, "n _"]]]] = (),
    seeds: int = 50,
    draws: int = 5,
    seed: int = 0,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, dict]]:
    """Every reading of every control, for all pairs of domains.

    Args:
        xs: domain -> standardized stacked features of the panel; n may differ.
        bases: domain -> its substrate's basis.
        widths: features of each encoder, in the order they are stacked in.
        images: domain -> `pixels` and `handcrafted` [n, p] of the same rows, as
            `features.image_readers.image_features` gives them.
        untrained_panels: for each seed, domain -> features of the untrained panel on its images;
            without any that control is left out.
        seeds: draws of random bases; with 0 that control is left out.
        draws: draws of random scores, and shuffles of the encoders' rows; with 0, or for shuffles
            with a single encoder, those are left out.
        seed: of all draws.
        mesh: where to compute, rows split over the data axis; all devices by default.
        progress: called with (steps done, steps in all).

    Returns:
        control -> reading -> a dict, as `READINGS` lists them, each with
            matrix: [m, m] PCKA, symmetric; the median over draws if there are several; absent from
                overlap, whose items are domains where those of others are pairs.
            median: of `values`; None with a single domain, which has no pair.
            values: one an item; if there are several draws, the median over items, one a draw.
            low, high: 5 % and 95 % quantile of the draws' medians, None if there is one draw.
            item_high: 95 % quantile over all items of all draws, likewise.
            draws: how many.
            paper, paper_high: what the paper reports, or None.

    Raises:
        ValueError: domains, rows or widths that do not match; a domain with no more than k images,
            or whose images all have the same pixels or the same hand-crafted features; NaN or inf.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> draw = lambda d: rng.normal(size=(30, d)).astype(np.float32)
        >>> xs, bases = {"a": draw(8), "b": draw(8)}, {"a": np.eye(8)[:, :3], "b": np.eye(8)[:, :3]}
        >>> images = {name: {"pixels": draw(12), "handcrafted": draw(5)} for name in xs}
        >>> found = control_agreement(xs, bases, (4, 4), images, seeds=20, draws=2)
        >>> list(found), list(found["random"])
        (['pixels', 'handcrafted', 'random', 'shuffled'], ['both', 'one', 'carried', 'overlap'])
        >>> bool(found["random"]["both"]["low"] < found["random"]["both"]["high"] < 1)
        True
    """
    _check(xs, bases, widths, images, untrained_panels)
    mesh = mesh or make_mesh()
    bases = [jnp.asarray(bases[name], jnp.float32) for name in xs]
    k = bases[0].shape[1]
    panel = PlacedDomains.place(list(xs.values()), mesh)
    carries = draws if seeds else 0
    shuffles = draws if len(widths) > 1 else 0
    step = _counter(progress, 2 + seeds + carries + shuffles + len(untrained_panels))
    for_bases, for_scores, for_shuffles = np.random.default_rng(seed).spawn(3)

    found: dict[str, dict[str, dict]] = {}
    for control in ("pixels", "handcrafted"):
        blocks = {name: images[name][control] for name in xs}
        found[control] = _image_readings(control, blocks, panel, bases)
        step()
    if seeds:
        both, one = zip(*_random(panel, bases, seeds, for_bases, step), strict=True)
        found["random"] = {"both": _pair_summary(both), "one": _pair_summary(one)}
    if carries:
        lengths = [len(x) for x in xs.values()]
        carried = _random_scores(panel, lengths, bases, carries, for_scores, step)
        matrices, overlaps = zip(*carried, strict=True)
        found["random"] |= {"carried": _pair_summary(matrices), "overlap": _summary(overlaps)}
    refitted = {
        "shuffled": (_shuffled(xs, widths, for_shuffles) for _ in range(shuffles)),
        "untrained": (
            [np.concatenate(list(features[name].values()), axis=1) for name in xs]
            for features in untrained_panels
        ),
    }
    for control, panels in refitted.items():
        matrices = []
        for blocks in panels:
            fitted, components, _ = PlacedDomains.place(blocks, mesh).fit(k)
            matrices.append(fitted.pcka(components))
            step()
        if matrices:
            found[control] = {"panel": _pair_summary(matrices)}
    for reading in READINGS:
        if reading.name in found.get(reading.control, {}):
            found[reading.control][reading.name] |= {
                "paper": reading.paper,
                "paper_high": reading.paper_high,
            }
    return found


def _pair_summary(matrices: Sequence[Float[np.ndarray, "m m"]]) -> dict:
    """PCKA matrices, one a draw, and what there is to say of their pairs."""
    stacked = np.stack(matrices)
    pairs = stacked[:, *np.triu_indices(stacked.shape[1], 1)]
    return {"matrix": np.median(stacked, axis=0)} | _summary(pairs)


def _summary(values: Float[np.ndarray, "draws items"]) -> dict:
    """Medians and quantiles; items are pairs or domains."""
    values = np.asarray(values, np.float64)
    several = len(values) > 1 and values.size > 0
    shown = np.median(values, axis=1) if several else values[0]
    low, high = np.quantile(shown, [0.05, 0.95]) if several else (None, None)
    return {
        "median": np.median(shown) if shown.size else None,
        "values": shown,
        "low": low,
        "high": high,
        "item_high": np.quantile(values, 0.95) if several else None,
        "draws": len(values),
    }


def _image_readings(control: str, blocks, panel: PlacedDomains, bases) -> dict[str, dict]:
    """The readings of features that no network made: own, carried, overlap."""
    width = next(iter(blocks.values())).shape[1]
    placed = PlacedDomains.place(list(blocks.values()), panel.mesh)
    fitted, components, scores = placed.fit(min(bases[0].shape[1], width))
    for (name, block), found in zip(blocks.items(), components, strict=True):
        if not np.asarray(found).any():
            raise ValueError(
                f"domain {name!r}: all {len(block)} images have the same {control}, so there are "
                "no components to compare; leave the domain out"
            )
    directions, overlap = panel.carry(scores, bases)
    return {
        "own": _pair_summary([fitted.pcka(components)]),
        "carried": _pair_summary([panel.pcka(directions)]),
        "overlap": _summary([overlap]),
    }


def _random(panel: PlacedDomains, bases, seeds: int, rng, step) -> Iterator[tuple]:
    """PCKA matrices of random bases, for both domains and for one of them, a draw at a time."""
    m, (width, k) = len(bases), bases[0].shape
    for _ in range(seeds):
        random = [_orthonormal(rng.standard_normal((width, k), np.float32)) for _ in range(m)]
        found = panel.cka([[*random, basis] for basis in bases])
        both = np.stack([cka[i, :m] for i, cka in enumerate(found)])
        one = np.stack([cka[m, :m] for cka in found])
        step()
        yield (both + both.T) / 2, (one + one.T) / 2


# Of Gaussian numbers: subspaces of uniform distribution. One at a time: two batched LAPACK calls at
# once can wait for each other's threads for ever (jaxlib 0.10 on CPU).
_orthonormal = jax.jit(lambda block: jnp.linalg.qr(block)[0])


def _random_scores(panel: PlacedDomains, lengths, bases, draws, rng, step) -> Iterator[tuple]:
    """PCKA of the directions that random scores are carried to, and their overlaps, by draw."""
    k = bases[0].shape[1]
    for _ in range(draws):
        drawn = [rng.standard_normal((rows, k), np.float32) for rows in lengths]
        scores = PlacedDomains.place(drawn, panel.mesh).xs
        directions, overlap = panel.carry(scores, bases)
        step()
        yield panel.pcka(directions), overlap


def _shuffled(xs, widths, rng) -> list[Float[np.ndarray, "n D"]]:
    """The stacked features with the rows of every encoder's block in an order of their own."""
    return [
        np.concatenate(
            [
                block[rng.permutation(len(block))]
                for block in np.split(np.asarray(x), np.cumsum(widths)[:-1], axis=1)
            ],
            axis=1,
        )
        for x in xs.values()
    ]


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    """A function that counts one step done each time it is called."""
    done = iter(range(1, total + 1))

    def step() -> None:
        number = next(done)
        if progress:
            progress(number, total)

    return step


def _check(xs, bases, widths, images, untrained_panels) -> None:
    """Raises ValueError unless all parts speak of the same domains, rows and features."""
    parts = [("bases", bases), ("images", images)]
    parts += [("untrained_panels", features) for features in untrained_panels]
    for what, given in parts:
        if given.keys() != xs.keys() or not xs:
            raise ValueError(f"{what} are of {list(given)}, features of {list(xs)}: give the same")
    k = next(iter(bases.values())).shape[1]
    for name, x in xs.items():
        n, width = x.shape
        if n < k + 1:
            raise ValueError(
                f"domain {name!r} has {n} images for k={k} components: give {k + 1} or more, or "
                "lower k"
            )
        if width != sum(widths) or bases[name].shape != (width, k):
            raise ValueError(
                f"domain {name!r} has features {x.shape} and basis {bases[name].shape}, encoders "
                f"have widths {list(widths)}: give one panel and one k to all domains"
            )
        blocks = {"features": x, **{what: images[name][what] for what in ("pixels", "handcrafted")}}
        for features in untrained_panels:
            blocks |= features[name]
        if wrong := [what for what, block in blocks.items() if len(block) != n]:
            raise ValueError(f"domain {name!r}: {wrong[0]} has other rows than the features, {n}")
        kernels.check_finite(list(blocks.values()), [f"{name}: {what}" for what in blocks])
