"""Vision transformers: supervised, DINOv2, MAE, and the image towers of CLIP."""

from substrate_jax.encoders.records.timm import register_timm
from substrate_jax.encoders.vit import ViTConfig

_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
for _size, _tag in (
    ("tiny", "augreg_in21k_ft_in1k"),
    ("small", "augreg_in21k_ft_in1k"),
    ("base", "augreg2_in21k_ft_in1k"),
    ("large", "augreg_in21k_ft_in1k"),
):
    register_timm(
        f"vit_{_size}",
        f"vit_{_size}_patch16_224.{_tag}",
        ViTConfig(*_SIZES[_size]),
        crop_fraction=0.9,
        normalisation="inception",
        paper="2106.10270",
    )
for _size in ("small", "base", "large"):
    # The checkpoint's position table is for 518 pixels; at 224 it is resampled on loading.
    register_timm(
        f"dinov2_{_size}",
        f"vit_{_size}_patch14_dinov2.lvd142m",
        ViTConfig(*_SIZES[_size], patch_size=14, layer_scale=1e-5, num_classes=0),
        "self_supervised",
        crop_fraction=1.0,
        paper="2304.07193",
    )
for _size in ("base", "large"):
    register_timm(
        f"mae_{_size}",
        f"vit_{_size}_patch16_224.mae",
        ViTConfig(*_SIZES[_size], num_classes=0),
        "masked_reconstruction",
        crop_fraction=0.9,
        licence="cc-by-nc-4.0",
        paper="2111.06377",
    )
for _size, _patch, _crop, _embedding in (("base", 16, 0.9, 512), ("large", 14, 1.0, 768)):
    # As timm builds this checkpoint: exact GELU, though OpenAI trained with quick GELU.
    register_timm(
        f"clip_{_size}",
        f"vit_{_size}_patch{_patch}_clip_224.openai",
        ViTConfig(
            *_SIZES[_size], patch_size=_patch, pre_norm=True, eps=1e-5, num_classes=_embedding
        ),
        "image_text",
        crop_fraction=_crop,
        normalisation="clip",
        paper="2103.00020",
    )
