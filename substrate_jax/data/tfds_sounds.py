"""Sounds of TFDS sets, read without TensorFlow.

A feature of sounds holds whole numbers of 16 bits, as TFDS makes them of files; floats; or the
files themselves (`lazy_decode`), which `sounds.decode_sound` reads. Whole numbers become samples by
a division by 2^15; several channels follow each other sample by sample.

Not guaranteed: sets of sounds with more than 16 bits. TFDS keeps no word of how many there were, so
numbers beyond 16 bits are refused, and quiet sounds of 24 or 32 bits cannot be told from them.
"""

import contextlib
import dataclasses
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from substrate_jax.data.sounds import Sound, decode_sound, mono
from substrate_jax.data.tfds_features import Chosen, Records
from substrate_jax.data.unreadable import UnreadableSound

_FULL = 2**15
_lock = threading.Lock()


class SoundRecords:
    """The sounds of a split, by row number.

    Attributes:
      rate: samples a second; None where every row holds a file that says it.

    Args:
      records: of the split.
      chosen: the feature that holds the sounds.
      rate: what the user says of it, where the set does not.
      name: of the source, for messages.

    Raises:
      ValueError: a rate that is none, a set that does not give its rate, or one that stores sounds
        in another way.
    """

    def __init__(self, records: Records, chosen: Chosen, rate: str | None, name: str):
        # Workers are sent this object, and cannot be sent what TFDS says of a feature.
        self._records, self._chosen = records, dataclasses.replace(chosen, feature=None)
        feature, key = chosen.feature, chosen.image
        if rate is not None and not (rate.isdecimal() and int(rate)):
            raise ValueError(f"{name}: rate={rate!r}; give samples a second, such as 16000")
        self.rate = int(rate) if rate is not None else feature.sample_rate or None
        self._files = bool(getattr(feature, "_lazy_decode", False))
        shape = feature.shape
        self._channels = shape[1] if len(shape) > 1 else 1
        encoding = getattr(getattr(feature, "_encoding", None), "name", "NONE")
        if encoding != "NONE" or not self._channels:
            raise ValueError(
                f"{name}: {key!r} is stored as {encoding.lower()} of shape {shape}, which is not "
                "read; prepare the set without an encoding"
            )
        if self.rate is None and not self._files:
            raise ValueError(
                f"{name}: {key!r} does not say how many samples a second it has; give ?rate=N"
            )

    def read(self, row: int) -> Sound:
        """One sound.

        Raises:
          UnreadableSound: no sound, or numbers beyond 16 bits.
        """
        values = self._records.values(row, self._chosen)
        if self._files:
            file = values[self._chosen.index] if len(values) > self._chosen.index else b""
            return decode_sound(file)
        if len(values) % self._channels:
            raise UnreadableSound(f"{len(values)} numbers of {self._channels} channels")
        numbers = np.array(values).reshape(-1, self._channels)
        if numbers.dtype.kind == "i":
            if numbers.size and not -_FULL <= numbers.min() <= numbers.max() < _FULL:
                raise UnreadableSound("whole numbers beyond 16 bits, whose full range is not known")
            numbers = numbers / _FULL
        assert self.rate is not None
        return mono(numbers.astype(np.float32), self.rate)


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Have TFDS describe a set without TensorFlow, which it asks for the dtypes of sounds."""
    from tensorflow_datasets.core.features import audio_feature

    numbers = {name: np.dtype(name) for name in ("uint8", "int16", "int32")}
    as_dtype = types.SimpleNamespace(as_dtype=np.dtype)
    stand_in: Any = types.SimpleNamespace(dtypes=as_dtype, string=np.object_, **numbers)
    with _lock:
        own, audio_feature.tf = audio_feature.tf, stand_in
        try:
            yield
        finally:
            audio_feature.tf = own
