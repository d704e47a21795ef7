"""Features of several domains on the devices, and what is computed of all of them alike.

All domains are filled up to the rows of the longest and masked, so that each program is compiled
once and not once a domain, and split over the mesh's data axis.

Cost: a domain's rows are computed up to those of the longest. Projecting m domains on m bases of k
columns takes 2 m^2 n D k flops, as in `kernels.pairwise_pcka`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import HIGHEST, divide, psum
from substrate_jax.mesh import DATA_AXIS, shard_rows

_ROWS, _EVERYWHERE = PartitionSpec(DATA_AXIS), PartitionSpec()


@dataclasses.dataclass(frozen=True)
class PlacedDomains:
    """Features of m domains on the devices of a mesh.

    Attributes:
        xs: [rows, D] each, zeros beyond the domain's own n.
        masks: [rows] each, which rows count.
        mesh: where they are.
    """

    xs: Sequence[Float[Array, "rows D"]]
    masks: Sequence[Bool[Array, " rows"]]
    mesh: Mesh

    @classmethod
    def place(cls, blocks: Sequence[Float[np.ndarray, "_ D"]], mesh: Mesh) -> "PlacedDomains":
        """Copy blocks to the devices, as float32.

        Example:
            >>> from substrate_jax.mesh import make_mesh
            >>> blocks = [np.ones((3, 2)), np.ones((5, 2))]
            >>> placed = PlacedDomains.place(blocks, make_mesh("data=1"))
            >>> [x.shape for x in placed.xs], placed.masks[0].tolist()
            ([(5, 2), (5, 2)], [True, True, True, False, False])
        """
        rows = max(map(len, blocks))
        xs, masks = [], []
        for block in blocks:
            padded = np.pad(np.asarray(block, np.float32), ((0, rows - len(block)), (0, 0)))
            xs.append(shard_rows(padded, mesh)[0])
            masks.append(shard_rows(np.arange(rows) < len(block), mesh)[0])
        return cls(xs, masks, mesh)

    def fit(self, k: int) -> tuple["PlacedDomains", list[Array], list[Array]]:
        """Standardize the features, and find the leading components of each domain.

        Args:
            k: components, at most D and below the rows of every domain.

        Returns:
            The standardized features, the components [D, k] and the scores [rows, k] of each
            domain. A component without variance is a column of zeros in both.
        """
        program = _fit_program(self.mesh, k)
        fitted = [program(x, mask) for x, mask in zip(self.xs, self.masks, strict=True)]
        xs, components, scores = map(list, zip(*fitted, strict=True))
        return dataclasses.replace(self, xs=xs), components, scores

    def cka(self, bases: Sequence[Sequence[Float[Array, "D k"]]]) -> list[Float[np.ndarray, "b b"]]:
        """For each domain the CKA of all pairs of its projections on the bases given for it."""
        program = _cka_program(self.mesh)
        found = [
            program(x, mask, jnp.stack(own))
            for x, mask, own in zip(self.xs, self.masks, bases, strict=True)
        ]
        return [np.asarray(cka) for cka in found]

    def pcka(self, bases: Sequence[Float[Array, "D k"]]) -> Float[np.ndarray, "m m"]:
        """PCKA of every pair of domains, whose bases these are; see `kernels.pairwise_pcka`."""
        one_sided = np.stack([cka[i] for i, cka in enumerate(self.cka([bases] * len(self.xs)))])
        return (one_sided + one_sided.T) / 2

    def carry(
        self, scores: Sequence[Float[Array, "rows k"]], bases: Sequence[Float[Array, "D l"]]
    ) -> tuple[list[Array], list[float]]:
        """Directions of the features that go along with scores of the same rows.

        Args:
            scores: P of each domain; rows that do not count may hold anything finite.
            bases: B of each domain.

        Returns:
            orth(X'P) [D, k] of each domain, zeros where a column of P is zero; and CKA(X B, P).
        """
        program = _carry_program(self.mesh)
        found = [program(*each) for each in zip(self.xs, self.masks, scores, bases, strict=True)]
        directions, overlaps = zip(*found, strict=True)
        return list(directions), [float(overlap) for overlap in overlaps]


@functools.lru_cache
def _fit_program(mesh: Mesh, k: int):
    def compute(block, mask):
        x = kernels.standardize(block, mask, DATA_AXIS)
        found = kernels.pca(x, k, mask=mask, axis_name=DATA_AXIS)
        variance = found.explained_variance
        # Variances below 1e-7 of the first are rounding, says kernels.pca.
        kept = (variance > 1e-6 * variance[:1]).astype(x.dtype)
        components = found.components * kept[None]
        return x, components, jnp.matmul(x, components, precision=HIGHEST)

    return _mapped(compute, mesh, (_ROWS, _ROWS), (_ROWS, _EVERYWHERE, _ROWS))


@functools.lru_cache
def _cka_program(mesh: Mesh):
    def compute(x, mask, bases):
        m, width, k = bases.shape
        stacked = jnp.swapaxes(bases, 0, 1).reshape(width, m * k)
        return _block_cka(jnp.matmul(x, stacked, precision=HIGHEST), mask, m)

    return _mapped(compute, mesh, (_ROWS, _ROWS, _EVERYWHERE), _EVERYWHERE)


@functools.lru_cache
def _carry_program(mesh: Mesh):
    def compute(x, mask, scores, basis):
        directions = psum(jnp.matmul(x.T, scores, precision=HIGHEST), DATA_AXIS)
        length = jnp.linalg.norm(directions, axis=0)
        carried = jnp.linalg.qr(divide(directions, length[None]))[0]
        carried = jnp.where(length[None] > 0, carried, 0)
        projected = jnp.matmul(x, basis, precision=HIGHEST)
        return carried, kernels.cka(projected, scores, mask=mask, axis_name=DATA_AXIS)

    return _mapped(compute, mesh, (_ROWS, _ROWS, _ROWS, _EVERYWHERE), _EVERYWHERE)


def _block_cka(scores: Float[Array, "rows mk"], mask: Bool[Array, " rows"], m: int):
    """CKA of all pairs of m blocks of equal width, side by side.

    As `kernels.pairwise_cka`, for scores of one scale: a tenth of its time to compile.
    """
    centered = kernels.center(scores, mask, DATA_AXIS)
    products = psum(jnp.matmul(centered.T, centered, precision=HIGHEST), DATA_AXIS)
    inner = jnp.square(products.reshape(m, -1, m, products.shape[0] // m)).sum((1, 3))
    norm = jnp.sqrt(jnp.diagonal(inner))
    return divide(inner, norm[:, None] * norm[None, :])


def _mapped(compute, mesh: Mesh, in_specs, out_specs):
    return jax.jit(jax.shard_map(compute, mesh=mesh, in_specs=in_specs, out_specs=out_specs))
