"""Depths, photometric interpretations, transparency and orientation, in every format with them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from substrate_jax.data import UnreadableImage, decode_image
from substrate_jax.data.formats import image_formats
from tests.data.images import (
    EXTRA,
    NOISE,
    ORIENTATION,
    PLANAR,
    SIGN,
    encoded,
    fits_of,
    gray_levels,
    png_of,
    tiff_of,
)

WORDS = (0, 1, 257, 32896, 65534, 65535)


def packed_12(values) -> bytes:
    """Two numbers of 12 bits in three bytes."""
    bits = "".join(f"{value:012b}" for value in values)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def words(values, big=False) -> bytes:
    return struct.pack(f"{'>' if big else '<'}{len(values)}H", *values)


FULL = gray_levels(0, 0, 1, 128, 255, 255)
INVERTED = gray_levels(255, 255, 254, 127, 0, 0)
PGM = b"P5 3 1 %d\n"
DEPTHS = {
    "16-bit TIFF": (tiff_of(words(WORDS), 6, 1, [16], 1), FULL),
    "16-bit TIFF, 0 is white": (tiff_of(words(WORDS), 6, 1, [16], 0), INVERTED),
    "16-bit TIFF, big": (tiff_of(words(WORDS, True), 6, 1, [16], 1, big=True), FULL),
    "12-bit TIFF": (
        tiff_of(packed_12([0, 8, 2048, 4095]), 4, 1, [12], 1),
        gray_levels(0, 0, 128, 255),
    ),
    "8-bit TIFF, 0 is white": (tiff_of(bytes([0, 9, 255]), 3, 1, [8], 0), gray_levels(255, 246, 0)),
    "4-bit TIFF": (tiff_of(b"\x0f", 2, 1, [4], 1), gray_levels(0, 255)),
    "4-bit TIFF, 0 is white": (tiff_of(b"\x0f", 2, 1, [4], 0), gray_levels(255, 0)),
    "2-bit TIFF, 0 is white": (tiff_of(b"\x1b", 4, 1, [2], 0), gray_levels(255, 170, 85, 0)),
    "1-bit TIFF": (tiff_of(b"\x40", 2, 1, [1], 1), gray_levels(0, 255)),
    "1-bit TIFF, 0 is white": (tiff_of(b"\x40", 2, 1, [1], 0), gray_levels(255, 0)),
    "signed 16-bit TIFF": (
        tiff_of(words([0, 32767]), 2, 1, [16], 1, **{f"t{SIGN}": 2}),
        gray_levels(0, 127),
    ),
    "16-bit PNG": (png_of(16, 0, words(WORDS, True), 6), FULL),
    "4-bit PNG": (png_of(4, 0, b"\x0f", 2), gray_levels(0, 255)),
    "2-bit PNG": (png_of(2, 0, b"\x1b", 4), gray_levels(0, 85, 170, 255)),
    "16-bit colors of PNG": (
        png_of(16, 2, words([0, 256, 65535], True), 1),
        [[[0, 1, 255]]],
    ),
    "16-bit colors of TIFF": (tiff_of(words([0, 256, 65535]), 1, 1, [16] * 3, 2), [[[0, 1, 255]]]),
    "PGM of 10 bits": (PGM % 1023 + words([0, 512, 1023], True), gray_levels(0, 128, 255)),
    "PGM of 4 bits": (PGM % 15 + bytes([0, 5, 15]), gray_levels(0, 85, 255)),
    "16-bit JPEG 2000": (
        encoded(Image.fromarray(np.array([WORDS] * 4, np.uint16)), "JPEG2000"),
        FULL * 4,
    ),
    "8-bit FITS": (fits_of(8, b"\x05\xff"), gray_levels(5, 255)),
    "palette in an ICNS": (
        encoded(Image.new("RGB", (16, 16), (51, 51, 51)).convert("P"), "ICNS"),
        gray_levels(*[51] * 1024) * 1024,
    ),
    "CMYK JPEG": (encoded(Image.new("CMYK", (8, 8)), "JPEG"), gray_levels(*[255] * 8) * 8),
    "16-bit CMYK TIFF": (tiff_of(words([0, 0, 0, 65535]), 1, 1, [16] * 4, 5), gray_levels(0)),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_the_full_range_becomes_0_to_255(case):
    data, pixels = DEPTHS[case]
    assert decode_image(data).tolist() == pixels


CLEAR = {
    "1-bit PNG": (png_of(1, 0, b"\x40", 2, tRNS=b"\0\0"), gray_levels(255, 255)),
    "2-bit PNG": (png_of(2, 0, b"\x1b", 4, tRNS=b"\0\1"), gray_levels(0, 255, 170, 255)),
    "4-bit PNG": (png_of(4, 0, b"\x01\x70", 3, tRNS=b"\0\0"), gray_levels(255, 17, 119)),
    "8-bit PNG": (png_of(8, 0, b"\7\x08", 2, tRNS=b"\0\7"), gray_levels(255, 8)),
    "16-bit PNG": (
        png_of(16, 0, words([0x1234, 0x1235], True), 2, tRNS=b"\x12\x34"),
        gray_levels(255, 18),
    ),
    "8-bit colors of PNG": (
        png_of(8, 2, bytes([1, 2, 3, 4, 5, 6]), 2, tRNS=b"\0\1\0\2\0\3"),
        [[[255, 255, 255], [4, 5, 6]]],
    ),
    "palette of PNG": (
        png_of(4, 3, b"\x01", 2, PLTE=bytes([1, 2, 3, 0, 0, 0]), tRNS=b"\xff\x7f"),
        [[[1, 2, 3], [128, 128, 128]]],
    ),
    "16-bit gray with alpha": (
        png_of(16, 4, words([0, 0, 0, 65535], True), 2),
        gray_levels(255, 0),
    ),
    "16-bit colors with alpha": (
        png_of(16, 6, words([0, 0, 0, 0, 0, 0, 0, 65535], True), 2),
        gray_levels(255, 0),
    ),
    "gray TIFF, alpha apart": (
        tiff_of(bytes([0, 0, 0, 127, 9, 255]), 3, 1, [8, 8], 1, **{f"t{EXTRA}": 2}),
        gray_levels(255, 128, 9),
    ),
    "gray TIFF, multiplied": (
        tiff_of(bytes([0, 0, 0, 127, 9, 255]), 3, 1, [8, 8], 1, **{f"t{EXTRA}": 1}),
        gray_levels(255, 128, 9),
    ),
    "colors of TIFF, multiplied": (
        tiff_of(bytes([0, 0, 0, 0, 9, 9, 9, 255]), 2, 1, [8] * 4, 2, **{f"t{EXTRA}": 1}),
        gray_levels(255, 9),
    ),
    "colors of TIFF beside an unknown sample": (
        tiff_of(bytes([1, 2, 3, 0]), 1, 1, [8] * 4, 2, **{f"t{EXTRA}": 0}),
        [[[1, 2, 3]]],
    ),
    "GIF": (encoded(Image.new("P", (2, 1), 0), "GIF", transparency=0), gray_levels(255, 255)),
    "WebP": (
        encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "WEBP", lossless=True, exact=True),
        gray_levels(255),
    ),
}


@pytest.mark.parametrize("case", CLEAR)
def test_transparency_is_laid_over_white(case):
    data, pixels = CLEAR[case]
    assert decode_image(data).tolist() == pixels


REFUSED = {
    "float TIFF": (encoded(Image.new("F", (1, 1), 0.5), "TIFF"), "float pixels"),
    "float TIFF, 0 is white": (
        tiff_of(struct.pack("<f", 0.5), 1, 1, [32], 0, **{f"t{SIGN}": 3}),
        "float pixels",
    ),
    "half TIFF": (tiff_of(b"\0\x38", 1, 1, [16], 1, **{f"t{SIGN}": 3}), "no known image format"),
    "PFM": (b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5), "float pixels"),
    "signed bytes": (
        tiff_of(b"\xff", 1, 1, [8], 1, **{f"t{SIGN}": 2}),
        "signed 8-bit pixels",
    ),
    "signed words below 0": (
        tiff_of(b"\xff\xff", 1, 1, [16], 1, **{f"t{SIGN}": 2}),
        "outside 0 to 65535",
    ),
    "16-bit FITS": (fits_of(16, b"\x80\0\x7f\xff"), "FITS of other than 8 bits"),
    "float FITS": (fits_of(-32, struct.pack(">2f", 0, 1)), "FITS of other than 8 bits"),
    "planes of 16 bits": (
        tiff_of(words([1, 2, 3]), 1, 1, [16] * 3, 2, **{f"t{PLANAR}": 2}),
        "plane by plane",
    ),
    "16-bit colors, one clear": (
        png_of(16, 2, words([1, 2, 3], True), 1, tRNS=b"\0\1\0\2\0\3"),
        "store an alpha channel",
    ),
    "16-bit TIFF, 0 is white, big": (
        tiff_of(words(WORDS, True), 6, 1, [16], 0, big=True),
        "no known image format, or one of another depth",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_agreed_range_is_refused(case):
    data, message = REFUSED[case]
    with pytest.raises(UnreadableImage, match=message):
        decode_image(data)


def test_no_other_program_is_ever_started(monkeypatch):
    """Pillow would hand EPS to Ghostscript, under whatever name the file has."""
    assert not {"EPS", "WMF", "MPEG", "HDF5"} & set(image_formats())
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\nshowpage\n"
    with pytest.raises(UnreadableImage, match="no known image format"):
        decode_image(eps)


def with_orientation(kind: str, value: int, mode: str = "RGB") -> tuple[bytes, np.ndarray]:
    """A file whose EXIF says how to turn it, and its pixels as they are stored."""
    image = Image.fromarray(NOISE).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = value
    options = {"lossless": True} if kind == "WEBP" else {"quality": 90} if kind == "JPEG" else {}
    data = encoded(image, kind, exif=exif, **options)
    return data, decode_image(encoded(image, kind, **options))


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if "AVIF" in image_formats() else [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_is_one_rule_for_all_formats(kind, value):
    data, stored = with_orientation(kind, value)
    plain, turned = decode_image(data), decode_image(data, orientation="apply")
    assert plain.shape == stored.shape
    limit = 24 if kind == "AVIF" else 0  # AVIF is lossy, and turned before it is encoded
    exif = Image.Exif()
    exif[ORIENTATION] = value
    picture = Image.fromarray(plain)
    picture.info["exif"] = exif.tobytes()
    want = np.asarray(ImageOps.exif_transpose(picture))
    assert np.abs(plain.astype(int) - stored).max() <= limit
    np.testing.assert_array_equal(turned, want)
    assert (turned.shape == stored.shape) == (value < 5)


@pytest.mark.parametrize("orientation", ["ignore", "apply"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
@pytest.mark.parametrize("mode", ["L", "1", "I;16", "CMYK", "RGBA"])
def test_tiffs_of_every_mode_and_compression_turn_alike(mode, compression, orientation):
    gray = Image.fromarray(NOISE).convert("L")
    image = (
        Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
        if mode == "I;16"
        else gray.convert("RGB").convert(mode)
    )
    plain = decode_image(encoded(image, "TIFF", compression=compression))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(image, "TIFF", compression=compression, exif=exif)
    got = decode_image(data, orientation=orientation)
    # 6 says: turn by a quarter, clockwise.
    want = plain if orientation == "ignore" else np.rot90(plain, -1)
    np.testing.assert_array_equal(got, want)


def test_a_jpeg_is_read_as_imagefolder_reads_it():
    data, _ = with_orientation("JPEG", 6)
    with Image.open(io.BytesIO(data)) as image:
        want = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), want)
