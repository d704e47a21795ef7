"""EfficientNets trained in torch, and those ported from TensorFlow: noisy student, and lite."""

from substrate_jax.encoders.networks.efficientnet import EfficientNetConfig
from substrate_jax.encoders.records.timm import register_timm

# Multipliers of width and depth, B0 to B7
_SCALES = (
    (1.0, 1.0),
    (1.0, 1.1),
    (1.1, 1.2),
    (1.2, 1.4),
    (1.4, 1.8),
    (1.6, 2.2),
    (1.8, 2.6),
    (2.0, 3.1),
)
# tag, pixels, crop, normalization, way to resize; there are none of B6 and B7
for _size, (_tag, _pixels, _crop, _normalization, _mode) in enumerate(
    (
        ("ra_in1k", 224, 0.875, "imagenet", "center"),
        ("ra4_e3600_r240_in1k", 240, 0.9, "inception", "center"),
        ("ra_in1k", 256, 0.875, "imagenet", "center"),
        ("ra2_in1k", 288, 0.875, "imagenet", "center"),
        ("ra2_in1k", 320, 0.875, "imagenet", "center"),
        ("sw_in12k_ft_in1k", 448, 1.0, "imagenet", "squash"),
    )
):
    register_timm(
        f"efficientnet_b{_size}",
        f"efficientnet_b{_size}.{_tag}",
        EfficientNetConfig(*_SCALES[_size], image_size=_pixels),
        crop_fraction=_crop,
        normalization=_normalization,
        crop_mode=_mode,
        paper="1905.11946",
    )
# pixels, crop
for _size, (_pixels, _crop) in enumerate(
    (
        (224, 0.875),
        (240, 0.882),
        (260, 0.89),
        (300, 0.904),
        (380, 0.922),
        (456, 0.934),
        (528, 0.942),
        (600, 0.949),
    )
):
    register_timm(
        f"tf_efficientnet_b{_size}",
        f"tf_efficientnet_b{_size}.ns_jft_in1k",
        EfficientNetConfig(*_SCALES[_size], padding="same", eps=1e-3, image_size=_pixels),
        crop_fraction=_crop,
        paper="1911.04252",
    )
# pixels, crop, way to interpolate
for _size, (_pixels, _crop, _interpolation) in enumerate(
    (
        (224, 0.875, "bicubic"),
        (240, 0.882, "bicubic"),
        (260, 0.89, "bicubic"),
        (300, 0.904, "bilinear"),
        (380, 0.92, "bilinear"),
    )
):
    register_timm(
        f"tf_efficientnet_lite{_size}",
        f"tf_efficientnet_lite{_size}.in1k",
        EfficientNetConfig(
            *_SCALES[_size], padding="same", eps=1e-3, image_size=_pixels, lite=True
        ),
        crop_fraction=_crop,
        normalization="inception",
        interpolation=_interpolation,
        paper="1905.11946",
    )
