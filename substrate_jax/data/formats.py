"""Formats of image files: those that the installed Pillow decodes, and their suffixes.

All that Pillow and its plugins register are read, but for `_NOT_DECODED`: what Pillow recognizes
and hands to another program (EPS to Ghostscript), decodes on one operating system (WMF), or does
not decode at all.
"""

import functools

from PIL import Image

_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"})


def image_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read.

    Example:
      >>> {"JPEG", "PNG", "TIFF", "WEBP"} <= set(image_formats())
      True
    """
    Image.preinit()  # the common ones first: they are asked in this order
    Image.init()
    return _formats(tuple(Image.ID))


def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that are read, in lower case and with their dot.

    Example:
      >>> {".jpg", ".jfif", ".png", ".avif"} - image_suffixes() <= {".avif"}  # as Pillow was built
      True
      >>> ".pdf" in image_suffixes()
      False
    """
    formats = {*image_formats(), "MPO"}  # which Pillow opens as JPEG
    return frozenset(
        suffix.lower()
        for suffix, name in Image.registered_extensions().items()
        if name.upper() in formats
    )


@functools.lru_cache
def _formats(registered: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in registered if name not in _NOT_DECODED and name in Image.OPEN)
