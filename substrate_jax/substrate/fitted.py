r"""The substrate of a panel on a domain, and its agreement across domains.

For a panel of encoders and n images, each encoder's features are standardized per component over
the images and the blocks set side by side: X in R^{n x D}, D = sum of widths. The substrate is the
basis B in R^{D x k} of X's leading k principal components (k = 16 in arXiv:2606.07882). Two domains
A and B, each with its own X and basis in the same stacked space, agree by

    PCKA(A, B) = 1/2 [ CKA(X_A B_A, X_A B_B) + CKA(X_B B_A, X_B B_B) ]   in [0, 1].

Cost: O(n D k) a pass of the subspace iteration; D x D is never formed.

Not guaranteed: components of nearly equal variance are determined only up to a rotation among
themselves; PCKA does not depend on it, single components do.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float
from safetensors import safe_open
from safetensors.numpy import save

from substrate_jax import kernels
from substrate_jax.mesh import DATA_AXIS, make_mesh, shard_rows

COMPONENTS = 16


@dataclasses.dataclass(frozen=True)
class Substrate:
    """Leading principal components of a panel's stacked, standardized features.

    Attributes:
        encoders: names, in the order of their blocks.
        widths: features of each.
        mean: [D] mean of every feature over the images it was fitted on.
        scale: [D] one over the standard deviation; 0 for constant features.
        basis: [D, k] orthonormal columns, by descending variance.
        explained_variance_ratio: [k] share of the variance of X.
    """

    encoders: tuple[str, ...]
    widths: tuple[int, ...]
    mean: Float[Array, " D"]
    scale: Float[Array, " D"]
    basis: Float[Array, "D k"]
    explained_variance_ratio: Float[Array, " k"]

    @classmethod
    def fit(cls, features: Mapping[str, Float[Array, "n _"]], k: int = COMPONENTS) -> "Substrate":
        """The substrate of a panel on one set of images.

        Args:
            features: encoder name -> [n, d], rows of all encoders in the same order.
            k: components, at most min(n - 1, D).

        Raises:
            ValueError: no encoders, different numbers of rows, or `k` out of range.

        Example:
            >>> x = jax.random.normal(jax.random.key(0), (40, 6))
            >>> substrate = Substrate.fit({"one": x, "two": 3 * x + 1}, k=2)
            >>> substrate.basis.shape, substrate.transform({"one": x, "two": 3 * x + 1}).shape
            ((12, 2), (40, 2))
        """
        stacked = _stack(features)
        mean, scale, basis, ratio = _fit(stacked, k)
        widths = tuple(block.shape[1] for block in features.values())
        return cls(tuple(features), widths, mean, scale, basis, ratio)

    @property
    def k(self) -> int:
        """Number of components."""
        return self.basis.shape[1]

    def standardize(self, features: Mapping[str, Float[Array, "n _"]]) -> Float[Array, "n D"]:
        """Stacked features less the fitted mean, over the fitted deviation.

        Raises:
            ValueError: the encoders or their widths are not the fitted ones.
        """
        widths = tuple(block.shape[1] for block in features.values())
        if tuple(features) != self.encoders or widths != self.widths:
            raise ValueError(
                f"features of {list(features)} with widths {list(widths)}: this substrate was "
                f"fitted on {list(self.encoders)} with {list(self.widths)}, in that order"
            )
        return (_stack(features) - self.mean[None]) * self.scale[None]

    def transform(self, features: Mapping[str, Float[Array, "n _"]]) -> Float[Array, "n k"]:
        """Scores of images on the components, standardized as in the fit."""
        return jnp.matmul(
            self.standardize(features), self.basis, precision=jax.lax.Precision.HIGHEST
        )

    def align(self, other: "Substrate") -> Float[Array, "k k"]:
        """The rotation R that brings `other`'s basis nearest: argmin ||B - B_other R||_F."""
        return kernels.orthogonal_procrustes(self.basis, other.basis)

    def save(self, path: str | os.PathLike) -> None:
        """Write as safetensors; the file appears whole or not at all."""
        arrays = {
            field: np.asarray(getattr(self, field))
            for field in ("mean", "scale", "basis", "explained_variance_ratio")
        }
        metadata = {
            "encoders": ",".join(self.encoders),
            "widths": ",".join(map(str, self.widths)),
        }
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(save(arrays, metadata))
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Substrate":
        """Read what `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            arrays = {name: jnp.asarray(file.get_tensor(name)) for name in list(file.keys())}
            metadata = file.metadata()
        return cls(
            encoders=tuple(metadata["encoders"].split(",")),
            widths=tuple(map(int, metadata["widths"].split(","))),
            **arrays,
        )


def pcka(
    a: Mapping[str, Float[Array, "n _"]], b: Mapping[str, Float[Array, "m _"]], k: int = COMPONENTS
) -> float:
    """PCKA of two domains seen by one panel.

    Args:
        a: encoder name -> [n, d] on the first domain's images.
        b: the same encoders on the second domain's images.
        k: components of each substrate.

    Raises:
        ValueError: other encoders or widths, or `k` out of range.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (40, 6))
        >>> round(pcka({"one": x}, {"one": x[::-1]}, k=3), 4)
        1.0
    """
    return float(pairwise_pcka([a, b], k)[0, 1])


def pairwise_pcka(
    domains: Sequence[Mapping[str, Float[np.ndarray, "n _"]]],
    k: int = COMPONENTS,
    *,
    mesh: Mesh | None = None,
) -> Float[Array, "m m"]:
    """PCKA of every pair of domains seen by one panel; see `pcka`.

    Args:
        domains: for each, encoder name -> [n, d]; n may differ, encoders and widths may not.
        k: components of each substrate.
        mesh: where to compute, with the rows of each domain split over the data axis; all devices
            by default.

    Raises:
        ValueError: other encoders or widths, or `k` out of range.
    """
    mesh = mesh or make_mesh()
    shapes = [{name: block.shape[1] for name, block in domain.items()} for domain in domains]
    for domain, widths in zip(domains, shapes, strict=True):
        _check_rows(domain)
        if list(widths.items()) != list(shapes[0].items()):
            raise ValueError(
                f"domains have encoders of widths {shapes[0]} and {widths}: give the same "
                "encoders in the same order"
            )
    placed = [[shard_rows(block, mesh) for block in domain.values()] for domain in domains]
    return _pcka_program(mesh, k)(
        [[rows for rows, _ in domain] for domain in placed], [domain[0][1] for domain in placed]
    )


@functools.lru_cache
def _pcka_program(mesh: Mesh, k: int):
    def compute(domains: list[list[Array]], masks: list[Array]) -> Array:
        xs = [
            kernels.standardize(jnp.concatenate(blocks, axis=1), mask, DATA_AXIS)
            for blocks, mask in zip(domains, masks, strict=True)
        ]
        bases = [
            kernels.pca(x, k, mask=mask, axis_name=DATA_AXIS).components
            for x, mask in zip(xs, masks, strict=True)
        ]
        return kernels.pairwise_pcka(xs, bases, masks=masks, axis_name=DATA_AXIS)

    rows = PartitionSpec(DATA_AXIS)
    return jax.jit(
        jax.shard_map(compute, mesh=mesh, in_specs=(rows, rows), out_specs=PartitionSpec())
    )


def _check_rows(features: Mapping[str, Float[Array, "n _"]]) -> None:
    rows = {name: len(block) for name, block in features.items()}
    if not rows or len(set(rows.values())) > 1:
        raise ValueError(f"features have rows {rows}: give encoders with the same images")


def _stack(features: Mapping[str, Float[Array, "n _"]]) -> Float[Array, "n D"]:
    _check_rows(features)
    return jnp.concatenate([jnp.asarray(block) for block in features.values()], axis=1)


@functools.partial(jax.jit, static_argnums=1)
def _fit(stacked, k):
    x = kernels.standardize(stacked)
    result = kernels.pca(x, k)
    mean = stacked.mean(0)
    deviation = jnp.sqrt(jnp.square(stacked - mean[None]).mean(0))
    constant = jnp.all(x == 0, axis=0)
    scale = jnp.where(constant, 0.0, 1 / jnp.where(constant, 1.0, deviation))
    return mean, scale, result.components, result.explained_variance_ratio
