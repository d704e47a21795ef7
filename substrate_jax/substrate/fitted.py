r"""The substrate of a panel on a domain.

For a panel of encoders and n images, each encoder's features are standardized per component over
the images and the blocks set side by side: X in R^{n x D}, D = sum of widths. The substrate is the
basis B in R^{D x k} of X's leading k principal components (k = 16 in arXiv:2606.07882). Two domains
A and B, each with its own X and basis in the same stacked space, agree by

    PCKA(A, B) = 1/2 [ CKA(X_A B_A, X_A B_B) + CKA(X_B B_A, X_B B_B) ]   in [0, 1]

(`substrate.pcka`). A component without variance, as `substrate.components` has it, is a column of
zeros: it counts nothing in scores and PCKA.

Cost: O(n D k) per pass of the subspace iteration; D x D is never formed.

Not guaranteed: components of nearly equal variance are determined only up to a rotation among
themselves; PCKA does not depend on it, single components do.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import safe_open

from substrate_jax import kernels
from substrate_jax.data.tensors import tensor_bytes
from substrate_jax.kernels.arithmetic import matmul
from substrate_jax.substrate import components
from substrate_jax.substrate.components import COMPONENTS
from substrate_jax.substrate.domains import Block, Panel, check_components, check_domains

_ARRAYS = ("origin", "offset", "scale", "basis", "explained_variance_ratio")
_STATIC = {"static": True}  # metadata of a field


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Substrate:
    """Leading principal components of a panel's stacked, standardized features: a pytree.

    Attributes:
        encoders: names, in the order of their blocks; static, as the widths.
        widths: features of each.
        origin: [D] features of one of the images it was fitted on.
        offset: [D] mean over these images less the origin. A mean far from 0 is known to its own
            rounding only, the two numbers to that of the features' spread.
        scale: [D] one over the standard deviation; 0 for constant features.
        basis: [D, k] orthonormal columns, by descending variance; zeros for components without.
        explained_variance_ratio: [k] share of the variance of X.
    """

    encoders: tuple[str, ...] = dataclasses.field(metadata=_STATIC)
    widths: tuple[int, ...] = dataclasses.field(metadata=_STATIC)
    origin: Float[Array, " D"]
    offset: Float[Array, " D"]
    scale: Float[Array, " D"]
    basis: Float[Array, "D k"]
    explained_variance_ratio: Float[Array, " k"]

    @classmethod
    def fit(cls, features: Panel, k: int = COMPONENTS) -> "Substrate":
        """The substrate of a panel on one set of images.

        Args:
            features: encoder name -> [n, d], rows of all encoders in the same order.
            k: components, at most min(n - 1, D).

        Raises:
            ValueError: no encoders, different numbers of rows, NaN or infinity, or `k` out of
                range.

        Example:
            >>> x = jax.random.normal(jax.random.key(0), (40, 6))
            >>> substrate = Substrate.fit({"one": x, "two": 3 * x + 1}, k=2)
            >>> substrate.basis.shape, substrate.transform({"one": x, "two": 3 * x + 1}).shape
            ((12, 2), (40, 2))
        """
        shapes = check_domains({"fitted": features}, least=2)
        check_components(shapes, k)
        found = _fit(_stack(list(features.values())), k)
        return cls(shapes.encoders, shapes.widths, **found)

    @property
    def k(self) -> int:
        """Number of components."""
        return self.basis.shape[1]

    def _repr_markdown_(self) -> str:
        title = f"Substrate of {len(self.encoders)} encoders, {sum(self.widths):,} features"
        head = ["| component | share of variance | of the first so many |", "|---:|---:|---:|"]
        shares = np.asarray(self.explained_variance_ratio, np.float64)
        rows = [
            f"| {i} | {share:.1%} | {total:.1%} |"
            for i, (share, total) in enumerate(zip(shares, shares.cumsum(), strict=True))
        ]
        return "\n".join([title, "", *head, *rows])

    @property
    def mean(self) -> Float[Array, " D"]:
        """Mean of every feature over the images it was fitted on."""
        return self.origin + self.offset

    def standardize(self, features: Panel) -> Float[Array, "n D"]:
        """Stacked features less the fitted mean, over the fitted deviation.

        Of the images it was fitted on this is what `kernels.standardize` gives.

        Args:
            features: of the fitted encoders, in any order.

        Raises:
            ValueError: the encoders or their widths are not the fitted ones.
        """
        widths = {name: block.shape[1] for name, block in features.items()}
        fitted = dict(zip(self.encoders, self.widths, strict=True))
        if widths != fitted:
            raise ValueError(
                f"features have encoders of widths {widths}, this substrate was fitted on {fitted}:"
                " give the same"
            )
        stacked = _stack([features[name] for name in self.encoders]).astype(self.origin.dtype)
        return (stacked - self.origin[None] - self.offset[None]) * self.scale[None]

    def transform(self, features: Panel) -> Float[Array, "n k"]:
        """Scores of images on the components, standardized as in the fit."""
        return matmul(self.standardize(features), self.basis)

    def align(self, other: "Substrate") -> Float[Array, "k k"]:
        """The rotation R that brings `other`'s basis nearest: argmin ||B - B_other R||_F."""
        return kernels.orthogonal_procrustes(self.basis, other.basis)

    def save(self, path: str | os.PathLike) -> None:
        """Write as safetensors; the file appears whole or not at all."""
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        metadata = {"encoders": json.dumps(self.encoders), "widths": json.dumps(self.widths)}
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(tensor_bytes(arrays, metadata))
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Substrate":
        """Read what `save` wrote."""
        with safe_open(path, framework="numpy") as file:
            arrays = {name: jnp.asarray(file.get_tensor(name)) for name in _ARRAYS}
            metadata = file.metadata()
        encoders, widths = (tuple(json.loads(metadata[name])) for name in ("encoders", "widths"))
        return cls(encoders, widths, **arrays)


def _stack(blocks: Sequence[Block]) -> Float[Array, "n D"]:
    read = [block if isinstance(block, jax.Array) else np.asarray(block) for block in blocks]
    return jnp.concatenate(read, axis=1)


@functools.partial(jax.jit, static_argnums=1)
def _fit(stacked: Float[Array, "n D"], k: int) -> dict[str, Array]:
    found = components.fit(stacked, k)
    return {
        "origin": found.origin,
        "offset": found.offset,
        "scale": found.scale,
        "basis": found.components,
        "explained_variance_ratio": found.explained_variance_ratio,
    }
