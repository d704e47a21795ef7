"""Principal coordinates: what all scores that ignore a rotation of the features share.

With the mean m and the centered rows Xc = X - 1 m' = U diag(s)^1/2 V', the rows of Z = Xc V hold
the same inner products as those of Xc in r = min(n, d) columns, uncorrelated, by descending s. A
score of Z costs the same for every encoder of a panel, and one eigendecomposition serves all.

Cost: 2 n d min(n, d) flops for the smaller Gram matrix, its eigendecomposition, about 9 min(n, d)^3
flops in LAPACK, and, when `rows` is first read and d <= n, 2 n d^2 more. Memory: min(n, d)^2 and
n r float64. d and r are filled up with zeros to `inputs.shared_size`. Squares s below 1e-15 of the
largest are rounding, and count as zero.
"""

from __future__ import annotations

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float64
from numpy.typing import ArrayLike

from substrate_jax.kernels.arithmetic import divide, matmul, root
from substrate_jax.kernels.subspaces.tall_matrices import peak_sign

from .inputs import checked_features, filled_up, program, shared_rows, shared_size

LEAST = 256  # columns of rows


@dataclasses.dataclass(frozen=True, eq=False)
class Coordinates:
    """Principal coordinates of features; `principal_coordinates` makes them.

    Attributes:
      features: [n, d] as given.
      centered: [n, columns] Xc, float64, and zeros beyond d columns.
      squares: [r] s, sums of squares of the columns of Z, descending; 0 beyond the rank.
      vectors: V of [columns, r] if there are at most n columns, else U of [n, r].
      mean: [r] V'm.
      mean_rest: ||m||^2 less ||V'm||^2: of the mean outside the rows' span.
      rank: how many squares are not rounding.
    """

    features: np.ndarray | Array
    centered: Float64[Array, "n columns"]
    squares: Float64[Array, " r"]
    vectors: Float64[Array, "_ r"]
    mean: Float64[Array, " r"]
    mean_rest: Float64[Array, ""]
    rank: int

    @property
    def n(self) -> int:
        """Rows."""
        return self.features.shape[0]

    @property
    def d(self) -> int:
        """Features."""
        return self.features.shape[1]

    @property
    def constant(self) -> bool:
        """Whether no feature varies."""
        return self.rank == 0

    @functools.cached_property
    def signed(self) -> tuple[Float64[Array, "rows _"], Float64[Array, " _"]]:
        """Z and V'm in shared sizes, each column of Z with its peak positive."""
        shape = shared_rows(self.n), self.width
        return _signed(self.centered, self.vectors, self.squares, self.mean, shape=shape)

    @property
    def rows(self) -> Float64[Array, "rows _"]:
        """Z in shared sizes."""
        return self.signed[0]

    @property
    def width(self) -> int:
        """Columns of `rows`."""
        return shared_size(self.squares.shape[0], LEAST)

    @functools.cached_property
    def all_squares(self) -> Float64[np.ndarray, " _"]:
        """The squares in the size of the columns of `rows`."""
        return np.pad(np.asarray(self.squares), (0, self.width - self.squares.shape[0]))

    def leading(self, k: int) -> Float64[np.ndarray, "rows k"]:
        """The first k columns of `rows`."""
        rows = np.asarray(self.rows)[:, :k]
        return np.pad(rows, ((0, 0), (0, k - rows.shape[1])))


def principal_coordinates(features: ArrayLike | Coordinates) -> Coordinates:
    """Principal coordinates of features, or those given.

    Args:
      features: [n, d] floating-point, n >= 2; computed with in float64.

    Raises:
      ValueError: features that are no finite floating-point matrix of two rows or more.

    Example:
      >>> found = principal_coordinates(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
      >>> found.rank, round(float(found.squares[0]), 6)
      (1, 50.0)
    """
    if isinstance(features, Coordinates):
        return features
    array = checked_features(features)
    wide = filled_up(np.asarray(array, np.float64))
    centered, squares, vectors, mean, rest, rank = _decompose(wide)
    return Coordinates(array, centered, squares, vectors, mean, rest, int(rank))


@program
def _decompose(x):
    n, d = x.shape
    origin = x[0]  # exact, so that a constant feature leaves exact zeros
    deviation = x - origin[None, :]
    offset = jnp.mean(deviation, axis=0)
    centered, mean = deviation - offset[None, :], origin + offset
    gram = matmul(centered.T, centered) if d <= n else matmul(centered, centered.T)
    squares, vectors = jnp.linalg.eigh(gram)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    real = squares > _floor(squares[0], jnp.max(jnp.abs(x)), n, d)
    squares = jnp.where(real, squares, 0)
    if d <= n:
        inside = matmul(mean, vectors)
        rest = jnp.zeros(())
    else:
        inside = divide(matmul(matmul(centered, mean), vectors), root(squares))
        rest = jnp.maximum(jnp.sum(mean**2) - jnp.sum(inside**2), 0)
    return centered, squares, vectors, inside, rest, jnp.sum(real)


def _floor(largest, magnitude, n: int, d: int):
    """Squares up to here are what rounding leaves of nothing."""
    eps = jnp.finfo(jnp.float64).eps
    return eps * max(n, d) * jnp.maximum(largest, eps * 64 * n * d * magnitude**2)


def _signed(centered, vectors, squares, mean, *, shape):
    real = squares > 0
    if centered.shape[1] <= centered.shape[0]:
        z = jnp.where(real[None, :], matmul(centered, vectors), 0)
    else:
        z = vectors * root(squares)[None, :]
    sign = peak_sign(z)
    padding = [(0, whole - size) for whole, size in zip(shape, z.shape, strict=True)]
    return jnp.pad(z * sign[None, :], padding), jnp.pad(mean * sign, padding[1])


_signed = program(_signed, "shape")
