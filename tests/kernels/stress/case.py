"""One kernel under stress: its case, and what its result and its oracle are made to compare."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from substrate_jax import kernels
from substrate_jax.kernels.measures.predictivity import fold_of_rows
from substrate_jax.kernels.nulls.orders import row_orders
from substrate_jax.kernels.reference import measures, statistics
from tests.kernels.stress import oracles
from tests.kernels.stress.cells import ROWS, WIDTH
from tests.kernels.stress.oracles import pairs

KEY = jax.random.key(0)
RIDGE = {"folds": 3, "penalties": (1e-2, 1.0)}
DRAWS, RESAMPLES, ALPHA, K = 19, 4, 0.1, 3
FEW = [5, 7, 13, 15, 8]  # rows whose orders can all be gone through


@functools.cache
def orders(rows):
    """The orders that sampled nulls go through."""
    return np.asarray(row_orders(KEY, DRAWS, rows))


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel under stress.

    Attributes:
      run: of the two encoders, a pytree of arrays; compiled.
      oracle: of the same in float64, a tuple of arrays.
      unit: what an entry is at least, of outputs that have a unit of their own.
      about: what rounding is relative to, as in `cells.nearby`.
      view: of the result and the encoders in float64, the arrays that the oracle gives.
      few: run on 5 rows only.
      nan: cells where NaN is right too, and the words of the docstring that say so.
      loose: cells in which rounding decides, and the words of the docstring that say so: only the
        range is held.
      others: oracles of what the docstring has rounding do besides.
      condition: by how much rounding of the sums is amplified.
      prepare: makes the input out of features.
      call: the call that has to refuse what is no block; `run` by default.
      takes: what is no block elsewhere, and is taken here.
      sequence: whether it takes the encoders as one sequence.
    """

    run: Callable
    oracle: Callable
    about: str = "mean"
    view: Callable = lambda found, blocks: tuple(jax.tree.leaves(found))
    few: bool = False
    unit: float = 0.0
    condition: Callable = lambda blocks: 1.0
    others: tuple = ()
    prepare: Callable = lambda x: x
    call: Callable | None = None
    loose: dict = dataclasses.field(default_factory=dict)
    nan: dict = dataclasses.field(default_factory=dict)
    takes: frozenset = frozenset()
    sequence: bool = True


def calibration(found, blocks):
    return found.score, found.tau, found.p_value


def hsic_of(blocks, **options):
    return kernels.pairwise_hsic(blocks, space="gram", cubic=True, **options)


def hsic_view(found, blocks):
    leaves = found.inner, found.diagonal, found.trace, found.scale
    return leaves if found.cubic is None else (*leaves, found.cubic)


def in_batches(state, update):
    """Three batches, the second in a state of its own."""
    first, other = (update(state, slice(start, start + 8)) for start in (0, 8))
    return update(first.merge(other), slice(16, ROWS))


def streamed_cka(blocks):
    state = kernels.StreamingCka.init([x.shape[1] for x in blocks])
    return in_batches(state, lambda state, rows: state.update([x[rows] for x in blocks]))


def streamed_moments(blocks):
    state = kernels.StreamingMoments.init(blocks[0].shape[1])
    return in_batches(state, lambda state, rows: state.update(blocks[0][rows])).finalize()


def streamed_pca(blocks):
    state = kernels.StreamingPca.init(blocks[0].shape[1], K)
    return in_batches(state, lambda state, rows: state.update(blocks[0][rows])).finalize()


def pca_view(found, blocks):
    components, share = (
        np.asarray(a, np.float64) for a in (found.components, found.explained_variance_ratio)
    )
    if np.isfinite(components).all():
        np.testing.assert_allclose(components.T @ components, np.eye(K), atol=1e-5)
    return found.mean, found.explained_variance, share, (components * share) @ components.T


def standardized(blocks):
    x = blocks[0]
    with np.errstate(invalid="ignore"):
        centered = x - x.mean(0)
        size = np.where((x == x[:1]).all(0), np.inf, np.abs(centered).max(0))
        unit = np.where(np.isfinite(x).all(0), centered / size, np.nan)
        return (unit / np.where(np.isfinite(size), np.sqrt((unit**2).mean(0)), 1),)


def by_columns(oracle):
    return lambda blocks: tuple(oracle(blocks)[0].T)


def columns(found, blocks):
    return tuple(np.asarray(found).T)


def polar_view(found, blocks):
    """R'R and tr R'A over ||A||, which is its nuclear norm."""
    a, r = blocks[0], np.asarray(found, np.float64)
    size = np.linalg.norm(a)
    return r.T @ r, np.sum(r * a / (size or 1))


def polar_of(a):
    if not oracles.finite(a):
        return np.full((WIDTH, WIDTH), np.nan), np.array(np.nan)
    return np.eye(WIDTH), np.array(oracles.alignment(a, np.eye(WIDTH)) * WIDTH**0.5)


def polar_null(blocks):
    """The same with the least singular values, those of 8 k eps of the first, turned round."""
    eye, reached = polar_of(blocks[0])
    if np.isnan(reached):
        return eye, reached
    values = np.linalg.svd(blocks[0] / (np.linalg.norm(blocks[0]) or 1), compute_uv=False)
    null = values <= 8 * WIDTH * oracles.EPS * values[0]
    return eye, reached - 2 * values[null].sum()


def shape_angle(x, y, less=0.0):
    """Angle between shapes: 0 of one and itself, a right angle of one that is constant."""
    if oracles.constant(x) or oracles.constant(y):
        return np.pi / 2
    return 0.0 if x is y else np.arccos(min(measures.procrustes(x, y), 1) - less)


def gulp_distance(blocks):
    """Of squares that are off by 8 eps of the norms."""
    (found,) = pairs(functools.partial(measures.gulp, distance=True), lambda x: False)(blocks)
    norms = [0 if oracles.constant(x) else measures.gulp(x, 0 * x, distance=True) for x in blocks]
    lost = 8 * oracles.EPS * np.add.outer(np.square(norms), np.square(norms))
    return (np.sqrt(found**2 + lost),)


def rotation_view(found, blocks):
    a, b = (x / (np.linalg.norm(x) or 1) for x in blocks)
    r = np.asarray(found, np.float64)
    return r.T @ r, np.sum(a * (b @ r))


def rotation_of(blocks):
    eye = np.eye(WIDTH) if oracles.finite(*blocks) else np.full((WIDTH, WIDTH), np.nan)
    return eye, np.array(oracles.alignment(*blocks))


def gpa_view(found, blocks):
    """The loss, and how far aligned blocks, consensus and rotations are from agreeing, plus 1."""
    turned = [x @ np.asarray(r, np.float64) for x, r in zip(blocks, found.rotations, strict=True)]
    size = max(np.linalg.norm(x) for x in blocks) or 1
    aligned = [np.linalg.norm(a - t) / size for a, t in zip(found.aligned, turned, strict=True)]
    off = np.linalg.norm(np.asarray(found.consensus) - np.mean(turned, axis=0)) / size
    turns = np.asarray(found.rotations, np.float64)
    return found.loss, 1 + np.array([*aligned, off]), turns.transpose(0, 2, 1) @ turns


def gpa_of(blocks):
    eye = np.stack([np.eye(WIDTH)] * 2)
    loss = np.array(oracles.two_block_loss(*blocks))
    missing = np.where(np.isnan(loss), np.nan, 0)
    return loss, np.ones(3) + missing, eye + missing


@functools.cache
def drawn_rows(rows):
    """[b, n] rows that the bootstrap takes, from its keys."""
    number = jax.vmap(jax.random.fold_in, (None, 0))

    def draw(b):
        keys = number(jax.random.fold_in(KEY, b), jnp.arange(rows))
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, rows))(keys)

    return np.array([draw(b) for b in range(RESAMPLES)])


def redrawn(measure):
    """Value, and draws about it."""

    def oracle(blocks):
        value = measure(blocks)[0]
        drawn = [measure([x[rows] for x in blocks])[0] for rows in drawn_rows(len(blocks[0]))]
        drawn = np.array(drawn)
        return value, value + drawn - drawn.mean(0)

    return oracle


def interval(blocks):
    value, drawn = redrawn(oracles.cka)(blocks)
    low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
    return value, low, high, np.sqrt(((drawn - value) ** 2).sum(0) / (len(drawn) - 1))


def sampled(measure):
    """Score, tau and p of orders of both encoders' own; none of an encoder with itself."""

    def oracle(blocks):
        null = [
            measure([x[order] for x, order in zip(blocks, orders, strict=True)])[0]
            for orders in side_orders(len(blocks[0]), len(blocks))
        ]
        found = oracles.of_null(measure(blocks)[0], np.array(null), ALPHA)
        itself = np.eye(len(blocks), dtype=bool)
        return tuple(np.where(itself, np.nan, a) for a in found)

    return oracle


@functools.cache
def side_orders(rows, sides):
    """[b, sides, n] orders that sampled nulls of several sides go through."""
    return np.asarray(kernels.sample_null(lambda o: o, KEY, DRAWS, rows, sides=sides))


def ceilings(measure):
    """By the same two splits of the columns."""

    def oracle(blocks):
        found = []
        for number in range(2):
            halves = [[], []]
            keys = jax.random.split(jax.random.fold_in(KEY, number), len(blocks))
            for x, key in zip(blocks, keys, strict=True):
                order = np.asarray(jax.random.permutation(key, WIDTH))
                halves[0].append(x[:, order[: WIDTH // 2]])
                halves[1].append(x[:, order[WIDTH // 2 :]])
            found.append([measure(list(pair))[0][0, 1] for pair in zip(*halves, strict=True)])
        half = np.mean(found, axis=0)
        return (np.where(half > 0, 2 * half / (1 + half), half),)

    return oracle


def three(blocks):
    """Both encoders, and the second with its rows moved on."""
    roll = np.roll if isinstance(blocks[1], np.ndarray) else jnp.roll
    return [*blocks, roll(blocks[1], 5, axis=0)]


def contrasts(blocks):
    """Differences of three encoders, and the ends of their intervals."""
    value, drawn = redrawn(oracles.cka)(blocks)
    known = np.array([len(set(of)) == 3 for of in itertools.product(range(3), repeat=3)])
    known = known.reshape(3, 3, 3)
    difference = value[:, :, None] - value[:, None, :]
    draws = drawn[:, :, :, None] - drawn[:, :, None, :]
    ends = np.quantile(draws, [0.025, 0.975], axis=0)
    return tuple(np.where(known, a, np.nan) for a in (difference, *ends))


def share_of(x):
    """Numbers in (0, 1) out of features."""
    with np.errstate(invalid="ignore"):
        return 1 / (1 + np.abs(x) ** 0.1)


def q_values(blocks):
    p = blocks[0].ravel()
    known = p[~np.isnan(p)]
    below = (known[None] <= known[:, None]).sum(1)
    ratios = np.where(known[None] >= known[:, None], len(known) * known / below, np.inf)
    q = np.full(p.shape, np.nan)
    q[~np.isnan(p)] = np.minimum(ratios.min(1), 1)
    return (q.reshape(blocks[0].shape),)


def adjusted(blocks):
    observed, maxima = blocks[1][0], blocks[0][:, 0]
    missing = np.isnan(maxima).any()
    p = (1 + (maxima[:, None] >= observed - 16 * oracles.EPS).sum(0)) / (len(maxima) + 1)
    return (np.where(missing, np.nan, p),)


def maxima(blocks):
    return (np.where(np.isnan(blocks[0]), -np.inf, blocks[0]).max(1),)


def tails(blocks):
    """Gamma tails on [0, inf) of mean 0.1 and variance 0.01: exponential."""
    s = blocks[0]
    tau = -0.1 * np.log(ALPHA)
    score = np.maximum(s - tau, 0) / (1 - tau)
    return score, np.where(np.isnan(s), np.nan, tau), np.exp(-s / 0.1)


def tail_run(blocks):
    mean, variance = jnp.float32(0.1), jnp.float32(0.01)
    return calibration(kernels.tail_from_moments(blocks[0], mean, variance, ALPHA), blocks)


def measure(name, function, empty=oracles.constant, about="mean", options=None, **fields):
    run = functools.partial(kernels.MEASURES[name].compute, **(options or {}))
    return Case(run, pairs(function, empty), about, unit=1, **fields)


def amplified(blocks, gram=oracles.unit_gram):
    """<K, K> over what debiasing leaves of it."""
    grams = [gram(x)[0] for x in blocks if oracles.finite(x)]
    n = len(grams[0])
    left = [n * (n - 3) * statistics.hsic_unbiased(k, k) for k in grams if k.any()]
    whole = [np.sum(k * k) for k in grams if k.any()]
    return max((a / max(b, 1e-300) for a, b in zip(whole, left, strict=True)), default=1.0)


def predicted(x, y):
    fold = np.asarray(fold_of_rows(len(x), RIDGE["folds"]))
    return measures.predictivity(x, y, fold, RIDGE["penalties"])


def other_ranks(seed):
    """RSA with dissimilarities rounded as the docstring says, ties kept."""

    def rounded(x):
        values, same = np.unique(measures.dissimilarities(x), return_inverse=True)
        size = oracles.EPS * (4 + WIDTH**0.5 / 4)
        return (values + size * np.random.default_rng(seed).normal(size=values.shape))[same]

    def value(x, y):
        found = scipy.stats.spearmanr(rounded(x), rounded(y)).statistic
        return 1.0 if x is y else float(found)

    return pairs(value, oracles.same_ranks)
