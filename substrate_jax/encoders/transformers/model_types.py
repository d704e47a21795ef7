"""Which architectures of Hugging Face transformers we compute, and with which of their options.

An option that changes the output and may not have every value is listed with those that we compute;
any other value is an error that names the option. The builders check what depends on more. Options
of dropout, initialization, heads, other towers and decoders do not change the features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from substrate_jax.encoders.hub import CONFIG
from substrate_jax.encoders.networks.efficientnet import STAGES, EfficientNetConfig
from substrate_jax.encoders.networks.network import Config
from substrate_jax.encoders.registry import Paradigm
from substrate_jax.encoders.transformers import clap, configs, texts
from substrate_jax.encoders.transformers.options import Options, config_options, refuse

Supported = Mapping[str, tuple]


@dataclass(frozen=True, kw_only=True)
class ModelType:
    """One architecture of transformers.

    Args:
        build: our config, from the options and the side of the images, or what is done to a sound
            or a text.
        paper: arXiv id.
        paradigm: what its published weights were trained on.
        supported: values that an option may have, where it may not have all.
        any_size: whether images may differ in size from the config's `image_size`.
    """

    build: Callable[..., Config]
    paper: str
    paradigm: Paradigm = "supervised"
    supported: Supported = field(default_factory=dict)
    any_size: bool = False


_RGB = {"num_channels": (3,)}
_GELU = _RGB | {"hidden_act": ("gelu",)}
_RELU = _RGB | {"hidden_act": ("relu",)}
_SILU = _RGB | {"hidden_act": ("swish", "silu")}
_CLIP = _RGB | {"hidden_act": tuple(configs.ACTIVATIONS)}
_VIT = _CLIP | {"qkv_bias": (True,)}
_BEIT = _GELU | {
    "use_relative_position_bias": (True,),
    "use_shared_relative_position_bias": (False,),
    "use_absolute_position_embeddings": (False,),
    "use_mean_pooling": (True,),
}
_KERNELS, _STRIDES, _EXPANSIONS, _CHANNELS, _BLOCKS = zip(*STAGES, strict=True)

MODEL_TYPES = {
    "vit": ModelType(build=configs.vit, supported=_VIT, paper="2010.11929"),
    "vit_mae": ModelType(
        build=configs.vit,
        supported=_VIT,
        paradigm="masked_reconstruction",
        paper="2111.06377",
    ),
    "vit_msn": ModelType(
        build=configs.vit, supported=_VIT, paradigm="self_supervised", paper="2204.07141"
    ),
    "ijepa": ModelType(
        build=configs.ijepa, supported=_VIT, paradigm="self_supervised", paper="2301.08243"
    ),
    "deit": ModelType(build=configs.deit, supported=_VIT, paper="2012.12877"),
    "dinov2": ModelType(
        build=configs.dinov2,
        supported=_VIT,
        any_size=True,
        paradigm="self_supervised",
        paper="2304.07193",
    ),
    "dinov2_with_registers": ModelType(
        build=configs.dinov2_with_registers,
        supported=_VIT,
        any_size=True,
        paradigm="self_supervised",
        paper="2309.16588",
    ),
    "dinov3_vit": ModelType(
        build=configs.dinov3_vit,
        supported=_RGB | {"proj_bias": (True,), "mlp_bias": (True,)},
        any_size=True,
        paradigm="self_supervised",
        paper="2508.10104",
    ),
    "clip": ModelType(
        build=configs.clip, supported=_CLIP, paradigm="image_text", paper="2103.00020"
    ),
    "siglip": ModelType(
        build=configs.siglip,
        supported=_CLIP | {"vision_use_head": (True,)},
        paradigm="image_text",
        paper="2303.15343",
    ),
    "beit": ModelType(build=configs.beit, supported=_BEIT, paper="2106.08254"),
    "data2vec-vision": ModelType(build=configs.beit, supported=_BEIT, paper="2202.03555"),
    "convnext": ModelType(
        build=configs.convnext, supported=_GELU, any_size=True, paper="2201.03545"
    ),
    "convnextv2": ModelType(
        build=configs.convnext, supported=_GELU, any_size=True, paper="2301.00808"
    ),
    "dinov3_convnext": ModelType(
        build=configs.dinov3_convnext,
        supported=_GELU,
        any_size=True,
        paradigm="self_supervised",
        paper="2508.10104",
    ),
    "resnet": ModelType(
        build=configs.resnet,
        supported=_RELU
        | {
            "layer_type": ("basic", "bottleneck"),
            "downsample_in_first_stage": (False,),
            "downsample_in_bottleneck": (False,),
        },
        any_size=True,
        paper="1512.03385",
    ),
    "regnet": ModelType(
        build=configs.regnet,
        supported=_RELU | {"layer_type": ("x", "y"), "downsample_in_first_stage": (True,)},
        any_size=True,
        paper="2003.13678",
    ),
    "swin": ModelType(
        build=configs.swin,
        supported=_GELU
        | {
            "layer_norm_eps": (1e-5,),
            "qkv_bias": (True,),
            "use_absolute_embeddings": (False,),
        },
        paper="2103.14030",
    ),
    "efficientnet": ModelType(
        build=configs.efficientnet,
        supported=_SILU
        | {  # B0's, which EfficientNetConfig scales
            "kernel_sizes": (_KERNELS,),
            "in_channels": ((EfficientNetConfig.stem_channels, *_CHANNELS[:-1]),),
            "out_channels": (_CHANNELS,),
            "strides": (_STRIDES,),
            "num_block_repeats": (_BLOCKS,),
            "expand_ratios": (_EXPANSIONS,),
            "depth_divisor": (8,),
            "squeeze_expansion_ratio": (0.25,),
            "pooling_type": ("mean",),
        },
        any_size=True,
        paper="1905.11946",
    ),
    "mobilevitv2": ModelType(
        build=configs.mobilevitv2,
        supported=_SILU
        | {
            "patch_size": (2,),
            "expand_ratio": (2.0,),
            "conv_kernel_size": (3,),
            "output_stride": (32,),
            "layer_norm_eps": (1e-5,),
            "n_attn_blocks": ((2, 4, 3),),
            "base_attn_unit_dims": ((128, 192, 256),),
            "ffn_multiplier": (2,),
        },
        any_size=True,
        paper="2206.02680",
    ),
}
SOUND_TYPES = {
    "clap": ModelType(
        build=clap.clap, supported=clap.SUPPORTED, paradigm="sound_text", paper="2211.06687"
    )
}
TEXT_TYPES = {
    "bert": ModelType(build=texts.bert, supported=texts.BERT, paradigm="text", paper="1810.04805"),
    "clip_text_model": ModelType(
        build=texts.clip, supported=texts.CLIP, paradigm="image_text", paper="2103.00020"
    ),
}
_HINTS = {
    "siglip2": "this is NaFlex, whose images have any shape; SigLIP 2 of one size has type siglip"
}
# Of models with a tower of text: the option that holds those of the other tower.
TOWERS = {"clip": "vision_config", "siglip": "vision_config", "clap": "audio_config"}
_TEXT_TOWERS = ("clip",)  # of those the ones whose tower of texts is computed


def model_options(config: Options, tower: str | None = None) -> tuple[str, dict[str, Any]]:
    """The architecture and all of its options, as transformers reads them.

    Of an image-text model the options of its image tower, of CLAP those of its tower of sounds.

    Args:
        config: content of config.json.
        tower: "text" for the tower of texts of a model of two; None for the other.

    Raises:
        ValueError: a model type or the value of an option that we do not compute, or a tower that
            the model has not.

    Example:
        >>> name, options = model_options({"model_type": "clip", "vision_config": {}})
        >>> name, options["patch_size"]
        ('clip', 32)
    """
    model_type = config.get("model_type")
    name = full = str(model_type)
    if tower is not None and (tower != "text" or name not in _TEXT_TOWERS):
        raise ValueError(
            f"{CONFIG}: tower={tower!r} of model_type={model_type!r} is not supported; give "
            f"tower=text of {' or '.join(_TEXT_TOWERS)}, or leave it out"
        )
    if name in TOWERS:
        key = "text_config" if tower else TOWERS[name]
        full = f"{name}_{key.removesuffix('_config')}_model"
        # transformers lets the older key, written with all options, override the other.
        inner = config.get(f"{key}_dict") or config.get(key) or {}
        if not isinstance(inner, Mapping):
            raise ValueError(f"{CONFIG}: {key}={inner!r} is not supported; give options")
        if tower:
            config, name = texts.tower_options(config, inner), full
        else:
            config = clap.tower_options(config, inner) if name == "clap" else inner
    name = name.removesuffix("_vision_model").removesuffix("_audio_model")
    kind = MODEL_TYPES.get(name) or SOUND_TYPES.get(name) or TEXT_TYPES.get(name)
    if kind is None:
        hint = _HINTS.get(name)
        raise ValueError(
            f"{CONFIG}: model_type={model_type!r} is not supported; give one of "
            f"{', '.join(MODEL_TYPES)}, of sounds {', '.join(SOUND_TYPES)}, or of texts "
            f"{', '.join(TEXT_TYPES)}" + ("" if hint is None else f"; {hint}")
        )
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
    _check_supported(name, kind.supported, given)
    options = config_options(full, config)
    _check_supported(name, kind.supported, options)
    return name, options


def _check_supported(name: str, supported: Supported, options: Options) -> None:
    for key, values in supported.items():
        if key in options and options[key] not in values:
            one_of = " or ".join(map(repr, values))
            refuse(CONFIG, options, key, f"{name} is computed with {one_of}")
