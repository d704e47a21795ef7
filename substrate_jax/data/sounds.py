"""Encoded sound files to samples of one channel, whatever depths and formats they come in.

The rules, all fixed, so that one file gives one array everywhere (docs/sounds.md):

    integers of b bits   divided by 2^(b - 1): full range to [-1, 1)
    float                as stored, also beyond 1
    several channels     their mean
    NaN, infinity        refused
    no samples           refused
    silence              read: its samples are 0
    rate                 kept; whoever wants another resamples (`resample`)

Files are decoded by libsndfile (soundfile): WAV, FLAC, Ogg Vorbis and Opus, AIFF, and MP3 from its
version 1.1. Resampling is soxr's, of its "HQ" quality, which librosa takes by default.

Cost: O(samples), without Python's lock while libsndfile decodes.

Not guaranteed: equal samples of lossy formats from another version of libsndfile.
"""

import io
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from substrate_jax.data.optional import optional
from substrate_jax.data.paths import one_line, special_kind
from substrate_jax.data.unreadable import UnreadableSound

# Of the files that are taken for sounds; one whose decoder is missing is unreadable, not left out.
SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .w64 .rf64 .caf".split()  # noqa: SIM905
)
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # samples a second; beyond these a header is damaged


class Sound(NamedTuple):
    """Samples of one channel, full range -1 to 1, and how many there are in a second."""

    samples: Float32[np.ndarray, " n"]
    rate: int


def decode_sound(data: bytes) -> Sound:
    """Encoded bytes to samples, by the rules of this module.

    Args:
      data: contents of a sound file in any format that libsndfile decodes.

    Returns:
      Samples float32 [n] of one channel, and their rate.

    Raises:
      UnreadableSound: empty, cut short, of unknown format, without samples, or with such that are
        no numbers.
      ValueError: soundfile is not installed.
    """
    if not data:
        raise UnreadableSound("empty file")
    # libsndfile reads a WAV that ends early as a shorter one; 0 and 2^32 - 1 say: until its end.
    promised = int.from_bytes(data[4:8], "little") + 8 if data[:4] == b"RIFF" else 0
    if len(data) < promised <= 2**32:
        raise UnreadableSound(f"cut short: {len(data):,} of {promised:,} bytes")
    soundfile = _soundfile()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            frames, rate = file.frames, file.samplerate
            channels = file.read(dtype="float32", always_2d=True)
    except Exception as error:  # of libsndfile, and of NumPy where a header promises too much
        if _is_mp3(data) and "MP3" not in soundfile.available_formats():
            raise UnreadableSound(
                f"an MP3, for which libsndfile {soundfile.__libsndfile_version__} has no decoder; "
                "update soundfile, or store WAV or FLAC"
            ) from error
        raise UnreadableSound(f"no sound that libsndfile reads ({one_line(error)})") from error
    if len(channels) < frames:
        raise UnreadableSound(f"cut short: {len(channels):,} of {frames:,} samples")
    return mono(channels, rate)


def _is_mp3(data: bytes) -> bool:
    """Whether a file begins as MP3 does: with tags, or the eleven ones of a frame."""
    return data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1] >= 0xE0)


def mono(channels: Float32[np.ndarray, "n c"], rate: int) -> Sound:
    """The mean of the channels, checked.

    Raises:
      UnreadableSound: no samples, NaN or infinity among them, or a rate that no recording has.

    Example:
      >>> mono(np.array([[0.5, 0.0], [1.0, -1.0]], np.float32), 8000)
      Sound(samples=array([0.25, 0.  ], dtype=float32), rate=8000)
    """
    if not channels.size:
        raise UnreadableSound("no samples")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise UnreadableSound(
            f"{rate} samples a second, outside {LOWEST_RATE} to {HIGHEST_RATE}; correct its header"
        )
    wrong = int(len(channels) - np.isfinite(channels).all(axis=1).sum())
    if wrong:
        raise UnreadableSound(f"NaN or infinity in {wrong} of {len(channels)} samples")
    if channels.shape[1] == 1:
        return Sound(np.ascontiguousarray(channels[:, 0]), rate)
    return Sound(channels.mean(axis=1, dtype=np.float64).astype(np.float32), rate)


def resample(sound: Sound, rate: int) -> Sound:
    """The sound at another rate, band-limited below both; as it is where it has that rate.

    Args:
      sound: samples and their rate.
      rate: samples a second that are wanted.

    Raises:
      ValueError: soxr is not installed.

    Example:
      >>> resample(Sound(np.zeros(80, np.float32), 8000), 48000).samples.shape
      (480,)
    """
    if sound.rate == rate:
        return sound
    soxr = optional("soxr", f"sound at {sound.rate} samples a second instead of {rate}", "audio")
    samples = soxr.resample(sound.samples, sound.rate, rate, quality="HQ")
    if not len(samples):  # of a few samples at a far higher rate nothing is left
        samples = sound.samples.mean(keepdims=True)
    return Sound(np.ascontiguousarray(samples, np.float32), rate)


def _soundfile() -> Any:
    try:
        return optional("soundfile", "a sound", "audio")
    except OSError as error:  # its C library is not there
        raise ValueError(
            f"a sound: soundfile finds no libsndfile ({one_line(error)}); install libsndfile1"
        ) from error


def rate_of(path: Path) -> int | None:
    """Samples a second by the header of a file; None where it has none that can be read.

    Raises:
      ValueError: soundfile is not installed.
    """
    soundfile = _soundfile()
    if special_kind(path) is not None:
        return None
    try:
        return int(soundfile.info(os.fspath(path)).samplerate)
    except Exception:  # of libsndfile; reading the sound says what is wrong
        return None
