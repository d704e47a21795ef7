"""Principal components of rows that arrive in batches, in one pass and d x l memory.

Problem
    Rows of unknown mean m, in any number, d features. The scatter A = sum_a (x_a - m)(x_a - m)' is
    d x d and never formed. Kept are the mean, a fixed orthonormal test matrix Omega (d x l), its
    image Y = A Omega and tr A. All are linear in the rows but for the mean, and moving that is the
    rank-one update of Chan, Golub and LeVeque,

        Y = Y_1 + Y_2 + (n_1 n_2 / n) (m_2 - m_1) ((m_2 - m_1)'Omega),

    so states with one Omega merge exactly, in any order and across devices.

Method
    The components are the leading eigenvectors of the Nyström approximation

        A_l = Y (Omega'Y)^+ Y' = A^(1/2) P A^(1/2),     P a projection of rank <= l,

    (Tropp et al. 2017). `refine` gives an empty state whose Omega is what was found, for reading
    the rows once more: block power iteration with Nyström's extra half step.

Error
    0 <= A_l <= A in the order of positive semidefinite matrices. Hence for every Omega: variances
    are never overestimated, and ||A - A_l||_2 <= tr(A - A_l) = tr A - tr A_l, which is known. As
    (A - A_l) Omega = 0, a component u has

        ||A u - lambda u|| <= tr(A - A_l) ||u - Omega Omega'u||,

    the `residual` of the result, over lambda_1: proven, pessimistic after one pass, tighter with
    each `refine`. For a random Omega, E tr(A - A_l) <= (1 + j / (l - j - 1)) sum_{i>j} lambda_i for
    every j < l - 1. With l >= d the result is exact.

Cost
    4 n d l flops for all rows and 2 d l numbers of state, whatever n is; each update sums
    d l numbers over `axis_name` and b l over `feature_axis_name` for a batch of b rows. `finalize`:
    about 10 d l^2.

Not guaranteed
    One pass cannot resolve components whose variance is near the tail's: choose l larger, or
    refine. All is relative to eps tr A: variances below that are noise.

References
    J. Tropp, A. Yurtsever, M. Udell, V. Cevher, "Fixed-rank approximation of a positive-
    semidefinite matrix from streaming data", NeurIPS 2017.
    T. Chan, G. Golub, R. LeVeque, "Algorithms for computing the sample variance", 1983.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..arithmetic import AnyArray, divide, matmul, pmax, power_of_two, psum
from ..jit_over import jit_over
from ..moments import center_rows, merge_centers
from ..validate import all_rows, check_at_least, check_mask, check_matrix
from .pca import Pca
from .tall_matrices import contract_rows, orthonormalize, peak_sign, random_block


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamingPca:
    """What the leading components of the rows seen can be found from: a mergeable pytree.

    With `feature_axis_name`, origin, offset, test_matrix and image are sharded over features and
    the rest is replicated.

    Attributes:
      count: rows seen.
      origin: [d] fixed center, from the first batch.
      offset: [d] mean of the rows minus the origin.
      test_matrix: [d, l] orthonormal columns.
      image: [d, l] scatter times the test matrix, over the square of the unit.
      energy: trace of the scatter, over the square of the unit.
      unit: a power of two that grows with the largest distance from a mean: squares of features
        over it neither overflow nor underflow.
      passes: over the rows, this one included.
      k: components that `finalize` returns.

    Example:
      >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
      >>> state = StreamingPca.init(2, 1).update(x[:1]).update(x[1:])
      >>> result = state.finalize()
      >>> [round(float(v), 4) for v in result.components[:, 0]]
      [0.6, 0.8]
      >>> round(float(result.explained_variance[0]), 4)
      25.0
    """

    count: Int[Array, ""]
    origin: Float[Array, " d"]
    offset: Float[Array, " d"]
    test_matrix: Float[Array, "d l"]
    image: Float[Array, "d l"]
    energy: Float[Array, ""]
    unit: Float[Array, ""]
    passes: Int[Array, ""]
    k: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def init(
        cls,
        width: int,
        k: int,
        *,
        oversampling: int | None = None,
        key: Key[Array, ""] | None = None,
        dtype=jnp.float32,
        feature_axis_name=None,
    ) -> StreamingPca:
        """The summary of no rows.

        Args:
          width: features, those of this device with `feature_axis_name`.
          k: components wanted, 1 <= k <= d.
          oversampling: extra columns of the test matrix, >= 0; None is 2 k + 16. More cost more and
            err less.
          key: of the test matrix; None is a fixed one. States merge only if made with one key.
          dtype: of the sums, float32 or float64.
          feature_axis_name: mesh axis the features are sharded over, if any.

        Returns:
          An empty state.

        Raises:
          ValueError: if `k` or `oversampling` is out of range.

        Example:
          >>> StreamingPca.init(100, 2).image.shape  # k + 2 k + 16 columns
          (100, 22)
        """
        d = all_rows(width, feature_axis_name)
        if not 1 <= k <= d:
            raise ValueError(f"k must be in 1..{d} for {d} features, got {k}: ask for fewer.")
        oversampling = 2 * k + 16 if oversampling is None else oversampling
        check_at_least("oversampling", oversampling, 0)
        key = jax.random.key(0) if key is None else key
        block = random_block(key, width, min(k + oversampling, d), dtype, feature_axis_name)
        return cls._empty(orthonormalize(block, feature_axis_name)[0], jnp.int32(1), k)

    @classmethod
    def _empty(cls, test_matrix, passes, k):
        image = jnp.zeros_like(test_matrix)
        zero = jnp.zeros((), test_matrix.dtype)
        origin, offset = image[:, 0], image[:, 0]  # separate, so that a state can be donated
        unit = jnp.zeros_like(zero)
        return cls(jnp.int32(0), origin, offset, test_matrix, image, zero, unit, passes, k)

    @jit_over("self", "batch", "mask")
    def update(
        self,
        batch: Float[AnyArray, "n d"],
        mask: Bool[AnyArray, " n"] | None = None,
        axis_name=None,
        feature_axis_name=None,
    ) -> StreamingPca:
        """Adds the rows of a batch.

        Args:
          batch: [n, d] rows; halves are upcast to float32.
          mask: [n] rows that count; the others may hold anything.
          axis_name: mesh axis the rows of the batch are sharded over, if any.
          feature_axis_name: mesh axis the features are sharded over, if any.

        Returns:
          The summary of all rows so far.

        Raises:
          ValueError: if `batch` is not a floating-point matrix of width d, or `mask` does not fit.

        Example:
          >>> state = StreamingPca.init(2, 1).update(jnp.array([[0.0, 1.0], [2.0, 1.0]]))
          >>> int(state.count), float(state.energy)
          (2, 2.0)
        """
        check_matrix("batch", batch)
        check_mask(mask, batch.shape[0])
        if batch.shape[1] != self.offset.shape[0]:
            raise ValueError(
                f"batch must have {self.offset.shape[0]} features, got {batch.shape[1]}: "
                "give the width that init was given."
            )
        dtype = self.image.dtype
        centered, count, origin, offset = center_rows(batch.astype(dtype), mask, axis_name)
        reach = pmax(jnp.max(jnp.abs(centered), initial=0), axis_name)
        unit = power_of_two(pmax(reach, feature_axis_name))
        centered = divide(centered, unit)
        scores = psum(matmul(centered, self.test_matrix), feature_axis_name)
        image, energy = psum((contract_rows(centered, scores), jnp.sum(centered**2)), axis_name)
        other = dataclasses.replace(
            self,
            count=count,
            origin=origin,
            offset=offset,
            image=image,
            energy=psum(energy, feature_axis_name),
            unit=unit,
        )
        return self._join(other, feature_axis_name)

    @jit_over("self", "other")
    def merge(self, other: StreamingPca, feature_axis_name=None) -> StreamingPca:
        """The summary of the rows of both; associative and commutative up to rounding.

        States with different test matrices do not merge: the result is NaN.

        Raises:
          ValueError: if the states differ in width, k or oversampling.

        Example:
          >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
          >>> first, rest = (StreamingPca.init(2, 1).update(part) for part in (x[:1], x[1:]))
          >>> round(float(first.merge(rest).finalize().explained_variance[0]), 4)
          25.0
        """
        shapes = [(state.k, *state.test_matrix.shape) for state in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"states of (k, features, columns) = {shapes[0]} and {shapes[1]} do not merge: "
                "give both those of one init."
            )
        joined = self._join(other, feature_axis_name)
        same = jnp.all(self.test_matrix == other.test_matrix)
        return dataclasses.replace(joined, image=jnp.where(same, joined.image, jnp.nan))

    def _join(self, other, feature_axis_name):
        count, origin, offset, delta, share = merge_centers(self, other)
        delta = jnp.where((self.count > 0) & (other.count > 0), delta, 0)
        reach = power_of_two(pmax(jnp.max(jnp.abs(delta)), feature_axis_name))
        unit = jnp.maximum(reach, jnp.maximum(self.unit, other.unit))
        delta = divide(delta, unit)
        first, second = divide(self.unit, unit) ** 2, divide(other.unit, unit) ** 2
        gap = self.count.astype(delta.dtype) * share
        along, square = psum(
            (matmul(delta[None, :], self.test_matrix), jnp.sum(delta**2)), feature_axis_name
        )
        image = self.image * first + other.image * second + (gap * delta)[:, None] * along
        return dataclasses.replace(
            self,
            count=count,
            origin=origin,
            offset=offset,
            image=image,
            energy=self.energy * first + other.energy * second + gap * square,
            unit=unit,
        )

    @jit_over("self")
    def finalize(self, feature_axis_name=None) -> Pca:
        """Components of the Nyström approximation, with `residual` the bound given above.

        Directions beyond the rank of the rows come out orthonormal, with variance 0, and so may
        those of less than 8 l eps of the first variance. NaN and overflow are as of `pca`.

        Example:
          >>> state = StreamingPca.init(2, 1).update(jnp.array([[0.0, 1.0], [2.0, 1.0]]))
          >>> [round(float(v), 4) for v in state.finalize().explained_variance]
          [2.0]
        """
        vectors, variance = self._eigenvectors(feature_axis_name)
        vectors, degrees = vectors[:, : self.k], jnp.maximum(self.count - 1, 1)
        along = psum(matmul(self.test_matrix.T, vectors), feature_axis_name)
        beyond = vectors - matmul(self.test_matrix, along)
        beyond = jnp.sqrt(jnp.max(psum(jnp.sum(beyond**2, axis=0), feature_axis_name)))
        rounding = jnp.finfo(variance.dtype).eps * self.energy
        residual = jnp.maximum(self.energy - jnp.sum(variance), rounding) * beyond
        residual, share = divide(residual, variance[0]), divide(variance, self.energy)
        vectors = vectors * peak_sign(vectors, feature_axis_name)[None, :]
        variance = variance[: self.k] / degrees.astype(variance.dtype) * self.unit * self.unit
        mean = self.origin + self.offset
        return Pca(vectors, mean, variance, share[: self.k], residual, self.passes)

    @jit_over("self")
    def refine(self, feature_axis_name=None) -> StreamingPca:
        """An empty state for reading the same rows again, tested along what this one found.

        Each such pass shrinks the error of a component by about lambda_{l+1} / lambda_k.

        Example:
          >>> x = jnp.array([[0.0, 1.0], [2.0, 1.0]])
          >>> again = StreamingPca.init(2, 1).update(x).refine()
          >>> int(again.count), int(again.passes), int(again.update(x).count)
          (0, 2, 2)
        """
        vectors, _ = self._eigenvectors(feature_axis_name)
        return self._empty(vectors, self.passes + 1, self.k)

    def _eigenvectors(self, axis_name):
        """[d, l] orthonormal eigenvectors of Y (Omega'Y)^+ Y' and its eigenvalues, descending."""
        inner = psum(matmul(self.test_matrix.T, self.image), axis_name)
        size, turn = jnp.linalg.eigh((inner + inner.T) / 2)
        # Dropping a direction of Omega leaves a Nyström approximation of lower rank, bound and all.
        floor = 8 * size.size * jnp.finfo(size.dtype).eps * jnp.max(size)
        scale = jnp.where(size > floor, jax.lax.rsqrt(jnp.where(size > floor, size, 1)), 0)
        scale = jnp.where(jnp.isnan(size), jnp.nan, scale)
        q, r = orthonormalize(matmul(self.image, turn * scale[None, :]), axis_name)
        left, root, _ = jnp.linalg.svd(r)
        return matmul(q, left), root**2
