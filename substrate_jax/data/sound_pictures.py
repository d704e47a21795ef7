"""Sounds as pictures of their spectrograms, for encoders of images.

A sound becomes a gray picture of one size, the middle second of a longer one: time to the right,
low tones at the bottom, light where there is energy. Its mel spectrogram in dB
(`spectrogram.decibels`) is cut at 80 dB below its own maximum and scaled to 0 .. 255, so that
loudness is not in the picture.

Cost: a millisecond for a sound of a second.

Not guaranteed: anything above 3.8 kHz or beyond a second, nor that networks trained on photographs
see in it what ears hear.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from substrate_jax.data.sounds import Sound
from substrate_jax.data.sources import Source, digest
from substrate_jax.data.spectrogram import SoundPreprocess, decibels

RANGE = 80.0  # dB
# A second at 8 kHz, which every recording holds, as a square: 64 frames of 64 bands to 3.8 kHz.
SPECTROGRAM = SoundPreprocess(
    rate=8_000, samples=8_000, window=400, hop=126, bands=64, low=50.0, high=3_800.0, fill="pad"
)


def picture_of(sound: Sound, spec: SoundPreprocess = SPECTROGRAM) -> UInt8[np.ndarray, "k t 3"]:
    """The picture of one sound.

    Args:
      sound: samples and their rate.
      spec: length, frames and filters.

    Raises:
      ValueError: the sound has another rate and soxr is not installed.

    Example:
      >>> hum = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000).astype(np.float32)
      >>> picture = picture_of(Sound(hum, 8000))
      >>> picture.shape, int(picture[:, 20, 0].argmax()) > 32  # a low tone, below the middle
      ((64, 64, 3), True)
    """
    samples = spec.prepare(sound)
    levels = decibels(samples, spec, np)
    top = levels.max()
    light = np.clip((levels - (top - RANGE)) / RANGE, 0, 1)
    gray = np.round(255 * light).astype(np.uint8).T[::-1]
    return np.repeat(gray[:, :, None], 3, axis=2)


def pictures_of(source: Source, spec: SoundPreprocess = SPECTROGRAM) -> Source:
    """A source of sounds as one of images, under the same ids.

    Args:
      source: of sounds.
      spec: length, frames and filters.

    Raises:
      ValueError: the source holds images.

    Example:
      >>> from substrate_jax.data.tones import open_tones
      >>> source = pictures_of(open_tones())
      >>> source.modality, source[3].image.shape, source[3].id
      ('image', (64, 64, 3), '0/speaker0/03')
    """
    if source.modality != "sound":
        raise ValueError(f"{source.name} holds {source.modality}s: give a source of sounds")
    return dataclasses.replace(
        source,
        name=f"pictures of {source.name}",
        fingerprint=digest("picture", source.fingerprint, str(spec), str(RANGE)),
        read=lambda row: picture_of(source.read(row), spec),
        modality="image",
        rates=(),
    )
