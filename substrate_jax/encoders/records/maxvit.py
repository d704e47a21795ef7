"""MaxViT, Google's weights at 224, 384 and 512 pixels."""

from substrate_jax.encoders.maxvit import MaxViTConfig
from substrate_jax.encoders.records.timm import register_timm

# depths, channels, stem channels
_SIZES = {
    "tiny": ((2, 2, 5, 2), (64, 128, 256, 512), 64),
    "small": ((2, 2, 5, 2), (96, 192, 384, 768), 64),
    "base": ((2, 6, 14, 2), (96, 192, 384, 768), 64),
    "large": ((2, 6, 14, 2), (128, 256, 512, 1024), 128),
    "xlarge": ((2, 6, 14, 2), (192, 384, 768, 1536), 192),
}
_TRAINED_ON_IMAGENET = ("tiny", "small", "base", "large")
_TRAINED_ON_IMAGENET_21K = ("base", "large", "xlarge")

# suffix of our name, timm's tag, input size, crop fraction, normalisation, classes, sizes.
# At 384 and 512 pixels timm squashes the image to a square; here its central square is taken.
for _suffix, _tag, _image_size, _crop, _normalisation, _classes, _names in (
    ("", "in1k", 224, 0.95, "imagenet", 1000, _TRAINED_ON_IMAGENET),
    ("_384", "in1k", 384, 1.0, "inception", 1000, _TRAINED_ON_IMAGENET),
    ("_512", "in1k", 512, 1.0, "inception", 1000, _TRAINED_ON_IMAGENET),
    ("_in21k", "in21k", 224, 0.95, "inception", 21843, _TRAINED_ON_IMAGENET_21K),
    ("_384_in21k_ft_in1k", "in21k_ft_in1k", 384, 1.0, "inception", 1000, _TRAINED_ON_IMAGENET_21K),
    ("_512_in21k_ft_in1k", "in21k_ft_in1k", 512, 1.0, "inception", 1000, _TRAINED_ON_IMAGENET_21K),
):
    for _name in _names:
        register_timm(
            f"maxvit_{_name}{_suffix}",
            f"maxvit_{_name}_tf_{_image_size}.{_tag}",
            MaxViTConfig(*_SIZES[_name], num_classes=_classes, image_size=_image_size),
            crop_fraction=_crop,
            normalisation=_normalisation,
            paper="2204.01697",
        )
