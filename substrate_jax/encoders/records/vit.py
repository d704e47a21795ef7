"""Vision transformers: supervised, DINO and DINOv2, MAE, and towers of CLIP and SigLIP."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.records.timm import register_timm
from substrate_jax.encoders.registry import Paradigm

# width, depth, heads, outputs of an MLP's first map over the width
_SIZES = {
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "medium": (512, 12, 8, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "so400m": (1152, 27, 16, 3.7362),
    "huge": (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),
    "giantopt": (1536, 40, 16, 4.0),
    "gigantic": (1664, 48, 16, 64 / 13),
}
_MODEL = re.compile(r"(?:vit|deit3?)_([a-z0-9]+?)(?:_distilled)?_patch(\d+)\w*?(?:_(\d{3}))?\.")
_NON_COMMERCIAL = "cc-by-nc-4.0"


def _parts(model: str) -> tuple[str, int, int]:
    """Size, patch and pixels that timm's name of a vision transformer says; 224 where it does not.

    Example:
        >>> _parts("vit_small_patch8_224.dino"), _parts("vit_base_patch16_224.mae")
        (('small', 8, 224), ('base', 16, 224))
    """
    found = _MODEL.match(model)
    if found is None:
        raise ValueError(f"model={model!r} is no name of a vision transformer in timm")
    size, patch, pixels = found.groups(default="224")
    return size, int(patch), int(pixels)


def _register(
    models: dict[str, str],
    options: Mapping[str, Any],
    paradigm: Paradigm = "supervised",
    **facts: Any,
) -> None:
    """Add records whose size, patch and pixels are read off timm's names.

    Args:
        models: our name to timm's with its tag.
        options: of `ViTConfig`, the same for all.
        paradigm, facts: see `register_timm`.
    """
    for name, model in models.items():
        size, patch, pixels = _parts(model)
        width, depth, heads, ratio = _SIZES[size]
        config = ViTConfig(
            width, depth, heads, patch_size=patch, image_size=pixels, mlp_ratio=ratio
        )
        config = dataclasses.replace(config, **options)
        register_timm(name, model, config, paradigm, **facts)


# Trained on labels: ImageNet-21k, then ImageNet-1k unless the name says otherwise.
_AUGREG: dict[str, Any] = {"crop_fraction": 0.9, "normalization": "inception"}
_register(
    {
        "vit_tiny": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "vit_small": "vit_small_patch16_224.augreg_in21k_ft_in1k",
        "vit_base": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "vit_large": "vit_large_patch16_224.augreg_in21k_ft_in1k",
        "vit_small_patch32": "vit_small_patch32_224.augreg_in21k_ft_in1k",
        "vit_base_patch32": "vit_base_patch32_224.augreg_in21k_ft_in1k",
        "vit_base_patch8": "vit_base_patch8_224.augreg2_in21k_ft_in1k",
        "vit_small_in1k": "vit_small_patch16_224.augreg_in1k",
        "vit_base_in1k": "vit_base_patch16_224.augreg_in1k",
    },
    {},
    paper="2106.10270",
    **_AUGREG,
)
_register(
    {
        f"vit_{size}_in21k": f"vit_{size}_patch16_224.augreg_in21k"
        for size in ("tiny", "small", "base", "large")
    },
    {"num_classes": 21843},
    paper="2106.10270",
    **_AUGREG,
)
_register(
    {
        "vit_large_patch32_in21k": "vit_large_patch32_224.orig_in21k",
        "vit_huge_in21k": "vit_huge_patch14_224.orig_in21k",
    },
    {"num_classes": 0},
    paper="2010.11929",
    **_AUGREG,
)
_register(
    {
        "vit_base_sam": "vit_base_patch16_224.sam_in1k",
        "vit_base_patch32_sam": "vit_base_patch32_224.sam_in1k",
    },
    {},
    paper="2106.01548",
    **_AUGREG,
)
_register(
    {f"deit_{size}": f"deit_{size}_patch16_224.fb_in1k" for size in ("tiny", "small", "base")},
    {},
    crop_fraction=0.9,
    paper="2012.12877",
)
for _pixels, _crop, _names in (
    (224, 0.9, {f"deit_{size}_distilled": size for size in ("tiny", "small", "base")}),
    (384, 1.0, {"deit_base_distilled_384": "base"}),
):
    _register(
        {name: f"deit_{size}_distilled_patch16_{_pixels}.fb_in1k" for name, size in _names.items()},
        {"distilled": True},
        crop_fraction=_crop,
        paper="2012.12877",
    )
for _suffix, _tag, _crop in (("", "fb_in1k", 0.9), ("_in22k", "fb_in22k_ft_in1k", 1.0)):
    _register(
        {
            f"deit3_{size}{_suffix}": f"deit3_{size}_patch{patch}_224.{_tag}"
            for size, patch in (
                ("small", 16),
                ("medium", 16),
                ("base", 16),
                ("large", 16),
                ("huge", 14),
            )
        },
        {"prefix_positions": False, "layer_scale": 1e-6},
        crop_fraction=_crop,
        paper="2204.07118",
    )

# Self-distillation.
_register(
    {
        "dino_small": "vit_small_patch16_224.dino",
        "dino_base": "vit_base_patch16_224.dino",
        "dino_small_patch8": "vit_small_patch8_224.dino",
        "dino_base_patch8": "vit_base_patch8_224.dino",
    },
    {"num_classes": 0},
    "self_supervised",
    crop_fraction=0.9,
    paper="2104.14294",
)
# The checkpoints' position tables are for 518 pixels; at 224 they are resampled on loading.
_DINOV2 = {"layer_scale": 1e-5, "num_classes": 0}
_DINOV2_GIANT = {"width": 1536, "heads": 24, "ffn": "swiglu", "mlp_ratio": 2.66667 * 2}
for _suffix, _infix, _registers, _paper in (
    ("", "", {}, "2304.07193"),
    ("_reg4", "_reg4", {"registers": 4, "prefix_positions": False}, "2309.16588"),
):
    for _size in ("small", "base", "large", "giant"):
        _register(
            {f"dinov2_{_size}{_suffix}": f"vit_{_size}_patch14{_infix}_dinov2.lvd142m"},
            _DINOV2 | _registers | (_DINOV2_GIANT if _size == "giant" else {}),
            "self_supervised",
            crop_fraction=1.0,
            paper=_paper,
        )

# Masked autoencoders.
_register(
    {
        "mae_base": "vit_base_patch16_224.mae",
        "mae_large": "vit_large_patch16_224.mae",
        "mae_huge": "vit_huge_patch14_224.mae",
    },
    {"num_classes": 0},
    "masked_reconstruction",
    crop_fraction=0.9,
    license=_NON_COMMERCIAL,
    paper="2111.06377",
)

# Image towers trained with text; the head is the projection to the space shared with text.
_CLIP = {"pre_norm": True, "eps": 1e-5}
_EMBEDDING = {"base": 512, "large": 768, "huge": 1024, "giant": 1024, "gigantic": 1280}


def _register_clip(models: dict[str, str], quick_gelu: bool = False, **facts: Any) -> None:
    for name, model in models.items():
        size, *_ = _parts(model)
        activation = "quick_gelu" if quick_gelu else "gelu"
        options = _CLIP | {"num_classes": _EMBEDDING[size], "activation": activation}
        common = {"normalization": "clip", "crop_fraction": 1.0}
        _register({name: model}, options, "image_text", **(common | facts))


# OpenAI trained with quick GELU, and timm builds its towers with exact GELU unless told otherwise;
# arXiv:2606.07882 used the latter, which has the plain names. Towers of DFN and MetaCLIP, trained
# so too, are here only as they were trained: timm's `quickgelu` variant (see `timm_model`).
for _suffix, _quick_gelu in (("", False), ("_quickgelu", True)):
    for _patch in ("", "_patch32"):
        _register_clip(
            {f"clip_base{_patch}{_suffix}": f"vit_base{_patch or '_patch16'}_clip_224.openai"},
            _quick_gelu,
            crop_fraction=0.9,
            paper="2103.00020",
        )
    _register_clip(
        {
            f"clip_large{_suffix}": "vit_large_patch14_clip_224.openai",
            f"clip_large_336{_suffix}": "vit_large_patch14_clip_336.openai",
        },
        _quick_gelu,
        paper="2103.00020",
    )
_register_clip(
    {
        "openclip_base": "vit_base_patch16_clip_224.laion2b",
        "openclip_huge": "vit_huge_patch14_clip_224.laion2b",
        "openclip_giant": "vit_giant_patch14_clip_224.laion2b",
        "openclip_gigantic": "vit_gigantic_patch14_clip_224.laion2b",
    },
    paper="2212.07143",
)
_register_clip(
    {"openclip_base_patch32": "vit_base_patch32_clip_224.laion2b"},
    crop_fraction=0.9,
    paper="2212.07143",
)
_register_clip(
    {"openclip_large": "vit_large_patch14_clip_224.laion2b"},
    normalization="inception",
    paper="2212.07143",
)
_register_clip(
    {
        "datacomp_base": "vit_base_patch16_clip_224.datacompxl",
        "datacomp_base_patch32": "vit_base_patch32_clip_224.datacompxl",
        "datacomp_large": "vit_large_patch14_clip_224.datacompxl",
    },
    paper="2304.14108",
)
_register_clip(
    {
        "dfn_large": "vit_large_patch14_clip_224.dfn2b",
        "dfn_huge": "vit_huge_patch14_clip_224.dfn5b",
    },
    quick_gelu=True,
    license="apple-ascl",
    paper="2309.17425",
)
_register_clip(
    {
        "metaclip_base": "vit_base_patch16_clip_224.metaclip_2pt5b",
        "metaclip_base_patch32": "vit_base_patch32_clip_224.metaclip_2pt5b",
        "metaclip_large": "vit_large_patch14_clip_224.metaclip_2pt5b",
        "metaclip_huge": "vit_huge_patch14_clip_224.metaclip_2pt5b",
    },
    quick_gelu=True,
    license=_NON_COMMERCIAL,
    paper="2309.16671",
)

# SigLIP: no class token, attention pooling. SigLIP 2 has the tanh GELU in some of its towers.
_SIGLIP = {"class_token": False, "pool": "map", "num_classes": 0}
_SIGLIP_FACTS = {"crop_fraction": 0.9, "normalization": "inception"}
_register(
    {
        "siglip_base": "vit_base_patch16_siglip_224.webli",
        "siglip_base_256": "vit_base_patch16_siglip_256.webli",
        "siglip_base_384": "vit_base_patch16_siglip_384.webli",
        "siglip_base_512": "vit_base_patch16_siglip_512.webli",
        "siglip_large_256": "vit_large_patch16_siglip_256.webli",
        "siglip_large_384": "vit_large_patch16_siglip_384.webli",
        "siglip_so400m": "vit_so400m_patch14_siglip_224.webli",
        "siglip_so400m_378": "vit_so400m_patch14_siglip_378.webli",
    },
    _SIGLIP,
    "image_text",
    paper="2303.15343",
    **_SIGLIP_FACTS,
)
_register(
    {
        "siglip2_base": "vit_base_patch16_siglip_224.v2_webli",
        "siglip2_base_256": "vit_base_patch16_siglip_256.v2_webli",
        "siglip2_base_384": "vit_base_patch16_siglip_384.v2_webli",
        "siglip2_base_512": "vit_base_patch16_siglip_512.v2_webli",
        "siglip2_large_256": "vit_large_patch16_siglip_256.v2_webli",
        "siglip2_large_384": "vit_large_patch16_siglip_384.v2_webli",
        "siglip2_so400m": "vit_so400m_patch14_siglip_224.v2_webli",
        "siglip2_so400m_378": "vit_so400m_patch14_siglip_378.v2_webli",
    },
    _SIGLIP,
    "image_text",
    paper="2502.14786",
    **_SIGLIP_FACTS,
)
_register(
    {
        "siglip2_base_patch32_256": "vit_base_patch32_siglip_256.v2_webli",
        "siglip2_large_512": "vit_large_patch16_siglip_512.v2_webli",
        "siglip2_so400m_patch16_256": "vit_so400m_patch16_siglip_256.v2_webli",
        "siglip2_giantopt_256": "vit_giantopt_patch16_siglip_256.v2_webli",
    },
    _SIGLIP | {"activation": "gelu_tanh"},
    "image_text",
    paper="2502.14786",
    **_SIGLIP_FACTS,
)
