"""LogME: the evidence of a Bayesian linear model of the labels.

Problem
    y = X w + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta), for y the 0/1 indicator of one class.
    The log marginal likelihood of n rows is that of y ~ N(0, 1/beta + X X'/alpha). With
    t = alpha / beta, G = X'X of eigenvalues g, w = (G + t)^-1 X'y and gamma = sum g / (g + t),

        log p(y) = n/2 log(beta / 2 pi) - beta/2 (||y - X w||^2 + t ||w||^2) - 1/2 sum log(1 + g/t),

    the same for n < d as for n >= d: eigenvalues that are 0 contribute nothing. (The published code
    keeps d/2 log(alpha) but sums log(alpha + beta g) over min(n, d) eigenvalues only, so for n < d
    it is off by (d - n)/2 log(alpha).) At a stationary point of alpha and beta (MacKay 1992)

        alpha = gamma / ||w||^2,     beta = (n - gamma) / ||y - X w||^2.

    LogME is the mean over classes of log p(y) / n there.

Method
    Features are not centered, as published, but computed with about their mean: in principal
    coordinates G is diag(s) + n m m', a diagonal and one rank, so its inverse, trace and
    determinant at any t take O(r) operations, by sums of terms of one sign. One while loop moves
    the t of all classes from 1, where the published iteration starts, in the direction of MacKay's
    update, doubling its steps until it passes a stationary point, which some ten steps then find.

Cost
    2 n d min(n, d) flops and the eigendecomposition of `principal_coordinates`; then 2 n r C, and
    about 20 r C per step of some 20. The rows are never projected.

References
    D. MacKay, "Bayesian interpolation", Neural Computation 4, 1992.
    K. You, Y. Liu, J. Wang, M. Long, "LogME: practical assessment of pre-trained models for
    transfer learning", ICML 2021, arXiv:2102.11005; and arXiv:2110.10545.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul, root

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program

FARTHEST = 30.0  # |log t| beyond the scale of the features
CLOSE = 1e-12  # of two log t, to be taken for the same
MOST_STEPS = 100
PERFECT = 1e-14  # share of ||y||^2 that is left unexplained


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """The largest evidence of each class against the rest.

    Attributes:
      log_evidence: [C] log p(y) / n; inf where the labels are a linear function of the features.
      alpha: [C] precision of the weights; inf where the evidence prefers no weights at all.
      beta: [C] precision of the noise; inf where it prefers none, as it can for n <= d.
    """

    log_evidence: Float64[np.ndarray, " C"]
    alpha: Float64[np.ndarray, " C"]
    beta: Float64[np.ndarray, " C"]


def class_evidence(features: ArrayLike | Coordinates, labels: ArrayLike) -> Evidence:
    """The evidence of each class, and the precisions where it is stationary.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> x = np.array([[0.0, 1.0], [0.2, 1.0], [1.0, 1.1], [0.9, 1.0], [0.1, 0.9]])
      >>> found = class_evidence(x, [0, 0, 1, 1, 0])
      >>> [round(float(value), 2) for value in found.log_evidence]
      [-0.35, -0.13]
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "LogME")
    one_hot = classes.one_hot[: found.n]
    left = _project(found.centered, found.vectors, found.squares, one_hot)
    # Everything in shared sizes, so that encoders share the program of the search.
    padding = (0, found.width - len(found.squares))
    left = np.pad(np.asarray(left), ((0, 0), padding))
    squares, mean = (np.pad(np.asarray(each), padding) for each in (found.squares, found.mean))
    values = _evidence(left, squares, mean, found.mean_rest, one_hot.sum(axis=0), float(found.n))
    return Evidence(*(np.asarray(value)[: classes.number] for value in values))


def logme(features: ArrayLike | Coordinates, labels: ArrayLike) -> float:
    """LogME, the mean over classes of the log evidence per row; higher is better.

    mean_c max log p(y_c | X) / n, y_c the indicator of class c, at the stationary point that
    MacKay's iteration from alpha = beta = 1 moves to.

    Args:
      features: [n, d] floating-point, not centered by it, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes.

    Returns:
      A number; inf if the indicator of a class is a linear function of the features to 1e-14 of its
      energy with fewer features than rows, as the evidence then has no maximum.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> x = rng.normal(size=(60, 8)) + 3 * np.eye(3, 8)[labels]
      >>> logme(x, labels) > logme(rng.normal(size=(60, 8)), labels)
      True

    References:
      You et al. 2021, arXiv:2102.11005. Cost: n d min(n, d) + r C per step.
    """
    return float(np.mean(class_evidence(features, labels).log_evidence))


@program
def _project(centered, vectors, s, one_hot):
    """[C r] U'y of each class."""
    if centered.shape[1] <= centered.shape[0]:
        product = matmul(matmul(one_hot.T, centered), vectors)
        left = product * divide(1, root(s))[None, :]
    else:
        left = matmul(one_hot.T, vectors)
    return jnp.where((s > 0)[None, :], left, 0)


def _root(function, low, high):
    """Where a function [C] -> [C] changes its sign between two ends, each by itself.

    T. Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear
    function without using derivatives", Advances in Engineering Software 28, 1997.
    """

    def unfinished(state):
        (a, _), (b, _), _, count, _ = state
        return (count < MOST_STEPS) & jnp.any(jnp.abs(b - a) > CLOSE)

    def step(state):
        a, b, c, count, share = state
        x = a[0] + share * (b[0] - a[0])
        new = x, function(x)
        same = jnp.sign(new[1]) == jnp.sign(a[1])
        c = tuple(jnp.where(same, *pair) for pair in zip(a, b, strict=True))
        b = tuple(jnp.where(same, *pair) for pair in zip(b, a, strict=True))
        (x1, f1), (x2, f2), (x3, f3) = new, b, c
        # Inverse quadratic interpolation where it is monotone, else the middle.
        place, height = divide(x1 - x2, x3 - x2), divide(f1 - f2, f3 - f2)
        smooth = (height**2 < place) & ((1 - height) ** 2 < 1 - place)
        first = divide(f1, f2 - f1) * divide(f3, f2 - f3)
        second = divide(x3 - x1, x2 - x1) * divide(f1, f3 - f1) * divide(f2, f3 - f2)
        least = jnp.minimum(0.5, divide(0.5 * CLOSE, jnp.abs(x2 - x1)))
        share = jnp.clip(jnp.where(smooth, first + second, 0.5), least, 1 - least)
        return new, b, c, count + 1, share

    ends = (low, function(low)), (high, function(high))
    start = (*ends, ends[0], jnp.zeros((), jnp.int32), jnp.full_like(low, 0.5))
    (a, at_a), (b, at_b), *_ = jax.lax.while_loop(unfinished, step, start)
    return jnp.where(jnp.abs(at_a) < jnp.abs(at_b), a, b)


@program
def _evidence(left, s, mean, mean_rest, totals, n):
    totals = jnp.where(totals > 0, totals, 1)  # [C] ||y||^2; of padded classes: any number
    share = totals / n
    real = s > 0
    size = root(s)
    rank = jnp.sum(real).astype(s.dtype)
    outside = jnp.maximum(totals * (1 - share) - jnp.sum(left**2, axis=1), 0)
    outside = jnp.where(rank < n - 1, outside, 0)  # exactly, as rounding would be taken for noise
    energy = jnp.sum(mean**2) + mean_rest  # ||m||^2

    def terms(t):  # [C] -> everything at t, by sums of terms of one sign
        inverse = 1 / (s[None, :] + t[:, None])
        kappa = jnp.sum(mean[None, :] ** 2 * inverse, axis=1) + mean_rest / t  # m'(S + t)^-1 m
        denominator = 1 / n + kappa
        along = jnp.sum(mean[None, :] * size[None, :] * left * inverse, axis=1)
        pull = (share - along) / denominator
        solved = (left * size[None, :] + mean[None, :] * pull[:, None]) * inverse
        weights = jnp.sum(solved**2, axis=1) + mean_rest * (pull / t) ** 2
        missed = (t[:, None] * left - size[None, :] * mean[None, :] * pull[:, None]) * inverse
        residual = outside + jnp.sum(missed**2, axis=1) + pull**2 / n
        squared = jnp.sum((mean[None, :] * inverse) ** 2, axis=1) + mean_rest / t**2
        gamma = jnp.sum(s[None, :] * inverse, axis=1) + t * squared / denominator
        kept = jnp.sum(jnp.where(real[None, :], t[:, None] * inverse, 0), axis=1)
        shifted = jnp.sum(mean[None, :] ** 2 * s[None, :] * inverse**2, axis=1)
        free = (n - 1 - rank) + kept + (1 / n + shifted) / denominator  # n - gamma
        determinant = jnp.sum(jnp.log1p(s[None, :] / t[:, None]), axis=1) + jnp.log1p(n * kappa)
        return weights, residual, gamma, free, determinant

    def direction(u):  # of MacKay's update of log t
        weights, residual, gamma, free, _ = terms(jnp.exp(u))
        return gamma * residual - jnp.exp(u) * weights * free

    scale = jnp.log(jnp.maximum(s[0] + n * energy, jnp.finfo(s.dtype).tiny))
    lowest, highest = jnp.minimum(scale, 0) - FARTHEST, jnp.maximum(scale, 0) + FARTHEST

    def bracket(state):
        behind, ahead, step, found = state
        trial = jnp.clip(ahead + step * up, lowest, highest)
        passed = found | (direction(trial) * up <= 0)
        return (
            jnp.where(found, behind, jnp.where(passed, ahead, trial)),
            jnp.where(found, ahead, trial),
            2 * step,
            passed,
        )

    def searching(state):
        _, ahead, _, found = state
        return jnp.any(~found & (ahead > lowest) & (ahead < highest))

    zero = jnp.zeros_like(totals)
    up = jnp.where(direction(zero) >= 0, 1.0, -1.0)
    start = (zero, zero, jnp.ones(()), zero > 1)
    behind, ahead, _, found = jax.lax.while_loop(searching, bracket, start)

    u = jnp.where(found, _root(direction, behind, ahead), ahead)
    t = jnp.exp(u)
    weights, residual, _, _, determinant = terms(t)
    misfit = residual + t * weights
    beta = n / misfit
    value = 0.5 * (jnp.log(beta / (2 * jnp.pi)) - 1 - determinant / n)
    perfect = (residual <= PERFECT * totals) & (n - 1 - rank > 0)
    no_weights, no_noise = ~found & (up > 0), ~found & (up < 0)
    return (
        jnp.where(perfect, jnp.inf, value),
        jnp.where(no_weights, jnp.inf, t * beta),
        jnp.where(no_noise, jnp.inf, beta),
    )
