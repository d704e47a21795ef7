"""Folders of DICOM images: `dicom:PATH[?window=CENTER/WIDTH&label=none]`.

As `dir:PATH`, for files that begin as DICOM does and are called .dcm, .dicom, .ima or without a
suffix (`dicom` says what becomes of their pixels). Ids and labels are those of `folders`, so that
PATH/PATIENT/... labels by patient; `?label=none` leaves that.

Cost: opening reads the beginning of every file.
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from substrate_jax.data.dicom import EXTRA, START, decode_dicom, is_dicom
from substrate_jax.data.folders import ImageFiles, open_image_files
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import read_file, readable
from substrate_jax.data.sources import Source, digest

OPTIONS = ("window", "label")
_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
_INDEX = "dicomdir"  # begins as an image does, and lists others


def open_dicom(path: str, options: Mapping[str, str]) -> Source:
    """DICOM files of a folder.

    Args:
      path: a folder, or several joined by "+".
      options: `window=CENTER/WIDTH`, in the units of the rescaled values (Hounsfield's in CT), for
        all images; `label=none` for no labels.

    Returns:
      A source in the order of its ids, the paths below the folder.

    Raises:
      ValueError: pydicom is not installed, a window is malformed, or as `folders.open_folder`.
    """
    what = f"dicom:{readable(path)}"
    optional("pydicom", what, EXTRA)
    window = parse_window(options["window"], what) if "window" in options else None
    files = ImageFiles(
        "dicom",
        _is_dicom_file,
        partial(decode_dicom, window=window),
        f"{' '.join(filter(None, _SUFFIXES))} or no suffix, and begin as DICOM does",
    )
    source = open_image_files(path, files, options)
    fingerprint = source.fingerprint if window is None else digest(source.fingerprint, str(window))
    return dataclasses.replace(source, fingerprint=fingerprint)


def parse_window(text: str, what: str) -> tuple[float, float]:
    """Center and width of a window.

    Raises:
      ValueError: it is not two numbers, or the width is not above 1.

    Example:
      >>> parse_window("40/400", "dicom:ct")
      (40.0, 400.0)
    """
    try:
        center, width = map(float, text.split("/"))
    except ValueError:
        center, width = math.nan, math.nan
    if not (math.isfinite(center) and math.isfinite(width) and width > 1):
        raise ValueError(
            f"{what}: window={text!r}; give CENTER/WIDTH with a width above 1, such as 40/400"
        )
    return center, width


def _is_dicom_file(file: Path) -> bool:
    if file.suffix.lower() not in _SUFFIXES or file.name.lower() == _INDEX:
        return False
    try:
        return is_dicom(read_file(file, 0, START))
    except OSError:  # an unreadable image, if its name says that it is one
        return file.suffix != ""
