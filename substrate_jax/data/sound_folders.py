"""Folders of sounds: `wav:PATH[?label=none]`, and how many samples a second they have.

As `dir:PATH`, for WAV and every other format that libsndfile decodes (`sounds`). Ids and labels are
those of `folders`: PATH/dog/1.wav is labeled `dog`.

Cost: opening reads the header of every file, for its rate.
"""

import dataclasses
import os
import types
from collections.abc import Mapping
from pathlib import Path

from substrate_jax.data.folders import ImageFiles, open_image_files
from substrate_jax.data.paths import readable
from substrate_jax.data.sounds import SUFFIXES, decode_sound, rate_of
from substrate_jax.data.sources import Source
from substrate_jax.data.unreadable import UnreadableSound

OPTIONS = ("label",)


def open_sounds(
    path: str | os.PathLike, options: Mapping[str, str] = types.MappingProxyType({})
) -> Source:
    """Sounds of a folder: `PATH/class/.../sound.wav`, or sounds directly in it without labels.

    Args:
      path: a folder, or several joined by "+".
      options: `label=none` for no labels.

    Returns:
      A source of sounds in the order of its ids, the paths below the folder.

    Raises:
      ValueError: soundfile is not installed, or as `folders.open_folder`.
    """
    rates: set[int] = set()

    def is_sound(file: Path) -> bool:
        if readable(file.suffix.lower()) not in SUFFIXES:
            return False
        rate = rate_of(file)
        rates.update([] if rate is None else [rate])
        return True

    files = ImageFiles(
        "wav", is_sound, decode_sound, " ".join(sorted(SUFFIXES)), "sound", UnreadableSound
    )
    source = open_image_files(path, files, options)
    return dataclasses.replace(source, rates=tuple(sorted(rates)))
