"""Configs of Hugging Face transformers as ours, one builder and one table of options a model type.

`MODEL_TYPES` gives each architecture transformers' own default of every option that decides the
output, since files leave defaults out, and the values we compute where that is not all. Any other
value is an error that names the option.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from substrate_jax.encoders.hub import CONFIG
from substrate_jax.encoders.networks.beit import BEiTConfig
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.efficientnet import STAGES, EfficientNetConfig
from substrate_jax.encoders.networks.mobilevit import MobileViTV2Config
from substrate_jax.encoders.networks.network import Config
from substrate_jax.encoders.networks.regnet import RegNetConfig
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.swin import SwinConfig
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.registry import Paradigm
from substrate_jax.encoders.transformers.options import (
    ACTIVATIONS,
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
)

Options = Mapping[str, Any]


@dataclass(frozen=True)
class ListedRegNetConfig(RegNetConfig):
    """A RegNet of `listed` (channels, blocks) a stage, whatever line they may lie on."""

    listed: tuple[tuple[int, int], ...] = ()

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Channels and blocks of each stage."""
        return self.listed


@dataclass(frozen=True)
class ModelType:
    """One architecture of transformers.

    Args:
        build: our config, from the options and the side of the images.
        defaults: transformers' default of every option that decides the output.
        supported: values that an option may have, where it may not have all.
        processor: the preprocessor's name where its file has none.
        any_size: whether the images may differ in size from the config's `image_size`.
        paradigm: what its published weights were trained on.
        paper: arXiv id.
    """

    build: Callable[[Options, int], Config]
    defaults: Options
    supported: Mapping[str, tuple]
    processor: str
    any_size: bool
    paradigm: Paradigm
    paper: str


def _ratio(hidden: int, width: int) -> float:
    """The float r next to hidden / width for which int(width * r) is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _vit(options: Options, size: int, **changes) -> ViTConfig:
    width, heads = options["hidden_size"], options["num_attention_heads"]
    _require(options, "head_dim", options["head_dim"] in (None, width // heads), "leave it out")
    hidden = options.get("intermediate_size") or int(width * options["mlp_ratio"])
    return ViTConfig(
        **{
            "width": width,
            "depth": options["num_hidden_layers"],
            "heads": heads,
            "patch_size": _side(options, "patch_size"),
            "image_size": size,
            "mlp_ratio": _ratio(hidden, width),
            "activation": ACTIVATIONS[options["hidden_act"]],
            "eps": options["layer_norm_eps"],
            "num_classes": 0,
        }
        | changes
    )


def _dinov2(options: Options, size: int, **changes) -> ViTConfig:
    width = options["hidden_size"]
    if options["use_swiglu_ffn"]:
        half = (int(int(width * options["mlp_ratio"]) * 2 / 3) + 7) // 8 * 8
        changes |= {"ffn": "swiglu", "mlp_ratio": _ratio(2 * half, width)}
    return _vit(options, size, layer_scale=1.0, **changes)


def _dinov2_with_registers(options: Options, size: int) -> ViTConfig:
    # The class token's row of the table is added to the token on loading.
    return _dinov2(options, size, registers=options["num_register_tokens"], prefix_positions=False)


def _clip(options: Options, size: int) -> ViTConfig:
    return _vit(options, size, pre_norm=True)


def _siglip(options: Options, size: int) -> ViTConfig:
    return _vit(options, size, class_token=False, pool="map")


def _beit(options: Options, size: int) -> BEiTConfig:
    scale = options["layer_scale_init_value"]
    _require(options, "layer_scale_init_value", scale > 0, "give a positive value")
    width = options["hidden_size"]
    return BEiTConfig(
        width,
        options["num_hidden_layers"],
        options["num_attention_heads"],
        patch_size=_side(options, "patch_size"),
        image_size=size,
        mlp_ratio=_ratio(options["intermediate_size"], width),
        eps=options["layer_norm_eps"],
        num_classes=0,
    )


def _convnext(options: Options, size: int) -> ConvNeXtConfig:
    channels, depths = _stages(options)
    _require(options, "num_stages", options["num_stages"] == len(depths), "give one depth a stage")
    # transformers halves the resolution before every stage but the first, we where channels change.
    changes = all(a != b for a, b in itertools.pairwise(channels))
    _require(options, "hidden_sizes", changes, "give each stage other channels than the last")
    scale = options.get("layer_scale_init_value")
    return ConvNeXtConfig(
        depths,
        channels,
        patch_size=_side(options, "patch_size"),
        layer_scale=1e-6 if scale and scale > 0 else None,
        grn=scale is None,
        head_eps=options["layer_norm_eps"],
        num_classes=0,
        image_size=size,
    )


def _resnet(options: Options, size: int) -> ResNetConfig:
    channels, depths = _stages(options)
    bottleneck = options["layer_type"] == "bottleneck"
    whole = not bottleneck or all(c % 4 == 0 for c in channels)
    _require(options, "hidden_sizes", whole, "give multiples of 4")
    return ResNetConfig(
        depths,
        bottleneck,
        tuple(c // 4 for c in channels) if bottleneck else channels,
        stem_channels=options["embedding_size"],
        num_classes=0,
        image_size=size,
    )


def _regnet(options: Options, size: int) -> RegNetConfig:
    channels, depths = _stages(options)
    return ListedRegNetConfig(
        depth=sum(depths),
        initial_width=8,
        slope=0.0,
        multiplier=2.0,
        group_width=options["groups_width"],
        se_ratio=0.25 if options["layer_type"] == "y" else 0.0,
        stem_channels=options["embedding_size"],
        num_classes=0,
        image_size=size,
        listed=tuple(zip(channels, depths, strict=True)),
    )


def _swin(options: Options, size: int) -> SwinConfig:
    depths, heads = options["depths"], options["num_heads"]
    channels = tuple(options["embed_dim"] * 2**stage for stage in range(len(depths)))
    alike = len(heads) == len(depths) and all(
        count * channels[0] == heads[0] * c for count, c in zip(heads, channels, strict=True)
    )
    _require(options, "num_heads", alike, "give heads that double from stage to stage")
    return SwinConfig(
        depths,
        channels,
        windows=(options["window_size"],) * len(depths),
        head_width=channels[0] // heads[0],
        patch_size=_side(options, "patch_size"),
        mlp_ratio=options["mlp_ratio"],
        eps=options["layer_norm_eps"],
        num_classes=0,
        image_size=size,
    )


def _efficientnet(options: Options, size: int) -> EfficientNetConfig:
    config = EfficientNetConfig(
        options["width_coefficient"],
        options["depth_coefficient"],
        padding="same",
        eps=options["batch_norm_eps"],
        num_classes=0,
        image_size=size,
    )
    _require(options, "hidden_dim", options["hidden_dim"] == config.width, f"give {config.width}")
    # Where a halved map has an odd side, TensorFlow's padding is even; transformers is told which.
    odd, number, side, in_channels = [], 0, size // 2, config.scale(config.stem_channels)
    for _, stride, _, channels, count in STAGES:
        channels = config.scale(channels)
        skips = stride > 1 or in_channels != channels
        _require(options, "width_coefficient", skips, "give one that changes channels each stage")
        if stride == 2:
            odd += [number] if side % 2 else []
            side = -(-side // 2)
        number, in_channels = number + config.repeat(count), channels
    if size % 2:
        raise ValueError(f"efficientnet at {size} pixels: give a preprocessor of an even size")
    halved = [i for i in options["depthwise_padding"] if i in _first_blocks(config)]
    _require(options, "depthwise_padding", halved == odd, f"at {size} pixels give {odd}")
    return config


def _first_blocks(config: EfficientNetConfig) -> set[int]:
    """Numbers of the blocks that halve the resolution."""
    counts = [config.repeat(count) for *_, count in STAGES]
    return {sum(counts[:i]) for i, (_, stride, *_) in enumerate(STAGES) if stride == 2}


def _mobilevitv2(options: Options, size: int) -> MobileViTV2Config:
    multiplier = options["width_multiplier"]
    # Elsewhere transformers rounds the channels, and timm does not.
    plain = 0.5 <= multiplier <= 2 and (4 * multiplier) % 1 == 0
    _require(options, "width_multiplier", plain, "give a multiple of 0.25 from 0.5 to 2")
    if size % 64:
        raise ValueError(f"mobilevitv2 at {size} pixels: give a preprocessor of a multiple of 64")
    return MobileViTV2Config(multiplier, image_size=size, num_classes=0)


def _side(options: Options, name: str) -> int:
    value = options[name]
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    _require(options, name, isinstance(value, int), "only squares are supported")
    return value


def _stages(options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    channels, depths = options["hidden_sizes"], options["depths"]
    _require(options, "hidden_sizes", len(channels) == len(depths), "give one and a depth a stage")
    return channels, depths


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


def _require(options: Options, name: str, condition: bool, mend: str) -> None:
    if not condition:
        raise ValueError(f"{CONFIG}: {name}={options[name]!r} is not supported; {mend}")


MODEL_TYPES = {
    "vit": ModelType(_vit, VIT, VIT_SUPPORTED, "ViT", False, "supervised", "2010.11929"),
    "vit_mae": ModelType(
        _vit, VIT, VIT_SUPPORTED, "ViT", False, "masked_reconstruction", "2111.06377"
    ),
    "dinov2": ModelType(
        _dinov2, DINOV2, VIT_SUPPORTED, "Bit", True, "self_supervised", "2304.07193"
    ),
    "dinov2_with_registers": ModelType(
        _dinov2_with_registers,
        DINOV2 | {"patch_size": 16, "num_register_tokens": 4},
        VIT_SUPPORTED,
        "Bit",
        True,
        "self_supervised",
        "2309.16588",
    ),
    "clip": ModelType(_clip, CLIP, CLIP_SUPPORTED, "CLIP", False, "image_text", "2103.00020"),
    "siglip": ModelType(
        _siglip, SIGLIP, SIGLIP_SUPPORTED, "Siglip", False, "image_text", "2303.15343"
    ),
    "beit": ModelType(_beit, BEIT, BEIT_SUPPORTED, "Beit", False, "supervised", "2106.08254"),
    "convnext": ModelType(
        _convnext,
        CONVNEXT | {"layer_scale_init_value": 1e-6},
        CONVNEXT_SUPPORTED,
        "ConvNext",
        True,
        "supervised",
        "2201.03545",
    ),
    "convnextv2": ModelType(
        _convnext, CONVNEXT, CONVNEXT_SUPPORTED, "ConvNext", True, "supervised", "2301.00808"
    ),
    "resnet": ModelType(
        _resnet, RESNET, RESNET_SUPPORTED, "ConvNext", True, "supervised", "1512.03385"
    ),
    "regnet": ModelType(
        _regnet, REGNET, REGNET_SUPPORTED, "ConvNext", True, "supervised", "2003.13678"
    ),
    "swin": ModelType(_swin, SWIN, SWIN_SUPPORTED, "ViT", False, "supervised", "2103.14030"),
    "efficientnet": ModelType(
        _efficientnet,
        EFFICIENTNET,
        EFFICIENTNET_SUPPORTED,
        "EfficientNet",
        True,
        "supervised",
        "1905.11946",
    ),
    "mobilevitv2": ModelType(
        _mobilevitv2,
        MOBILEVITV2,
        MOBILEVITV2_SUPPORTED,
        "MobileViT",
        True,
        "supervised",
        "2206.02680",
    ),
}
TOWERS = {"clip": "vision_config", "siglip": "vision_config"}


def model_options(config: Options) -> tuple[str, dict[str, Any]]:
    """The key of `MODEL_TYPES` and every option that decides the output, as transformers reads it.

    Of an image-text model the options of its image tower.

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
    name = name.removesuffix("_vision_model")
    if name not in MODEL_TYPES:
        raise ValueError(
            f"{CONFIG}: model_type={model_type!r} is not supported; give one of "
            f"{', '.join(MODEL_TYPES)}"
        )
    kind = MODEL_TYPES[name]
    given = {key: config[key] for key in kind.defaults if config.get(key) is not None}
    options = dict(kind.defaults) | {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    for key, value in options.items():
        default = kind.defaults[key]
        like = _is_like(key, value, default)
        _require(options, key, like, f"give what transformers writes, such as {default!r}")
    for key, values in kind.supported.items():
        one_of = " or ".join(map(repr, values))
        _require(options, key, options[key] in values, f"{name} is computed with {one_of}")
    return name, options
