"""Preprocessors of Hugging Face transformers as ours.

A file gives the class of its preprocessor and what differs from the defaults of that class. What we
do not compute is an error that names the setting.

Not guaranteed: pixels equal to the last level. Resampling is Pillow's, which transformers' `Pil`
processors share and its torchvision ones come within a level or two of; where an odd number of
pixels is cut off, the crop is torchvision's.
"""

import math
import re
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.data.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Preprocess,
)
from substrate_jax.encoders.hub import PREPROCESSOR
from substrate_jax.encoders.transformers.options import Options, refuse

Channels = tuple[float, float, float]

_MOST_PIXELS = 4_096
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_CLIP = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
_SHARED = {
    "do_resize": True,
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "rescale_offset": False,
    "do_normalize": True,
    "image_mean": INCEPTION_MEAN,
    "image_std": INCEPTION_STD,
    "include_top": False,
    "do_flip_channel_order": False,
    "do_pad": False,
    "use_square_size": False,
}
# transformers' defaults; `square` says whether a size of one number is that of both sides.
_CENTER = {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224}
_PROCESSORS = {
    "ViT": {"size": 224, "resample": 2, "square": True},
    "CLIP": {**_CENTER, **_CLIP, "square": False},
    "Bit": {**_CENTER, **_CLIP, "square": False},
    "Siglip": {"size": {"height": 224, "width": 224}, "square": False},
    "ConvNext": {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "square": False},
    "Beit": {"size": 224, "crop_size": 224, "square": True},
    "DeiT": {"size": 256, "do_center_crop": True, "crop_size": 224, "square": True},
    "EfficientNet": {"size": 346, "crop_size": 289, "include_top": True, "square": True},
    "MobileViT": {**_CENTER, "crop_size": 256, "do_flip_channel_order": True, "square": False},
}


def settings_of(preprocessor: Options | None, default: str) -> dict[str, Any]:
    """The preprocessor's file over the defaults of its class."""
    if preprocessor is None:
        raise ValueError(
            f"{PREPROCESSOR} is missing: it says how images are resized and normalized; "
            "fetch it with the checkpoint"
        )
    kind = preprocessor.get("image_processor_type") or preprocessor.get("feature_extractor_type")
    name = re.sub(r"(FeatureExtractor|ImageProcessor)(Fast|Pil)?$", "", kind or default)
    if name not in _PROCESSORS:
        raise ValueError(
            f"{PREPROCESSOR}: image_processor_type={kind!r} is not supported; give one of "
            f"{', '.join(f'{known}ImageProcessor' for known in _PROCESSORS)}"
        )
    given = {key: value for key, value in preprocessor.items() if value is not None}
    return {**_SHARED, **_PROCESSORS[name], **given, "processor": name}


def preprocess_of(settings: Options) -> Preprocess:
    """What the settings do to an image, as our record of it."""
    resized, side, crop_mode = _geometry(settings)
    if not 1 <= side <= resized <= _MOST_PIXELS:
        raise ValueError(
            f"{PREPROCESSOR}: images of {side} pixels out of {resized} are not supported; give "
            f"sizes from 1 to {_MOST_PIXELS}"
        )
    if settings["resample"] not in _FILTERS:
        refuse(PREPROCESSOR, settings, "resample", f"give one of {', '.join(map(str, _FILTERS))}")
    fraction = side / resized
    if math.floor(side / fraction) != resized:
        fraction = math.nextafter(fraction, 0.0)
    mean, std = _normalization(settings)
    return Preprocess(side, fraction, mean, std, _FILTERS[settings["resample"]], crop_mode)


def _geometry(settings: Options) -> tuple[int, int, str]:
    """Side after resizing, side after the crop, and Preprocess's name for the way to resize."""
    for name, want in (("do_resize", True), ("do_pad", False), ("use_square_size", False)):
        if settings[name] != want:
            refuse(PREPROCESSOR, settings, name, f"give {want}")
    resized, square = _sides(settings, "size", settings["square"])
    if settings["processor"] == "ConvNext":
        if square or settings["do_center_crop"]:
            refuse(
                PREPROCESSOR,
                settings,
                "size" if square else "do_center_crop",
                "crop_pct says the crop",
            )
        # From 384 pixels on the picture is squashed, below it is cropped.
        if resized >= 384:
            return resized, resized, "squash"
        return int(resized / settings["crop_pct"]), resized, "center"
    if not settings["do_center_crop"]:
        if not square:
            refuse(
                PREPROCESSOR,
                settings,
                "do_center_crop",
                "a resized shorter side alone leaves no square",
            )
        return resized, resized, "squash"
    side, equal = _sides(settings, "crop_size", True)
    if not equal or side > resized:
        refuse(
            PREPROCESSOR,
            settings,
            "crop_size",
            f"give a square within the resized {resized} pixels",
        )
    return resized, side, "squash" if square else "center"


def _sides(settings: Options, name: str, square: bool) -> tuple[int, bool]:
    """Pixels of a side, and whether of both sides or of the shorter."""
    value = settings[name]
    if isinstance(value, int):
        return value, square
    if isinstance(value, dict) and value.keys() == {"shortest_edge"}:
        return value["shortest_edge"], False
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        value = [value["height"], value["width"]]
    if not isinstance(value, list) or len(value) != 2 or value[0] != value[1]:
        fix = "give a shortest_edge, or a height and width that are equal"
        refuse(PREPROCESSOR, settings, name, fix)
    return value[0], True


def _normalization(settings: Options) -> tuple[Channels, Channels]:
    """Mean and deviation of pixels x in [0, 1], from (factor x + offset - mean) / std."""

    def channels(name: str) -> Float[np.ndarray, " 3"]:
        return np.broadcast_to(np.asarray(settings[name], float), (3,))

    factor = 255 * (settings["rescale_factor"] if settings["do_rescale"] else 1.0)
    offset = -1.0 if settings["do_rescale"] and settings["rescale_offset"] else 0.0
    mean, std = np.zeros(3), np.ones(3)
    if settings["do_normalize"] and settings["processor"] != "MobileViT":
        mean, std = channels("image_mean"), channels("image_std")
    if settings["include_top"]:  # EfficientNet divides once more
        std = std * channels("image_std")
    with np.errstate(all="ignore"):  # what is not finite, `Preprocess` refuses
        return _rgb((mean - offset) / factor), _rgb(std / factor)


def _rgb(values: Float[np.ndarray, " 3"]) -> Channels:
    red, green, blue = values.tolist()
    return red, green, blue
