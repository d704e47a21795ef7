"""Images as small pictures in a page: a strip of a few, and the rows of a contact sheet.

Cost: about 1 ms per image.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from substrate_jax.report.page import SheetRow, Strip
from substrate_jax.report.text import data_uri

# Pixels.
THUMBNAIL_SIDE = 96
TILE_SIDE, TILE_GAP = 64, 4


def strip(images: Sequence[UInt8[np.ndarray, "_ _ 3"]], caption: str, alt: str) -> Strip:
    """Thumbnails of images, no side longer than 96 pixels.

    Args:
        images: each of its own shape.
        caption: stands under them.
        alt: what they show, for those who cannot see them.

    Raises:
        ValueError: an image is not uint8 with three channels.
    """
    uris = []
    for image in images:
        small = _picture(image, "thumbnails")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        uris.append(_webp(small, quality=90))
    return Strip(uris, caption, alt)


def sheet_row(
    title: str,
    detail: str,
    ends: Mapping[str, Sequence[UInt8[np.ndarray, "_ _ 3"]]],
) -> SheetRow:
    """A row of a contact sheet; every image in a square of 64 pixels, its shape kept.

    Args:
        title: name of the axis.
        detail: what is known of it.
        ends: what an end is called -> its images, from left to right.

    Raises:
        ValueError: an image is not uint8 with three channels.
    """
    found = []
    for name, images in ends.items():
        step = TILE_SIDE + TILE_GAP
        width = max(len(images) * step - TILE_GAP, 1)
        row = Image.new("RGB", (width, TILE_SIDE), "white")
        for i, image in enumerate(images):
            tile = ImageOps.contain(_picture(image, "sheets"), (TILE_SIDE, TILE_SIDE))
            corner = (i * step + (TILE_SIDE - tile.width) // 2, (TILE_SIDE - tile.height) // 2)
            row.paste(tile, corner)
        found.append((name, _webp(row, quality=70), width))
    return SheetRow(title, detail, found)


def _picture(image: Any, what: str) -> Image.Image:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"{what}: an image is {image.dtype}{list(image.shape)}; give uint8 [h, w, 3]"
        )
    return Image.fromarray(image)


def _webp(image: Image.Image, *, quality: int) -> str:
    """WebP has a little over half of the bytes of JPEG at the same error."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return data_uri(buffer.getvalue(), "image/webp")
