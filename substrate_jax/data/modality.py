"""Images or sounds: what an encoder takes, and what a source holds.

A preprocessing, of either, has a part for the host (`prepare`) and one for the devices (`finish`),
so whatever extracts features need not know which it is.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.sources import Source
from substrate_jax.data.spectrogram import SoundPreprocess

AnyPreprocess = Preprocess | SoundPreprocess


def row_bytes(spec: AnyPreprocess) -> int:
    """Bytes of what the host prepares of one image or sound.

    Example:
      >>> row_bytes(Preprocess(size=32)), row_bytes(SoundPreprocess())
      (3072, 1920000)
    """
    return int(np.prod(spec.shape)) * spec.dtype.itemsize


class _Spec(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def preprocess(self) -> AnyPreprocess: ...


def check_modality(spec: _Spec, source: Source) -> None:
    """Refuse an encoder of sounds for images, and the reverse.

    Raises:
      ValueError: the two do not go together.
    """
    wants = spec.preprocess.modality
    if wants != source.modality:
        example = {"image": "dir:PICTURES", "sound": "wav:SOUNDS"}[wants]
        raise ValueError(
            f"encoder {spec.name} takes {wants}s and {source.name} holds {source.modality}s; give "
            f"it a source such as {example}, or an encoder of {source.modality}s"
        )


def image_preprocess(spec: _Spec) -> Preprocess:
    """The preprocessing of an encoder of images.

    Raises:
      ValueError: the encoder is one of sounds.
    """
    if not isinstance(spec.preprocess, Preprocess):
        raise ValueError(f"encoder {spec.name} takes sounds; give one of images here")
    return spec.preprocess


def resampled_note(specs: Sequence[_Spec], source: Source) -> str:
    """From what to what the sounds of a source are resampled for these encoders; empty for none."""
    wanted = {spec.name: spec.preprocess for spec in specs}
    rates = {n: p.rate for n, p in wanted.items() if isinstance(p, SoundPreprocess)}
    rates = {name: rate for name, rate in rates.items() if set(source.rates) - {rate}}
    if not rates:
        return ""
    found = " and ".join(f"{rate:,}" for rate in source.rates)
    to = ", ".join(f"{rate:,} for {name}" for name, rate in rates.items())
    return f"{source.name}: sounds of {found} samples a second are resampled to {to}."
