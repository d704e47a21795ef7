r"""How much a row is like the rows a detector was fitted to: six scores, higher is more alike.

t in R^k are a row's scores on the substrate, l its logits, p = softmax l, z its standardized
features and B the basis. Of the rows fitted to, m_c is the mean of class c, S their covariance
about the means of their classes, m and S_0 the mean and covariance of all.

    softmax      max_c p_c                              Hendrycks, Gimpel 2017
    energy       log sum_c exp l_c                      Liu et al. 2020, at temperature 1
    mahalanobis  -min_c M_c,                            Lee et al. 2018
                 M_c = (t - m_c)' S^+ (t - m_c)
    relative     -min_c (M_c - (t - m)' S_0^+ (t - m))  Ren et al. 2021
    neighbors    -|t - t_(10)|, the tenth nearest of    after Sun et al. 2022, which normalizes t
                 the rows fitted to; the farthest of fewer
    residual     -|z - B B'z|                           the part of ViM (Wang et al. 2022) that the
                 classifier does not see

S^+ is the inverse of S with variances below 1e-10 of the largest set to the least one above: along
a direction in which no row fitted to varies, others are far, not near. Arithmetic is in float64,
but for t and the residual, which have the type of the features.

Cost: 2 n r k flops for the neighbors among r rows; 2 n D k for the residual.

References: D. Hendrycks, K. Gimpel, arXiv:1610.02136; W. Liu et al., arXiv:2010.03759; K. Lee et
al., arXiv:1807.03888; J. Ren et al., arXiv:2106.09022; Y. Sun et al., arXiv:2204.06507; H. Wang et
al., arXiv:2203.10807.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float64, Int

from substrate_jax.analyses.probe.heads.logistic import log_probabilities
from substrate_jax.kernels.arithmetic import matmul
from substrate_jax.substrate import Substrate
from substrate_jax.substrate.domains import Panel

NEIGHBOR = 10
TITLES = {
    "softmax": "largest probability",
    "energy": "energy",
    "mahalanobis": "Mahalanobis",
    "relative": "relative Mahalanobis",
    "neighbors": "tenth neighbor",
    "residual": "residual",
}
SCORES = tuple(TITLES)
P_VALUE = "p_value"
REPORTED = {**TITLES, P_VALUE: "p-value"}  # what unknown rows are told by
_LEAST = 1e-10
_BLOCK = 4_000_000  # entries of the largest array of distances


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What the scores keep of the rows fitted to.

    Attributes:
        rows: [r, k] all of them.
        means: [C, k] of each class.
        precision: [k, k] S^+ of the covariance within classes.
        mean: [k] of all.
        all_precision: [k, k] S_0^+ of the covariance of all.
    """

    rows: Float64[np.ndarray, "r k"]
    means: Float64[np.ndarray, "C k"]
    precision: Float64[np.ndarray, "k k"]
    mean: Float64[np.ndarray, " k"]
    all_precision: Float64[np.ndarray, "k k"]

    @classmethod
    def of(cls, t: Float[np.ndarray, "r k"], codes: Int[np.ndarray, " r"]) -> "Reference":
        """Of rows and their classes 0..C-1, one row or more of each.

        Example:
            >>> t = np.array([[0.0], [2.0], [10.0], [12.0]])
            >>> found = Reference.of(t, np.array([0, 0, 1, 1]))
            >>> found.means.ravel().tolist(), found.precision.tolist()
            ([1.0, 11.0], [[1.0]])
        """
        rows = np.asarray(t, np.float64)
        means = np.stack([rows[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
        mean = rows.mean(axis=0)
        inner, outer = _covariance(rows - means[codes]), _covariance(rows - mean)
        return cls(rows, means, _inverse(inner), mean, _inverse(outer))

    def distances(self, t: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n C"]:
        """M_c of every row and class."""
        apart = t[:, None] - self.means[None]
        return np.einsum("nck,kl,ncl->nc", apart, self.precision, apart, optimize=True)

    def to_all(self, t: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        """Mahalanobis distance from the mean of all."""
        apart = t - self.mean
        return np.einsum("nk,kl,nl->n", apart, self.all_precision, apart, optimize=True)

    def nearest(self, t: Float64[np.ndarray, "n k"], k: int = NEIGHBOR) -> np.ndarray:
        """[n] distance to the k-th nearest row, or to the farthest of fewer.

        Example:
            >>> found = Reference.of(np.array([[0.0], [2.0], [10.0]]), np.array([0, 0, 1]))
            >>> found.nearest(np.array([[1.0]]), k=3).tolist()
            [9.0]
        """
        k = min(k, len(self.rows))
        step = max(_BLOCK // len(self.rows), 1)
        origin = self.mean  # distances lose fewer digits about it
        rows = self.rows - origin
        square = (rows**2).sum(axis=1)
        found = np.empty(len(t))
        for start in range(0, len(t), step):
            some = t[start : start + step] - origin
            apart = (some**2).sum(axis=1)[:, None] + square - 2 * some @ rows.T
            kth = np.partition(apart, k - 1, axis=1)[:, k - 1]
            found[start : start + step] = np.sqrt(np.maximum(kth, 0))
        return found


def likeness(
    reference: Reference,
    t: Float[np.ndarray, "n k"],
    logits: Float[np.ndarray, "n C"],
    outside: Float[np.ndarray, " n"],
) -> dict[str, Float64[np.ndarray, " n"]]:
    """All scores of n rows.

    Args:
        reference: of the rows fitted to.
        t: scores on the substrate.
        logits: of the classifier.
        outside: |z - B B'z|, of `residuals`.

    Example:
        >>> reference = Reference.of(np.array([[0.0], [2.0], [10.0], [12.0]]), np.arange(4) // 2)
        >>> found = likeness(reference, np.array([[3.0]]), np.zeros((1, 2)), np.ones(1))
        >>> {name: round(float(score[0]), 3) for name, score in found.items() if name != "relative"}
        {'softmax': 0.5, 'energy': 0.693, 'mahalanobis': -4.0, 'neighbors': -9.0, 'residual': -1.0}
    """
    x = np.asarray(t, np.float64)
    distances = reference.distances(x)
    largest = logits.max(axis=1)
    return {
        "softmax": np.exp(log_probabilities(logits).max(axis=1)),
        "energy": largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)),
        "mahalanobis": -distances.min(axis=1),
        "relative": reference.to_all(x) - distances.min(axis=1),
        "neighbors": -reference.nearest(x),
        "residual": -np.asarray(outside, np.float64),
    }


def on_substrate(
    substrate: Substrate, features: Panel
) -> tuple[Float64[np.ndarray, "n k"], Float64[np.ndarray, " n"]]:
    """Scores t of rows on a substrate, and how far rows lie outside of it, |z - B B'z|.

    Example:
        >>> plain = Substrate(("e",), (2,), jnp.zeros(2), jnp.zeros(2), jnp.ones(2),
        ...                   jnp.eye(2)[:, :1], jnp.ones(1))
        >>> on_substrate(plain, {"e": np.array([[3.0, 4.0]], np.float32)})
        (array([[3.]]), array([4.]))
    """
    z = substrate.standardize(features)
    t = matmul(z, substrate.basis)
    outside = jnp.linalg.norm(z - matmul(t, substrate.basis.T), axis=1)
    return np.asarray(t, np.float64), np.asarray(outside, np.float64)


def _covariance(centered: Float64[np.ndarray, "r k"]) -> Float64[np.ndarray, "k k"]:
    return centered.T @ centered / len(centered)


def _inverse(covariance: Float64[np.ndarray, "k k"]) -> Float64[np.ndarray, "k k"]:
    """The inverse that the module defines; the identity where nothing varies."""
    values, vectors = np.linalg.eigh(covariance)
    real = values > _LEAST * values[-1]
    if not real.any():
        return np.eye(len(covariance))
    filled = np.where(real, values, values[real].min())
    return (vectors / filled) @ vectors.T
