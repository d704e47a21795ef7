"""NLEEP: LEEP with the components of a Gaussian mixture for source classes.

    The features are reduced to the fewest principal components with 80% of their variance, a
    mixture of K = 5 C Gaussians with full covariances is fitted to them, and with its
    responsibilities p(z | x_i) for source probabilities

        NLEEP = 1/n sum_i log sum_z p(y_i | z) p(z | x_i)

    as in `source_head`. The logarithm is that of the paper; the published code of later ones leaves
    it out.

Method
    Seeds of k-means++, ten steps of Lloyd, then expectation maximization with 1e-6 added to the
    variances until the mean log likelihood gains less than 1e-3 (scikit-learn's defaults; it runs
    Lloyd to convergence). In each step one component at a time: memory is n (K + p).

Cost: n d min(n, d) for the components, then 4 n K p^2 flops per step, at most 100.

Not guaranteed: the fit is a local maximum, another for another seed; with fewer than some 5 p rows
for each component it says little.

References
    Y. Li et al., "Ranking neural checkpoints", CVPR 2021, arXiv:2011.11200.
    D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul
from substrate_jax.kernels.validate import check_fraction

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program, shared_size
from .source_head import expected_likelihood

LLOYD = 10
MOST_STEPS = 100
GAIN = 1e-3
ADDED = 1e-6


class Mixture(NamedTuple):
    """Gaussians: log weights [K], means [K p], inverse Cholesky factors [K p p]."""

    log_weights: Float64[Array, " K"]
    means: Float64[Array, "K p"]
    whitening: Float64[Array, "K p p"]


def nleep(
    features: ArrayLike | Coordinates,
    labels: ArrayLike,
    *,
    components_per_class: int = 5,
    energy: float = 0.8,
    seed: int = 0,
) -> float:
    """NLEEP, the log likelihood of labels given the clusters of the features; higher is better.

    A number <= 0; unchanged by rotation and shift, and up to 1e-6 of variance by scale.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.
      components_per_class: Gaussians for each class; all of them at most n.
      energy: share of the variance that the principal components keep, in (0, 1).
      seed: of k-means++.

    Returns:
      A number; NaN if all features are constant.

    Raises:
      ValueError: features, labels or options that are not as said, or more components than rows.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> x = rng.normal(size=(60, 8)) + 5 * np.eye(3, 8)[labels]
      >>> nleep(x, labels) > nleep(rng.normal(size=(60, 8)), labels)
      True

    References:
      Li et al. 2021, arXiv:2011.11200. Cost: n d min(n, d), and n K p^2 per step.
    """
    check_fraction("energy", energy)
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "NLEEP")
    number = components_per_class * classes.number
    if not 1 <= number <= found.n or components_per_class < 1:
        raise ValueError(
            f"components_per_class must give 1..{found.n} components for {found.n} rows, got "
            f"{components_per_class} for {classes.number} classes: change it or give more rows."
        )
    if found.constant:
        return float("nan")
    rows, kept = leading_energy(found, energy)
    real = np.arange(len(classes.padded)) < found.n
    key = jax.random.key(seed)
    start = _start(rows, real, number, key, most=shared_size(number, 8))
    responsibilities = np.asarray(_fit(rows, real, kept, number, start)[0])
    return expected_likelihood(responsibilities[: found.n, :number], classes)


def leading_energy(found: Coordinates, energy: float) -> tuple[Float64[np.ndarray, "rows p"], int]:
    """The fewest coordinates with a share of the variance, in a shared size, and how many."""
    squares = np.asarray(found.squares)
    shares = np.cumsum(squares) / np.sum(squares)
    kept = min(int(np.searchsorted(shares, energy, side="right")) + 1, found.rank)
    return found.leading(shared_size(kept, 8)), kept


def _start(rows, real, number, key, *, most):
    """Responsibilities [n, most], 0 or 1, of k-means clusters."""
    weight = real.astype(rows.dtype)
    exists = jnp.arange(most) < number

    def squared(centers):  # [n K]
        inner = matmul(rows, centers.T)
        lengths = jnp.sum(rows**2, axis=1)[:, None] + jnp.sum(centers**2, axis=1)[None, :]
        return jnp.maximum(lengths - 2 * inner, 0)

    def seed(i, state):
        centers, nearest = state
        # Of rows that all coincide with a center, any.
        chances = jnp.where(jnp.sum(nearest * weight) > 0, nearest, 1) * weight
        chosen = jax.random.categorical(jax.random.fold_in(key, i), jnp.log(chances))
        center = rows[chosen]
        nearest = jnp.minimum(nearest, jnp.sum((rows - center[None, :]) ** 2, axis=1))
        return centers.at[i].set(jnp.where(exists[i], center, 0)), nearest

    nothing = jnp.zeros((most, rows.shape[1]), rows.dtype)
    far = jnp.where(real, jnp.finfo(rows.dtype).max / rows.shape[0], 0)
    centers, _ = jax.lax.fori_loop(0, most, seed, (nothing, far))

    def assign(centers):
        distance = jnp.where(exists[None, :], squared(centers), jnp.inf)
        return (
            jax.nn.one_hot(jnp.argmin(distance, axis=1), most, dtype=rows.dtype) * weight[:, None]
        )

    def move(_, centers):
        members = assign(centers)
        counts = jnp.sum(members, axis=0)[:, None]
        return jnp.where(counts > 0, divide(matmul(members.T, rows), counts), centers)

    return assign(jax.lax.fori_loop(0, LLOYD, move, centers))


_start = program(_start, "most")


def _maximize(rows, responsibilities, kept, number):
    """The mixture of given responsibilities."""
    p = rows.shape[1]
    n = jnp.sum(responsibilities)
    real, exists = jnp.arange(p) < kept, jnp.arange(responsibilities.shape[1]) < number
    counts = jnp.sum(responsibilities, axis=0) + 10 * jnp.finfo(rows.dtype).eps
    means = matmul(responsibilities.T, rows) / counts[:, None]
    added = jnp.diag(jnp.where(real, ADDED, 1))  # coordinates that are none have variance 1

    def whiten(one):
        mean, weights, count = one
        deviation = rows - mean[None, :]
        covariance = matmul(deviation.T * weights[None, :], deviation) / count + added
        identity = jnp.eye(p, dtype=rows.dtype)
        factor = jnp.linalg.cholesky(covariance)
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True)

    whitening = jax.lax.map(whiten, (means, responsibilities.T, counts))
    return Mixture(jnp.where(exists, jnp.log(counts / n), -jnp.inf), means, whitening)


def _expect(rows, real, mixture):
    """Responsibilities [n K] of a mixture, and the mean log likelihood but for a constant."""

    def log_density(one):
        weight, mean, whitening = one
        distance = jnp.sum(matmul(rows - mean[None, :], whitening.T) ** 2, axis=1)
        return weight + jnp.sum(jnp.log(jnp.diagonal(whitening))) - distance / 2

    densities = jax.lax.map(log_density, tuple(mixture)).T
    total = jax.nn.logsumexp(densities, axis=1)
    weight = real.astype(rows.dtype)
    likelihood = jnp.sum(total * weight) / jnp.sum(weight)
    return jnp.exp(densities - total[:, None]) * weight[:, None], likelihood


@program
def _fit(rows, real, kept, number, responsibilities):
    """Responsibilities after expectation maximization, and how many steps it took."""
    inside = jnp.arange(rows.shape[1]) < kept
    rows = jnp.where(inside[None, :], rows, 0)

    def going(state):  # one step more once the gain is small, as scikit-learn does
        _, _, last, before, step = state
        return (jnp.abs(last - before) >= GAIN) & (step <= MOST_STEPS)

    def both(state):
        responsibilities, likelihood, last, _, step = state
        mixture = _maximize(rows, responsibilities, kept, number)
        return *_expect(rows, real, mixture), likelihood, last, step + 1

    low = jnp.asarray(jnp.finfo(rows.dtype).min, rows.dtype)
    state = responsibilities, low / 4, low / 2, low, 0
    responsibilities, *_, steps = jax.lax.while_loop(going, both, state)
    return responsibilities, steps
