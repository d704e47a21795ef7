"""Our configs from the options of Hugging Face transformers, one function per architecture.

Options are complete (see `options`); what depends on several of them, or on the size of the
images, is checked here. An option that we do not compute is an error that names it.
"""

import dataclasses
import itertools
import math

from substrate_jax.encoders.hub import CONFIG
from substrate_jax.encoders.networks.beit import BEiTConfig
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.efficientnet import STAGES, EfficientNetConfig
from substrate_jax.encoders.networks.mobilevit import MobileViTV2Config
from substrate_jax.encoders.networks.regnet import RegNetConfig
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.swin import SwinConfig
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.transformers.options import Options, refuse

# transformers' name -> ours, of a vision transformer's activation
ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclasses.dataclass(frozen=True)
class ListedRegNetConfig(RegNetConfig):
    """A RegNet of `listed` (channels, blocks) per stage, whatever line they may lie on."""

    listed: tuple[tuple[int, int], ...] = ()

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Channels and blocks of each stage."""
        return self.listed


def _ratio(hidden: int, width: int) -> float:
    """The float r next to hidden / width for which int(width * r) is `hidden`."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def vit(options: Options, size: int, **changes) -> ViTConfig:
    """A vision transformer, also of MAE; `changes` are options of ours."""
    width, heads = options["hidden_size"], options["num_attention_heads"]
    _check_patches(options, size, 2**16)
    hidden = options.get("intermediate_size") or int(width * options["mlp_ratio"])
    return ViTConfig(
        **{
            "width": width,
            "depth": options["num_hidden_layers"],
            "heads": heads,
            "patch_size": square_side(options, "patch_size"),
            "image_size": size,
            "mlp_ratio": _ratio(hidden, width),
            "activation": ACTIVATIONS[options["hidden_act"]],
            "eps": options["layer_norm_eps"],
            "num_classes": 0,
        }
        | changes
    )


def dinov2(options: Options, size: int, **changes) -> ViTConfig:
    """A vision transformer with layer scale, SwiGLU where the options say so."""
    width = options["hidden_size"]
    if options["use_swiglu_ffn"]:
        half = (int(int(width * options["mlp_ratio"]) * 2 / 3) + 7) // 8 * 8
        changes |= {"ffn": "swiglu", "mlp_ratio": _ratio(2 * half, width)}
    return vit(options, size, layer_scale=1.0, **changes)


def dinov2_with_registers(options: Options, size: int) -> ViTConfig:
    """A DINOv2 with registers."""
    # The class token's row of the table is added to the token on loading.
    return dinov2(options, size, registers=options["num_register_tokens"], prefix_positions=False)


def dinov3_vit(options: Options, size: int) -> ViTConfig:
    """A vision transformer of rotary positions, with registers."""
    changes, width = {}, options["hidden_size"]
    if options["use_gated_mlp"]:
        gates = options["hidden_act"] == "silu"
        _require(options, "hidden_act", gates, "with use_gated_mlp give silu")
        options = {**options, "hidden_act": "gelu"}  # of the MLP that is not gated
        changes = {"ffn": "swiglu", "mlp_ratio": _ratio(2 * options["intermediate_size"], width)}
    else:
        plain = options["hidden_act"] in ACTIVATIONS
        _require(options, "hidden_act", plain, f"give {' or '.join(ACTIVATIONS)}")
    fits = width // options["num_attention_heads"] % 4 == 0
    _require(options, "num_attention_heads", fits, "give heads of a multiple of 4 channels")
    return vit(
        options,
        size,
        layer_scale=1.0,
        registers=options["num_register_tokens"],
        rotary=options["rope_theta"],
        **changes,
    )


def deit(options: Options, size: int) -> ViTConfig:
    """A distilled DeiT; its second token is attended to and not read out, as `DeiTModel` pools."""
    return vit(options, size, registers=1)


def ijepa(options: Options, size: int) -> ViTConfig:
    """A vision transformer of patches alone."""
    return vit(options, size, class_token=False, pool="mean")


def clip(options: Options, size: int) -> ViTConfig:
    """The image tower of CLIP."""
    return vit(options, size, pre_norm=True)


def siglip(options: Options, size: int) -> ViTConfig:
    """The image tower of SigLIP."""
    return vit(options, size, class_token=False, pool="map")


def beit(options: Options, size: int) -> BEiTConfig:
    """A BEiT with a bias for each relative position."""
    scale = options["layer_scale_init_value"]
    _require(options, "layer_scale_init_value", scale > 0, "give a positive value")
    _check_patches(options, size, 2**12)
    width = options["hidden_size"]
    return BEiTConfig(
        width,
        options["num_hidden_layers"],
        options["num_attention_heads"],
        patch_size=square_side(options, "patch_size"),
        image_size=size,
        mlp_ratio=_ratio(options["intermediate_size"], width),
        eps=options["layer_norm_eps"],
        num_classes=0,
    )


def convnext(options: Options, size: int) -> ConvNeXtConfig:
    """A ConvNeXt, or a V2 where no option gives a layer scale."""
    channels, depths = _stages(options)
    alike = options.get("num_stages", len(depths)) == len(depths)
    _require(options, "num_stages", alike, "give one depth per stage")
    # transformers halves the resolution before every stage but the first, we where channels change.
    changes = all(a != b for a, b in itertools.pairwise(channels))
    _require(options, "hidden_sizes", changes, "give each stage other channels than the last")
    scale = options.get("layer_scale_init_value")
    return ConvNeXtConfig(
        depths,
        channels,
        patch_size=square_side(options, "patch_size") if "patch_size" in options else 4,
        layer_scale=1e-6 if scale and scale > 0 else None,
        grn=scale is None,
        head_eps=options["layer_norm_eps"],
        num_classes=0,
        image_size=size,
    )


def dinov3_convnext(options: Options, size: int) -> ConvNeXtConfig:
    """A ConvNeXt of one epsilon, its layer scale in the checkpoint whatever it began with."""
    config = convnext(options, size)
    eps = options["layer_norm_eps"]
    return dataclasses.replace(config, layer_scale=1e-6, grn=False, eps=eps, head_eps=None)


def resnet(options: Options, size: int) -> ResNetConfig:
    """A ResNet of basic blocks or bottlenecks."""
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


def regnet(options: Options, size: int) -> RegNetConfig:
    """A RegNetX, or a RegNetY."""
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


def swin(options: Options, size: int) -> SwinConfig:
    """A Swin transformer."""
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
        patch_size=square_side(options, "patch_size"),
        mlp_ratio=options["mlp_ratio"],
        eps=options["layer_norm_eps"],
        num_classes=0,
        image_size=size,
    )


def efficientnet(options: Options, size: int) -> EfficientNetConfig:
    """An EfficientNet, padded as in TensorFlow."""
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
    odd, number, side, in_channels = [], 0, size // 2, config.stem_width
    for stage, (_, stride, _, channels, _) in enumerate(STAGES):
        channels = config.scale(channels)
        skips = stride > 1 or in_channels != channels
        _require(options, "width_coefficient", skips, "channels must change at each stage")
        if stride == 2:
            odd += [number] if side % 2 else []
            side = -(-side // 2)
        number, in_channels = number + config.repeat(stage), channels
    if size % 2:
        raise ValueError(f"efficientnet at {size} pixels: give a preprocessor of an even size")
    halved = [i for i in options["depthwise_padding"] if i in _first_blocks(config)]
    _require(options, "depthwise_padding", halved == odd, f"at {size} pixels give {odd}")
    return config


def _first_blocks(config: EfficientNetConfig) -> set[int]:
    """Numbers of the blocks that halve the resolution."""
    counts = [config.repeat(stage) for stage in range(len(STAGES))]
    return {sum(counts[:i]) for i, (_, stride, *_) in enumerate(STAGES) if stride == 2}


def mobilevitv2(options: Options, size: int) -> MobileViTV2Config:
    """A MobileViTV2."""
    multiplier = options["width_multiplier"]
    # Elsewhere transformers rounds the channels, and timm does not.
    plain = 0.5 <= multiplier <= 2 and (4 * multiplier) % 1 == 0
    _require(options, "width_multiplier", plain, "give a multiple of 0.25 from 0.5 to 2")
    if size % 64:
        raise ValueError(f"mobilevitv2 at {size} pixels: give a preprocessor of a multiple of 64")
    return MobileViTV2Config(multiplier, image_size=size, num_classes=0)


def square_side(options: Options, name: str) -> int:
    """Pixels of an option that is one number, or height and width alike."""
    value = options[name]
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int):
        refuse(CONFIG, options, name, "only squares are supported")
    return value


def _check_patches(options: Options, size: int, most: int) -> None:
    """Refuse heads of another width, and more patches than attention can be computed for."""
    head = options["hidden_size"] // options["num_attention_heads"]
    _require(options, "head_dim", options.get("head_dim", head) in (None, head), "leave it out")
    side = square_side(options, "patch_size")
    few = (size // side) ** 2 <= most if side else False
    _require(options, "patch_size", few, f"at {size} pixels give at most {most} patches")


def _stages(options: Options) -> tuple[tuple[int, ...], tuple[int, ...]]:
    channels, depths = options["hidden_sizes"], options["depths"]
    _require(
        options, "hidden_sizes", len(channels) == len(depths), "give one, and a depth, per stage"
    )
    return channels, depths


def _require(options: Options, name: str, condition: bool, fix: str) -> None:
    if not condition:
        refuse(CONFIG, options, name, fix)
