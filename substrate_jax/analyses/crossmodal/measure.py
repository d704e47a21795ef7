r"""What two blocks of matched rows have in common: measures, intervals, nulls, the least effect.

Against all orders of the rows CKA and mutual kNN recall have closed forms (`kernels.nulls`).
Debiased CKA there, and everything against the orders that keep classes, is sampled (`orders`,
`sampled`).

**The least effect.** With the null's mean m, its upper alpha quantile tau and its lower quantile q
at 1 - power, a value whose draws lie about it as those of the null lie about m is above tau with
the probability `power` if it is

    least = tau + (m - q).

The null alone says this, before anything is measured. An alternative is spread more widely than its
null, and differently: `planting` checks it on the data.

Intervals are those of `kernels.bootstrap`, rows being the sample; where rows come in classes they
hold for these classes.

Cost: that of the kernels on all blocks of both sides, permutations times that of `sampled`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from substrate_jax import kernels
from substrate_jax.analyses.crossmodal.orders import ROWS
from substrate_jax.analyses.crossmodal.results import CKA, DEBIASED, KNN, MEASURES, Measured, Null
from substrate_jax.analyses.crossmodal.sampled import Blocks, Pair, filled_up, sample
from substrate_jax.kernels.measures.table import SHARE
from substrate_jax.kernels.nulls.calibration import rescale
from substrate_jax.kernels.nulls.enumeration import MOST_ROWS
from substrate_jax.kernels.nulls.p_values import tail_from_sample


@dataclasses.dataclass(frozen=True)
class Options:
    """How agreement is measured.

    Attributes:
        neighbors: of mutual kNN.
        alpha: level of tau.
        power: share of draws in which the least effect is found.
        permutations: draws of a sampled null, as many as `orders` has.
        resamples: of the rows for intervals; 0 for none.
        seed: of all draws.
    """

    neighbors: int = 10
    alpha: float = 0.05
    power: float = 0.8
    permutations: int = 999
    resamples: int = 200
    seed: int = 0


def measure_pairs(
    left: Blocks,
    right: Blocks,
    pairs: Sequence[Pair],
    orders: Mapping[str, Int[np.ndarray, "m n"]],
    options: Options,
    mesh: Mesh,
    *,
    shape: tuple[int, int] | None = None,
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, Measured]]:
    """All measures of pairs of blocks.

    Args:
        left: blocks [n, d] of one side.
        right: of the other, the same rows.
        pairs: which are compared, numbers of left and right.
        orders: of `orders.sample_orders`; may be empty.
        options: see there; fewer neighbors than rows.
        mesh: whose devices share the draws.
        shape: rows and columns that blocks are filled up to, so that calls with others of that
            shape share their programs; no more than needed by default.
        step: called after each sampled null, the closed forms and the intervals.

    Returns:
        For each pair, measure -> what was found.

    Example:
        >>> from substrate_jax.analyses.crossmodal.pairs import Pairs
        >>> from substrate_jax.analyses.crossmodal.orders import sample_orders
        >>> from substrate_jax.mesh import make_mesh
        >>> x, y = np.random.default_rng(0).normal(size=(2, 40, 3)).astype(np.float32)
        >>> rows = np.arange(40)
        >>> orders, few = sample_orders(Pairs(rows, rows, None), 99), Options(5, resamples=0)
        >>> right, pairs, mesh = [x + 0.5 * y, y], [(0, 0), (0, 1)], make_mesh("data=1")
        >>> found = measure_pairs([x], right, pairs, orders, few, mesh)
        >>> [one["cka"].nulls["rows"].p_value < 0.05 for one in found]
        [True, False]
    """
    n, k = len(left[0]), options.neighbors
    rows, width = shape or (n, max(block.shape[1] for block in (*left, *right)))
    mask = np.arange(rows) < n
    blocks = [filled_up(side, rows, width) for side in (left, right)]
    both = [(blocks[0][i], blocks[1][j]) for i, j in pairs]
    found = [_closed_forms(pair, mask, options) for pair in both]
    closed = jax.tree.map(lambda matrix: float(matrix[0, 1]), jax.device_get(found))
    step()
    ends = [_intervals(pair, mask, options) for pair in both]
    step()
    identity = np.arange(n, dtype=np.int32)[None]
    whole = [filled_up(side, n, width) for side in (left, right)]
    nulls: dict[str, dict[str, list[Null]]] = {ROWS: {}}
    for kind, of in orders.items():
        every = np.concatenate([identity, of])
        drawn = sample(whole[0], whole[1], pairs, every, k, mesh)
        nulls[kind] = {
            measure: _sampled_nulls(getattr(drawn, measure), options) for measure in MEASURES
        }
        step()
    for measure in closed[0].nulls:
        nulls[ROWS][measure] = [_null(one.nulls[measure], "closed_form") for one in closed]
    return [
        {measure: _measured(number, measure, closed, ends, nulls) for measure in MEASURES}
        for number in range(len(pairs))
    ]


def _measured(number: int, measure: str, closed, ends, nulls) -> Measured:
    low, high = ends[number][measure]
    of = {kind: of[measure][number] for kind, of in nulls.items() if measure in of}
    return Measured(closed[number].values[measure], low, high, of)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Closed:
    values: dict
    nulls: dict


@functools.partial(jax.jit, static_argnums=2)
def _closed_forms(blocks, mask, options: Options) -> _Closed:
    """Values of all measures, and of those with a closed form the fields of their null."""
    alpha, ks, masked = options.alpha, (options.neighbors,), {"mask": mask}
    hsic = kernels.pairwise_hsic(blocks, cubic=True, **masked)
    graph = kernels.mutual_knn(blocks, ks, **masked)
    few = len(blocks[0]) <= MOST_ROWS
    calibrated = {
        CKA: kernels.calibrate_cka(
            blocks if few else hsic, alpha=alpha, skewness="exact", **masked if few else {}
        ),
        KNN: jax.tree.map(
            lambda x: x[0],
            kernels.calibrate_mutual_knn(
                blocks if few else graph, ks, alpha=alpha, **masked if few else {}
            ),
        ),
    }
    moments = {CKA: kernels.cka_null_moments(hsic), KNN: [m[0] for m in graph.null_moments()]}
    nulls = {}
    for measure, found in calibrated.items():
        mean, variance, skewness = moments[measure]
        low = kernels.tail_from_moments(found.observed, mean, variance, options.power, skewness).tau
        deviation = variance**0.5
        least = found.tau + (mean - low)
        nulls[measure] = (mean, deviation, found.tau, found.p_value, found.score, least)
    values = {CKA: hsic.cka(), DEBIASED: hsic.cka(debiased=True), KNN: graph.recall[0]}
    return _Closed(values, nulls)


def _sampled_nulls(values: Float[np.ndarray, "m P"], options: Options) -> list[Null]:
    """The nulls of a measure of each pair, its observed value the first draw."""
    observed, drawn = values[0], values[1:]
    tau, p_value = map(
        np.asarray, tail_from_sample(jnp.asarray(observed), jnp.asarray(drawn), options.alpha)
    )
    mean, low = drawn.mean(axis=0), np.quantile(drawn, 1 - options.power, axis=0)
    score = np.asarray(rescale(jnp.asarray(observed), jnp.asarray(tau)))
    columns = mean, drawn.std(axis=0), tau, p_value, score, tau + (mean - low)
    return [_null(one, "permutation") for one in zip(*columns, strict=True)]


def _null(fields: Sequence[Any], method: str) -> Null:
    mean, deviation, tau, p_value, score, least = map(float, fields)
    return Null(mean, deviation, tau, p_value, score, least, method)


def _intervals(blocks, mask, options: Options) -> dict[str, tuple[float, float]]:
    """Ends of the interval of a pair, by measure; NaN without."""
    found = dict.fromkeys(MEASURES, (float("nan"), float("nan")))
    fewest = int(SHARE * mask.sum())  # rows of a subsample, whose neighbors are others of it
    needed = {CKA: 1, DEBIASED: 4, KNN: options.neighbors + 1}
    for measure in MEASURES if options.resamples else ():
        given = {"k": options.neighbors} if measure == KNN else {}
        if needed[measure] <= fewest:
            key = jax.random.key(options.seed)
            ends = _bootstrap(measure, blocks, mask, key, options.resamples, tuple(given.items()))
            found[measure] = (float(ends.low[0, 1]), float(ends.high[0, 1]))
    return found


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _bootstrap(measure: str, blocks, mask, key, draws: int, given):
    return kernels.bootstrap(measure, blocks, key, draws=draws, mask=mask, **dict(given))
