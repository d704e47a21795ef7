"""Names of the parameters of convolutional networks, transformers' and timm's; see `names`."""

import math
from collections.abc import Callable

from substrate_jax.encoders.networks.efficientnet import STAGES
from substrate_jax.encoders.transformers.options import Options

Row = tuple[str, str | Callable[..., str]]

CONVNEXT = (
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


DINOV3_CONVNEXT = (
    ("stages.0.downsample_layers.*.~", "stem.{0}.{1}"),
    ("stages.*.downsample_layers.*.~", "stages.{0}.downsample.{1}.{2}"),
    ("stages.*.layers.*.depthwise_conv.~", "stages.{0}.blocks.{1}.conv_dw.{2}"),
    ("stages.*.layers.*.layer_norm.~", "stages.{0}.blocks.{1}.norm.{2}"),
    ("stages.*.layers.*.pointwise_conv(1|2).~", "stages.{0}.blocks.{1}.mlp.fc{2}.{3}"),
    ("stages.*.layers.*.gamma", "stages.{0}.blocks.{1}.gamma"),
    ("layer_norm.~", "head.norm.{0}"),
)


def _resnet(kind: str, *groups: str) -> str:
    """conv or bn of a block: (stage, block, convolution of the block, leaf), counted from 1."""
    stage, block, number, leaf = groups
    return f"layer{int(stage) + 1}.{block}.{kind}{int(number) + 1}.{leaf}"


_RESNET_BLOCK = "encoder.stages.*.layers.*"
RESNET = (
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


def regnet(options: Options) -> tuple[Row, ...]:
    """Rows of a RegNetX, or a RegNetY."""
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


def efficientnet(options: Options) -> tuple[Row, ...]:
    """Rows of an EfficientNet, whose blocks transformers numbers through."""
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
MOBILEVITV2 = (
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
