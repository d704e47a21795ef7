"""DICOM images to RGB pixels: what `decode.decode_image` does with a file of that format.

The pixels are read by pydicom (extra `dicom`) and go through the steps of the standard:

    modality     RescaleSlope and RescaleIntercept, or the lookup table in their place
    window       of the caller; else the first lookup table or window of the file, with its function
                 (LINEAR, LINEAR_EXACT, SIGMOID); else the range that the stored bits can hold
    gray         the window becomes 0 to 255; of MONOCHROME1, where low means white, inverted
    color        RGB, YBR and palettes become RGB; of more than 8 bits the upper 8
    frames       the first

Not guaranteed: every packing; JPEG-LS, lossless JPEG and others need plugins of pydicom, and files
without them are unreadable images. Overlays, padding values, presentation states and color profiles
are not applied, and packed data sets ("deflated") are not read.

References: DICOM PS3.3 C.7.6.3, C.11.1, C.11.2.
"""

import io
import math
from typing import Any

import numpy as np
from jaxtyping import Float64, Num, UInt8
from PIL import Image

from substrate_jax.data.optional import optional
from substrate_jax.data.paths import one_line
from substrate_jax.data.unreadable import UnreadableImage

EXTRA = "dicom"
START = 132  # bytes that tell whether a file is one
_MAGIC = b"DICM"
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # which pydicom unpacks to any size
_RESCALE = {"Slope": 1.0, "Intercept": 0.0}


def is_dicom(data: bytes) -> bool:
    """Whether a file begins as DICOM does.

    Example:
      >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"")
      (True, False)
    """
    return data[START - len(_MAGIC) : START] == _MAGIC


def decode_dicom(
    data: bytes, *, window: tuple[float, float] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """A DICOM file to RGB pixels, by the rules of this module.

    Args:
      data: contents of the file.
      window: center and width in rescaled values; None takes what the file says.

    Returns:
      uint8 [h, w, 3], values 0 to 255; of several frames the first.

    Raises:
      UnreadableImage: no pydicom, no pixels, too many of them, float pixels, damage, or a packing
        that pydicom cannot read.
    """
    try:
        pydicom = optional("pydicom", "DICOM file", EXTRA)
        pixels = optional("pydicom.pixels", "DICOM file", EXTRA)
    except ValueError as error:
        raise UnreadableImage(str(error)) from error
    if _DEFLATED in data:
        raise UnreadableImage("a deflated data set; store it with another transfer syntax")
    try:
        return _rgb(pixels, pydicom.dcmread(io.BytesIO(data)), window)
    except UnreadableImage:
        raise
    except Exception as error:  # pydicom raises anything on a damaged file
        raise UnreadableImage(f"{type(error).__name__}: {one_line(error, 200)}") from error


def _rgb(pixels: Any, file: Any, window: tuple[float, float] | None) -> UInt8[np.ndarray, "h w 3"]:
    if "PixelData" not in file:
        kind = "float pixels, whose range is not known" if "Rows" in file else "no pixels"
        raise UnreadableImage(f"{kind}; give DICOM images of integers")
    if file.Rows * file.Columns > 2 * (Image.MAX_IMAGE_PIXELS or math.inf):
        raise UnreadableImage(f"{file.Columns} x {file.Rows} pixels are too many")
    values = pixels.pixel_array(file, index=0)
    photometric, bits = str(file.PhotometricInterpretation), int(file.BitsStored)
    if photometric == "PALETTE COLOR":
        entries, first, _ = file.RedPaletteColorLookupTableDescriptor
        values = np.clip(values, first, first + (entries or 2**16) - 1)  # pydicom's wrap around
        colors = pixels.apply_color_lut(values, file)[..., :3]
        return colors if colors.dtype == np.uint8 else (colors >> 8).astype(np.uint8)
    if values.ndim == 3:
        if values.shape[2] != 3 or bits < 8:
            raise UnreadableImage(f"{values.shape[2]} samples of {bits} bits; store RGB of 8 or 16")
        return (values >> (bits - 8)).astype(np.uint8)
    if not photometric.startswith("MONOCHROME"):
        raise UnreadableImage(f"photometric interpretation {_word(photometric)} of one sample")
    share = np.clip(_share_of_range(file, values, bits, window), 0, 1)
    if np.isnan(share).any():
        raise UnreadableImage("its rescaling or its window is no number")
    if photometric == "MONOCHROME1":
        share = 1 - share
    gray = np.floor(share * 255 + 0.5).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _word(word: str) -> str:
    return repr(word[:20])


def _share_of_range(
    file: Any, stored: Num[np.ndarray, "h w"], bits: int, window: tuple[float, float] | None
) -> Float64[np.ndarray, "h w"]:
    """Where in the window each value is: 0 at its lower end, 1 at the upper."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if _signed(file) else (0, 2**bits - 1)
    values = stored.astype(np.float64)
    if file.get("ModalityLUTSequence"):
        values, high = _look_up(file, file.ModalityLUTSequence[0], values)
        low = 0
    else:
        slope, intercept = (float(file.get(f"Rescale{key}", of)) for key, of in _RESCALE.items())
        values = values * slope + intercept
        low, high = low * slope + intercept, high * slope + intercept
    if window is not None:
        return _windowed(values, *window, "LINEAR")
    if file.get("VOILUTSequence"):
        values, high = _look_up(file, file.VOILUTSequence[0], values)
        return values / high
    if file.get("WindowWidth") is not None and file.get("WindowCenter") is not None:
        center, width = (_first(file[f"Window{key}"]) for key in ("Center", "Width"))
        return _windowed(values, center, width, str(file.get("VOILUTFunction") or "LINEAR"))
    return (values - min(low, high)) / abs(high - low)


def _signed(file: Any) -> bool:
    return bool(file.get("PixelRepresentation", 0))


def _first(element: Any) -> float:
    return float(element.value[0] if element.VM > 1 else element.value)


def _windowed(
    values: Float64[np.ndarray, "h w"], center: float, width: float, function: str
) -> Float64[np.ndarray, "h w"]:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, from 0 to 1 and beyond."""
    least = 1 if function == "LINEAR" else 0
    if not width > least and not (function == "LINEAR" and width == 1):
        raise UnreadableImage(f"a window of width {width:g}; give ?window=CENTER/WIDTH")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        if width == 1:  # a threshold
            return (values > center - 0.5).astype(np.float64)
        return (values - (center - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    raise UnreadableImage(f"a window of function {_word(function)}; give ?window=CENTER/WIDTH")


def _look_up(
    file: Any, table: Any, values: Float64[np.ndarray, "h w"]
) -> tuple[Float64[np.ndarray, "h w"], float]:
    """Values through a lookup table, and the highest that its bits hold.

    Not by pydicom, whose indices wrap around where a table of 8 bits has over 256 entries.
    """
    _, first, bits = table.LUTDescriptor
    entries = table.LUTData
    if isinstance(entries, (bytes, bytearray)):
        order = "<" if file.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(entries, f"{order}u2")
    entries = np.atleast_1d(np.asarray(entries, np.float64))
    at = np.clip(np.floor(values) - first, 0, len(entries) - 1).astype(np.int64)
    return entries[at], 2.0**bits - 1
