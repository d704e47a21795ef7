"""What all networks have in common, and the configs that say their shape.

A network of images has an `ImageConfig`, one of sounds a `SoundConfig`, and one of texts a
`TextConfig`.
"""

import functools
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast, runtime_checkable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.layers import Linear, Tap, no_tap


class Config(Protocol):
    """Shape of a network: a frozen dataclass, whose type says the family."""

    family: ClassVar[str]

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier, 0 for none."""
        ...

    @property
    def width(self) -> int:
        """Features per image, sound or text."""
        ...

    def build(self, rngs: nnx.Rngs) -> "Network[Any]":
        """The module with fresh weights."""
        ...


class ImageConfig(Config, Protocol):
    """Shape of a network of images."""

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        ...


@runtime_checkable
class SoundConfig(Config, Protocol):
    """Shape of a network of sounds."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the spectrogram of one sound."""
        ...


@runtime_checkable
class TextConfig(Config, Protocol):
    """Shape of a network of texts."""

    @property
    def length(self) -> int:
        """Tokens of a text."""
        ...


def input_shape(config: Config) -> tuple[int, ...]:
    """Shape of one image, of the spectrogram of one sound or of the tokens of one text.

    Example:
        >>> from substrate_jax.encoders.networks.swin import SwinConfig
        >>> input_shape(SwinConfig((2, 2, 6, 2), (96, 192, 384, 768)))
        (224, 224, 3)
    """
    if isinstance(config, SoundConfig):
        return config.input_shape
    if isinstance(config, TextConfig):
        return (config.length,)
    size = cast(ImageConfig, config).image_size
    return (size, size, 3)


def input_dtype(config: Config, dtype: Any) -> np.dtype:
    """What a network takes: numbers of tokens as they are, all else in its arithmetic's dtype.

    Args:
        config: of the network.
        dtype: of its arithmetic.
    """
    return jnp.dtype(jnp.int32 if isinstance(config, TextConfig) else dtype)


ConfigType = TypeVar("ConfigType", bound=Config)


class Network(nnx.Module, Generic[ConfigType]):
    """Images, spectrograms of sounds or tokens of texts to pooled features, and those to logits.

    Attributes:
        config: shape of the network.
        classifiers: paths of the linear maps from features to logits, which features do not need;
            the first is that of `classify`. None for networks of no classes.
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
        if not self.classifiers:
            return None
        return functools.reduce(getattr, self.classifiers[0].split("."), self)
