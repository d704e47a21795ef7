"""A small convolutional encoder of speech: windows of a mel spectrogram to features.

Twenty convolutions. The first is 3 x 3; those between go along the bands (1 x 3, padded) and along
time (3 x 1, not padded) by turns, each followed by max(leaky_relu(x), -0.4), in stages with a
pooling after each; the last covers what is left of a window. A window is 76 frames, and as all
strides in time together are 8, windows that begin 8 frames apart are all computed in one pass over
the spectrogram. Features are their mean; the tap `windows` has them apart.

The input is in dB as its front end gives it, and x / 10 + 2 goes into the first convolution.

References: J. Lin et al., arXiv:2002.01322.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import ConvKernel
from substrate_jax.encoders.networks.layers import Tap, add_channels, no_tap, normal
from substrate_jax.encoders.networks.network import Network

SLOPE, LEAST = 0.2, -0.4  # of the activation
WINDOW, STEP = 76, 8  # frames
BANDS = 32
POOLS = ((2, 2), (1, 2), (2, 2), (1, 2), (2, 2))  # frames and bands, after each stage
_ALONG_BANDS, _ALONG_TIME = (1, 3), (3, 1)


@dataclass(frozen=True)
class SpeechEmbeddingConfig:
    """Shape of the network.

    Args:
        channels: of the five stages; the last one's are the features.
        frames: of the spectrogram.

    Raises:
        ValueError: other than five stages, or fewer frames than a window has.

    Example:
        >>> config = SpeechEmbeddingConfig()
        >>> config.width, config.input_shape, config.windows
        (96, (197, 32), 16)
    """

    family: ClassVar[str] = "speech_embedding"

    channels: tuple[int, ...] = (24, 48, 72, 96, 96)
    frames: int = 197

    def __post_init__(self) -> None:
        if len(self.channels) != len(POOLS):
            raise ValueError(f"channels={self.channels}: give one for each of {len(POOLS)} stages")
        if self.frames < WINDOW:
            raise ValueError(f"frames={self.frames}: give a window of {WINDOW} or more")

    @property
    def windows(self) -> int:
        """Windows of a spectrogram."""
        return 1 + (self.frames - WINDOW) // STEP

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the spectrogram of one sound."""
        return (self.frames, BANDS)

    @property
    def num_classes(self) -> int:
        """None: its classifier is not part of it."""
        return 0

    @property
    def width(self) -> int:
        """Features per sound."""
        return self.channels[-1]

    @property
    def kernels(self) -> tuple[tuple[int, int, int, int], ...]:
        """Height (frames), width (bands), channels in and out of each convolution."""
        found, inside = [(3, 3, 1, self.channels[0])], self.channels[0]
        for stage, channels in enumerate(self.channels):
            for shape in (_ALONG_BANDS, _ALONG_TIME) * (2 if stage else 1):
                found.append((*shape, inside, channels))
                inside = channels
        return (*found, (*_ALONG_TIME, inside, inside))

    def build(self, rngs: nnx.Rngs) -> "SpeechEmbedding":
        """The module with fresh weights."""
        return SpeechEmbedding(self, rngs=rngs)


class Convolution(nnx.Module):
    """A convolution, padded along the bands and never along time."""

    def __init__(self, kernel: tuple[int, int, int, int], *, rngs: nnx.Rngs):
        height, width, _, channels = kernel
        deviation = float(np.sqrt(2 / (height * width * channels)))
        self.weight = ConvKernel(normal(rngs.params(), kernel, deviation))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.width = width

    def __call__(self, x: Float[Array, "n t k c"]) -> Float[Array, "n u k d"]:
        """Convolve."""
        y = jax.lax.conv_general_dilated(
            x,
            self.weight[...],
            (1, 1),
            ((0, 0), (self.width // 2, self.width // 2)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return add_channels(y, self.bias[...])


def activate(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(leaky_relu(x), -0.4)."""
    return jnp.maximum(jax.nn.leaky_relu(x, np.asarray(SLOPE, x.dtype)), np.asarray(LEAST, x.dtype))


def max_pool(x: Float[Array, "n t k c"], size: tuple[int, int]) -> Float[Array, "n u l c"]:
    """Maxima over frames and bands; frames beyond the last whole pool are dropped."""
    shape = (1, *size, 1)
    return jax.lax.reduce_window(
        x, np.asarray(-np.inf, x.dtype), jax.lax.max, shape, shape, "VALID"
    )


class SpeechEmbedding(Network[SpeechEmbeddingConfig]):
    """Spectrograms to the mean of the features of their windows."""

    classifiers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: SpeechEmbeddingConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.convs = nnx.List([Convolution(kernel, rngs=rngs) for kernel in config.kernels])

    def features(self, images: Float[Array, "n t k"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Mean features of the windows of spectrograms in dB."""
        x = (images / 10 + 2)[..., None]
        first, *between, last = self.convs
        x = activate(first(x))
        for stage, pool in enumerate(POOLS):
            count = 4 if stage else 2
            for conv in between[:count]:
                x = activate(conv(x))
            between = between[count:]
            x = max_pool(x, pool)
            tap(f"stages.{stage}", x)
        # A pool before has left one band; of times each begins a window.
        windows = last(x)[:, :, 0]
        tap("windows", windows)
        return windows.mean(1)
