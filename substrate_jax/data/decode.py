"""Encoded image files to RGB pixels, whatever colors and depths they come in.

The rules, all fixed, so that one file gives one array everywhere:

    gray                 repeated over the channels
    palette              resolved
    any transparency     laid over white: below full transparency color is arbitrary, often black
    16-bit gray          divided by 257 (65535 -> 255), never stretched to the values present
    CMYK, YCbCr          Pillow's conversion, without color profiles
    EXIF orientation     ignored, as TFDS and torchvision do
    animation            first frame

Cost: O(pixels), without Python's lock while Pillow decodes.

Not guaranteed: equal values from another JPEG library; decoders differ by a level or two. Damage
that leaves a decodable stream shows as wrong pixels: Pillow does not verify a PNG's checksums. And
where a program has set Pillow's LOAD_TRUNCATED_IMAGES, truncated files are accepted.
"""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError


class UnreadableImage(ValueError):
    """An image that cannot be decoded: truncated, empty, or of no known format."""


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Encoded bytes to RGB pixels, by the rules of this module.

    Args:
      data: contents of an image file in any format that Pillow reads.

    Returns:
      uint8 [h, w, 3], values 0 to 255.

    Raises:
      UnreadableImage: empty, truncated, of unknown format, or 32-bit values beyond 16 bits.

    Example:
      >>> buffer = io.BytesIO()
      >>> Image.new("LA", (2, 1), (0, 0)).save(buffer, "PNG")  # black, fully transparent
      >>> decode_image(buffer.getvalue()).tolist()
      [[[255, 255, 255], [255, 255, 255]]]
    """
    if not data:
        raise UnreadableImage("empty file")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.mode == "F":
                raise UnreadableImage("float pixels; store 8 or 16 bits")
            if image.mode.startswith("I"):
                return _from_16_bits(np.asarray(image))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"))
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("no known image format") from error
    except Exception as error:  # Pillow's plugins raise anything on a damaged file
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error


def _from_16_bits(gray: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    if gray.min() < 0 or gray.max() > 65535:
        raise UnreadableImage("integer pixels outside 0 to 65535; store 8 or 16 bits")
    eight = ((gray.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(eight[:, :, None], 3, axis=2)
