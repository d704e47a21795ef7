"""All pairs of encoders by any measure of the table: intervals, chance, ceilings, and the closest.

Each measure is one program over the mesh, whose numbers do not depend on the number of devices.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.cka.against_chance import against_chance, pair_q_values
from substrate_jax.analyses.cka.results import ClosestEncoder, MeasuredPairs, PairIntervals
from substrate_jax.kernels.measures.bootstrap import interval_of
from substrate_jax.mesh import (
    DATA_AXIS,
    EVERYWHERE,
    ROWS,
    after,
    make_mesh,
    over_rows,
    shard_blocks,
)
from substrate_jax.substrate.domains import Panel


def measure_encoders(
    features: Panel,
    measures: Sequence[str],
    *,
    draws: int = 0,
    level: float = 0.95,
    permutations: int = 0,
    alpha: float = 0.05,
    splits: int = 0,
    other_seeds: Mapping[str, str] | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
) -> dict[str, MeasuredPairs]:
    """Measures of the table `kernels.MEASURES` for all pairs of a panel on one set of images.

    Args:
        features: encoder name -> [n, d], rows of all encoders in the same order.
        measures: names in the table.
        draws: resamples of the rows, for intervals and for whose closest encoder it is by more than
            luck; 0 for none.
        level: of the intervals.
        permutations: of the rows, for the chance of measures whose null has no closed form; 0 for
            none.
        alpha: level of tau.
        splits: of every encoder's units into halves, for its ceiling; 0 for none.
        other_seeds: encoder -> the one of the panel that is the same network trained from another
            seed: a ceiling for both.
        seed: of the resamples, permutations and splits.
        mesh: where to compute; all devices by default.

    Returns:
        measure -> matrix [E, E], entry [x, y] for the ordered pair, with what was asked for.
        `kernels.measures.bootstrap` says how each measure's rows are drawn, `.chance` how they are
        permuted, `.ceiling` what the halves are for, and `.contrasts` how encoders are compared.

    Raises:
        ValueError: an unknown measure, too few images for one, too few permutations for alpha, or
            other seeds that `seed_pairs` refuses.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
        >>> found = measure_encoders({"one": x, "two": 2 * x}, ["procrustes"])
        >>> round(float(found["procrustes"].matrix[0, 1]), 4)
        1.0
    """
    entries = {name: kernels.measure_named(name) for name in measures}
    seeds = seed_pairs(other_seeds or {}, list(features))
    mesh = mesh or make_mesh()
    blocks, mask = shard_blocks(features.values(), mesh)
    result = {}
    for name, entry in entries.items():
        program = measure_program(mesh, name, draws, level, permutations, alpha, splits)
        found = jax.tree.map(np.asarray, program(blocks, mask, jax.random.key(seed)))
        matrix, intervals, closest, calibrated = found.get("matrix"), None, None, None
        if drawn := found.get("interval"):
            matrix = drawn.value
            intervals = PairIntervals(
                drawn.low, drawn.high, drawn.error, draws, level, entry.resampling
            )
            if len(features) > 2:
                closest = _closest(list(features), matrix, found["contrast"])
        if chance := found.get("chance"):
            calibrated = against_chance(chance, alpha, found["q_value"])
        again = None
        if seeds:
            again = np.full(len(features), np.nan)
            for pair in (np.asarray(pair) for pair in seeds):
                again[pair] = matrix[pair, pair[::-1]].mean()
        halves = found.get("ceiling")
        result[name] = MeasuredPairs(matrix, intervals, calibrated, halves, again, closest)
    return result


def seed_pairs(other_seeds: Mapping[str, str], names: Sequence[str]) -> list[tuple[int, int]]:
    """Places of encoders and of the same trained from another seed, each place once.

    Args:
        other_seeds: encoder -> its other seed.
        names: of the panel.

    Raises:
        ValueError: an encoder that is not of the panel, itself, or in two pairs.

    Example:
        >>> seed_pairs({"a": "c"}, ["a", "b", "c"])
        [(0, 2)]
    """
    seen: set[str] = set()
    for pair in other_seeds.items():
        for name in pair:
            if name not in names:
                raise ValueError(f"other seed {name!r} is none of the panel: {', '.join(names)}")
            if name in seen:
                raise ValueError(f"other seed {name!r} stands twice; give pairs of two encoders")
            seen.add(name)
    return [(names.index(one), names.index(other)) for one, other in other_seeds.items()]


def _closest(
    names: Sequence[str], matrix: Float[np.ndarray, "E E"], contrast: kernels.Contrast
) -> list[ClosestEncoder]:
    """The two closest of each encoder; of one whose measure is not known with others, none."""
    others = np.where(np.eye(len(names), dtype=bool) | np.isnan(matrix), -np.inf, matrix)
    ranked = np.argsort(-others, axis=1, kind="stable")
    result = []
    for z in range(len(names)):
        x, y = int(ranked[z, 0]), int(ranked[z, 1])
        if np.isfinite(others[z, y]):
            parts = (contrast.difference, contrast.low, contrast.high, contrast.p_value)
            numbers = [float(part[z, x, y]) for part in parts]
            result.append(ClosestEncoder(names[z], names[x], names[y], *numbers))
    return result


@functools.lru_cache
def measure_program(
    mesh: Mesh,
    name: str,
    draws: int,
    level: float,
    permutations: int = 0,
    alpha: float = 0.05,
    splits: int = 0,
):
    """The compiled measure of blocks, their mask and a key, for `measure_encoders`.

    A dict, in which each part is there if it is asked for: "matrix" or, with draws, "interval" and
    "contrast"; "chance" with its "q_value"; "ceiling".
    """
    entry = kernels.measure_named(name)

    def compute(blocks: list[Array], mask: Array, key: Array):
        options = {"mask": mask, "axis_name": DATA_AXIS}
        found = {}
        if draws:
            value, drawn = kernels.resampled(name, blocks, key, draws=draws, **options)
            found["interval"] = interval_of(value, drawn, level=level)
            found["contrast"] = kernels.closer(value, drawn, level=level)
        else:
            value = found["matrix"] = kernels.pairwise_measure(name, blocks, **options)
        options["mask"] = after(value, mask)
        if permutations or entry.calibrate:
            found["chance"] = chance = kernels.calibrate_measure(
                name,
                blocks,
                method="closed_form" if entry.calibrate else "permutation",
                permutations=permutations,
                alpha=alpha,
                key=key,
                **options,
            )
            found["q_value"] = pair_q_values(chance.p_value, entry.symmetric)
            options["mask"] = after(chance.observed, mask)
        if splits:
            found["ceiling"] = kernels.split_half_ceiling(
                name, blocks, key, splits=splits, **options
            )
        return found

    return over_rows(compute, mesh, (ROWS, ROWS, EVERYWHERE))
