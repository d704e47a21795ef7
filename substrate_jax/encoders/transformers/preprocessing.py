"""Image processors of Hugging Face transformers as ours.

Settings are complete (see `options`). What we do not compute is an error that names the setting.

Not guaranteed: pixels equal to the last level. Resampling is Pillow's, which transformers' `Pil`
processors share and its torchvision ones, DINOv3's among them, come within a level or two of; where
an odd number of pixels is cut off, the crop is torchvision's.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.hub import PREPROCESSOR
from substrate_jax.encoders.transformers.options import Options, processor_settings, refuse

Channels = tuple[float, float, float]

_MOST_PIXELS = 4_096
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
PROCESSORS = (
    *("ViT", "CLIP", "Bit", "Siglip", "ConvNext", "Beit", "DeiT", "EfficientNet", "MobileViT"),
    "DINOv3ViT",
)


def settings_of(preprocessor: Options | None, model_type: str) -> dict[str, Any]:
    """All settings of the image processor that a file describes, its name among them."""
    if preprocessor is None:
        raise ValueError(
            f"{PREPROCESSOR} is missing: it says how images are resized and normalized; "
            "fetch it with the checkpoint"
        )
    return processor_settings(model_type, preprocessor, PROCESSORS)


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
    for name, want in (("do_resize", True), ("do_pad", False)):
        if settings.get(name, False) != want:
            refuse(PREPROCESSOR, settings, name, f"give {want}")
    resized, square = _side(settings, "size")
    crops = settings.get("do_center_crop", False)
    if settings["processor"] == "ConvNext":
        if square or crops:
            name = "size" if square else "do_center_crop"
            refuse(PREPROCESSOR, settings, name, "crop_pct says the crop")
        # From 384 pixels on the picture is squashed, below it is cropped.
        if resized >= 384:
            return resized, resized, "squash"
        return int(resized / settings["crop_pct"]), resized, "center"
    if not crops:
        if not square:
            name = "do_center_crop" if "do_center_crop" in settings else "size"
            refuse(PREPROCESSOR, settings, name, "a resized shorter side alone leaves no square")
        return resized, resized, "squash"
    side, equal = _side(settings, "crop_size")
    if not equal or side > resized:
        fix = f"give a square within the resized {resized} pixels"
        refuse(PREPROCESSOR, settings, "crop_size", fix)
    return resized, side, "squash" if square else "center"


def _side(settings: Options, name: str) -> tuple[int, bool]:
    """Pixels of a side, and whether of both sides or of the shorter."""
    value = settings[name]
    sides = list(value.values()) if isinstance(value, dict) else []
    square = isinstance(value, dict) and value.keys() == {"height", "width"}
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if not whole or len(set(sides)) != 1 or not (square or value.keys() == {"shortest_edge"}):
        fix = "give a shortest_edge, or a height and width that are equal"
        refuse(PREPROCESSOR, settings, name, fix)
    return sides[0], square


def _normalization(settings: Options) -> tuple[Channels, Channels]:
    """Mean and deviation of pixels x in [0, 1], from (factor x + offset - mean) / std."""

    def channels(name: str) -> Float[np.ndarray, " 3"]:
        return np.broadcast_to(np.asarray(settings[name], float), (3,))

    factor = 255 * (settings["rescale_factor"] if settings["do_rescale"] else 1.0)
    offset = -1.0 if settings["do_rescale"] and settings.get("rescale_offset") else 0.0
    mean, std = np.zeros(3), np.ones(3)
    if settings.get("do_normalize") and settings["processor"] != "MobileViT":
        mean, std = channels("image_mean"), channels("image_std")
    with np.errstate(all="ignore"):  # what is not finite, `Preprocess` refuses
        if settings.get("include_top"):  # EfficientNet divides once more
            std = std * channels("image_std")
        return _rgb((mean - offset) / factor), _rgb(std / factor)


def _rgb(values: Float[np.ndarray, " 3"]) -> Channels:
    red, green, blue = values.tolist()
    return red, green, blue
