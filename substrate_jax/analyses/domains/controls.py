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

Cost, for m domains, all but small terms: 2 m^2 n D k flops per draw for random bases, m substrates
per draw for shuffled rows. Memory: the features once on the devices, and twice more, on the host
and on the devices, while shuffled or untrained ones are fitted.

Not guaranteed: that draws cover the null of a single pair; `low` and `high` are of the median over
pairs. Carried directions are found on the images that PCKA is taken on, with k of n degrees of
freedom.

References:
    Y. Radwan, "The Cross-Architecture Substrate", arXiv:2606.07882, 2026.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from substrate_jax.analyses.domains.readings import READINGS, Reading
from substrate_jax.analyses.domains.results import ControlValues
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate.domains import Block, Domains, check_components, check_domains
from substrate_jax.substrate.sharded import Basis, PlacedDomains

HANDMADE = ("pixels", "handcrafted")


def control_agreement(
    xs: Mapping[str, Block],
    bases: Mapping[str, Basis],
    widths: Sequence[int],
    images: Domains | None,
    *,
    untrained_panels: Sequence[Domains] = (),
    seeds: int = 50,
    draws: int = 5,
    seed: int = 0,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, dict[str, ControlValues]]:
    """Every reading of every control, for all pairs of domains.

    Args:
        xs: domain -> standardized stacked features of the panel; n may differ.
        bases: domain -> its substrate's basis.
        widths: features of each encoder, in the order they are stacked in.
        images: domain -> `pixels` and `handcrafted` [n, p] of the same rows, as
            `features.image_readers.image_features` gives them; None leaves those controls out.
        untrained_panels: for each seed, domain -> features of the untrained panel on its images;
            without any that control is left out.
        seeds: draws of random bases; with 0 that control is left out.
        draws: draws of random scores, and shuffles of the encoders' rows; with 0, or for shuffles
            with a single encoder, those are left out.
        seed: of all draws.
        mesh: where to compute, rows split over the data axis; all devices by default.
        progress: called with (steps done, steps in all).

    Returns:
        control -> reading -> its values, in the order of `READINGS`. The items of overlap are
        domains where those of others are pairs; a single domain has no pair.

    Raises:
        ValueError: domains, rows or widths that do not match; a domain with fewer than 4 images or
            no more than k, or whose images all have the same pixels or the same hand-crafted
            features; NaN or inf.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> draw = lambda d: rng.normal(size=(30, d)).astype(np.float32)
        >>> xs, bases = {"a": draw(8), "b": draw(8)}, {"a": np.eye(8)[:, :3], "b": np.eye(8)[:, :3]}
        >>> images = {name: {"pixels": draw(12), "handcrafted": draw(5)} for name in xs}
        >>> found = control_agreement(xs, bases, (4, 4), images, seeds=20, draws=2)
        >>> list(found), list(found["random"])
        (['pixels', 'handcrafted', 'random', 'shuffled'], ['both', 'one', 'carried', 'overlap'])
        >>> list(control_agreement(xs, bases, (4, 4), None, seeds=20, draws=2))
        ['random', 'shuffled']
        >>> bool(found["random"]["both"].low < found["random"]["both"].high < 1)
        True
    """
    lengths = _check(xs, bases, widths, images, untrained_panels)
    shuffles = draws if len(widths) > 1 else 0
    carries = draws if seeds else 0
    made = 0 if images is None else len(HANDMADE)
    panel = _Panel(
        PlacedDomains.place([[x] for x in xs.values()], mesh or make_mesh()),
        [jnp.asarray(bases[name], jnp.float32) for name in xs],
        lengths,
        _counter(progress, made + seeds + carries + shuffles + len(untrained_panels)),
    )
    for_bases, for_scores, for_shuffles = np.random.default_rng(seed).spawn(3)

    # (control, reading) -> [m, m] PCKA or [m] overlaps of each draw.
    drawn: dict[tuple[str, str], Sequence[np.ndarray]] = {}
    if images is not None:
        for control in HANDMADE:
            blocks = {name: images[name][control] for name in xs}
            for name, only in _of_images(panel, control, blocks).items():
                drawn[control, name] = [only]
    if seeds:
        both, one = zip(*_random_bases(panel, seeds, for_bases), strict=True)
        drawn |= {("random", "both"): both, ("random", "one"): one}
    if carries:
        carried, overlap = zip(*_random_scores(panel, carries, for_scores), strict=True)
        drawn |= {("random", "carried"): carried, ("random", "overlap"): overlap}
    panels = (_shuffled(xs, widths, for_shuffles) for _ in range(shuffles))
    drawn["shuffled", "panel"] = [_refitted(panel, blocks) for blocks in panels]
    panels = ([list(of[name].values()) for name in xs] for of in untrained_panels)
    drawn["untrained", "panel"] = [_refitted(panel, blocks) for blocks in panels]

    found: dict[str, dict[str, ControlValues]] = {}
    for reading in READINGS:
        if of_reading := drawn.get((reading.control, reading.name)):
            values = _control_values(reading, np.stack(of_reading))
            found.setdefault(reading.control, {})[reading.name] = values
    return found


@dataclasses.dataclass(frozen=True)
class _Panel:
    """What all controls are compared with, and what is called as each step is done."""

    placed: PlacedDomains
    bases: Sequence[Float[Array, "D k"]]
    lengths: Sequence[int]
    step: Callable[[], None]

    @property
    def k(self) -> int:
        return self.bases[0].shape[1]


def _control_values(reading: Reading, drawn: Float[np.ndarray, "draws ..."]) -> ControlValues:
    """Medians and quantiles of PCKA matrices or overlaps; items are pairs or domains."""
    matrix = None
    if drawn.ndim == 3:
        matrix = np.median(drawn, axis=0)
        drawn = drawn[:, *np.triu_indices(drawn.shape[1], 1)]
    values = drawn.astype(np.float64)
    several = len(values) > 1 and values.size > 0
    shown = np.median(values, axis=1) if several else values[0]
    low, high = np.quantile(shown, [0.05, 0.95]).tolist() if several else (None, None)
    return ControlValues(
        matrix=matrix,
        median=float(np.median(shown)) if shown.size else None,
        values=shown,
        low=low,
        high=high,
        item_high=float(np.quantile(values, 0.95)) if several else None,
        draws=len(values),
        paper=reading.paper,
        paper_high=reading.paper_high,
    )


def _of_images(panel: _Panel, control: str, blocks: Mapping[str, Block]) -> dict[str, np.ndarray]:
    """The readings of features that no network made: own, carried, overlap."""
    width = next(iter(blocks.values())).shape[1]
    placed = PlacedDomains.place([[block] for block in blocks.values()], panel.placed.mesh)
    fitted = placed.fit(min(panel.k, width))
    for (name, block), basis in zip(blocks.items(), fitted.components, strict=True):
        if not np.asarray(basis).any():
            raise ValueError(
                f"domain {name!r}: all {len(block)} images have the same {control}, so there are "
                "no components to compare; leave the domain out"
            )
    directions, overlap = panel.placed.carry(fitted.scores, panel.bases)
    found = {
        "own": fitted.placed.pcka(fitted.components),
        "carried": panel.placed.pcka(directions),
        "overlap": np.asarray(overlap),
    }
    panel.step()
    return found


def _random_bases(panel: _Panel, seeds: int, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """PCKA matrices of random bases in both domains and in one of them, draw by draw."""
    m, width = len(panel.bases), panel.bases[0].shape[0]
    own = [[i, m] for i in range(m)]
    for _ in range(seeds):
        random = [_orthonormal(rng.standard_normal((width, panel.k), np.float32)) for _ in own]
        found = panel.placed.one_sided_cka([[*random, basis] for basis in panel.bases], own)
        both, one = np.stack(found)[:, :, :m].swapaxes(0, 1)
        panel.step()
        yield (both + both.T) / 2, (one + one.T) / 2


# Of Gaussian numbers: subspaces of uniform distribution. One at a time: two batched LAPACK calls at
# once can wait for each other's threads for ever (jaxlib 0.10 on CPU).
_orthonormal = jax.jit(lambda block: jnp.linalg.qr(block)[0])


def _random_scores(panel: _Panel, draws: int, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """PCKA of the directions that random scores are carried to, and their overlaps, by draw."""
    for _ in range(draws):
        drawn = [[rng.standard_normal((rows, panel.k), np.float32)] for rows in panel.lengths]
        scores = PlacedDomains.place(drawn, panel.placed.mesh).xs
        directions, overlap = panel.placed.carry(scores, panel.bases)
        panel.step()
        yield panel.placed.pcka(directions), np.asarray(overlap)


def _shuffled(xs: Mapping[str, Block], widths: Sequence[int], rng) -> list[list[np.ndarray]]:
    """The encoders' blocks of every domain, the rows of each in an order of their own."""
    return [
        [
            block[rng.permutation(len(block))]
            for block in np.split(np.asarray(x), np.cumsum(widths)[:-1], axis=1)
        ]
        for x in xs.values()
    ]


def _refitted(panel: _Panel, blocks: Sequence[Sequence[Block]]) -> Float[np.ndarray, "m m"]:
    """PCKA of substrates of other features of the same images."""
    fitted = PlacedDomains.place(blocks, panel.placed.mesh).fit(panel.k)
    found = fitted.placed.pcka(fitted.components)
    panel.step()
    return found


def _counter(progress: Callable[[int, int], object] | None, total: int) -> Callable[[], None]:
    """A function that counts one step done each time it is called."""
    done = iter(range(1, total + 1))

    def step() -> None:
        number = next(done)
        if progress:
            progress(number, total)

    return step


def _check(xs, bases, widths, images, untrained_panels) -> Sequence[int]:
    """Images of each domain, after a check that all parts speak of the same rows and features."""
    parts = [("bases", bases)]
    panels = [("untrained_panels", features) for features in untrained_panels]
    if images is not None:
        handmade = {n: {w: images[n][w] for w in HANDMADE} for n in xs if n in images}
        panels.insert(0, ("images", handmade))
    for what, given in (*parts, *panels):
        if given.keys() != xs.keys() or not xs:
            raise ValueError(f"{what} are of {list(given)}, features of {list(xs)}: give the same")
    shapes = check_domains({name: {"features": x} for name, x in xs.items()})
    k = next(iter(bases.values())).shape[1]
    check_components(shapes, k)
    for name, x in xs.items():
        if x.shape[1] != sum(widths) or bases[name].shape != (x.shape[1], k):
            raise ValueError(
                f"domain {name!r} has features {x.shape} and basis {bases[name].shape}, encoders "
                f"have widths {list(widths)}: give one panel and one k to all domains"
            )
    for what, domains in panels:
        others = check_domains({name: domains[name] for name in xs})
        for name, n, rows in zip(shapes.names, shapes.counts, others.counts, strict=True):
            if rows != n:
                raise ValueError(f"domain {name!r}: {what} have {rows} rows, the features {n}")
    return shapes.counts
