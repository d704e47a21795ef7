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
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Float32, Int

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import HIGHEST, divide, matmul
from substrate_jax.kernels.subspaces.tall_matrices import peak_sign
from substrate_jax.mesh import DATA_AXIS


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
    """Weighted standardized rows [M, u, D] of each fit, its basis [D, most] and total variance."""

    def fit(one):
        domain, rows, mask, pick, weight = one
        rows = kernels.standardize(x[domain, rows], mask)[pick]
        rows = rows * jnp.sqrt(weight)[:, None] * sample.keep[None, :]
        return rows, _leading_basis(rows, most), jnp.sum(rows**2)

    return jax.lax.map(fit, sample[:-1])


def _leading_basis(x: Float[Array, "u D"], most: int) -> Float[Array, "D most"]:
    """Leading eigenvectors of X'X, from the smaller of it and XX'; zero beyond the rank."""
    u, d = x.shape
    gram = matmul(x.T, x) if d <= u else matmul(x, x.T)
    value, vectors = jnp.linalg.eigh(gram)
    value, vectors = value[: -most - 1 : -1], vectors[:, : -most - 1 : -1]
    basis = vectors if d <= u else matmul(x.T, vectors)
    held = value > max(u, d) * jnp.finfo(x.dtype).eps * value[0]
    basis = basis * jnp.where(held, divide(1, jnp.linalg.norm(basis, axis=0)), 0)[None, :]
    return jnp.pad(basis, ((0, 0), (0, most - basis.shape[1])))


def _one_sided(scores: Float[Array, "u M K"], own: Array, ks: Sequence[int]) -> Float[Array, "q M"]:
    """CKA(X_i B_i, X_i B_j) of all j, for each of the numbers of components."""

    def norms(left: Array, right: Array):  # ||left'right||_F of the leading blocks, [q, M]
        product = jnp.einsum("umk,uml->mkl", left, right, precision=HIGHEST)
        return jnp.stack([jnp.sum(product[:, :k, :k] ** 2, axis=(1, 2)) for k in ks])

    mine = jnp.broadcast_to(scores[:, own][:, None], scores.shape)
    inner, square = norms(mine, scores), norms(scores, scores)
    return divide(inner, jnp.sqrt(square) * jnp.sqrt(square[:, own])[:, None])


def _scores(rows: Float[Array, "u D"], bases: Float[Array, "M D K"]) -> Float[Array, "u M K"]:
    m, d, k = bases.shape
    flat = bases.transpose(1, 0, 2).reshape(d, m * k)
    return matmul(rows, flat).reshape(-1, m, k)


def _agreement(x: Float[Array, "m n D"], sample: Sample, ks: Sequence[int], most: int):
    """PCKA of all pairs of fits for each number of components, [q, M, M]."""
    rows, bases, _ = _fit(x, sample, most)

    def side(one):
        rows, own = one
        return _one_sided(_scores(rows, bases), own, ks)

    one_sided = jax.lax.map(side, (rows, jnp.arange(len(bases))))
    return (one_sided + one_sided.transpose(2, 1, 0)).transpose(1, 0, 2) / 2


def run_samples(
    mesh: Mesh, placed: Array, samples: Sample, ks: Sequence[int], most: int
) -> np.ndarray:
    """`_agreement` of every sample, the samples shared by the devices: [B, q, M, M]."""
    found = _samples_program(mesh, tuple(ks), most)(placed, samples)
    return np.asarray(found)[: len(samples.domain)]


@functools.lru_cache
def _samples_program(mesh: Mesh, ks: tuple[int, ...], most: int):
    def compute(x: Array, samples: Sample) -> Array:
        devices, number = mesh.shape[DATA_AXIS], len(samples.domain)
        mine = jax.lax.axis_index(DATA_AXIS) + devices * jnp.arange(-(-number // devices))

        def one(b):
            b = jnp.minimum(b, number - 1)
            return _agreement(x, jax.tree.map(lambda part: part[b], samples), ks, most)

        found = jax.lax.map(one, mine)
        everyone = jnp.zeros((devices * len(mine), *found.shape[1:]), found.dtype)
        return jax.lax.psum(everyone.at[mine].set(found), DATA_AXIS)

    return jax.jit(
        jax.shard_map(
            compute, mesh=mesh, in_specs=(PartitionSpec(),) * 2, out_specs=PartitionSpec()
        )
    )


@functools.lru_cache
def whole_program(ks: tuple[int, ...], k: int, most: int, alpha: float):
    """Everything about all images, on every device alike."""

    def compute(x: Array, sample: Sample) -> dict[str, Array]:
        rows, bases, total = _fit(x, sample, most)
        bases = bases * jax.vmap(peak_sign)(bases)[:, None, :]
        leading = bases[:, :, :k]

        def side(one):
            rows, mask, own = one
            scores = _scores(rows, bases)
            blocks = [scores[:, j, :k] for j in range(len(bases))]
            hsic = kernels.pairwise_hsic(blocks, mask=mask, cubic=True)
            moments = [moment[own] for moment in kernels.cka_null_moments(hsic)]
            return _one_sided(scores, own, ks), jnp.sum(scores[:, own] ** 2, axis=0), moments

        m = len(bases)
        one_sided, variance, (mean, spread, skewness) = jax.lax.map(
            side, (rows, sample.mask, jnp.arange(m))
        )
        pcka = (one_sided + one_sided.transpose(2, 1, 0)).transpose(1, 0, 2) / 2
        third = skewness * spread**1.5
        mean, spread, third = (mean + mean.T) / 2, (spread + spread.T) / 4, (third + third.T) / 8
        null = kernels.tail_from_moments(
            pcka[ks.index(k)], mean, spread, alpha, divide(third, spread**1.5)
        )
        upper = np.triu_indices(m, 1)
        q = kernels.benjamini_hochberg(null.p_value[upper])
        undefined = jnp.where(jnp.eye(m, dtype=bool), jnp.nan, 0)
        pair = functools.partial(_over_pairs, leading)
        return {
            "x": rows,
            "basis": bases,
            "ratio": divide(variance, total[:, None]),
            "pcka": pcka,
            "grassmann": pair(kernels.grassmann_similarity),
            "procrustes": pair(kernels.procrustes_disparity),
            "tau": null.tau,
            "p_value": null.p_value + undefined,
            "log10_p_value": null.log10_p_value + undefined,
            "q_value": jnp.zeros((m, m)).at[upper].set(q).at[upper[::-1]].set(q) + undefined,
        }

    return jax.jit(compute)


def _over_pairs(bases: Float[Array, "m D k"], measure) -> Float[Array, "m m"]:
    """A measure of every pair of bases, one after another.

    Not by vmap: on CPU two batched LAPACK calls at once can wait for each other's threads for ever
    (jaxlib 0.10).
    """
    return jax.lax.map(lambda a: jax.lax.map(lambda b: measure(a, b), bases), bases)
