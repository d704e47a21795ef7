r"""Pixels to network input: resize, center crop, scale, normalize, as timm evaluates.

An image of height H and width W, uint8, and a network that takes s x s pixels after a crop of
fraction c become

    r = floor(s / c)                     the shorter side is resized to r, the longer to
                                         floor(r * long / short)
    x = central s x s box of the resized image
    y = (x / 255 - mean) / std           per channel, float32

Some checkpoints want the picture squashed instead: both sides resized to r, whatever their ratio.

The work is in two parts. `resize_crop` runs on the host, in worker threads: Pillow resamples with
the filter stretched over the source pixels (antialiased), rounds to uint8 and releases Python's
lock while it does; uint8 is a quarter of the bytes to send to the device. `normalize` is a
handful of array operations that XLA fuses into the network's first layer.

Cost: O(H W) to read an image, O(s^2) to normalize it; of an image whose sides differ by a factor of
32 or more only the part that the crop keeps is resized, so memory is O(H W + 32 r^2).

Not guaranteed: resampling on another library than Pillow (TensorFlow, OpenCV, torch tensors)
rounds otherwise, and gives pixels one or two levels away.

References: R. Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861 (evaluation transform).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from substrate_jax.data.sources import Modality

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
INCEPTION_MEAN = (0.5, 0.5, 0.5)
INCEPTION_STD = (0.5, 0.5, 0.5)

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# From this ratio of the sides on, the part that the crop keeps is resized and not the whole: a row
# of 3,000 pixels, enlarged to 256 rows, takes 600 MB.
_LONGEST = 32


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """What a network expects of its input; hashable, so it can key caches and jit.

    Args:
      size: side of the square input, pixels.
      crop_fraction: share of the resized shorter side that the crop keeps, in (0, 1].
      mean: per-channel mean of pixels in [0, 1], RGB.
      std: per-channel standard deviation of pixels in [0, 1], RGB.
      interpolation: "nearest", "bilinear", "bicubic" or "lanczos".
      crop_mode: "center" keeps the ratio of the sides and cuts off what is over; "squash" resizes
        both sides to `resized` before the crop.

    Raises:
      ValueError: a value out of its range.

    Example:
      >>> Preprocess(size=224, crop_fraction=0.875).resized
      256
    """

    modality: ClassVar[Modality] = "image"
    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)  # of what the host prepares

    size: int
    crop_fraction: float = 1.0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_mode: str = "center"

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size={self.size}: give a side of at least 1 pixel")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction={self.crop_fraction}: give a share in (0, 1]")
        for name in ("mean", "std"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 3 or not all(map(math.isfinite, value)):
                raise ValueError(f"{name}={value}: give three numbers, one per channel (RGB)")
            object.__setattr__(self, name, value)  # a list from JSON would not hash
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std}: give positive values")
        if self.interpolation not in _FILTERS:
            raise ValueError(
                f"interpolation={self.interpolation!r}: give one of {', '.join(_FILTERS)}"
            )
        if self.crop_mode not in ("center", "squash"):
            raise ValueError(f"crop_mode={self.crop_mode!r}: give center or squash")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the host prepares of one image: [s, s, 3]."""
        return (self.size, self.size, 3)

    @property
    def label(self) -> str:
        """The input in a word, for a table: its side in pixels."""
        return str(self.size)

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The part for the host: `resize_crop`."""
        return resize_crop(image, self)

    def finish(self, images: UInt8[Array, "n s s 3"]) -> Float[Array, "n s s 3"]:
        """The part for the devices: `normalize`."""
        return normalize(images, self)

    @property
    def resized(self) -> int:
        """Length of the shorter side after resizing, before the crop: floor(size / fraction)."""
        return math.floor(self.size / self.crop_fraction)

    @property
    def pixels(self) -> tuple[int, float, str, str]:
        """The part that `resize_crop` depends on: networks that share it share the pixels."""
        return (self.size, self.crop_fraction, self.interpolation, self.crop_mode)


def resize_crop(image: UInt8[np.ndarray, "h w 3"], spec: Preprocess) -> UInt8[np.ndarray, "s s 3"]:
    """Resize the shorter side, or both, to `spec.resized` and keep the central square.

    Args:
      image: uint8 [h, w, 3], values 0 to 255.
      spec: what the network expects; `mean` and `std` are not used here.

    Returns:
      uint8 [size, size, 3].

    Raises:
      ValueError: `image` is not uint8 [h, w, 3] with at least one pixel.

    Example:
      >>> resize_crop(np.zeros((48, 64, 3), np.uint8), Preprocess(size=32)).shape
      (32, 32, 3)
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"image is {image.dtype} {list(image.shape)}: give uint8 [h, w, 3], not empty"
        )
    height, width = image.shape[:2]
    short = spec.resized
    if spec.crop_mode == "squash":
        target = (short, short)
    elif height <= width:
        target = (int(short * width / height), short)
    else:
        target = (short, int(short * height / width))
    left, top = (round((side - spec.size) / 2) for side in target)
    if target == (width, height):
        return np.ascontiguousarray(image[top : top + spec.size, left : left + spec.size])
    picture, method = Image.fromarray(image), _FILTERS[spec.interpolation]
    if max(target) > _LONGEST * short:
        return np.asarray(_resize_part(picture, target, (left, top), spec.size, method))
    resized = np.asarray(picture.resize(target, method))
    return np.ascontiguousarray(resized[top : top + spec.size, left : left + spec.size])


def _resize_part(
    picture: Image.Image,
    target: tuple[int, int],
    corner: tuple[int, int],
    size: int,
    method: Image.Resampling,
) -> Image.Image:
    """The square at `corner` of the picture resized to `target`, without making the rest.

    Pillow places the filter by the box alone and reads beyond it, so the pixels are those of the
    whole, to a level; where the filter overshoots black or white in one pass, to a few, as Pillow
    may take the other pass first.
    """
    steps = [side / made for side, made in zip(picture.size, target, strict=True)]
    starts = [step * first for step, first in zip(steps, corner, strict=True)]
    ends = [
        min(start + step * size, side)  # rounding may go beyond the picture
        for start, step, side in zip(starts, steps, picture.size, strict=True)
    ]
    (left, top), (right, bottom) = starts, ends
    return picture.resize((size, size), method, box=(left, top, right, bottom))


def normalize(
    images: UInt8[Array, "n h w 3"] | UInt8[np.ndarray, "n h w 3"], spec: Preprocess
) -> Float[Array, "n h w 3"]:
    """Scale pixels to [0, 1], subtract the mean, divide by the standard deviation.

    Args:
      images: uint8 [n, h, w, 3], values 0 to 255, on host or device.
      spec: gives `mean` and `std`.

    Returns:
      float32 [n, h, w, 3].

    Example:
      >>> spec = Preprocess(size=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
      >>> normalize(np.full((1, 1, 1, 3), 255, np.uint8), spec).ravel().tolist()
      [1.0, 1.0, 1.0]
    """
    mean, std = (
        jnp.asarray(value, jnp.float32)[None, None, None, :] for value in (spec.mean, spec.std)
    )
    return (jnp.asarray(images).astype(jnp.float32) / 255.0 - mean) / std


def preprocess(
    images: UInt8[Array, "n h w 3"] | Sequence[UInt8[np.ndarray, "h w 3"]], spec: Preprocess
) -> Float[jax.Array, "n s s 3"]:
    """Resize, crop, scale and normalize a batch, or a list of images of different sizes.

    Args:
      images: uint8 [n, h, w, 3], or n arrays uint8 [h, w, 3]; values 0 to 255.
      spec: what the network expects.

    Returns:
      float32 [n, size, size, 3].

    Raises:
      ValueError: an image is not uint8 [h, w, 3] with at least one pixel.

    Example:
      >>> preprocess([np.zeros((48, 64, 3), np.uint8)], Preprocess(size=32)).shape
      (1, 32, 32, 3)
    """
    pixels = np.zeros((len(images), spec.size, spec.size, 3), np.uint8)
    for row, image in zip(pixels, images, strict=True):
        row[...] = resize_crop(np.asarray(image), spec)
    return normalize(pixels, spec)
