"""ConvNeXt, ConvNeXt V2, and V2's masked pretraining (FCMAE)."""

from substrate_jax.encoders.convnext import ConvNeXtConfig
from substrate_jax.encoders.records.timm import register_timm

_SIZES = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
for _size, _tag, _crop in (
    ("tiny", "in12k_ft_in1k", 0.95),
    ("small", "in12k_ft_in1k", 0.95),
    ("base", "fb_in22k_ft_in1k", 0.875),
    ("large", "fb_in22k_ft_in1k", 0.875),
):
    register_timm(
        f"convnext_{_size}",
        f"convnext_{_size}.{_tag}",
        ConvNeXtConfig(*_SIZES[_size]),
        crop_fraction=_crop,
        paper="2201.03545",
    )
for _size in ("tiny", "base", "large"):
    register_timm(
        f"convnextv2_{_size}",
        f"convnextv2_{_size}.fcmae_ft_in22k_in1k",
        ConvNeXtConfig(*_SIZES[_size], layer_scale=None, grn=True),
        crop_fraction=0.875,
        licence="cc-by-nc-4.0",
        paper="2301.00808",
    )
for _size in ("tiny", "base", "large"):
    # Pretraining never used the head's norm, so its checkpoints may lack it.
    register_timm(
        f"fcmae_{_size}",
        f"convnextv2_{_size}.fcmae",
        ConvNeXtConfig(*_SIZES[_size], layer_scale=None, grn=True, num_classes=0),
        "masked_reconstruction",
        crop_fraction=0.875,
        licence="cc-by-nc-4.0",
        paper="2301.00808",
        optional_keys=("head.norm.weight", "head.norm.bias"),
    )
