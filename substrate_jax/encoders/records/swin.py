"""Swin transformers, and those of the searched space S3.

The name alone is timm's default tag; another is told by what it was trained on, as in its tag.
"""

from substrate_jax.encoders.networks.swin import SwinConfig
from substrate_jax.encoders.records.timm import register_timm

# depths, channels
_SIZES = {
    "tiny": ((2, 2, 6, 2), (96, 192, 384, 768)),
    "small": ((2, 2, 18, 2), (96, 192, 384, 768)),
    "base": ((2, 2, 18, 2), (128, 256, 512, 1024)),
    "large": ((2, 2, 18, 2), (192, 384, 768, 1536)),
}
# size, pixels, tags, the default first
for _size, _pixels, _tags in (
    ("tiny", 224, ("in1k", "in22k_ft_in1k", "in22k")),
    ("small", 224, ("in22k_ft_in1k", "in1k", "in22k")),
    ("base", 224, ("in22k_ft_in1k", "in1k", "in22k")),
    ("large", 224, ("in22k_ft_in1k", "in22k")),
    ("base", 384, ("in22k_ft_in1k", "in1k", "in22k")),
    ("large", 384, ("in22k_ft_in1k", "in22k")),
):
    _window = 7 if _pixels == 224 else 12
    for _tag in _tags:
        register_timm(
            f"swin_{_size}"
            + ("" if _pixels == 224 else f"_{_pixels}")
            + ("" if _tag == _tags[0] else f"_{_tag}"),
            f"swin_{_size}_patch4_window{_window}_{_pixels}.ms_{_tag}",
            SwinConfig(
                *_SIZES[_size],
                (_window,) * 4,
                num_classes=21841 if _tag == "in22k" else 1000,
                image_size=_pixels,
            ),
            crop_fraction=0.9 if _pixels == 224 else 1.0,
            license="mit",
            paper="2103.14030",
        )
# size, depth of the third stage, windows
for _size, _third, _windows in (
    ("tiny", 6, (7, 7, 14, 7)),
    ("small", 18, (14, 14, 14, 7)),
    ("base", 30, (7, 7, 14, 7)),
):
    register_timm(
        f"swin_s3_{_size}",
        f"swin_s3_{_size}_224.ms_in1k",
        SwinConfig((2, 2, _third, 2), _SIZES["tiny"][1], _windows),
        crop_fraction=0.9,
        license="mit",
        paper="2111.14725",
    )
