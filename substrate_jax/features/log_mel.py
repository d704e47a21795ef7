"""Statistics of mel spectrograms: features of sounds that nothing was trained for.

Of a sound's mel spectrogram in dB (`data.spectrogram`), 64 bands up to 3.8 kHz over a second, the
mean and the standard deviation of each band over the frames: 128 numbers. They know pitch, timbre,
loudness and how much of the second is filled, but not the order in time.

Cost: that of the spectrogram.

Not guaranteed: anything above 3.8 kHz, or beyond a second.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from substrate_jax.data.sound_pictures import SPECTROGRAM
from substrate_jax.data.sources import digest
from substrate_jax.features.protocol import PlainSpec

VERSION = 1  # of the definitions: stored features of another are computed anew


class LogMel:
    """Mean and deviation of every band, as an extractor.

    Attributes:
        spec: name, width and preprocessing.
        fingerprint: hash of the definition.
        dtype: of the arithmetic.
    """

    spec = PlainSpec("log_mel", 2 * SPECTROGRAM.bands, SPECTROGRAM)
    fingerprint = digest("log_mel", str(VERSION), str(SPECTROGRAM))
    dtype = jnp.float32

    def functional(self) -> tuple[Callable[[Any, Array], Array], Any]:
        """See `protocol.Extractor`; there is no state."""
        return lambda state, levels: log_mel(levels), ()


def log_mel(levels: Float[Array, "n t k"]) -> Float[Array, "n 2k"]:
    """Means, then deviations, of the bands over the frames.

    Args:
        levels: spectrograms in dB.

    Example:
        >>> log_mel(jnp.array([[[0.0, 2.0], [2.0, 2.0]]])).tolist()
        [[1.0, 2.0, 1.0, 0.0]]
    """
    return jnp.concatenate([jnp.mean(levels, axis=1), jnp.std(levels, axis=1)], axis=1)
