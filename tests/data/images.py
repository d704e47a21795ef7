"""Image files of every kind, made by hand where Pillow does not write them."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(bits: int, color: int, row: bytes, width: int, **chunks: bytes) -> bytes:
    """A PNG of one row, of any depth and color type, with chunks before its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, bits, color, 0, 0, 0)
    before = [chunk(name.encode(), data) for name, data in chunks.items()]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *before,
            chunk(b"IDAT", zlib.compress(b"\0" + row)),
            chunk(b"IEND", b""),
        ]
    )


SHORT, LONG = 3, 4  # types of a TIFF's values
BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, EXTRA, SIGN = 258, 259, 262, 277, 284, 338, 339
ORIENTATION = 274


def tiff_of(
    pixels: bytes,
    width: int,
    height: int,
    bits: Sequence[int],
    photometric: int,
    *,
    big: bool = False,
    **tags: int,
) -> bytes:
    """A TIFF of one strip, uncompressed.

    Args:
        pixels: the strip, in the file's byte order.
        width, height: in pixels.
        bits: of each sample.
        photometric: 0 where 0 is white, 1 where it is black, 2 for RGB.
        big: whether numbers have their highest byte first.
        tags: further ones, `t338=1`.
    """
    order = ">" if big else "<"
    values = (
        {
            256: (LONG, (width,)),
            257: (LONG, (height,)),
            BITS: (SHORT, tuple(bits)),
            COMPRESSION: (SHORT, (1,)),
            PHOTOMETRIC: (SHORT, (photometric,)),
            273: (LONG, (0,)),  # where the strip begins, set below
            SAMPLES: (SHORT, (len(bits),)),
            278: (LONG, (height,)),
            279: (LONG, (len(pixels),)),
        }
        | {int(name[1:]): (SHORT, (value,)) for name, value in tags.items()}
    )
    start = 8 + 2 + 12 * len(values) + 4
    extra, entries = b"", []
    for tag, (kind, numbers) in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == SHORT else 'I'}", *numbers)
        if len(packed) > 4:
            packed, extra = struct.pack(f"{order}I", start + len(extra)), extra + packed
        entries.append((tag, struct.pack(f"{order}HHI", tag, kind, len(numbers)), packed))
    body = b"".join(
        head
        + (struct.pack(f"{order}I", start + len(extra)) if tag == 273 else data.ljust(4, b"\0"))
        for tag, head, data in entries
    )
    first = (b"MM" if big else b"II") + struct.pack(f"{order}HI", 42, 8)
    count = struct.pack(f"{order}H", len(entries))
    return first + count + body + struct.pack(f"{order}I", 0) + extra + pixels


def fits_of(bits: int, pixels: bytes) -> bytes:
    """A FITS file of one row of two pixels."""
    cards = ["SIMPLE  = T", f"BITPIX  = {bits}", "NAXIS   = 2", "NAXIS1  = 2", "NAXIS2  = 1", "END"]
    header = "".join(card.ljust(80) for card in cards).encode()
    return header.ljust(2880, b" ") + pixels.ljust(2880, b"\0")


def gray_levels(*values: int) -> list:
    """What `decode_image` gives for one row of gray pixels."""
    return [[[value] * 3 for value in values]]


NOISE = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
