"""Substrates of samples of rows of several domains, and their PCKA.

A `Sample` says which rows of which domains are fitted, and which features count: all of them,
bootstrap draws, random halves, or a panel without some encoders. What is computed of a sample is
the same for all; see `analyses.domains.compare`, which has the formulas and the cost.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import divide, matmul
from substrate_jax.kernels.subspaces.tall_matrices import peak_sign
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, over_rows
from substrate_jax.substrate.components import has_variance, one_sided_cka, project


class Sample(NamedTuple):
    """Which rows of which domains to fit, M fits in all (leading axes of several samples first).

    Attributes:
        domain: [M] number of the domain.
        rows: [M, r] its rows, copies included.
        mask: [M, r] rows that count.
        pick: [M, u] places in `rows` of the distinct ones.
        weight: [M, u] copies of each; 0 for padding.
        keep: [D] or [1], 1 for features that count.
    """

    domain: Int[np.ndarray, "*b M"]
    rows: Int[np.ndarray, "*b M r"]
    mask: Bool[np.ndarray, "*b M r"]
    pick: Int[np.ndarray, "*b M u"]
    weight: Float32[np.ndarray, "*b M u"]
    keep: Float32[np.ndarray, "*b D"]


def whole_sample(counts: Sequence[int]) -> Sample:
    """All rows of every domain, of which there are `counts`."""
    m, n = len(counts), max(counts)
    rows = np.broadcast_to(np.arange(n, dtype=np.int32), (m, n))
    mask = rows < np.asarray(counts)[:, None]
    keep = np.ones(1, np.float32)
    return Sample(np.arange(m, dtype=np.int32), rows, mask, rows, mask.astype(np.float32), keep)


def bootstrap_sample(key: Array, counts: Sequence[int], draws: int) -> Sample:
    """`draws` samples of n_i rows with replacement of every domain."""
    m, n = len(counts), max(counts)
    rows = np.zeros((draws, m, n), np.int32)
    mask = np.broadcast_to(np.arange(n) < np.asarray(counts)[:, None], (draws, m, n))
    for i, count in enumerate(counts):
        drawn = jax.random.randint(jax.random.fold_in(key, i), (draws, count), 0, count)
        rows[:, i, :count] = np.sort(drawn, axis=1)
    distinct = [
        np.unique(one[valid], return_index=True, return_counts=True)[1:]
        for one, valid in zip(rows.reshape(-1, n), mask.reshape(-1, n), strict=True)
    ]
    u = max(len(places) for places, _ in distinct)
    pick, weight = np.zeros((draws * m, u), np.int32), np.zeros((draws * m, u), np.float32)
    for i, (places, copies) in enumerate(distinct):
        pick[i, : len(places)], weight[i, : len(places)] = places, copies
    shape = draws, m, u
    domain = np.broadcast_to(np.arange(m, dtype=np.int32), (draws, m))
    keep = np.ones((draws, 1), np.float32)
    return Sample(domain, rows, mask, pick.reshape(shape), weight.reshape(shape), keep)


def half_sample(key: Array, counts: Sequence[int], splits: int) -> Sample:
    """`splits` samples of 2 m fits: first halves of all domains, then their second halves."""
    m, size = len(counts), max(counts) // 2
    rows = np.zeros((splits, 2, m, size), np.int32)
    mask = np.zeros(rows.shape, bool)
    for i, count in enumerate(counts):
        keys = jax.random.split(jax.random.fold_in(key, i), splits)
        order = np.asarray(jax.vmap(lambda key, n=count: jax.random.permutation(key, n))(keys))
        half = count // 2
        rows[:, :, i, :half] = order[:, : 2 * half].reshape(splits, 2, half)
        mask[:, :, i, :half] = True
    rows, mask = rows.reshape(splits, 2 * m, size), mask.reshape(splits, 2 * m, size)
    domain = np.broadcast_to(np.tile(np.arange(m, dtype=np.int32), 2), (splits, 2 * m))
    pick = np.broadcast_to(np.arange(size, dtype=np.int32), rows.shape)
    return Sample(
        domain, rows, mask, pick, mask.astype(np.float32), np.ones((splits, 1), np.float32)
    )


def _fit(x: Float[Array, "m n D"], sample: Sample, most: int):
    """Weighted standardized rows [M, u, D] of each fit, its basis [D, K] and total variance.

    K is `most`, or D if that is less.
    """
    most = min(most, x.shape[-1])

    def fit(one):
        domain, rows, mask, pick, weight = one
        rows = kernels.standardize(x[domain, rows], mask)[pick]
        rows = rows * jnp.sqrt(weight)[:, None] * sample.keep[None, :]
        return rows, _leading_basis(rows, most), jnp.sum(rows**2)

    return jax.lax.map(fit, sample[:-1])


def _leading_basis(x: Float[Array, "u D"], most: int) -> Float[Array, "D most"]:
    """Leading components of centered rows, from the smaller of X'X and XX'.

    Many small fits: an eigendecomposition takes less than the passes of `kernels.pca`.
    """
    u, d = x.shape
    if d <= u:
        basis = jnp.linalg.eigh(matmul(x.T, x))[1][:, : -most - 1 : -1]
        variance, length = jnp.sum(matmul(x, basis) ** 2, axis=0), jnp.ones(basis.shape[1])
    else:
        basis = matmul(x.T, jnp.linalg.eigh(matmul(x, x.T))[1][:, : -most - 1 : -1])
        length = jnp.linalg.norm(basis, axis=0)
        variance = length**2
    basis = basis * jnp.where(has_variance(variance), divide(1, length), 0)[None, :]
    return jnp.pad(basis, ((0, 0), (0, most - basis.shape[1])))


def _agreement(x: Float[Array, "m n D"], sample: Sample, ks: Sequence[int]):
    """PCKA of all pairs of fits for each number of components, [q, M, M]."""
    rows, bases, _ = _fit(x, sample, max(ks))

    def side(one):
        rows, own = one
        return one_sided_cka(project(rows, bases), own, ks)

    return _both_sides(jax.lax.map(side, (rows, jnp.arange(len(bases)))))


def _both_sides(one_sided: Float[Array, "M q M"]) -> Float[Array, "q M M"]:
    """The mean of CKA(X_i B_i, X_i B_j), entry [i, q, j], and CKA(X_j B_i, X_j B_j)."""
    return (one_sided + one_sided.transpose(2, 1, 0)).transpose(1, 0, 2) / 2


def run_samples(
    mesh: Mesh, x: Float[Array, "m n D"], samples: Sample, ks: Sequence[int]
) -> Float[np.ndarray, "B q M M"]:
    """PCKA of all pairs of fits of every sample, the samples shared by the devices.

    Args:
        mesh: whose devices share.
        x: features of m domains, a copy on each device.
        samples: B of them.
        ks: numbers of components.
    """
    return np.asarray(_samples_program(mesh, tuple(ks))(x, samples))[: len(samples.domain)]


@functools.lru_cache
def _samples_program(mesh: Mesh, ks: tuple[int, ...]):
    def compute(x: Array, samples: Sample) -> Array:
        devices, number = mesh.shape[DATA_AXIS], len(samples.domain)
        mine = jax.lax.axis_index(DATA_AXIS) + devices * jnp.arange(-(-number // devices))

        def one(b):
            b = jnp.minimum(b, number - 1)
            return _agreement(x, jax.tree.map(lambda part: part[b], samples), ks)

        found = jax.lax.map(one, mine)
        everyone = jnp.zeros((devices * len(mine), *found.shape[1:]), found.dtype)
        return jax.lax.psum(everyone.at[mine].set(found), DATA_AXIS)

    return over_rows(compute, mesh, EVERYWHERE)


class Whole(NamedTuple):
    """Everything about all images of m domains.

    Attributes:
        x: [m, n, D] standardized features.
        bases: [m, D, K] components, K the most of the sweep.
        ratio: [m, K] share of each of the variance.
        pcka: [q, m, m] for each number of components; all that follows for one number.
        grassmann: [m, m] mean cos^2 of the principal angles.
        procrustes: [m, m] disparity of the bases.
        tau: [m, m] of the null, as the rest.
        p_value: [m, m], NaN on the diagonal, as the rest.
        log10_p_value: [m, m].
        q_value: [m, m] over all pairs.
    """

    x: Float[Array, "m n D"]
    bases: Float[Array, "m D K"]
    ratio: Float[Array, "m K"]
    pcka: Float[Array, "q m m"]
    grassmann: Float[Array, "m m"]
    procrustes: Float[Array, "m m"]
    tau: Float[Array, "m m"]
    p_value: Float[Array, "m m"]
    log10_p_value: Float[Array, "m m"]
    q_value: Float[Array, "m m"]


@functools.lru_cache
def whole_program(ks: tuple[int, ...], k: int, alpha: float):
    """The compiled computation of `Whole` from features and `whole_sample`, on every device alike.

    Args:
        ks: numbers of components.
        k: one of them, for all but PCKA.
        alpha: level of tau.
    """

    def compute(x: Array, sample: Sample) -> Whole:
        rows, bases, total = _fit(x, sample, max(ks))
        bases = bases * jax.vmap(peak_sign)(bases)[:, None, :]
        leading = bases[:, :, :k]

        def side(one):
            rows, mask, own = one
            scores = project(rows, bases)
            blocks = [scores[:, j, :k] for j in range(len(bases))]
            hsic = kernels.pairwise_hsic(blocks, mask=mask, cubic=True)
            moments = [moment[own] for moment in kernels.cka_null_moments(hsic)]
            return one_sided_cka(scores, own, ks), jnp.sum(scores[:, own] ** 2, axis=0), moments

        m = len(bases)
        one_sided, variance, (mean, spread, skewness) = jax.lax.map(
            side, (rows, sample.mask, jnp.arange(m))
        )
        pcka = _both_sides(one_sided)
        third = skewness * spread**1.5
        mean, spread, third = (mean + mean.T) / 2, (spread + spread.T) / 4, (third + third.T) / 8
        null = kernels.tail_from_moments(
            pcka[ks.index(k)], mean, spread, alpha, divide(third, spread**1.5)
        )
        upper = np.triu_indices(m, 1)
        q = kernels.benjamini_hochberg(null.p_value[upper])
        undefined = jnp.where(jnp.eye(m, dtype=bool), jnp.nan, 0)
        return Whole(
            x=rows,
            bases=bases,
            ratio=divide(variance, total[:, None]),
            pcka=pcka,
            grassmann=_over_pairs(leading, kernels.grassmann_similarity),
            procrustes=_over_pairs(leading, kernels.procrustes_disparity),
            tau=null.tau,
            p_value=null.p_value + undefined,
            log10_p_value=jnp.asarray(null.log10_p_value) + undefined,
            q_value=jnp.zeros((m, m)).at[upper].set(q).at[upper[::-1]].set(q) + undefined,
        )

    return jax.jit(compute)


def _over_pairs(bases: Float[Array, "m D k"], measure) -> Float[Array, "m m"]:
    """A measure of every pair of bases, one after another.

    Not by vmap: on CPU two batched LAPACK calls at once can wait for each other's threads for ever
    (jaxlib 0.10).
    """
    return jax.lax.map(lambda a: jax.lax.map(lambda b: measure(a, b), bases), bases)
