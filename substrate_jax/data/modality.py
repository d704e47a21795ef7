"""Images, sounds or texts: what an encoder takes, and what a source holds.

A preprocessing, of any, has a part for the host (`prepare`) and one for the devices (`finish`),
so whatever extracts features need not know which it is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.sources import Source
from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.data.tokens import TextPreprocess
from substrate_jax.data.unreadable import Unreadable

AnyPreprocess = Preprocess | SoundPreprocess | TextPreprocess
# What a source of each is like, for a message.
_EXAMPLES = {"image": "dir:PICTURES", "sound": "wav:SOUNDS", "text": "text:FILE"}


def row_bytes(spec: AnyPreprocess) -> int:
    """Bytes of what the host prepares of one image, sound or text.

    Example:
      >>> row_bytes(Preprocess(size=32)), row_bytes(SoundPreprocess())
      (3072, 1920000)
    """
    return int(np.prod(spec.shape)) * spec.dtype.itemsize


def settings_of(preprocess: AnyPreprocess) -> dict[str, Any]:
    """What decides the input of a network, by name: not where its files happen to lie.

    Example:
      >>> settings_of(TextPreprocess(77, "0", "clip", "/at/home"))
      {'length': 77, 'tokenizer': '0', 'kind': 'clip'}
    """
    fields = (field for field in dataclasses.fields(preprocess) if field.compare)
    return {field.name: getattr(preprocess, field.name) for field in fields}


class _Spec(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def preprocess(self) -> AnyPreprocess: ...


def check_modality(spec: _Spec, source: Source) -> None:
    """Refuse an encoder of one modality for a source of another, such as of sounds for images.

    Raises:
      ValueError: the two do not go together.
    """
    wants = spec.preprocess.modality
    if wants != source.modality:
        raise ValueError(
            f"encoder {spec.name} takes {wants}s and {source.name} holds {source.modality}s; give "
            f"it a source such as {_EXAMPLES[wants]}, or an encoder of {source.modality}s"
        )


def image_preprocess(spec: _Spec) -> Preprocess:
    """The preprocessing of an encoder of images.

    Raises:
      ValueError: the encoder is one of sounds or texts.
    """
    if not isinstance(spec.preprocess, Preprocess):
        raise ValueError(
            f"encoder {spec.name} takes {spec.preprocess.modality}s; give one of images here"
        )
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


def cut_note(specs: Sequence[_Spec], source: Source) -> str:
    """How many texts of a source are longer than these encoders take; empty for none.

    Every text is read and cut into tokens for it, some 20,000 a second.
    """
    wanted = {spec.name: spec.preprocess for spec in specs}
    lengths = {n: p for n, p in wanted.items() if isinstance(p, TextPreprocess)}
    if source.modality != "text" or not lengths:
        return ""
    counts = dict.fromkeys(lengths, 0)
    for row in range(len(source)):
        try:
            text = source.read(row)
        except Unreadable:  # which is counted elsewhere
            continue
        for name, preprocess in lengths.items():
            counts[name] += preprocess.encode(text)[1]
    said = [
        f"{count:,} of {len(source):,} after {lengths[name].length} tokens for {name}"
        for name, count in counts.items()
        if count
    ]
    return f"{source.name}: longer texts are cut off, {', '.join(said)}." if said else ""
