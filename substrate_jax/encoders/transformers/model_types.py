"""Which architectures of Hugging Face transformers we compute, and with which of their options.

`MODEL_TYPES` gives each architecture transformers' own default of every option that decides the
output, since files leave defaults out, and the values we compute where that is not all. Any other
value is an error that names the option.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.encoders.hub import CONFIG
from substrate_jax.encoders.networks.network import Config
from substrate_jax.encoders.registry import Paradigm
from substrate_jax.encoders.transformers import clap, configs
from substrate_jax.encoders.transformers.options import (
    BEIT,
    BEIT_SUPPORTED,
    CLIP,
    CLIP_SUPPORTED,
    CONVNEXT,
    CONVNEXT_SUPPORTED,
    DINOV2,
    EFFICIENTNET,
    EFFICIENTNET_SUPPORTED,
    MOBILEVITV2,
    MOBILEVITV2_SUPPORTED,
    REGNET,
    REGNET_SUPPORTED,
    RESNET,
    RESNET_SUPPORTED,
    SIGLIP,
    SIGLIP_SUPPORTED,
    SWIN,
    SWIN_SUPPORTED,
    VIT,
    VIT_SUPPORTED,
    Options,
    refuse,
)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture of transformers.

    Args:
        defaults: transformers' default of every option that decides the output.
        supported: values that an option may have, where it may not have all.
        paradigm: what its published weights were trained on.
        paper: arXiv id.
    """

    defaults: Options
    supported: Mapping[str, tuple]
    paradigm: Paradigm
    paper: str


@dataclass(frozen=True, kw_only=True)
class ModelType(Architecture):
    """An architecture of images.

    Args:
        build: our config, from the options and the side of the images.
        processor: the preprocessor's name where its file has none.
        any_size: whether the images may differ in size from the config's `image_size`.
    """

    build: Callable[[Options, int], Config]
    processor: str
    any_size: bool


@dataclass(frozen=True, kw_only=True)
class SoundType(Architecture):
    """An architecture of sounds.

    Args:
        build: our config, from the options and what is done to a sound.
    """

    build: Callable[[Options, SoundPreprocess], Config]


MODEL_TYPES = {
    "vit": ModelType(
        build=configs.vit,
        defaults=VIT,
        supported=VIT_SUPPORTED,
        processor="ViT",
        any_size=False,
        paradigm="supervised",
        paper="2010.11929",
    ),
    "vit_mae": ModelType(
        build=configs.vit,
        defaults=VIT,
        supported=VIT_SUPPORTED,
        processor="ViT",
        any_size=False,
        paradigm="masked_reconstruction",
        paper="2111.06377",
    ),
    "dinov2": ModelType(
        build=configs.dinov2,
        defaults=DINOV2,
        supported=VIT_SUPPORTED,
        processor="Bit",
        any_size=True,
        paradigm="self_supervised",
        paper="2304.07193",
    ),
    "dinov2_with_registers": ModelType(
        build=configs.dinov2_with_registers,
        defaults=DINOV2 | {"patch_size": 16, "num_register_tokens": 4},
        supported=VIT_SUPPORTED,
        processor="Bit",
        any_size=True,
        paradigm="self_supervised",
        paper="2309.16588",
    ),
    "clip": ModelType(
        build=configs.clip,
        defaults=CLIP,
        supported=CLIP_SUPPORTED,
        processor="CLIP",
        any_size=False,
        paradigm="image_text",
        paper="2103.00020",
    ),
    "siglip": ModelType(
        build=configs.siglip,
        defaults=SIGLIP,
        supported=SIGLIP_SUPPORTED,
        processor="Siglip",
        any_size=False,
        paradigm="image_text",
        paper="2303.15343",
    ),
    "beit": ModelType(
        build=configs.beit,
        defaults=BEIT,
        supported=BEIT_SUPPORTED,
        processor="Beit",
        any_size=False,
        paradigm="supervised",
        paper="2106.08254",
    ),
    "convnext": ModelType(
        build=configs.convnext,
        defaults=CONVNEXT | {"layer_scale_init_value": 1e-6},
        supported=CONVNEXT_SUPPORTED,
        processor="ConvNext",
        any_size=True,
        paradigm="supervised",
        paper="2201.03545",
    ),
    "convnextv2": ModelType(
        build=configs.convnext,
        defaults=CONVNEXT,
        supported=CONVNEXT_SUPPORTED,
        processor="ConvNext",
        any_size=True,
        paradigm="supervised",
        paper="2301.00808",
    ),
    "resnet": ModelType(
        build=configs.resnet,
        defaults=RESNET,
        supported=RESNET_SUPPORTED,
        processor="ConvNext",
        any_size=True,
        paradigm="supervised",
        paper="1512.03385",
    ),
    "regnet": ModelType(
        build=configs.regnet,
        defaults=REGNET,
        supported=REGNET_SUPPORTED,
        processor="ConvNext",
        any_size=True,
        paradigm="supervised",
        paper="2003.13678",
    ),
    "swin": ModelType(
        build=configs.swin,
        defaults=SWIN,
        supported=SWIN_SUPPORTED,
        processor="ViT",
        any_size=False,
        paradigm="supervised",
        paper="2103.14030",
    ),
    "efficientnet": ModelType(
        build=configs.efficientnet,
        defaults=EFFICIENTNET,
        supported=EFFICIENTNET_SUPPORTED,
        processor="EfficientNet",
        any_size=True,
        paradigm="supervised",
        paper="1905.11946",
    ),
    "mobilevitv2": ModelType(
        build=configs.mobilevitv2,
        defaults=MOBILEVITV2,
        supported=MOBILEVITV2_SUPPORTED,
        processor="MobileViT",
        any_size=True,
        paradigm="supervised",
        paper="2206.02680",
    ),
}
SOUND_TYPES = {
    "clap": SoundType(
        build=clap.clap,
        defaults=clap.CLAP,
        supported=clap.CLAP_SUPPORTED,
        paradigm="sound_text",
        paper="2211.06687",
    ),
}
# Beyond these a file is damaged, and making the network would take forever.
_MOST = {
    "num_hidden_layers": 1_000,
    "num_stages": 16,
    "depths": 1_000,
    "image_size": 8_192,
    "spec_size": 8_192,
    "window_size": 64,
    "width_coefficient": 100,
    "depth_coefficient": 100,
    "mlp_ratio": 1_000,
}
_LONGEST = 100
# None of those, stages that are not padded, no scale (ConvNeXt).
_MAY_BE_0 = ("num_register_tokens", "depthwise_padding", "layer_scale_init_value")
TOWERS = {"clip": "vision_config", "siglip": "vision_config"}


def model_options(config: Options) -> tuple[str, dict[str, Any]]:
    """The architecture and every option that decides the output, as transformers reads it.

    Of an image-text model the options of its image tower, of CLAP those of its tower of sounds.

    Raises:
        ValueError: a model type or the value of an option that we do not compute.

    Example:
        >>> model_options({"model_type": "clip", "vision_config": {"patch_size": 14}})[0]
        'clip'
    """
    model_type = config.get("model_type")
    name = str(model_type)
    if name in TOWERS:
        # transformers lets the older key, written with all options, override the other.
        config = config.get(f"{TOWERS[name]}_dict") or config.get(TOWERS[name]) or {}
        if not isinstance(config, Mapping):
            raise ValueError(f"{CONFIG}: {TOWERS[name]}={config!r} is not supported; give options")
    elif name == "clap":
        config = clap.tower_options(config)
    name = name.removesuffix("_vision_model").removesuffix("_audio_model")
    kind = MODEL_TYPES.get(name) or SOUND_TYPES.get(name)
    if kind is None:
        raise ValueError(
            f"{CONFIG}: model_type={model_type!r} is not supported; give one of "
            f"{', '.join(MODEL_TYPES)}, or of sounds {', '.join(SOUND_TYPES)}"
        )
    given = {key: config[key] for key in kind.defaults if config.get(key) is not None}
    options = dict(kind.defaults) | {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    for key, value in options.items():
        default = kind.defaults[key]
        if not _is_like(key, value, default):
            fix = f"give what transformers writes, such as {default!r}"
            refuse(CONFIG, options, key, fix)
        if not _is_sane(key, value):
            refuse(
                CONFIG, options, key, f"no network has that; transformers' default is {default!r}"
            )
    for key, values in kind.supported.items():
        if options[key] not in values:
            one_of = " or ".join(map(repr, values))
            refuse(CONFIG, options, key, f"{name} is computed with {one_of}")
    return name, options


def _is_sane(name: str, value: Any) -> bool:
    """Whether an option's numbers are such that a network can be made of them."""
    if isinstance(value, tuple):
        return len(value) <= _LONGEST and all(_is_sane(name, one) for one in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name.endswith("_eps"):
            return 0 < value < 1
        return (value > 0 or (value == 0 and name in _MAY_BE_0)) and value <= _MOST.get(name, 2**20)
    return True


def _is_like(name: str, value: Any, default: Any) -> bool:
    """Whether an option's value has the type of its default."""
    if isinstance(value, tuple):
        if name in ("image_size", "patch_size"):  # one number, or height and width
            default = (default,)
        first = next(iter(default), 0) if isinstance(default, tuple) else ()
        return first != () and all(_is_like(name, one, first) for one in value)
    if value is None or isinstance(value, bool):
        return isinstance(default, type(value))
    kinds = (
        (int, float) if isinstance(default, float) else int if default is None else type(default)
    )
    return isinstance(value, kinds)
