"""CKA of rows that arrive in batches: exact whatever the batch size, mergeable, on many devices.

Averaging the CKA or HSIC of batches estimates something else. Here only sums are carried. With z
the stacked row of all encoders (D = sum d_e) minus its mean, z_e its block and k_e = ||z_e||^2,

    products = sum z z' (upper block triangle),  weighted_e = sum k_e z,  diagonal_ef = sum k_e k_f.

Moving the mean by s changes k_e to k_e - 2 s_e' z_e + ||s_e||^2, so each sum changes by lower ones
only, and states join exactly, as in the update of Chan et al. that `moments` describes. A batch is
centered at the mean of all rows so far, so that only the state moves. Debiased CKA needs
`diagonal`; CKA alone, `products`.

Cost: b (D^2 + sum d_e^2) flops for a batch of b rows, and for each update some passes over the
D^2 / 2 numbers of the state, which take as long as 170 rows (D = 15,464, Zen 5): large batches are
cheaper. Memory and, across devices, the sum of each update: D^2 / 2. At D = 15,464 that is 0.5 GB;
when n < D the one-shot form in Gram space needs less. `shardings` spreads the state over devices
that share D. The third moment of the null is not streamed, as sum K_ab^3 needs all pairs of rows:
calibration then takes the skewness of a gamma.

Sums are of features over a unit, a power of two for each encoder that grows with the largest
distance from a mean: none is too large, too small or rounded by it. An encoder with NaN or inf has
the trace NaN; its other sums are of zeros.

Not guaranteed: `diagonal`, of fourth order, loses digits first.

References:
    Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance.
    Song et al. (2012), Feature selection via dependence maximization. JMLR 13.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import HIGHEST, AnyArray, divide, mirror, psum
from ..jit_over import jit_over
from ..moments import center_rows, merge_centers
from ..validate import check_at_least, check_blocks
from .hsic import PairwiseHsic
from .normalization import kernel_scale, nan_pairs
from .stacked_features import (
    Center,
    add_by_columns,
    in_units,
    indicator,
    of_features,
    times,
    units_and_nan,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StreamingCka:
    """Everything that CKA of E encoders needs to know of the rows seen: a mergeable pytree.

    Attributes:
      count: rows seen.
      origin: [D] fixed center, from the first batch.
      offset: [D] mean of the rows minus the origin.
      products: E arrays [d_i, d_i + ... + d_E], sums of z_i [z_i .. z_E]'.
      weighted: [E, D] sums of k_i z.
      diagonal: [E, E] sums of k_i k_j.
      trace: [E] sums of k_i; NaN for an encoder with NaN or inf.
      unit: [E] what features are divided by in all sums, a power of two; 0 if they have no spread.

    Example:
      >>> from substrate_jax.kernels import cka
      >>> x = jnp.array([[0.0], [1.0], [5.0], [2.0]])
      >>> state = StreamingCka.init([1, 1])
      >>> state = state.update([x[:2], x[:2] ** 2]).update([x[2:], x[2:] ** 2])
      >>> float(state.finalize()[0, 1].round(4)) == float(cka(x, x**2).round(4))
      True
    """

    count: Int[Array, ""]
    origin: Float[Array, " D"]
    offset: Float[Array, " D"]
    products: tuple[Float[Array, "_ _"], ...]
    weighted: Float[Array, "E D"]
    diagonal: Float[Array, "E E"]
    trace: Float[Array, " E"]
    unit: Float[Array, " E"]

    @classmethod
    def init(cls, widths: Sequence[int], dtype=jnp.float32) -> StreamingCka:
        """The summary of no rows, of encoders with these numbers of features.

        Example:
          >>> [product.shape for product in StreamingCka.init([2, 3]).products]
          [(2, 5), (3, 3)]
        """
        encoders, total = len(widths), sum(widths)
        check_at_least("the least of widths", min(widths, default=0), 1)
        products, remaining = [], total
        for width in widths:
            products.append(jnp.zeros((width, remaining), dtype))
            remaining -= width
        return cls(
            jnp.zeros((), jnp.int32),
            jnp.zeros(total, dtype),  # two arrays, so that a state can be donated
            jnp.zeros(total, dtype),
            tuple(products),
            jnp.zeros((encoders, total), dtype),
            jnp.zeros((encoders, encoders), dtype),
            *(jnp.zeros(encoders, dtype) for _ in ("trace", "unit")),
        )

    def shardings(self, mesh: Mesh, axis_name: str) -> StreamingCka:
        """Where each array of the state lives when D is shared by the devices of a mesh axis.

        The products, all that is large, are split by their rows; those of an encoder whose width
        the number of devices does not divide stay whole. For `jax.device_put` and `jax.jit`:

            shardings = state.shardings(mesh, "model")
            state = jax.device_put(state, shardings)
            update = jax.jit(StreamingCka.update, out_shardings=shardings, donate_argnums=0)

        with batches sharded over another axis, if at all; no `axis_name` is given to `update`.

        Example:
          >>> from jax.sharding import AxisType
          >>> one = jax.devices()[:1]
          >>> mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,), devices=one)
          >>> places = StreamingCka.init([2, 3]).shardings(mesh, "model")
          >>> places.products[0].spec == PartitionSpec("model")
          True
        """
        devices = mesh.shape[axis_name]
        whole = NamedSharding(mesh, PartitionSpec())
        split = NamedSharding(mesh, PartitionSpec(axis_name))
        places = jax.tree.map(lambda _: whole, self)
        products = tuple(split if width % devices == 0 else whole for width in self.widths)
        return dataclasses.replace(places, products=products)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each encoder."""
        return tuple(product.shape[0] for product in self.products)

    @jit_over("self", "blocks", "mask")
    def update(
        self,
        blocks: Sequence[Float[AnyArray, "n _"]],
        mask: Bool[AnyArray, " n"] | None = None,
        axis_name=None,
    ) -> StreamingCka:
        """Adds the rows of a batch.

        Args:
          blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
          mask: [n] rows that count; the others may hold anything.
          axis_name: mesh axis the batch is sharded over (the state is replicated).

        Returns:
          The summary of all rows so far.

        Raises:
          ValueError: if the blocks do not have the widths of `init`, or differ in rows.

        Example:
          >>> x = jnp.array([[0.0], [1.0], [5.0]])
          >>> state = StreamingCka.init([1, 1]).update([x, -x])
          >>> (state.trace * state.unit**2).tolist()  # squared deviations from 2
          [14.0, 14.0]
        """
        check_blocks(blocks, mask, least_rows=0)
        widths = tuple(block.shape[1] for block in blocks)
        if widths != self.widths:
            raise ValueError(
                f"blocks must have widths {self.widths}, got {widths}: give those of init."
            )
        dtype = self.trace.dtype
        stacked = jnp.concatenate([block.astype(dtype) for block in blocks], axis=1)
        rows, *batch = center_rows(stacked, mask, axis_name)
        count, origin, offset, delta, share = merge_centers(self, Center(*batch))
        # About the mean of all rows so far, the sums of a batch need no correction.
        rows = rows - (delta * (share - 1))[None, :]
        if mask is not None:
            rows = jnp.where(mask[:, None], rows, 0)
        shift = jnp.where(self.count > 0, delta * share, 0)  # what is empty has no mean to move
        reach = jnp.concatenate([rows, shift[None, :]])
        unit, nan = units_and_nan(reach, self.widths, axis_name)
        unit = jnp.maximum(unit, self.unit)
        rows, shift = (in_units(x, unit, nan, self.widths) for x in (rows, shift))
        ratio = divide(self.unit, unit)
        norms = jnp.matmul(rows**2, indicator(self.widths, dtype), precision=HIGHEST)
        weighted = jnp.matmul(norms.T, rows, precision=HIGHEST)
        diagonal = jnp.matmul(norms.T, norms, precision=HIGHEST)
        blocked = self._blocked(shift)
        turned = jnp.matmul(rows, blocked, precision=HIGHEST)
        scattered = jnp.matmul(rows.T, turned, precision=HIGHEST)
        sums, scattered = psum(((weighted, diagonal, jnp.sum(norms, axis=0)), scattered), axis_name)

        # Transposed once: a product that contracts the rows of both runs at half the rate on CPU.
        columns = jax.lax.optimization_barrier(rows.T)
        moved = self.count.astype(dtype) * shift
        starts = np.cumsum((0, *widths))

        def added(left, right, a, b, first, length):
            """What is added to a few columns of the products of one encoder, rows a to b."""
            some, towards = (
                jax.lax.dynamic_slice_in_dim(array, first, length, axis=array.ndim - 1)
                for array in (right, shift[a:])
            )
            here = psum(jnp.matmul(left, some, precision=HIGHEST), axis_name)
            return here + moved[a:b, None] * towards[None, :]

        ratios = of_features(ratio, widths)
        products = []
        for product, (a, b) in zip(self.products, itertools.pairwise(starts), strict=True):
            more = functools.partial(added, columns[a:b], rows[:, a:], a, b)
            products.append(add_by_columns(product, more, ratios[a] * ratios[a:]))
        products = tuple(products)
        # From the new products: XLA would copy the old ones to read them as well as add to them.
        scattered += moved[:, None] * jnp.sum(blocked**2, axis=0)[None, :]
        scattered = self._scattered(products, shift) - scattered
        smaller = self._smaller_times(ratio)._smaller_about(shift, scattered)
        weighted, diagonal, trace = jax.tree.map(jnp.add, smaller, sums)
        trace = jnp.where(nan, jnp.nan, trace)
        return StreamingCka(count, origin, offset, products, weighted, diagonal, trace, unit)

    @jit_over("self", "other")
    def merge(self, other: StreamingCka) -> StreamingCka:
        """The summary of the rows of both; associative and commutative up to rounding.

        Raises:
          ValueError: if the states differ in widths.

        Example:
          >>> x = jnp.array([[0.0], [1.0], [5.0], [2.0]])
          >>> first, rest = (StreamingCka.init([1]).update([part]) for part in (x[:2], x[2:]))
          >>> int(first.merge(rest).count)
          4
        """
        if self.widths != other.widths:
            raise ValueError(
                f"states of widths {self.widths} and {other.widths} do not merge: give both those "
                "of one init."
            )
        count, origin, offset, delta, share = merge_centers(self, other)
        delta = jnp.where((self.count > 0) & (other.count > 0), delta, 0)
        unit, nan = units_and_nan(delta[None, :], self.widths, None)
        unit = jnp.maximum(unit, jnp.maximum(self.unit, other.unit))
        delta = in_units(delta, unit, nan, self.widths)
        both = ((self, delta * share), (other, delta * (share - 1)))
        sums = (state._times(divide(state.unit, unit))._about(shift) for state, shift in both)
        products, weighted, diagonal, trace = jax.tree.map(jnp.add, *sums)
        trace = jnp.where(nan, jnp.nan, trace)
        return StreamingCka(count, origin, offset, products, weighted, diagonal, trace, unit)

    def _times(self, ratio):
        """The state with all sums in a unit that is 1 / ratio times as large."""
        larger = times(self.products, ratio, self.widths)
        return dataclasses.replace(self._smaller_times(ratio), products=larger)

    def _smaller_times(self, ratio):
        """`_times` but for the products."""
        square, ratios = ratio**2, of_features(ratio, self.widths)
        return dataclasses.replace(
            self,
            weighted=self.weighted * square[:, None] * ratios[None, :],
            diagonal=self.diagonal * square[:, None] * square[None, :],
            trace=self.trace * square,
        )

    def _about(self, shift):
        """The sums (products, weighted, diagonal, trace) about the mean plus `shift`."""
        n = self.count.astype(shift.dtype)
        products, start = [], 0
        for product in self.products:
            stop = start + product.shape[0]
            products.append(product + n * shift[start:stop, None] * shift[None, start:])
            start = stop
        scattered = self._scattered(self.products, shift)
        return tuple(products), *self._smaller_about(shift, scattered)

    def _blocked(self, shift) -> Float[Array, "D E"]:
        """Column e holds the shift of encoder e."""
        return indicator(self.widths, shift.dtype) * shift[:, None]

    def _scattered(self, products, shift) -> Float[Array, "D E"]:
        """sum z z' blocked, from the upper block triangle of sum z z'."""
        blocked = self._blocked(shift)
        found, start = jnp.zeros_like(blocked), 0
        for i, product in enumerate(products):
            stop = start + product.shape[0]
            below = jnp.matmul(shift[None, start:stop], product, precision=HIGHEST)[0]
            others = blocked[start:].at[: stop - start].set(0)
            right = jnp.matmul(product, others, precision=HIGHEST)
            found = found.at[start:, i].add(below).at[start:stop].add(right)
            start = stop
        return found

    def _smaller_about(self, shift, scattered):
        """`_about` but for the products; `scattered` is of this state's."""
        n = self.count.astype(shift.dtype)
        squares = jnp.sum((blocked := self._blocked(shift)) ** 2, axis=0)
        trace = self.trace + n * squares
        weighted = self.weighted - 2 * scattered.T - trace[:, None] * shift[None, :]
        cross = jnp.matmul(self.weighted, blocked, precision=HIGHEST)
        mixed = self.trace[:, None] * squares[None, :]
        quartic = 4 * jnp.matmul(scattered.T, blocked, precision=HIGHEST)
        quartic += n * squares[:, None] * squares[None, :]
        diagonal = self.diagonal - 2 * (cross + cross.T) + mixed + mixed.T + quartic
        return weighted, diagonal, trace

    @jit_over("self")
    def hsic(self) -> PairwiseHsic:
        """The sums of `pairwise_hsic` over all rows so far.

        Example:
          >>> x = jnp.array([[0.0], [1.0], [5.0]])
          >>> StreamingCka.init([1, 1]).update([x, -x]).hsic().inner.round(3).tolist()
          [[1.0, 1.0], [1.0, 1.0]]
        """
        mean = jnp.split(self.origin + self.offset, np.cumsum(self.widths)[:-1])
        parts = zip(self.unit, self.trace, mean, strict=True)
        scale = jnp.stack([kernel_scale(unit, trace, self.count, m) for unit, trace, m in parts])
        owner = indicator(self.widths, scale.dtype)
        size = divide(jnp.where(jnp.isnan(scale), 0, scale), self.unit)
        rows, start = [], 0
        for i, product in enumerate(self.products):
            unit = divide(divide(product, size[i]), of_features(size, self.widths)[None, start:])
            rows.append(jnp.matmul(jnp.sum(unit**2, axis=0), owner[start:], precision=HIGHEST))
            start += product.shape[0]
        diagonal = divide(divide(self.diagonal, size[:, None] ** 2), size[None, :] ** 2)
        trace = jnp.where(jnp.isnan(scale), jnp.nan, divide(self.trace, size**2))
        inner, diagonal = (nan_pairs(a, scale) for a in (mirror(jnp.stack(rows)), diagonal))
        return PairwiseHsic(inner, diagonal, trace, scale, self.count)

    @jit_over("self")
    def finalize(self, *, debiased: bool = False) -> Float[Array, "E E"]:
        """CKA of all pairs over all rows so far, as `pairwise_cka`; NaN if debiased and n < 4.

        Example:
          >>> x = jnp.array([[0.0], [1.0], [5.0]])
          >>> StreamingCka.init([1, 1]).update([x, x**2]).finalize()[0].round(3).tolist()
          [1.0, 0.976]
        """
        return self.hsic().cka(debiased=debiased)
