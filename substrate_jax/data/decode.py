"""Encoded image files to RGB pixels, whatever colors and depths they come in.

The rules, all fixed, so that one file gives one array everywhere (docs/images.md):

    gray                 repeated over the channels; white where 0 means white (TIFF)
    palette              resolved
    any transparency     laid over white: below full transparency color is arbitrary, often black
    gray of b bits       its range 0 to 2^b - 1 becomes 0 to 255, never stretched to the values
                         present: 16 bits are divided by 257, 12 bits multiplied by 255 / 4095
    integers of 32 bits  as 16 bits, refused outside 0 to 65535; so are signed ones
    16-bit colors        their upper 8 bits
    float                refused: no range is agreed on
    CMYK, YCbCr          Pillow's conversion, without color profiles
    orientation          of EXIF or TIFF: ignored, or applied where asked for, in every format alike
    animation, pages     the first
    DICOM                its own rules (`dicom`)

Cost: O(pixels), without Python's lock while Pillow decodes.

Not guaranteed: equal values from another JPEG library; decoders differ by a level or two. Damage
that leaves a decodable stream shows as wrong pixels: Pillow does not verify a PNG's checksums. And
where a program has set Pillow's LOAD_TRUNCATED_IMAGES, truncated files are accepted.
"""

import io
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from substrate_jax.data.dicom import decode_dicom, is_dicom
from substrate_jax.data.formats import image_formats
from substrate_jax.data.paths import one_line
from substrate_jax.data.unreadable import UnreadableImage

Orientation = Literal["ignore", "apply"]

# What undoes each orientation that Pillow applies to a TIFF on its own.
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_UNMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_TAGS = (
    ExifTags.Base.Orientation,
    TiffImagePlugin.BITSPERSAMPLE,
    TiffImagePlugin.COMPRESSION,
    TiffImagePlugin.PHOTOMETRIC_INTERPRETATION,
    TiffImagePlugin.PLANAR_CONFIGURATION,
    TiffImagePlugin.SAMPLEFORMAT,
)
_SIGNED = 2  # of the last of them
_PNG_DEPTH = 24  # where a PNG says its bits per sample


def decode_image(data: bytes, *, orientation: Orientation = "ignore") -> UInt8[np.ndarray, "h w 3"]:
    """Encoded bytes to RGB pixels, by the rules of this module.

    Args:
      data: contents of an image file in any format that Pillow decodes.
      orientation: "ignore" leaves the pixels as they are stored, "apply" turns them as EXIF says.

    Returns:
      uint8 [h, w, 3], values 0 to 255.

    Raises:
      UnreadableImage: empty, truncated, of unknown format, or pixels without an agreed range.

    Example:
      >>> buffer = io.BytesIO()
      >>> Image.new("LA", (2, 1), (0, 0)).save(buffer, "PNG")  # black, fully transparent
      >>> decode_image(buffer.getvalue()).tolist()
      [[[255, 255, 255], [255, 255, 255]]]
    """
    if not data:
        raise UnreadableImage("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=image_formats()) as image:
            return _rgb(image, data, orientation)
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        if is_dicom(data):
            return decode_dicom(data)
        raise UnreadableImage("no known image format, or one of another depth") from error
    except Exception as error:  # Pillow's plugins raise anything on a damaged file
        raise UnreadableImage(f"{type(error).__name__}: {one_line(error)}") from error


def _rgb(image: Image.Image, data: bytes, orientation: Orientation) -> UInt8[np.ndarray, "h w 3"]:
    tags = {}
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = {tag: image.tag_v2[tag] for tag in _TAGS if tag in image.tag_v2}
    _refuse_misread(image, tags)
    image.load()
    turned, stored = image, tags.get(ExifTags.Base.Orientation)
    if orientation == "apply":
        turned = ImageOps.exif_transpose(turned)
    # Pillow takes the tag away when it has turned a TIFF.
    elif stored in _BACK and ExifTags.Base.Orientation not in turned.getexif():
        turned = turned.transpose(_BACK[stored])
    if turned.mode == "F":
        raise UnreadableImage("float pixels, whose range is not known; store 8 or 16 bits")
    if turned.mode.startswith("I"):
        return _from_integers(np.asarray(turned), tags, turned.info.get("transparency"))
    turned = _opaque(turned, data)
    return np.asarray(turned.convert("RGB"))


def _refuse_misread(image: Image.Image, tags: dict) -> None:
    """Refuse what Pillow reads as something else."""
    depths = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    separate = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
    if separate and max(depths) > 8 and tags.get(TiffImagePlugin.COMPRESSION, 1) == 1:
        raise UnreadableImage("uncompressed 16-bit colors plane by plane; store them interleaved")
    if depths == (8,) and _SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise UnreadableImage("signed 8-bit pixels; store them without a sign")
    if image.format == "FITS" and image.mode != "L":
        raise UnreadableImage("FITS of other than 8 bits, whose range is not known; store 8 bits")


def _opaque(image: Image.Image, data: bytes) -> Image.Image:
    """The image over white."""
    if image.mode == "P" and image.palette is None:  # of an image inside an ICNS
        image = image.convert("RGBA")
    if not image.has_transparency_data:
        return image
    clear = image.info.get("transparency")
    if image.format == "PNG" and image.mode in ("L", "RGB") and clear is not None:
        bits = data[_PNG_DEPTH]
        if bits == 16:
            raise UnreadableImage("16-bit colors with a transparent one; store an alpha channel")
        # Pillow widens the pixels of 2 and 4 bits to 8 and leaves this value as it is.
        if bits < 8 and isinstance(clear, int):
            image.info["transparency"] = clear * (255 // (2**bits - 1))
    if image.mode in _UNMULTIPLIED:
        image = image.convert(_UNMULTIPLIED[image.mode])
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _from_integers(
    gray: Integer[np.ndarray, "h w"], tags: dict, clear: int | None
) -> UInt8[np.ndarray, "h w 3"]:
    """Gray of more than 8 bits, full range to full range."""
    (bits,) = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
    most = 4095 if bits == 12 else 65535
    if gray.min() < 0 or gray.max() > most:
        raise UnreadableImage(f"integer pixels outside 0 to {most}; store 8 or 16 bits")
    wide = gray.astype(np.uint32)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        wide = most - wide
    eight = ((wide * 255 + most // 2) // most).astype(np.uint8)  # below 2^32
    if clear is not None:
        eight[gray == clear] = 255
    return np.repeat(eight[:, :, None], 3, axis=2)
