"""What all networks have in common, and the configs that say their shape."""

import functools
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.layers import Linear, Tap, no_tap


class Config(Protocol):
    """Shape of a network: a frozen dataclass, whose type says the family."""

    family: ClassVar[str]

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        ...

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier, 0 for none."""
        ...

    @property
    def width(self) -> int:
        """Features per image."""
        ...

    def build(self, rngs: nnx.Rngs) -> "Network[Any]":
        """The module with fresh weights."""
        ...


ConfigType = TypeVar("ConfigType", bound=Config)


class Network(nnx.Module, Generic[ConfigType]):
    """Images to pooled features, and those to logits.

    Attributes:
        config: shape of the network.
        classifiers: paths of the linear maps from features to logits, which features do not need;
            the first is that of `classify`.
    """

    config: ConfigType
    classifiers: ClassVar[tuple[str, ...]] = ("head.fc",)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features of normalized images; `tap` is given what lies between."""
        raise NotImplementedError

    def classify(self, features: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """Logits of the checkpoint's own classes.

        Raises:
            ValueError: a network without a classifier.
        """
        layer = self._classifier()
        if layer is None:
            raise ValueError(
                f"num_classes=0: this {type(self).__name__} has no classifier; give an encoder "
                "that was trained on classes"
            )
        return layer(features)

    def adapt_checkpoint(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A checkpoint's arrays as this network's config wants them."""
        return arrays

    def _classifier(self) -> Linear | None:
        """The map from features to logits, wherever the checkpoint has it."""
        return functools.reduce(getattr, self.classifiers[0].split("."), self)
