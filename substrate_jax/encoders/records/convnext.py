"""ConvNeXt, ConvNeXt V2 and its masked pretraining (FCMAE), and towers of CLIP and DINOv3."""

from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.records.timm import register_timm

# depths, channels
_SIZES = {
    "atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
    "huge": ((3, 3, 27, 3), (352, 704, 1408, 2816)),
    "xxlarge": ((3, 4, 30, 3), (384, 768, 1536, 3072)),
}
_SMALL = ("atto", "femto", "pico", "nano")


def _config(size: str, **options) -> ConvNeXtConfig:
    return ConvNeXtConfig(*_SIZES[size], conv_mlp=size in _SMALL, **options)


# name, size, tag, classes, crop
for _name, _size, _tag, _classes, _crop in (
    ("convnext_atto", "atto", "d2_in1k", 1000, 0.875),
    ("convnext_femto", "femto", "d1_in1k", 1000, 0.875),
    ("convnext_pico", "pico", "d1_in1k", 1000, 0.875),
    ("convnext_nano", "nano", "in12k_ft_in1k", 1000, 0.95),
    ("convnext_tiny", "tiny", "in12k_ft_in1k", 1000, 0.95),
    ("convnext_small", "small", "in12k_ft_in1k", 1000, 0.95),
    ("convnext_base", "base", "fb_in22k_ft_in1k", 1000, 0.875),
    ("convnext_large", "large", "fb_in22k_ft_in1k", 1000, 0.875),
    ("convnext_xlarge", "xlarge", "fb_in22k_ft_in1k", 1000, 0.875),
    ("convnext_tiny_in1k", "tiny", "fb_in1k", 1000, 0.875),
    ("convnext_small_in1k", "small", "fb_in1k", 1000, 0.875),
    ("convnext_base_in1k", "base", "fb_in1k", 1000, 0.875),
    ("convnext_large_in1k", "large", "fb_in1k", 1000, 0.875),
    ("convnext_tiny_in22k", "tiny", "fb_in22k", 21841, 0.875),
    ("convnext_small_in22k", "small", "fb_in22k", 21841, 0.875),
    ("convnext_base_in22k", "base", "fb_in22k", 21841, 0.875),
    ("convnext_large_in22k", "large", "fb_in22k", 21841, 0.875),
    ("convnext_xlarge_in22k", "xlarge", "fb_in22k", 21841, 0.875),
):
    register_timm(
        _name,
        f"convnext_{_size}.{_tag}",
        _config(_size, num_classes=_classes),
        crop_fraction=_crop,
        paper="2201.03545",
    )
for _size in (*_SMALL, "tiny", "base", "large", "huge"):
    # The other fine-tuned checkpoint of the largest is for 384 pixels.
    _tag = "fcmae_ft_in22k_in1k" if _size in ("nano", "tiny", "base", "large") else "fcmae_ft_in1k"
    register_timm(
        f"convnextv2_{_size}",
        f"convnextv2_{_size}.{_tag}",
        _config(_size, layer_scale=None, grn=True),
        crop_fraction=0.875,
        license="cc-by-nc-4.0",
        paper="2301.00808",
    )
for _size in (*_SMALL, "tiny", "base", "large", "huge"):
    # Pretraining never used the head's norm, so its checkpoints may lack it.
    register_timm(
        f"fcmae_{_size}",
        f"convnextv2_{_size}.fcmae",
        _config(_size, layer_scale=None, grn=True, num_classes=0),
        "masked_reconstruction",
        crop_fraction=0.875,
        license="cc-by-nc-4.0",
        paper="2301.00808",
        optional_keys=("head.norm.weight", "head.norm.bias"),
    )
for _size in ("tiny", "small", "base", "large"):
    register_timm(
        f"dinov3_convnext_{_size}",
        f"convnext_{_size}.dinov3_lvd1689m",
        _config(_size, num_classes=0),
        "self_supervised",
        crop_fraction=1.0,
        license="dinov3-license",
        paper="2508.10104",
    )
# name, timm's name, size, pixels, outputs of the head, what differs from the common shape
for _name, _model, _size, _pixels, _embedding, _options in (
    ("base", "base.clip_laion2b", "base", 256, 640, {}),
    ("base_augreg", "base.clip_laion2b_augreg", "base", 256, 640, {}),
    ("large", "large_mlp.clip_laion2b_augreg", "large", 256, 768, {"head_hidden": 1536}),
    ("large_320", "large_mlp.clip_laion2b_ft_soup_320", "large", 320, 768, {"head_hidden": 1536}),
    ("xxlarge", "xxlarge.clip_laion2b_soup", "xxlarge", 256, 1024, {"eps": 1e-5}),
):
    register_timm(
        f"openclip_convnext_{_name}",
        f"convnext_{_model}",
        _config(_size, num_classes=_embedding, image_size=_pixels, **_options),
        "image_text",
        crop_fraction=1.0,
        normalization="clip",
        paper="2212.07143",
    )
