"""Options of transformers' configs that decide the output, with transformers' own defaults.

Files on the hub leave defaults out. `*_SUPPORTED` holds the values that we compute, of the options
that may not have all; the builders check what depends on more. Options of dropout, initialization,
heads, text towers and decoders are not here: they do not change the features.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from substrate_jax.encoders.networks.efficientnet import STAGES, EfficientNetConfig

Options = Mapping[str, Any]

_IMAGE = {"num_channels": 3, "image_size": 224, "patch_size": 16}
_TRANSFORMER = {
    **_IMAGE,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "head_dim": None,
}
VIT = _TRANSFORMER | {"qkv_bias": True}
DINOV2 = VIT | {
    "patch_size": 14,
    "intermediate_size": None,
    "mlp_ratio": 4.0,
    "layer_norm_eps": 1e-6,
    "use_swiglu_ffn": False,
}
CLIP = _TRANSFORMER | {"patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP = _TRANSFORMER | {
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
    "vision_use_head": True,
}
BEIT = _TRANSFORMER | {
    "use_relative_position_bias": False,
    "use_shared_relative_position_bias": False,
    "use_absolute_position_embeddings": False,
    "use_mean_pooling": True,
    "layer_scale_init_value": 0.1,
}
CONVNEXT = {
    **_IMAGE,
    "patch_size": 4,
    "num_stages": 4,
    "hidden_sizes": (96, 192, 384, 768),
    "depths": (3, 3, 9, 3),
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
RESNET = {
    "num_channels": 3,
    "embedding_size": 64,
    "hidden_sizes": (256, 512, 1024, 2048),
    "depths": (3, 4, 6, 3),
    "layer_type": "bottleneck",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
REGNET = {
    "num_channels": 3,
    "embedding_size": 32,
    "hidden_sizes": (128, 192, 512, 1088),
    "depths": (2, 6, 12, 2),
    "groups_width": 64,
    "layer_type": "y",
    "hidden_act": "relu",
    "downsample_in_first_stage": True,
}
SWIN = {
    **_IMAGE,
    "patch_size": 4,
    "embed_dim": 96,
    "depths": (2, 2, 6, 2),
    "num_heads": (3, 6, 12, 24),
    "window_size": 7,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
}
_KERNELS, _STRIDES, _EXPANSIONS, _CHANNELS, _BLOCKS = zip(*STAGES, strict=True)
_STAGE = {  # B0's, which EfficientNetConfig scales
    "kernel_sizes": _KERNELS,
    "in_channels": (EfficientNetConfig.stem_channels, *_CHANNELS[:-1]),
    "out_channels": _CHANNELS,
    "strides": _STRIDES,
    "num_block_repeats": _BLOCKS,
    "expand_ratios": _EXPANSIONS,
    "depth_divisor": 8,
    "squeeze_expansion_ratio": 0.25,
    "pooling_type": "mean",
}
EFFICIENTNET = {
    **_STAGE,
    "num_channels": 3,
    "width_coefficient": 2.0,
    "depth_coefficient": 3.1,
    "depthwise_padding": (),
    "hidden_act": "swish",
    "hidden_dim": 2560,
    "batch_norm_eps": 1e-3,
}
_MOBILEVITV2_FIXED = {
    "num_channels": 3,
    "patch_size": 2,
    "expand_ratio": 2.0,
    "conv_kernel_size": 3,
    "output_stride": 32,
    "layer_norm_eps": 1e-5,
    "n_attn_blocks": (2, 4, 3),
    "base_attn_unit_dims": (128, 192, 256),
    "ffn_multiplier": 2,
}
MOBILEVITV2 = _MOBILEVITV2_FIXED | {"width_multiplier": 1.0, "hidden_act": "swish"}

# transformers' name -> ours, of a vision transformer's activation
ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}
_SILU = ("swish", "silu")


def _only(options: Options, *names: str) -> dict[str, tuple]:
    """Options that must keep their default."""
    return {name: (options[name],) for name in names}


CLIP_SUPPORTED = {"hidden_act": tuple(ACTIVATIONS), **_only(CLIP, "num_channels")}
VIT_SUPPORTED = CLIP_SUPPORTED | _only(VIT, "qkv_bias")
SIGLIP_SUPPORTED = CLIP_SUPPORTED | {"vision_use_head": (True,)}
BEIT_SUPPORTED = {
    "use_relative_position_bias": (True,),
    "use_shared_relative_position_bias": (False,),
    "use_absolute_position_embeddings": (False,),
    "use_mean_pooling": (True,),
    **_only(BEIT, "num_channels", "hidden_act", "head_dim"),
}
CONVNEXT_SUPPORTED = _only(CONVNEXT, "num_channels", "hidden_act")
RESNET_SUPPORTED = {
    "layer_type": ("basic", "bottleneck"),
    **_only(RESNET, "num_channels", "hidden_act"),
    **_only(RESNET, "downsample_in_first_stage", "downsample_in_bottleneck"),
}
REGNET_SUPPORTED = {
    "layer_type": ("x", "y"),
    **_only(REGNET, "num_channels", "hidden_act", "downsample_in_first_stage"),
}
SWIN_SUPPORTED = {
    **_only(SWIN, "num_channels", "hidden_act", "layer_norm_eps"),
    **_only(SWIN, "qkv_bias", "use_absolute_embeddings"),
}
EFFICIENTNET_SUPPORTED = {"hidden_act": _SILU, **_only(EFFICIENTNET, "num_channels", *_STAGE)}
MOBILEVITV2_SUPPORTED = {"hidden_act": _SILU, **_only(MOBILEVITV2, *_MOBILEVITV2_FIXED)}


def refuse(file: str, options: Options, name: str, fix: str) -> NoReturn:
    """Raise the ValueError of an option, or of its value, that we do not compute."""
    raise ValueError(f"{file}: {name}={options[name]!r} is not supported; {fix}")
