"""MaxViT, Google's weights at 224, 384 and 512 pixels."""

from substrate_jax.encoders.networks.maxvit import MaxViTConfig
from substrate_jax.encoders.records.timm import register_timm

# depths, channels, stem channels
_SIZES = {
    "tiny": ((2, 2, 5, 2), (64, 128, 256, 512), 64),
    "small": ((2, 2, 5, 2), (96, 192, 384, 768), 64),
    "base": ((2, 6, 14, 2), (96, 192, 384, 768), 64),
    "large": ((2, 6, 14, 2), (128, 256, 512, 1024), 128),
    "xlarge": ((2, 6, 14, 2), (192, 384, 768, 1536), 192),
}
# Sizes whose weights were trained on ImageNet-1k alone, and on ImageNet-21k first
_IN1K = ("tiny", "small", "base", "large")
_IN21K = ("base", "large", "xlarge")

# suffix of our name, timm's tag, pixels, crop, normalization, classes, sizes
for _suffix, _tag, _pixels, _crop, _normalization, _classes, _sizes in (
    ("", "in1k", 224, 0.95, "imagenet", 1000, _IN1K),
    ("_384", "in1k", 384, 1.0, "inception", 1000, _IN1K),
    ("_512", "in1k", 512, 1.0, "inception", 1000, _IN1K),
    ("_in21k", "in21k", 224, 0.95, "inception", 21843, _IN21K),
    ("_384_in21k_ft_in1k", "in21k_ft_in1k", 384, 1.0, "inception", 1000, _IN21K),
    ("_512_in21k_ft_in1k", "in21k_ft_in1k", 512, 1.0, "inception", 1000, _IN21K),
):
    for _size in _sizes:
        register_timm(
            f"maxvit_{_size}{_suffix}",
            f"maxvit_{_size}_tf_{_pixels}.{_tag}",
            MaxViTConfig(*_SIZES[_size], num_classes=_classes, image_size=_pixels),
            crop_fraction=_crop,
            normalization=_normalization,
            crop_mode="center" if _pixels == 224 else "squash",
            paper="2204.01697",
        )
