"""The record of every encoder: what it is, where its weights are, and how it wants its images.

A record (`EncoderSpec`) is data: shape of the network, learning paradigm, preprocessing, licence,
paper, and the checkpoint on the Hugging Face hub or the bundled file. `list_encoders` and groups
are read off the records. The preprocessing of a record is the checkpoint's own; the analyses of
arXiv:2606.07882 use ImageNet's mean and deviation for every encoder, which is an option there.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from substrate_jax.data.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Preprocess,
)
from substrate_jax.encoders.convnext import ConvNeXtConfig
from substrate_jax.encoders.resnet import ResNetConfig
from substrate_jax.encoders.vit import ViTConfig

Config = ResNetConfig | ViTConfig | ConvNeXtConfig
Paradigm = Literal["supervised", "self_supervised", "masked_reconstruction", "image_text"]
FAMILIES = {ResNetConfig: "resnet", ViTConfig: "vit", ConvNeXtConfig: "convnext"}


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that is known of an encoder before its weights are read.

    Args:
        name: the name users give.
        config: shape of the network; its type says the family.
        paradigm: what the weights were trained on.
        preprocess: resize, crop and normalisation the weights expect.
        checkpoint: hub id of the weights (`timm/NAME.TAG`), or the bundled file's name.
        licence: licence of the weights.
        paper: arXiv id of the method.
        panel: "paper" for the panel of arXiv:2606.07882, "mini" for bundled stand-ins, else None.
        shared: member of the five-encoder panel used across domains.
        optional_keys: parameters the checkpoint may lack, which then keep their initial value.
    """

    name: str
    config: Config
    paradigm: Paradigm
    preprocess: Preprocess
    checkpoint: str
    licence: str
    paper: str
    panel: Literal["paper", "mini"] | None = None
    shared: bool = False
    optional_keys: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Name of the architecture: resnet, vit or convnext."""
        return FAMILIES[type(self.config)]

    @property
    def width(self) -> int:
        """Features an image."""
        return self.config.width

    @property
    def bundled(self) -> bool:
        """Whether the weights ship with the package."""
        return self.panel == "mini"

    @property
    def groups(self) -> frozenset[str]:
        """The groups it belongs to.

        `discriminative` follows the paper: trained on labels or by self-supervised contrast or
        distillation. Image-text towers form a group of their own.
        """
        names = {"mim" if self.paradigm == "masked_reconstruction" else self.paradigm}
        if self.paradigm in ("supervised", "self_supervised"):
            names.add("discriminative")
        if self.shared:
            names.add("shared")
        return frozenset(names)


GROUPS = ("discriminative", "mim", "supervised", "self_supervised", "image_text", "shared")
PANELS = ("mini", "paper")
_registry: dict[str, EncoderSpec] = {}


def register_encoder(spec: EncoderSpec) -> EncoderSpec:
    """Add a record.

    Raises:
        ValueError: the name is taken.
    """
    if spec.name in _registry:
        raise ValueError(f"encoder {spec.name!r} is registered already; give another name")
    _registry[spec.name] = spec
    return spec


def encoder_spec(name: str) -> EncoderSpec:
    """The record of one encoder.

    Raises:
        ValueError: unknown name; the message lists near matches.

    Example:
        >>> encoder_spec("resnet50").width
        2048
    """
    if name not in _registry:
        near = difflib.get_close_matches(name, _registry, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "see list_encoders()"
        raise ValueError(f"unknown encoder {name!r}: {hint}")
    return _registry[name]


def list_encoders(panel: str | None = None, group: str | None = None) -> list[str]:
    """Names of registered encoders, in order of registration.

    Args:
        panel: only this panel's members: "mini" or "paper".
        group: only this group's members, see `GROUPS`.

    Raises:
        ValueError: no such panel or group.

    Example:
        >>> list_encoders(panel="paper", group="mim")
        ['mae_base', 'fcmae_base']
    """
    if panel is not None and panel not in PANELS:
        raise ValueError(f"unknown panel {panel!r}: choose one of {', '.join(PANELS)}")
    if group is not None and group not in GROUPS:
        raise ValueError(f"unknown group {group!r}: choose one of {', '.join(GROUPS)}")
    return [
        name
        for name, spec in _registry.items()
        if (panel is None or spec.panel == panel) and (group is None or group in spec.groups)
    ]


def select_encoders(names: Iterable[str], panel: str) -> list[str]:
    """Resolve a user's list: `all`, groups of the panel, and names from anywhere, without repeats.

    Raises:
        ValueError: a word is neither a group nor an encoder, or nothing is left.

    Example:
        >>> select_encoders(["mim", "resnet18"], panel="paper")
        ['mae_base', 'fcmae_base', 'resnet18']
    """
    chosen: list[str] = []
    for word in names:
        if word == "all":
            chosen += list_encoders(panel)
        elif word in GROUPS:
            chosen += list_encoders(panel, word)
        else:
            chosen.append(encoder_spec(word).name)
    if not chosen:
        raise ValueError(f"encoders={','.join(names)!r} selects nothing of panel {panel!r}")
    return list(dict.fromkeys(chosen))


def _imagenet(crop_fraction: float, size: int = 224) -> Preprocess:
    return Preprocess(size, crop_fraction, IMAGENET_MEAN, IMAGENET_STD)


def _inception(crop_fraction: float) -> Preprocess:
    return Preprocess(224, crop_fraction, INCEPTION_MEAN, INCEPTION_STD)


def _clip(crop_fraction: float) -> Preprocess:
    return Preprocess(224, crop_fraction, CLIP_MEAN, CLIP_STD)


_VIT_SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
_CONVNEXT_SIZES = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
# name, depths, bottleneck, tag
_RESNETS = (
    ("resnet18", (2, 2, 2, 2), False, "a1_in1k"),
    ("resnet34", (3, 4, 6, 3), False, "a1_in1k"),
    ("resnet50", (3, 4, 6, 3), True, "a1_in1k"),
    ("resnet101", (3, 4, 23, 3), True, "a1h_in1k"),
    ("resnet152", (3, 8, 36, 3), True, "a1h_in1k"),
)
_PAPER = {
    "resnet50", "resnet101", "convnext_base", "vit_base", "vit_large",
    "dinov2_base", "mae_base", "fcmae_base", "clip_base",
}  # fmt: skip
_SHARED = {"resnet50", "convnext_base", "vit_base", "dinov2_base"}


def _register_timm(
    name: str, checkpoint: str, config: Config, paradigm: Paradigm, **fields
) -> None:
    register_encoder(
        EncoderSpec(
            name=name,
            config=config,
            paradigm=paradigm,
            checkpoint=f"timm/{checkpoint}",
            panel="paper" if name in _PAPER else None,
            shared=name in _SHARED,
            **fields,
        )
    )


for _name, _depths, _bottleneck, _tag in _RESNETS:
    _register_timm(
        _name,
        f"{_name}.{_tag}",
        ResNetConfig(_depths, _bottleneck),
        "supervised",
        preprocess=_imagenet(0.95),
        licence="apache-2.0",
        paper="2110.00476",
    )
for _size, _tag in (
    ("tiny", "in12k_ft_in1k"),
    ("small", "in12k_ft_in1k"),
    ("base", "fb_in22k_ft_in1k"),
    ("large", "fb_in22k_ft_in1k"),
):
    _register_timm(
        f"convnext_{_size}",
        f"convnext_{_size}.{_tag}",
        ConvNeXtConfig(*_CONVNEXT_SIZES[_size]),
        "supervised",
        preprocess=_imagenet(0.95 if _tag == "in12k_ft_in1k" else 0.875),
        licence="apache-2.0",
        paper="2201.03545",
    )
for _size in ("tiny", "base", "large"):
    _v2 = ConvNeXtConfig(*_CONVNEXT_SIZES[_size], layer_scale=None, grn=True)
    _register_timm(
        f"convnextv2_{_size}",
        f"convnextv2_{_size}.fcmae_ft_in22k_in1k",
        _v2,
        "supervised",
        preprocess=_imagenet(0.875),
        licence="cc-by-nc-4.0",
        paper="2301.00808",
    )
for _size, _tag in (
    ("tiny", "augreg_in21k_ft_in1k"),
    ("small", "augreg_in21k_ft_in1k"),
    ("base", "augreg2_in21k_ft_in1k"),
    ("large", "augreg_in21k_ft_in1k"),
):
    _register_timm(
        f"vit_{_size}",
        f"vit_{_size}_patch16_224.{_tag}",
        ViTConfig(*_VIT_SIZES[_size]),
        "supervised",
        preprocess=_inception(0.9),
        licence="apache-2.0",
        paper="2106.10270",
    )
for _size in ("small", "base", "large"):
    # The checkpoint's position table is for 518 pixels; at 224 it is resampled on loading.
    _register_timm(
        f"dinov2_{_size}",
        f"vit_{_size}_patch14_dinov2.lvd142m",
        ViTConfig(*_VIT_SIZES[_size], patch_size=14, layer_scale=1e-5, num_classes=0),
        "self_supervised",
        preprocess=_imagenet(1.0),
        licence="apache-2.0",
        paper="2304.07193",
    )
for _size in ("base", "large"):
    _register_timm(
        f"mae_{_size}",
        f"vit_{_size}_patch16_224.mae",
        ViTConfig(*_VIT_SIZES[_size], num_classes=0),
        "masked_reconstruction",
        preprocess=_imagenet(0.9),
        licence="cc-by-nc-4.0",
        paper="2111.06377",
    )
for _size in ("tiny", "base", "large"):
    # Pretraining never used the head's norm, so its checkpoints may lack it.
    _register_timm(
        f"fcmae_{_size}",
        f"convnextv2_{_size}.fcmae",
        ConvNeXtConfig(*_CONVNEXT_SIZES[_size], layer_scale=None, grn=True, num_classes=0),
        "masked_reconstruction",
        preprocess=_imagenet(0.875),
        licence="cc-by-nc-4.0",
        paper="2301.00808",
        optional_keys=("head.norm.weight", "head.norm.bias"),
    )
for _size, _patch, _crop, _embedding in (("base", 16, 0.9, 512), ("large", 14, 1.0, 768)):
    # As timm builds this checkpoint: exact GELU, though OpenAI trained with quick GELU.
    _register_timm(
        f"clip_{_size}",
        f"vit_{_size}_patch{_patch}_clip_224.openai",
        ViTConfig(
            *_VIT_SIZES[_size], patch_size=_patch, pre_norm=True, eps=1e-5, num_classes=_embedding
        ),
        "image_text",
        preprocess=_clip(_crop),
        licence="apache-2.0",
        paper="2103.00020",
    )

_MINI_LICENCE = "apache-2.0"
_MINI_PREPROCESS = _imagenet(1.0, size=32)


def _mini_resnet(depths: tuple[int, ...]) -> ResNetConfig:
    return ResNetConfig(
        depths,
        bottleneck=True,
        channels=(16, 32, 64, 128),
        stem_channels=32,
        stem_kernel=3,
        stem_stride=2,
        stem_pool=False,
        num_classes=100,
        image_size=32,
    )


def _mini_vit(patch_size: int, **options) -> ViTConfig:
    return ViTConfig(96, 4, 3, patch_size=patch_size, image_size=32, **options)


def _mini_convnext(**options) -> ConvNeXtConfig:
    options = {"num_classes": 100} | options
    return ConvNeXtConfig((2, 4), (64, 128), patch_size=4, image_size=32, **options)


_MINI_SUPERVISED = {
    "resnet50": (_mini_resnet((1, 1, 2, 1)), "1512.03385"),
    "resnet101": (_mini_resnet((1, 2, 4, 1)), "1512.03385"),
    "convnext_base": (_mini_convnext(layer_scale=0.1), "2201.03545"),
    "vit_base": (_mini_vit(4, pool="avg", num_classes=100), "2010.11929"),
}
_MINI_SELF_SUPERVISED = {
    "dinov2_base": (_mini_vit(8, layer_scale=0.1, num_classes=0), "2002.05709"),
}
_MINI_MASKED = {
    "mae_base": (_mini_vit(4, num_classes=0), "2111.06377"),
    "fcmae_base": (_mini_convnext(layer_scale=None, grn=True, num_classes=0), "2301.00808"),
}
_MINI_IMAGE_TEXT = {
    "clip_base": (_mini_vit(8, pre_norm=True, eps=1e-5, num_classes=64), "2103.00020"),
}
# Stand-ins for the paper's panel: the same modules and paradigms at 32 pixels, weights bundled.
for _name, (_config, _paper), _paradigm in (
    *((name, entry, "supervised") for name, entry in _MINI_SUPERVISED.items()),
    *((name, entry, "self_supervised") for name, entry in _MINI_SELF_SUPERVISED.items()),
    *((name, entry, "masked_reconstruction") for name, entry in _MINI_MASKED.items()),
    *((name, entry, "image_text") for name, entry in _MINI_IMAGE_TEXT.items()),
):
    register_encoder(
        EncoderSpec(
            name=f"mini_{_name}",
            config=_config,
            paradigm=_paradigm,
            preprocess=_MINI_PREPROCESS,
            checkpoint=f"mini_{_name}.safetensors",
            licence=_MINI_LICENCE,
            paper=_paper,
            panel="mini",
            shared=_name in _SHARED,
        )
    )
