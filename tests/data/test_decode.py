"""Every color mode and every kind of damage that image files come with."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from substrate_jax.data.decode import UnreadableImage, decode_image

HALF = [[[128, 128, 128]]]


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def palette(transparency: int | None = None) -> bytes:
    image = Image.new("P", (1, 1), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encoded(image) if transparency is None else encoded(image, transparency=transparency)


def gif_of_two() -> bytes:
    frames = [Image.new("RGB", (1, 1), color) for color in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def gray16(value: int) -> Image.Image:
    return Image.fromarray(np.full((1, 1), value, np.uint16))


COLORS = {
    "gray": (encoded(Image.new("L", (1, 1), 128)), HALF),
    "bilevel": (encoded(Image.new("1", (1, 1), 1)), [[[255, 255, 255]]]),
    "rgb": (encoded(Image.new("RGB", (1, 1), (1, 2, 3))), [[[1, 2, 3]]]),
    "opaque": (encoded(Image.new("RGBA", (1, 1), (1, 2, 3, 255))), [[[1, 2, 3]]]),
    "half-clear": (encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 127))), HALF),
    "clear": (encoded(Image.new("LA", (1, 1), (0, 0))), [[[255, 255, 255]]]),
    "palette": (palette(), [[[10, 20, 30]]]),
    "clear-palette": (palette(transparency=1), [[[255, 255, 255]]]),
    "16-bit-white": (encoded(gray16(65535)), [[[255, 255, 255]]]),
    "16-bit": (encoded(gray16(128 * 257)), HALF),
    "16-bit-tiff": (encoded(gray16(128 * 257), "TIFF"), HALF),
    "32-bit": (encoded(Image.new("I", (1, 1), 128 * 257), "TIFF"), HALF),
    "cmyk": (encoded(Image.new("CMYK", (1, 1), (0, 0, 0, 127)), "TIFF"), HALF),
    "animation": (gif_of_two(), [[[255, 0, 0]]]),
}


@pytest.mark.parametrize(("data", "pixels"), COLORS.values(), ids=COLORS)
def test_becomes_rgb(data, pixels):
    image = decode_image(data)
    assert image.dtype == np.uint8
    assert image.tolist() == pixels


def test_jpeg_is_close_to_what_was_saved():
    colors = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    image = decode_image(encoded(Image.fromarray(colors), "JPEG", quality=95))
    assert np.max(np.abs(image.astype(int) - colors)) <= 3


def forged_png(width: int, height: int) -> bytes:
    """A header that claims a size far beyond the data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk, empty = b"IHDR" + header, b"\x00\x00\x00\x00IDAT"
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + empty
    )


NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
PNG, JPEG = (encoded(Image.fromarray(NOISE), kind) for kind in ("PNG", "JPEG"))


DAMAGE = {
    "empty": (b"", "empty file"),
    "text": (b"not an image", "no known image format"),
    "cut-png": (PNG[: len(PNG) // 2], "truncated|broken"),
    "cut-jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "bomb": (forged_png(100_000, 100_000), "DecompressionBomb"),
    "float": (encoded(Image.new("F", (1, 1), 0.5), "TIFF"), "float pixels"),
    "beyond-16-bits": (encoded(Image.new("I", (1, 1), 70_000), "TIFF"), "outside 0 to 65535"),
    "negative": (encoded(Image.new("I", (1, 1), -1), "TIFF"), "outside 0 to 65535"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_unreadable(data, message):
    with pytest.raises(UnreadableImage, match=message):
        decode_image(data)
