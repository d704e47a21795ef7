"""How Hugging Face transformers calls the parameters of each architecture, and how timm does.

One table per model type says what each key becomes, and another which keys are no part of the
features: classifiers, text towers, decoders, projections, mask tokens, stored index tables.

In a pattern `*` stands for a number, `~` for the last part of a name and `**` for anything, each
captured but the last; the replacement is a format string of the captured parts, or their function.
"""

from collections.abc import Callable
from dataclasses import dataclass

from substrate_jax.encoders.transformers import names_convolutional as convolutional
from substrate_jax.encoders.transformers.names_convolutional import Row
from substrate_jax.encoders.transformers.options import Options

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


def fuse(name: str) -> Callable[..., str]:
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
    ("encoder.layer.*.attention.attention.(query|key|value).~", fuse("blocks.{}.attn")),
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
_DINOV3 = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.register_tokens", "reg_token"),
    ("embeddings.patch_embeddings.~", "patch_embed.proj.{0}"),
    ("layer.*.attention.(q|k|v)_proj.~", fuse("blocks.{}.attn")),
    ("layer.*.attention.o_proj.~", "blocks.{0}.attn.proj.{1}"),
    ("layer.*.norm(1|2).~", "blocks.{0}.norm{1}.{2}"),
    ("layer.*.layer_scale(1|2).lambda1", "blocks.{0}.ls{1}.gamma"),
    ("layer.*.mlp.down_proj.~", "blocks.{0}.mlp.fc2.{1}"),
    ("norm.~", "norm.{0}"),
)


def _dinov3(options: Options) -> tuple[Row, ...]:
    first = ("layer.*.mlp.up_proj.~", "blocks.{0}.mlp.fc1.{1}")
    if options["use_gated_mlp"]:
        first = ("layer.*.mlp.(gate|up)_proj.~", _gated)
    return (*_DINOV3, first)


def _gated(layer: str, part: str, leaf: str) -> str:
    """Gates and values are one map of ours, in this order."""
    return f"blocks.{layer}.mlp.fc1.{leaf}{FUSED}{('gate', 'up').index(part)}"


CLIP_BLOCKS = (
    ("embeddings.position_embedding.weight", "pos_embed"),
    ("encoder.layers.*.self_attn.(q|k|v)_proj.~", fuse("blocks.{}.attn")),
    ("encoder.layers.*.self_attn.out_proj.~", "blocks.{0}.attn.proj.{1}"),
    ("encoder.layers.*.layer_norm(1|2).~", "blocks.{0}.norm{1}.{2}"),
    ("encoder.layers.*.mlp.fc(1|2).~", "blocks.{0}.mlp.fc{1}.{2}"),
)
_CLIP = (
    ("embeddings.class_embedding", "cls_token"),
    ("embeddings.patch_embedding.~", "patch_embed.proj.{0}"),
    ("pre_layrnorm.~", "norm_pre.{0}"),
    ("post_layernorm.~", "norm.{0}"),
    *CLIP_BLOCKS,
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
        fuse("layers.{}.blocks.{}.attn"),
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
_TOWER = (
    "text_model.**",
    "text_projection.weight",
    "visual_projection.weight",
    "logit_scale",
    "logit_bias",
    "embeddings.position_ids",
)
_VIT = (*_TOKENS, *_ATTENTION, *_VIT_MLP)
_VIT_DROPPED = ("pooler.dense.~", "embeddings.mask_token")
_BEIT_DROPPED = ("embeddings.mask_token", "encoder.layer.*.**.relative_position_index")
NAMES = {
    "vit": Names("vit", _VIT, _VIT_DROPPED),
    "vit_mae": Names("vit", _VIT, _VIT_DROPPED),
    "vit_msn": Names("vit", _VIT, _VIT_DROPPED),
    "ijepa": Names("ijepa", _VIT, _VIT_DROPPED),
    "deit": Names(
        "deit",
        (*_VIT, ("embeddings.distillation_token", "reg_token")),
        (*_VIT_DROPPED, "cls_classifier.~", "distillation_classifier.~"),
    ),
    "dinov2": Names("dinov2", _DINOV2, ("embeddings.mask_token",)),
    "dinov2_with_registers": Names("dinov2_with_registers", _DINOV2, ("embeddings.mask_token",)),
    "dinov3_vit": Names("model", _dinov3, ("embeddings.mask_token",)),
    "clip": Names("vision_model", _CLIP, _TOWER),
    "siglip": Names("vision_model", _SIGLIP, _TOWER),
    "beit": Names("beit", _BEIT, _BEIT_DROPPED),
    "data2vec-vision": Names("data2vec_vision", _BEIT, _BEIT_DROPPED),
    "swin": Names(
        "swin",
        _SWIN,
        ("embeddings.mask_token", f"{_SWIN_BLOCK}.**.relative_position_index"),
    ),
    "convnext": Names("convnext", convolutional.CONVNEXT),
    "convnextv2": Names("convnextv2", convolutional.CONVNEXT),
    "dinov3_convnext": Names("model", convolutional.DINOV3_CONVNEXT),
    "resnet": Names("resnet", convolutional.RESNET),
    "regnet": Names("regnet", convolutional.regnet),
    "efficientnet": Names("efficientnet", convolutional.efficientnet),
    "mobilevitv2": Names("mobilevitv2", convolutional.MOBILEVITV2),
}
