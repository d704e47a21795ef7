"""How Hugging Face transformers calls the parameters of each architecture, and how timm does.

One table per model type says what each key becomes, and another which keys are no part of the
features: classifiers, text towers, decoders, projections, mask tokens, stored index tables.

In a pattern `*` stands for a number, `~` for the last part of a name and `**` for anything, each
captured but the last; the replacement is a format string of the captured parts, or their function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from substrate_jax.encoders.networks.efficientnet import STAGES
from substrate_jax.encoders.transformers.options import Options

Row = tuple[str, str | Callable[..., str]]
# What networks have after their features: classifiers, and decoders of masked pretraining.
HEADS = ("classifier.**", "decoder.**", "lm_head.**")
FUSED = "#"  # name#i is part i of the queries, keys and values of `name`


@dataclass(frozen=True)
class Names:
    """How one model type calls its parameters.

    Args:
        prefix: of the base model, in files of a network with a head.
        rows: pattern and replacement; or what makes them from the config.
        dropped: patterns of keys that are no part of the features, beside `HEADS`.
    """

    prefix: str
    rows: tuple[Row, ...] | Callable[[Options], tuple[Row, ...]]
    dropped: tuple[str, ...] = ()


def _fuse(name: str) -> Callable[..., str]:
    """Replacement for (numbers of `name`, query | key | value, leaf)."""

    def replace(*groups: str) -> str:
        *numbers, part, leaf = groups
        return f"{name.format(*numbers)}.qkv.{leaf}{FUSED}{'qkv'.index(part[0])}"

    return replace


_PATCHES = ("embeddings.patch_embeddings.projection.~", "patch_embed.proj.{0}")
_TOKENS = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    _PATCHES,
    ("layernorm.~", "norm.{0}"),
)
_ATTENTION = (
    ("encoder.layer.*.attention.attention.(query|key|value).~", _fuse("blocks.{}.attn")),
    ("encoder.layer.*.attention.output.dense.~", "blocks.{0}.attn.proj.{1}"),
)
_VIT_MLP = (
    ("encoder.layer.*.layernorm_before.~", "blocks.{0}.norm1.{1}"),
    ("encoder.layer.*.layernorm_after.~", "blocks.{0}.norm2.{1}"),
    ("encoder.layer.*.intermediate.dense.~", "blocks.{0}.mlp.fc1.{1}"),
    ("encoder.layer.*.output.dense.~", "blocks.{0}.mlp.fc2.{1}"),
)
_DINOV2 = (
    *_TOKENS,
    *_ATTENTION,
    ("embeddings.register_tokens", "reg_token"),
    ("encoder.layer.*.norm(1|2).~", "blocks.{0}.norm{1}.{2}"),
    ("encoder.layer.*.layer_scale(1|2).lambda1", "blocks.{0}.ls{1}.gamma"),
    ("encoder.layer.*.mlp.fc(1|2).~", "blocks.{0}.mlp.fc{1}.{2}"),
    ("encoder.layer.*.mlp.weights_in.~", "blocks.{0}.mlp.fc1.{1}"),
    ("encoder.layer.*.mlp.weights_out.~", "blocks.{0}.mlp.fc2.{1}"),
)
_BEIT = (
    *(
        (f"encoder.layer.*.attention.attention.{name}.bias", f"blocks.{{0}}.attn.{name[0]}_bias")
        for name in ("query", "value")
    ),
    (
        "encoder.layer.*.attention.attention.relative_position_bias.relative_position_bias_table",
        "blocks.{0}.attn.relative_position_bias_table",
    ),
    ("encoder.layer.*.lambda_(1|2)", "blocks.{0}.gamma_{1}"),
    ("pooler.layernorm.~", "fc_norm.{0}"),
    *_TOKENS,
    *_ATTENTION,
    *_VIT_MLP,
)
_CLIP = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("embeddings.patch_embedding.~", "patch_embed.proj.{0}"),
    ("pre_layrnorm.~", "norm_pre.{0}"),
    ("post_layernorm.~", "norm.{0}"),
    ("encoder.layers.*.self_attn.(q|k|v)_proj.~", _fuse("blocks.{}.attn")),
    ("encoder.layers.*.self_attn.out_proj.~", "blocks.{0}.attn.proj.{1}"),
    ("encoder.layers.*.layer_norm(1|2).~", "blocks.{0}.norm{1}.{2}"),
    ("encoder.layers.*.mlp.fc(1|2).~", "blocks.{0}.mlp.fc{1}.{2}"),
)
_SIGLIP = (
    *_CLIP,
    ("head.probe", "attn_pool.latent"),
    ("head.attention.in_proj_~", "attn_pool.qkv.{0}"),
    ("head.attention.out_proj.~", "attn_pool.proj.{0}"),
    ("head.layernorm.~", "attn_pool.norm.{0}"),
    ("head.mlp.fc(1|2).~", "attn_pool.mlp.fc{0}.{1}"),
)
_SWIN_BLOCK = "encoder.layers.*.blocks.*"
SWIN_STAGES = (
    (
        f"{_SWIN_BLOCK}.attention.self.(query|key|value).~",
        _fuse("layers.{}.blocks.{}.attn"),
    ),
    (
        f"{_SWIN_BLOCK}.attention.self.relative_position_bias_table",
        "layers.{0}.blocks.{1}.attn.relative_position_bias_table",
    ),
    (f"{_SWIN_BLOCK}.attention.output.dense.~", "layers.{0}.blocks.{1}.attn.proj.{2}"),
    (f"{_SWIN_BLOCK}.layernorm_before.~", "layers.{0}.blocks.{1}.norm1.{2}"),
    (f"{_SWIN_BLOCK}.layernorm_after.~", "layers.{0}.blocks.{1}.norm2.{2}"),
    (f"{_SWIN_BLOCK}.intermediate.dense.~", "layers.{0}.blocks.{1}.mlp.fc1.{2}"),
    (f"{_SWIN_BLOCK}.output.dense.~", "layers.{0}.blocks.{1}.mlp.fc2.{2}"),
    # timm counts the halving of the resolution to the stage after it.
    (
        "encoder.layers.*.downsample.(norm|reduction).~",
        lambda stage, part, leaf: f"layers.{int(stage) + 1}.downsample.{part}.{leaf}",
    ),
)
_SWIN = (
    _PATCHES,
    ("embeddings.norm.~", "patch_embed.norm.{0}"),
    ("layernorm.~", "norm.{0}"),
    *SWIN_STAGES,
)
_CONVNEXT = (
    ("embeddings.patch_embeddings.~", "stem.0.{0}"),
    ("embeddings.layernorm.~", "stem.1.{0}"),
    ("encoder.stages.*.downsampling_layer.*.~", "stages.{0}.downsample.{1}.{2}"),
    ("encoder.stages.*.layers.*.dwconv.~", "stages.{0}.blocks.{1}.conv_dw.{2}"),
    ("encoder.stages.*.layers.*.layernorm.~", "stages.{0}.blocks.{1}.norm.{2}"),
    ("encoder.stages.*.layers.*.pwconv(1|2).~", "stages.{0}.blocks.{1}.mlp.fc{2}.{3}"),
    ("encoder.stages.*.layers.*.grn.~", "stages.{0}.blocks.{1}.mlp.grn.{2}"),
    ("encoder.stages.*.layers.*.layer_scale_parameter", "stages.{0}.blocks.{1}.gamma"),
    ("layernorm.~", "head.norm.{0}"),
)


def _resnet(kind: str, *groups: str) -> str:
    """conv or bn of a block: (stage, block, convolution of the block, leaf), counted from 1."""
    stage, block, number, leaf = groups
    return f"layer{int(stage) + 1}.{block}.{kind}{int(number) + 1}.{leaf}"


_RESNET_BLOCK = "encoder.stages.*.layers.*"
_RESNET = (
    ("embedder.embedder.convolution.~", "conv1.{0}"),
    ("embedder.embedder.normalization.~", "bn1.{0}"),
    (f"{_RESNET_BLOCK}.layer.*.convolution.~", lambda *groups: _resnet("conv", *groups)),
    (f"{_RESNET_BLOCK}.layer.*.normalization.~", lambda *groups: _resnet("bn", *groups)),
    (
        f"{_RESNET_BLOCK}.shortcut.(convolution|normalization).~",
        lambda stage, block, part, leaf: (
            f"layer{int(stage) + 1}.{block}.downsample.{int(part[0] == 'n')}.{leaf}"
        ),
    ),
)
_SHORT = {"convolution": "conv", "normalization": "bn"}


def _regnet_rows(options: Options) -> tuple[Row, ...]:
    # With squeeze-and-excitation the third layer of a block is that.
    names = dict(zip("0123", ("conv1", "conv2", "se", "conv3"), strict=True))
    if options["layer_type"] == "x":
        names = {"0": "conv1", "1": "conv2", "2": "conv3"}

    def block(stage: str, index: str, rest: str) -> str:
        return f"s{int(stage) + 1}.b{int(index) + 1}.{rest}"

    return (
        (
            "embedder.embedder.(convolution|normalization).~",
            lambda p, leaf: f"stem.{_SHORT[p]}.{leaf}",
        ),
        (
            f"{_RESNET_BLOCK}.layer.({'|'.join(names)}).(convolution|normalization).~",
            lambda s, b, n, part, leaf: block(s, b, f"{names[n]}.{_SHORT[part]}.{leaf}"),
        ),
        (
            f"{_RESNET_BLOCK}.layer.2.attention.(0|2).~",
            lambda s, b, n, leaf: block(s, b, f"se.fc{1 + int(n) // 2}.{leaf}"),
        ),
        (
            f"{_RESNET_BLOCK}.shortcut.(convolution|normalization).~",
            lambda s, b, part, leaf: block(s, b, f"downsample.{_SHORT[part]}.{leaf}"),
        ),
    )


def _efficientnet_rows(options: Options) -> tuple[Row, ...]:
    rows: list[Row] = [
        ("embeddings.convolution.~", "conv_stem.{0}"),
        ("embeddings.batchnorm.~", "bn1.{0}"),
        ("encoder.top_conv.~", "conv_head.{0}"),
        ("encoder.top_bn.~", "bn2.{0}"),
    ]
    depth, number = options["depth_coefficient"], 0
    for stage, (_, _, expansion, _, count) in enumerate(STAGES):
        first = ("conv_pw", "bn1") if expansion > 1 else ()
        depthwise = ("conv_dw", "bn2" if expansion > 1 else "bn1")
        last = ("conv_pwl", "bn3") if expansion > 1 else ("conv_pw", "bn2")
        parts = {
            "depthwise_conv.depthwise_conv": depthwise[0],
            "depthwise_conv.depthwise_norm": depthwise[1],
            "squeeze_excite.reduce": "se.conv_reduce",
            "squeeze_excite.expand": "se.conv_expand",
            "projection.project_conv": last[0],
            "projection.project_bn": last[1],
        }
        if first:
            parts |= {"expansion.expand_conv": first[0], "expansion.expand_bn": first[1]}
        for block in range(math.ceil(depth * count)):
            rows += [
                (f"encoder.blocks.{number}.{part}.~", f"blocks.{stage}.{block}.{name}.{{0}}")
                for part, name in parts.items()
            ]
            number += 1
    return tuple(rows)


_RESIDUAL = "(expand_1x1|conv_3x3|reduce_1x1).(convolution|normalization).~"
_RESIDUAL_NAMES = {"expand_1x1": "conv1_1x1", "conv_3x3": "conv2_kxk", "reduce_1x1": "conv3_1x1"}


def _residual(stage: str, *groups: str) -> str:
    """An inverted residual of MobileViTV2: (stage, block or none, layer, part, leaf)."""
    *block, layer, part, leaf = groups
    return (
        f"stages.{stage}.{block[0] if block else 0}.{_RESIDUAL_NAMES[layer]}.{_SHORT[part]}.{leaf}"
    )


_MOBILEVITV2_BLOCK = "encoder.layer.*.transformer.layer.*"
_MOBILEVITV2 = (
    ("conv_stem.(convolution|normalization).~", lambda part, leaf: f"stem.{_SHORT[part]}.{leaf}"),
    (f"encoder.layer.*.layer.*.{_RESIDUAL}", _residual),
    (f"encoder.layer.*.downsampling_layer.{_RESIDUAL}", _residual),
    (
        "encoder.layer.*.conv_(kxk|projection).(convolution|normalization).~",
        lambda stage, name, part, leaf: f"stages.{stage}.1.conv_{name[:4]}.{_SHORT[part]}.{leaf}",
    ),
    ("encoder.layer.*.conv_1x1.convolution.~", "stages.{0}.1.conv_1x1.{1}"),
    ("encoder.layer.*.layernorm.~", "stages.{0}.1.norm.{1}"),
    (
        f"{_MOBILEVITV2_BLOCK}.attention.(qkv|out)_proj.convolution.~",
        "stages.{0}.1.transformer.{1}.attn.{2}_proj.{3}",
    ),
    (
        f"{_MOBILEVITV2_BLOCK}.ffn.conv(1|2).convolution.~",
        "stages.{0}.1.transformer.{1}.mlp.fc{2}.{3}",
    ),
    (f"{_MOBILEVITV2_BLOCK}.layernorm_before.~", "stages.{0}.1.transformer.{1}.norm1.{2}"),
    (f"{_MOBILEVITV2_BLOCK}.layernorm_after.~", "stages.{0}.1.transformer.{1}.norm2.{2}"),
)

_TOWER = (
    "text_model.**",
    "text_projection.weight",
    "visual_projection.weight",
    "logit_scale",
    "logit_bias",
    "embeddings.position_ids",
)
_VIT_DROPPED = ("pooler.dense.~", "embeddings.mask_token")
NAMES = {
    "vit": Names("vit", (*_TOKENS, *_ATTENTION, *_VIT_MLP), _VIT_DROPPED),
    "vit_mae": Names("vit", (*_TOKENS, *_ATTENTION, *_VIT_MLP), _VIT_DROPPED),
    "dinov2": Names("dinov2", _DINOV2, ("embeddings.mask_token",)),
    "dinov2_with_registers": Names("dinov2_with_registers", _DINOV2, ("embeddings.mask_token",)),
    "clip": Names("vision_model", _CLIP, _TOWER),
    "siglip": Names("vision_model", _SIGLIP, _TOWER),
    "beit": Names(
        "beit",
        _BEIT,
        ("embeddings.mask_token", "encoder.layer.*.**.relative_position_index"),
    ),
    "swin": Names(
        "swin",
        _SWIN,
        ("embeddings.mask_token", f"{_SWIN_BLOCK}.**.relative_position_index"),
    ),
    "convnext": Names("convnext", _CONVNEXT),
    "convnextv2": Names("convnextv2", _CONVNEXT),
    "resnet": Names("resnet", _RESNET),
    "regnet": Names("regnet", _regnet_rows),
    "efficientnet": Names("efficientnet", _efficientnet_rows),
    "mobilevitv2": Names("mobilevitv2", _MOBILEVITV2),
}
