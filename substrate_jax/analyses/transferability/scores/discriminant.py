"""SFDA and NCTI: how well a linear discriminant tells the classes apart, before any training.

SFDA
    1. S = (1 - a) W + a tr(W)/d I, W the covariance within classes (divided by n),
       a = max(exp(-5 lambda), 1e-10), lambda the largest eigenvalue of W: features that barely vary
       within a class are regularized most.
    2. p(c | x) by linear discriminant analysis with S and the classes' shares.
    3. Every row is mixed with the mean of the means of the other classes, x <- q x + (1 - q) o_c,
       q the softmax of the probabilities p (not of their logarithms), as if harder to tell
       ("confidence mixing").
    4. Steps 1 and 2 on the mixed rows with the same a; the score is the mean of p(y_i | x_i).

    The published code takes the generalized eigenvectors E of (St - S, S) and multiplies by E E',
    which is S^-1: one Cholesky factor serves here. It estimates lambda by six products from the row
    sums of W, which depends on the axes; here it is the largest eigenvalue, as in the paper.

NCTI
    Three terms of the first 64 principal components under linear discriminant analysis with
    S = (1 - a) W + a tr(W)/p I, a = exp(-sum of the first 32 variances), and 0 for one below 1e-10
    (scikit-learn's solvers "eigen" and "svd", which the published code switches between; before
    1.8, "svd" divided W by n - C instead of n):
        spread: the nuclear norm of the centered rows in the C - 1 leading discriminants, of unit
        variance in S;
        confidence: the mean of p(y_i | x_i);
        collapse: the log of the sum over classes of the nuclear norm of their rows of p.
    NCTI = confidence + spread - collapse, each scaled to [0, 1] over the panel: a score of an
    encoder among others, not of one alone.

Cost: SFDA 4 n r^2 flops and a third of r^3 twice; NCTI 2 n p^2 and singular values of C matrices
[m, C] for classes of at most m rows, about 4 n C^2 flops.

References
    W. Shao et al., "Not all models are equal: predicting model transferability in a
    self-challenging Fisher space", ECCV 2022, arXiv:2207.03036.
    Z. Wang et al., "How far pre-trained models are from neural collapse on the target dataset
    informs their transferability", ICCV 2023.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul

from .coordinates import Coordinates, principal_coordinates
from .inputs import classes_of, program

LEAST_SHRINKAGE = 1e-10
COMPONENTS = 64  # that NCTI keeps
HALF = 32  # of them, whose variances set its shrinkage
MOST_STEPS = 1000  # of the power iteration
ROUNDING = 1e-12  # of a term of NCTI, relative: a thousand times what its sums round by


def sfda(features: ArrayLike | Coordinates, labels: ArrayLike) -> float:
    """SFDA, the mean probability of the true class after rows are made harder; higher is better.

    In [0, 1]; unchanged by rotations and shifts. Scale matters, through the shrinkage.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`.
      labels: [n] integers >= 0 of at least two classes, more rows than classes.

    Returns:
      A number; NaN if all features are constant, or vary between classes only.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> x = rng.normal(size=(60, 8)) + 3 * np.eye(3, 8)[labels]
      >>> sfda(x, labels) > sfda(rng.normal(size=(60, 8)), labels)
      True

    References:
      Shao et al. 2022, arXiv:2207.03036. Cost: n d min(n, d) + 4 n r^2 + r^3.
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "SFDA")
    _check_within(classes, "SFDA")
    if found.constant:
        return float("nan")
    return float(_sfda(found.rows, classes.one_hot, float(found.d)))


@dataclasses.dataclass(frozen=True)
class NctiTerms:
    """The terms of NCTI of one encoder.

    Attributes:
      spread: nuclear norm of the rows among the discriminants; higher is better.
      confidence: mean probability of the true class, in [0, 1]; higher is better.
      collapse: log of the sum of nuclear norms of probabilities; lower is better.
    """

    spread: float
    confidence: float
    collapse: float


def ncti_terms(features: ArrayLike | Coordinates, labels: ArrayLike) -> NctiTerms:
    """The three terms of NCTI, before they are scaled over a panel.

    Args:
      features: [n, d] floating-point, or their `principal_coordinates`; of the principal components
        the first min(64, rank, n - classes) are kept.
      labels: [n] integers >= 0 of at least two classes, more rows than classes.

    Returns:
      The terms; NaN if all features are constant.

    Raises:
      ValueError: features or labels that are not as said.

    Example:
      >>> x = np.array([[0.0, 1.0], [0.1, 0.0], [9.0, 1.0], [9.1, 0.0], [0.2, 0.5]])
      >>> terms = ncti_terms(x, [0, 0, 1, 1, 0])
      >>> round(terms.confidence, 3)
      1.0
    """
    found = principal_coordinates(features)
    classes = classes_of(labels, found.n, "NCTI")
    _check_within(classes, "NCTI")
    if found.constant:
        return NctiTerms(*[float("nan")] * 3)
    index, valid = classes.rows_by_class()
    kept = min(COMPONENTS, found.rank, found.n - classes.number)
    arguments = found.leading(COMPONENTS), classes.one_hot, kept, classes.number, index, valid
    return NctiTerms(*(float(value) for value in _ncti(*arguments)))


def ncti(
    panel: Mapping[str, ArrayLike | Coordinates | NctiTerms], labels: ArrayLike
) -> Float64[np.ndarray, " E"]:
    """NCTI of each encoder of a panel; higher is better.

    confidence + spread - collapse, each scaled to [0, 1] over the encoders, so in [-1, 2].

    Args:
      panel: at least two encoders' features of the same rows, or their `ncti_terms`.
      labels: [n] integers >= 0 of at least two classes, more rows than classes.

    Returns:
      [E] in the order of the panel; NaN for encoders whose features are constant, which the others
      are scaled without. A term that is the same for all, but for rounding, counts 0.

    Raises:
      ValueError: fewer than two encoders, features or labels that are not as said.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> labels = np.arange(60) % 3
      >>> noise = rng.normal(size=(60, 8))
      >>> scores = ncti({"a": noise, "b": noise + 3 * np.eye(3, 8)[labels]}, labels)
      >>> bool(scores[1] > scores[0])
      True

    References:
      Wang et al., ICCV 2023. Cost of each: n d min(n, d) + 2 n p^2 + 4 n C^2, p = 64.
    """
    if len(panel) < 2:
        raise ValueError(
            f"panel must hold at least 2 encoders, got {len(panel)}: NCTI is scaled over them."
        )
    terms = [
        each if isinstance(each, NctiTerms) else ncti_terms(each, labels) for each in panel.values()
    ]
    spread, confidence, collapse = (
        _scaled([getattr(each, field.name) for each in terms])
        for field in dataclasses.fields(NctiTerms)
    )
    return confidence + spread - collapse


def _scaled(values: list[float]) -> np.ndarray:
    """To [0, 1] over those that are numbers; rounding is no difference."""
    array = np.asarray(values)
    if np.isnan(array).all():
        return array
    least, most = np.nanmin(array), np.nanmax(array)
    same = most - least <= ROUNDING * max(abs(most), abs(least))
    return 0 * array if same else (array - least) / (most - least)


def _check_within(classes, score: str) -> None:
    n = len(classes.codes)
    if n <= classes.number:
        raise ValueError(
            f"labels have {classes.number} classes in {n} rows, and {score} needs two rows of one: "
            "give more rows."
        )


def _moments(rows, one_hot):
    """Means [C R], covariance within classes [R R] divided by n, log shares [C], n."""
    counts = jnp.sum(one_hot, axis=0)
    n = jnp.sum(counts)
    means = divide(matmul(one_hot.T, rows), counts[:, None])
    deviation = rows - matmul(one_hot, means)
    within = matmul(deviation.T, deviation) / n
    return means, within, jnp.log(counts / n), n  # -inf for padded classes


def _probabilities(rows, means, shares, factor):
    """p(c | x) [n C] by discriminant analysis, from the Cholesky factor of the covariance."""
    solved = jax.scipy.linalg.cho_solve((factor, True), means.T)  # [R C]
    offset = shares - jnp.sum(means * solved.T, axis=1) / 2
    return jax.nn.softmax(matmul(rows, solved) + offset[None, :], axis=1)


def _largest_eigenvalue(matrix, enough):
    """The largest eigenvalue by power iteration, or any lower bound of it above `enough`."""

    def going(state):
        _, value, last, step = state
        return (value < enough) & (jnp.abs(value - last) > 1e-13 * value) & (step < MOST_STEPS)

    def multiply(state):
        vector, value, _, step = state
        product = matmul(matrix, vector)
        length = jnp.linalg.norm(product)
        return divide(product, length), length, value, step + 1

    start = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0))
    start = divide(start, jnp.linalg.norm(start))
    state = start, jnp.max(jnp.diagonal(matrix)), -jnp.ones((), matrix.dtype), 0
    return jax.lax.while_loop(going, multiply, state)[1]


@program
def _sfda(rows, one_hot, d):
    identity = jnp.eye(rows.shape[1], dtype=rows.dtype)
    exists = jnp.sum(one_hot, axis=0) > 0
    number = jnp.sum(exists).astype(rows.dtype)

    def fit(rows, shrinkage=None):
        means, within, shares, _ = _moments(rows, one_hot)
        if shrinkage is None:
            enough = -jnp.log(LEAST_SHRINKAGE) / 5
            largest = _largest_eigenvalue(within, enough)
            shrinkage = jnp.maximum(jnp.exp(-5 * largest), LEAST_SHRINKAGE)
        mu = jnp.trace(within) / d
        factor = jnp.linalg.cholesky((1 - shrinkage) * within + shrinkage * mu * identity)
        return _probabilities(rows, means, shares, factor), means, shrinkage

    probabilities, means, shrinkage = fit(rows)
    soft = jax.nn.softmax(jnp.where(exists[None, :], probabilities, -jnp.inf), axis=1)
    own = jnp.sum(soft * one_hot, axis=1, keepdims=True)
    others = (jnp.sum(means, axis=0)[None, :] - means) / (number - 1)
    mixed = own * rows + (1 - own) * matmul(one_hot, others)
    probabilities, _, _ = fit(mixed, shrinkage)
    return jnp.sum(probabilities * one_hot) / jnp.sum(one_hot)


@program
def _ncti(rows, one_hot, kept, number, index, valid):
    p = rows.shape[1]
    real = jnp.arange(p) < kept
    rows = jnp.where(real[None, :], rows, 0)
    means, within, shares, n = _moments(rows, one_hot)
    variances = jnp.sum(rows**2, axis=0) / (n - 1)
    shrinkage = jnp.exp(-jnp.sum(variances[:HALF]))
    shrinkage = jnp.where(shrinkage <= LEAST_SHRINKAGE, 0, shrinkage)
    mu = jnp.trace(within) / kept
    shrunk = (1 - shrinkage) * within
    # Coordinates that are none stay apart, and have neither means nor rows.
    shrunk = shrunk + jnp.diag(jnp.where(real, shrinkage * mu, 1))
    factor = jnp.linalg.cholesky(shrunk)
    probabilities = _probabilities(rows, means, shares, factor)
    confidence = jnp.sum(probabilities * one_hot) / n

    whitened = jax.scipy.linalg.solve_triangular(factor, means.T, lower=True)  # [p C]
    between = matmul(whitened * jnp.exp(shares)[None, :], whitened.T)
    # Between is the shrunk total less the shrunk within, so it has a multiple of I of its own.
    inverse = jax.scipy.linalg.solve_triangular(
        factor, jnp.diag(real.astype(rows.dtype)), lower=True
    )
    more = (jnp.sum(rows**2) / n - jnp.trace(within)) / kept
    between = (1 - shrinkage) * between + shrinkage * more * matmul(inverse, inverse.T)
    _, axes = jnp.linalg.eigh(between)
    axes = jax.scipy.linalg.solve_triangular(factor.T, axes[:, ::-1], lower=False)
    leading = jnp.arange(p) < jnp.minimum(number - 1, kept)
    projected = jnp.where(leading[None, :], matmul(rows, axes), 0)
    spread = _nuclear_norm(projected)

    def add(code, total):
        members = jnp.where(valid[code][:, None], probabilities[index[code]], 0)
        return total + _nuclear_norm(members)

    norms = jax.lax.fori_loop(0, number, add, jnp.zeros((), rows.dtype))
    return spread, confidence, jnp.log(norms)


def _nuclear_norm(matrix):
    """Sum of singular values, by those of the triangular factor if there is one."""
    if matrix.shape[0] > matrix.shape[1]:
        matrix = jnp.linalg.qr(matrix, mode="r")
    return jnp.sum(jnp.linalg.svd(matrix, compute_uv=False))
