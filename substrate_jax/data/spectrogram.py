"""Samples to mel spectrograms: what a sound goes through before its network.

Samples x at the encoder's rate, of one constant length, are cut into frames of m samples, h apart
and weighted by Hann's window of w samples in their middle; where frames are centered, the first is
about the first sample and the ends are reflected. With F the Fourier transform of m points and B
the filters, triangles on the mel scale,

    y[t, k] = sum_f B[f, k] |F(frame_t)[f]|^2,      spectrogram = 10 log10(max(y, 1e-10))   dB

cut off below at a number of dB under its maximum where there is a range.

The work is in two parts, as for images. `SoundPreprocess.prepare` runs on the host: another rate,
then the constant length. `SoundPreprocess.finish` is array operations on the devices, in float32.

A longer sound is cut to its middle, a shorter one filled up:

    repeatpad   whole copies as often as they fit, then silence
    repeat      copies, the last one cut
    pad         silence

With `parts`, as fused CLAP has it, a sound is four spectrograms of one length: the whole, its
frames interpolated to that length, and the middle of each third of the places a part may begin at;
of a shorter sound four times the same. They are then computed on the host, for their number of
frames varies, and a fifth plane says by 1 or 0 whether the sound was longer.

Cost: O(samples (m / h) log m) and 4 m / h bytes a sample for the frames.

Not guaranteed: transformers cuts out of longer sounds at random; here a sound gives one answer.

References: S. S. Stevens, J. Volkmann, E. B. Newman, J. Acoust. Soc. Am. 8, 185 (1937).
"""

import dataclasses
import functools
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from substrate_jax.data.sounds import Sound, resample
from substrate_jax.data.sources import Modality

Fill = Literal["repeatpad", "repeat", "pad"]
Scale = Literal["htk", "slaney"]
FLOOR = 1e-10  # of energies, so that silence has a logarithm
PARTS = 4  # spectrograms of a sound where its parts are wanted
BLOCK = 1024  # frames at once on the host


@dataclasses.dataclass(frozen=True)
class SoundPreprocess:
    """What a network of sounds expects of its input; hashable, so it can key caches and jit.

    Args:
      rate: samples a second.
      samples: of the constant length.
      window: samples of Hann's window.
      points: samples of a frame, and of its Fourier transform; as many as of the window by default.
      hop: samples from one frame to the next.
      bands: filters on the mel scale.
      low, high: frequencies between which they lie, Hz.
      scale: "htk" for the formula with peaks of 1, "slaney" for the one that is linear below 1 kHz
        with areas of 1.
      centered: whether the first frame is about the first sample; otherwise it begins there.
      gain: by which samples are multiplied.
      span: dB below its maximum at which a spectrogram is cut off; None for no such limit.
      fill: what follows a shorter sound.
      parts: whether the parts of a longer sound are wanted beside the whole.

    Raises:
      ValueError: a value out of its range.

    Example:
      >>> spec = SoundPreprocess(samples=4800)
      >>> spec.frames, spec.label
      (11, '0.1 s at 48 kHz')
    """

    modality: ClassVar[Modality] = "sound"
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)  # of what the host prepares

    rate: int = 48_000
    samples: int = 480_000
    window: int = 1024
    hop: int = 480
    bands: int = 64
    low: float = 0.0
    high: float = 14_000.0
    scale: Scale = "slaney"
    points: int | None = None
    centered: bool = True
    gain: float = 1.0
    span: float | None = None
    fill: Fill = "repeatpad"
    parts: bool = False

    def __post_init__(self):
        for name in ("rate", "samples", "window", "hop", "bands"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give 1 or more")
        if not 0 <= self.low < self.high <= self.rate / 2:
            raise ValueError(
                f"low={self.low}, high={self.high}: give frequencies in order from 0 to half the "
                f"rate, {self.rate / 2:g} Hz"
            )
        for name, known in (("scale", Scale), ("fill", Fill)):
            if getattr(self, name) not in get_args(known):
                choices = " or ".join(get_args(known))
                raise ValueError(f"{name}={getattr(self, name)!r}: give {choices}")
        if self.frame < self.window:
            raise ValueError(f"points={self.points}: give at least window={self.window}")
        least = self.frame // 2 + 1 if self.centered else self.frame
        if self.samples < least:
            raise ValueError(
                f"samples={self.samples}: give {least} or more, for frames of {self.frame} samples"
            )

    @property
    def frame(self) -> int:
        """Samples of a frame."""
        return self.window if self.points is None else self.points

    @property
    def frames(self) -> int:
        """Frames of the constant length."""
        around = 2 * (self.frame // 2) if self.centered else 0
        return 1 + (self.samples + around - self.frame) // self.hop

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the host prepares of one sound."""
        return (PARTS + 1, self.frames, self.bands) if self.parts else (self.samples,)

    @property
    def pixels(self) -> tuple:
        """The part that `prepare` depends on: networks that share it share what it gives."""
        if self.parts:
            return dataclasses.astuple(self)
        return ("sound", self.rate, self.samples, self.fill)

    @property
    def label(self) -> str:
        """The input in a word, for a table."""
        return f"{self.samples / self.rate:g} s at {self.rate / 1000:g} kHz"

    def prepare(self, sound: Sound) -> Float32[np.ndarray, "..."]:
        """The part for the host: rate and length, and the spectrograms where parts are wanted."""
        samples = resample(sound, self.rate).samples
        if self.parts:
            return with_parts(samples, self)
        return of_length(samples, self)

    def finish(self, prepared: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The part for the devices: [n, frames, bands], or [n, 5, frames, bands] of parts."""
        return prepared if self.parts else decibels(prepared, self)


def of_length(
    samples: Float32[np.ndarray, " n"], spec: SoundPreprocess
) -> Float32[np.ndarray, " m"]:
    """The middle of a longer sound, or a shorter one filled up.

    Example:
      >>> spec = SoundPreprocess(samples=1000)
      >>> of_length(np.arange(400, dtype=np.float32), spec)[[399, 400, 799, 800]]
      array([399.,   0., 399.,   0.], dtype=float32)
    """
    wanted, n = spec.samples, len(samples)
    if n >= wanted:
        start = (n - wanted) // 2
        return samples[start : start + wanted]
    copies = {"pad": 1, "repeatpad": wanted // n, "repeat": -(-wanted // n)}[spec.fill]
    filled = np.zeros(wanted, np.float32)
    repeated = np.tile(samples, copies)[:wanted]
    filled[: len(repeated)] = repeated
    return filled


def with_parts(
    samples: Float32[np.ndarray, " n"], spec: SoundPreprocess
) -> Float32[np.ndarray, "5 t k"]:
    """The whole shrunk to the constant number of frames, three parts, and whether it was longer."""
    longer = len(samples) > spec.samples
    whole = decibels(samples if longer else of_length(samples, spec), spec, np)
    total, wanted = len(whole), spec.frames
    longer = total > wanted  # a few samples more are no frame more
    flag = np.full((1, wanted, spec.bands), longer, np.float32)
    if not longer:
        return np.concatenate([np.broadcast_to(whole, (PARTS, wanted, spec.bands)), flag])
    places = [part for part in np.array_split(np.arange(total - wanted + 1), PARTS - 1)]
    starts = [int(part[len(part) // 2]) if len(part) else 0 for part in places]
    center = (np.arange(wanted) + 0.5) * (total / wanted) - 0.5
    below = np.floor(center).astype(int)
    weight = (center - below)[:, None].astype(np.float32)
    shrunk = whole[below] * (1 - weight) + whole[np.minimum(below + 1, total - 1)] * weight
    cut = [whole[start : start + wanted] for start in starts]
    return np.concatenate([np.stack([shrunk, *cut]), flag]).astype(np.float32)


def decibels(
    samples: Float[Any, "*n m"], spec: SoundPreprocess, xp: ModuleType = jnp
) -> Float[Any, "*n t k"]:
    """Spectrograms of samples, in dB.

    Args:
      samples: at the spec's rate; any number of them.
      spec: frames and filters.
      xp: `jax.numpy`, or `numpy` on the host.
    """
    if spec.centered:
        half = spec.frame // 2
        around = [(0, 0)] * (samples.ndim - 1) + [(half, half)]
        samples = xp.pad(samples, around, mode="reflect")
    count = 1 + (samples.shape[-1] - spec.frame) // spec.hop
    rows = np.arange(count)[:, None] * spec.hop + np.arange(spec.frame)
    # On the host a sound may last for hours, whose frames together take gigabytes.
    step = BLOCK if xp is np else count
    parts = (rows[start : start + step] for start in range(0, count, step))
    energies = xp.concatenate([_energies(samples[..., part], spec, xp) for part in parts], -2)
    levels = (10 * xp.log10(xp.maximum(energies, np.float32(FLOOR)))).astype(np.float32)
    if spec.span is None:
        return levels
    return xp.maximum(levels, levels.max((-2, -1), keepdims=True) - np.float32(spec.span))


def _energies(frames: Float[Any, "*n t m"], spec: SoundPreprocess, xp: ModuleType):
    """By band, of frames not yet weighted."""
    weights = window_of(spec).reshape((1,) * (frames.ndim - 1) + (-1,))
    spectrum = xp.fft.rfft(frames * weights)
    power = xp.square(spectrum.real) + xp.square(spectrum.imag)
    if xp is np:
        return power @ mel_filters(spec)
    return jnp.matmul(power, mel_filters(spec), precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache
def window_of(spec: SoundPreprocess) -> Float32[np.ndarray, " m"]:
    """Hann's window of one period, sin^2(pi i / w), in the middle of a frame, times the gain.

    Example:
      >>> window_of(SoundPreprocess(window=4, points=8)).tolist()
      [0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    before = (spec.frame - spec.window) // 2
    frame = np.zeros(spec.frame)
    inside = np.arange(spec.window) * (2 * np.pi / spec.window)
    frame[before : before + spec.window] = 0.5 - 0.5 * np.cos(inside)
    return (spec.gain * frame).astype(np.float32)


# Scale -> (Hz to mels, mels to Hz). Slaney's is linear up to 1 kHz, 15 mels, and logarithmic above
# with 27 mels to a factor of 6.4.
_MELS = {
    "htk": (
        lambda hertz: 2595 * np.log10(1 + hertz / 700),
        lambda mels: 700 * (10 ** (mels / 2595) - 1),
    ),
    "slaney": (
        lambda hertz: np.where(
            hertz < 1000,
            hertz * 0.015,
            15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4),
        ),
        lambda mels: np.where(mels < 15, mels / 0.015, 1000 * 6.4 ** ((mels - 15) / 27)),
    ),
}


@functools.lru_cache
def mel_filters(spec: SoundPreprocess) -> Float32[np.ndarray, "f k"]:
    """Triangles in Hz whose corners lie evenly on the mel scale; rows are the frame's frequencies.

    Example:
      >>> mel_filters(SoundPreprocess()).shape
      (513, 64)
    """
    to_mels, to_hertz = _MELS[spec.scale]
    low, high = to_mels(np.array([spec.low, spec.high], np.float64)).tolist()
    corners = to_hertz(np.linspace(low, high, spec.bands + 2))
    hertz = np.arange(spec.frame // 2 + 1)[:, None] * (spec.rate / spec.frame)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    filters = np.maximum(0, np.minimum(rising, falling))
    if spec.scale == "slaney":
        filters = filters * (2 / (right - left))
    return filters.astype(np.float32)
