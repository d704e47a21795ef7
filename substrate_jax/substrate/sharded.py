"""Features of several domains on the devices, what is computed of all of them alike, and PCKA.

All domains are filled up to the rows of the longest and masked, so that each program is compiled
once and not once per domain, and split over the mesh's data axis.

Cost: a domain's rows are computed up to those of the longest. Projecting m domains on m bases of k
columns takes 2 m^2 n D k flops, as in `kernels.pairwise_pcka`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import divide, matmul, psum
from substrate_jax.mesh import (
    DATA_AXIS,
    EVERYWHERE,
    ROWS,
    local_rows,
    make_mesh,
    over_rows,
    place_rows,
)
from substrate_jax.substrate import components
from substrate_jax.substrate.components import COMPONENTS
from substrate_jax.substrate.domains import (
    Block,
    Domains,
    Panel,
    check_components,
    check_domains,
)

Basis = Float[np.ndarray, "D _"] | Float[Array, "D _"]


def pcka(a: Panel, b: Panel, k: int = COMPONENTS) -> float:
    """PCKA of two domains seen by one panel.

    Components without variance count nothing; where all images of a domain are alike, PCKA is 0.

    Args:
        a: encoder name -> [n, d] on the first domain's images.
        b: the same encoders on the second domain's images.
        k: components of each substrate.

    Raises:
        ValueError: other encoders or widths, fewer than 4 images or no more than `k`, NaN or
            infinity, or `k` out of range.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
        >>> round(pcka({"one": x}, {"one": x[::-1]}, k=3), 4)
        1.0
    """
    return float(_pcka({"a": a, "b": b}, k, make_mesh())[0, 1])


def pairwise_pcka(
    domains: Sequence[Panel],
    k: int = COMPONENTS,
    *,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "m m"]:
    """PCKA of every pair of domains seen by one panel; see `pcka`.

    Args:
        domains: for each, encoder name -> [n, d]; n may differ, encoders and widths may not.
        k: components of each substrate; those without variance count nothing.
        mesh: where to compute, with the rows of each domain split over the data axis; all devices
            by default.

    Raises:
        ValueError: as `pcka`; domains are called by their numbers, from 0.
    """
    named = {str(number): features for number, features in enumerate(domains)}
    return _pcka(named, k, mesh or make_mesh())


def _pcka(domains: Domains, k: int, mesh: Mesh) -> Float[np.ndarray, "m m"]:
    check_components(check_domains(domains), k)
    fitted = PlacedDomains.place([list(of.values()) for of in domains.values()], mesh).fit(k)
    return fitted.placed.pcka(fitted.components)


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
    def place(cls, domains: Sequence[Sequence[Block]], mesh: Mesh) -> "PlacedDomains":
        """Copy the blocks of every domain to the devices, side by side and as float32.

        Args:
            domains: for each, blocks of the same rows; only the rows of this process's devices are
                read, by `block[rows]`.
            mesh: whose data axis shares the rows.

        Example:
            >>> domains = [[np.ones((3, 2))], [np.ones((5, 2))]]
            >>> placed = PlacedDomains.place(domains, make_mesh("data=1"))
            >>> [x.shape for x in placed.xs], placed.masks[0].tolist()
            ([(5, 2), (5, 2)], [True, True, True, False, False])
        """
        longest = max(len(blocks[0]) for blocks in domains)
        rows = longest + -longest % mesh.shape[DATA_AXIS]
        mine = local_rows(mesh, rows)
        xs, masks = [], []
        for blocks in domains:
            valid = mine < len(blocks[0])
            x = np.zeros((len(mine), sum(block.shape[1] for block in blocks)), np.float32)
            end = 0
            for block in blocks:
                start, end = end, end + block.shape[1]
                x[valid, start:end] = block[mine[valid]]
            xs.append(place_rows(x, mesh, rows))
            masks.append(place_rows(valid, mesh, rows))
        return cls(xs, masks, mesh)

    def fit(self, k: int) -> "FittedDomains":
        """Standardize the features, and find the leading components of each domain.

        Args:
            k: components, at most D and below the rows of every domain.
        """
        program = _fit_program(self.mesh, k)
        fits = [program(x, mask) for x, mask in zip(self.xs, self.masks, strict=True)]
        xs, components, scores = map(list, zip(*fits, strict=True))
        return FittedDomains(dataclasses.replace(self, xs=xs), components, scores)

    def one_sided_cka(
        self, bases: Sequence[Sequence[Basis]], own: Sequence[Sequence[int]]
    ) -> list[Float[np.ndarray, "o b"]]:
        """CKA of projections of every domain: of some with all.

        Args:
            bases: for each domain, B_1, B_2, ...
            own: for each domain, the numbers i of some of its bases.

        Returns:
            For each domain CKA(X B_i, X B_j), a row for each i.
        """
        program = _cka_program(self.mesh)
        found = [
            program(x, mask, tuple(among), np.asarray(rows))
            for x, mask, among, rows in zip(self.xs, self.masks, bases, own, strict=True)
        ]
        return [np.asarray(cka) for cka in found]

    def pcka(self, bases: Sequence[Basis]) -> Float[np.ndarray, "m m"]:
        """PCKA of every pair of domains, whose bases these are; see `kernels.pairwise_pcka`."""
        m = len(self.xs)
        one_sided = np.concatenate(self.one_sided_cka([bases] * m, [[i] for i in range(m)]))
        return (one_sided + one_sided.T) / 2

    def carry(
        self, scores: Sequence[Float[Array, "rows k"]], bases: Sequence[Basis]
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


@dataclasses.dataclass(frozen=True)
class FittedDomains:
    """Standardized features of m domains and their leading components.

    Attributes:
        placed: the standardized features X.
        components: B of each, [D, k], zeros in columns without variance.
        scores: X B of each, [rows, k].
    """

    placed: PlacedDomains
    components: Sequence[Float[Array, "D k"]]
    scores: Sequence[Float[Array, "rows k"]]


@functools.lru_cache
def _fit_program(mesh: Mesh, k: int):
    def compute(block, mask):
        found = components.fit(block, k, mask, DATA_AXIS)
        return found.x, found.components, matmul(found.x, found.components)

    return over_rows(compute, mesh, ROWS, (ROWS, EVERYWHERE, ROWS))


@functools.lru_cache
def _cka_program(mesh: Mesh):
    def compute(x, mask, bases, own):
        scores = components.project(x, jnp.stack(bases))
        centered = kernels.center(scores.reshape(len(x), -1), mask, DATA_AXIS).reshape(scores.shape)
        k = scores.shape[2]
        return jnp.concatenate(
            [components.one_sided_cka(centered, i, (k,), DATA_AXIS) for i in own]
        )

    return over_rows(compute, mesh, (ROWS, ROWS, EVERYWHERE, EVERYWHERE))


@functools.lru_cache
def _carry_program(mesh: Mesh):
    def compute(x, mask, scores, basis):
        directions = psum(matmul(x.T, scores), DATA_AXIS)
        length = jnp.linalg.norm(directions, axis=0)
        carried = jnp.linalg.qr(divide(directions, length[None]))[0]
        carried = jnp.where(length[None] > 0, carried, 0)
        projected = matmul(x, basis)
        return carried, kernels.cka(projected, scores, mask=mask, axis_name=DATA_AXIS)

    return over_rows(compute, mesh, (ROWS, ROWS, ROWS, EVERYWHERE))
