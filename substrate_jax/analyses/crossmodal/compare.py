r"""Two modalities on matched rows: agreement over K, of encoders, beside controls and power.

Each side has a panel. Its substrate on the paired rows is the K leading components of the
standardized, stacked features (`substrate.components`), T = X B [n, K]. The two live in different
spaces, so that PCKA, which projects one side's features on the other's basis, does not exist for
them; what PCKA would compare for one set of rows is

    CKA(T_left, T_right),

here for every K, raw, debiased and calibrated, with mutual kNN of the scores beside. The same for
the encoders at full width, and for PCA-K of each.

Cost: `measure` and `planting`; about half a minute for 500 rows on two cores.

Not guaranteed: that agreement means a shared concept. Anything that rows have in common on both
sides (loudness and ink, the order of recording) is agreement too.

Reference: arXiv:2606.07882 finds none between CLIP's images and CLAP's sounds at K = 16.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from substrate_jax import kernels
from substrate_jax.analyses.crossmodal.controls import Case, Scorer, control_cases
from substrate_jax.analyses.crossmodal.measure import Options, measure_pairs
from substrate_jax.analyses.crossmodal.orders import ROWS, sample_orders
from substrate_jax.analyses.crossmodal.pairs import Pairs
from substrate_jax.analyses.crossmodal.planting import STRENGTHS, plant
from substrate_jax.analyses.crossmodal.results import (
    CKA,
    COMPONENTS,
    CONTROL,
    ENCODERS,
    KNN,
    SUBSTRATE,
    Agreement,
    Comparison,
    Control,
)
from substrate_jax.analyses.crossmodal.sides import Side
from substrate_jax.mesh import make_mesh
from substrate_jax.substrate import COMPONENTS as DEFAULT_K

SWEEP = (4, 8, 12, 16, 24, 32, 64)
PANEL = "panel"


def check_sizes(rows: int, widths: Sequence[int], k: int, neighbors: int) -> int:
    """The most components that both substrates can have, after a check of what is asked for.

    Args:
        rows: pairs.
        widths: features of each side.
        k: components.
        neighbors: of mutual kNN.

    Raises:
        ValueError: more components than rows or features allow, or neighbors than other rows.

    Example:
        >>> check_sizes(9, (4, 6), 4, 8)
        4
        >>> check_sizes(9, (4, 6), 5, 8)
        Traceback (most recent call last):
            ...
        ValueError: components=5: 9 pairs of rows with 4 and 6 features allow 1 to 4
    """
    most = min(rows - 1, *widths)
    if not 1 <= k <= most:
        features = " and ".join(map(str, widths))
        raise ValueError(
            f"components={k}: {rows} pairs of rows with {features} features allow 1 to {most}"
        )
    if not 1 <= neighbors < rows:
        raise ValueError(f"neighbors={neighbors}: {rows} pairs of rows allow 1 to {rows - 1}")
    return most


def compare_sides(
    left: Side,
    right: Side,
    pairs: Pairs,
    *,
    k: int = DEFAULT_K,
    sweep: Sequence[int] = SWEEP,
    options: Options | None = None,
    planted: int = 100,
    mesh: Mesh | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Comparison:
    """Everything of a comparison of two sides.

    Args:
        left: a side.
        right: the other.
        pairs: of their rows.
        k: components of the finding, the controls and what is planted.
        sweep: further numbers of components; those that the rows or features do not allow are
            left out.
        options: of the measures.
        planted: draws of a planted signal at each strength; 0 for none.
        mesh: whose devices share the draws; all by default.
        progress: called with (done, total) steps.

    Raises:
        ValueError: more components than rows or features allow, NaN or infinity, or a number of
            neighbors that the rows do not allow.
    """
    options, mesh = options or Options(), mesh or make_mesh()
    n = len(pairs)
    widths = [sum(block.shape[1] for block in side.blocks.values()) for side in (left, right)]
    most = check_sizes(n, widths, k, options.neighbors)
    for side in (left, right):
        kernels.check_finite(list(side.blocks.values()), [f"{side.name}, {e}" for e in side.blocks])
    ks = sorted({k, *(value for value in sweep if value <= most)})
    scores = Scorer(n, max(widths), ks[-1])
    orders = sample_orders(pairs, options.permutations, options.seed)
    cases = list(control_cases(left, right, pairs, k, scores, options.seed))
    apart = {len(case.pairs) for case in cases if not case.same_rows}
    total, done = 2 + len(orders) + 2 * len(apart) + (2 * STRENGTHS if planted else 0), 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, max(total, done))

    sides = [left.rows(pairs.left), right.rows(pairs.right)]
    substrates = [scores(features, ks[-1]) for features in sides]
    asked = list(_asked(sides, substrates, ks, k, scores))
    asked += [_of_case(case, k) for case in cases if case.same_rows]
    shape = n, max(block.shape[1] for one in asked for block in one.blocks)
    found = _measured(asked, orders, options, mesh, shape, step)
    for rows in sorted(apart):
        others = [case for case in cases if not case.same_rows and len(case.pairs) == rows]
        found |= _measured([_of_case(case, k) for case in others], {}, options, mesh, shape, step)
    controls = [Control(case.name, case.positive, found[case.name]) for case in cases]
    agreements = [one for one in found.values() if one.kind != CONTROL]
    signals = []
    if planted:
        main = found[SUBSTRATE, k]
        signals = [
            plant(
                substrates[0][:, :k],
                substrates[1][:, :k],
                measure,
                main.measures[measure].nulls[ROWS],
                neighbors=options.neighbors,
                alpha=options.alpha,
                power=options.power,
                draws=planted,
                seed=options.seed,
                mesh=mesh,
                progress=step,
            )
            for measure in (CKA, KNN)
        ]
    return Comparison(
        rows=n,
        classes=list(pairs.names),
        per_class=pairs.counts.tolist(),
        arbitrary=pairs.arbitrary,
        k=k,
        neighbors=options.neighbors,
        alpha=options.alpha,
        power=options.power,
        permutations=options.permutations,
        agreements=agreements,
        controls=controls,
        planted=signals,
    )


class _Asked(NamedTuple):
    """Two blocks that are to be compared."""

    key: object
    kind: str
    left: str
    right: str
    k: int | None
    blocks: Sequence[Float[np.ndarray, "n _"]]


def _of_case(case: Case, k: int) -> _Asked:
    return _Asked(case.name, CONTROL, case.left, case.right, k, case.blocks)


def _asked(sides, substrates, ks, k: int, scores: Scorer) -> Iterator[_Asked]:
    """The substrates at every K, then pairs of encoders, at K components and at full width."""
    for at in ks:
        blocks = [block[:, :at] for block in substrates]
        yield _Asked((SUBSTRATE, at), SUBSTRATE, PANEL, PANEL, at, blocks)
    one_each = max(map(len, sides)) == 1  # whose components are the substrates
    for kind, at in ((COMPONENTS, k), (ENCODERS, None)):
        found = []
        for features in sides:
            if kind == ENCODERS:
                found.append(features)
            else:
                wide = {e: x for e, x in features.items() if x.shape[1] >= k and not one_each}
                found.append({encoder: scores({encoder: x}, k) for encoder, x in wide.items()})
        for (first, x), (second, y) in itertools.product(*(of.items() for of in found)):
            yield _Asked((kind, first, second), kind, first, second, at, (x, y))


def _measured(
    asked: Sequence[_Asked], orders, options: Options, mesh: Mesh, shape: tuple[int, int], step
) -> dict[object, Agreement]:
    """What is asked, by its key; a block that is asked of twice is sent once."""
    blocks, places, pairs = ([], []), ({}, {}), []
    for one in asked:
        pair = []
        for side, at, block in zip(blocks, places, one.blocks, strict=True):
            if id(block) not in at:
                at[id(block)] = len(side)
                side.append(block)
            pair.append(at[id(block)])
        pairs.append(tuple(pair))
    found = measure_pairs(*blocks, pairs, orders, options, mesh, shape=shape, step=step)
    return {
        one.key: Agreement(one.kind, one.left, one.right, one.k, len(one.blocks[0]), measures)
        for one, measures in zip(asked, found, strict=True)
    }
