"""EfficientNet (Tan & Le 2019, arXiv:1905.11946): inverted residuals under compound scaling.

One table of stages serves all sizes: channels are multiplied and rounded to eights, the number of
blocks of a stage is multiplied and rounded up. Squeeze-and-excitation reduces to a quarter of a
block's input channels. Pooled features are the spatial mean after the head convolution. Module
names are timm's (`conv_stem`, `blocks.0.0.conv_dw`, `conv_head`, `classifier`). Weights ported from
TensorFlow want its padding ("same") and its epsilon of batch normalization (1e-3).

The lite ones, made for phones, have relu6 for silu and no squeeze-and-excitation; their stem, head,
and number of blocks of the first and last stage are those of B0 at every size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import (
    Conv,
    Padding,
    SqueezeExcite,
    round_channels,
)
from substrate_jax.encoders.networks.layers import (
    BatchNorm,
    Tap,
    classifier,
    no_tap,
    run_blocks,
)
from substrate_jax.encoders.networks.network import Network

# kernel, stride of the first block, expansion, channels, blocks: of B0
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


@dataclass(frozen=True)
class EfficientNetConfig:
    """Shape of an EfficientNet: multipliers of B0's channels and of its blocks per stage, and B0.

    `padding` is "symmetric", as torch pads odd kernels, or "same", as TensorFlow does; `lite` makes
    it one of those for phones.

    Raises:
        ValueError: multipliers that are not positive, or another padding.
    """

    family: ClassVar[str] = "efficientnet"

    width_multiplier: float = 1.0
    depth_multiplier: float = 1.0
    padding: Literal["symmetric", "same"] = "symmetric"
    eps: float = 1e-5
    stages: tuple[tuple[int, int, int, int, int], ...] = STAGES
    stem_channels: int = 32
    stem_stride: int = 2
    head_channels: int = 1280
    num_classes: int = 1000
    image_size: int = 224
    lite: bool = False

    def __post_init__(self):
        for name in ("width_multiplier", "depth_multiplier"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if self.padding not in ("symmetric", "same"):
            raise ValueError(f"padding={self.padding!r}: choose symmetric or same")

    @property
    def width(self) -> int:
        """Features per image."""
        return self.head_channels if self.lite else self.scale(self.head_channels)

    @property
    def stem_width(self) -> int:
        """Channels after the stem."""
        return self.stem_channels if self.lite else self.scale(self.stem_channels)

    @property
    def activation(self) -> Callable[[Array], Array]:
        """The nonlinearity."""
        return jax.nn.relu6 if self.lite else jax.nn.silu

    def scale(self, channels: int) -> int:
        """Channels at this size."""
        return round_channels(self.width_multiplier * channels)

    def repeat(self, stage: int) -> int:
        """Blocks of a stage at this size."""
        blocks = self.stages[stage][-1]
        if self.lite and stage in (0, len(self.stages) - 1):
            return blocks
        return math.ceil(self.depth_multiplier * blocks)

    def pad(self, kernel_size: int) -> Padding:
        """Padding of a convolution."""
        return "same" if self.padding == "same" else kernel_size // 2

    def build(self, rngs: nnx.Rngs) -> "EfficientNet":
        """The module with fresh weights."""
        return EfficientNet(self, rngs=rngs)


def depthwise_conv(
    channels: int, kernel_size: int, stride: int, config: EfficientNetConfig, *, rngs: nnx.Rngs
) -> Conv:
    """The depthwise convolution of a block."""
    padding = config.pad(kernel_size)
    return Conv(
        channels, channels, kernel_size, stride=stride, padding=padding, groups=channels, rngs=rngs
    )


def squeeze_excite(
    channels: int, in_channels: int, config: EfficientNetConfig, *, rngs: nnx.Rngs
) -> Callable[[Array], Array]:
    """The channel weights of a block that takes `in_channels`; none in the lite ones."""
    if config.lite:
        return _unchanged
    names = ("conv_reduce", "conv_expand")
    return SqueezeExcite(channels, in_channels // 4, activation=jax.nn.silu, names=names, rngs=rngs)


def _unchanged(x: Array) -> Array:
    return x


class DepthwiseSeparable(nnx.Module):
    """Depthwise convolution, squeeze-and-excitation, linear 1 x 1; residual where shapes agree."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        stride: int,
        config: EfficientNetConfig,
        *,
        rngs: nnx.Rngs,
    ):
        self.conv_dw = depthwise_conv(in_channels, kernel_size, stride, config, rngs=rngs)
        self.bn1 = BatchNorm(in_channels, eps=config.eps)
        self.se = squeeze_excite(in_channels, in_channels, config, rngs=rngs)
        self.conv_pw = Conv(in_channels, channels, 1, rngs=rngs)
        self.bn2 = BatchNorm(channels, eps=config.eps)
        self.residual = stride == 1 and in_channels == channels
        self.activation = config.activation

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = self.activation(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(self.se(y)))
        return x + y if self.residual else y


class InvertedResidual(nnx.Module):
    """1 x 1 to more channels, depthwise, squeeze-and-excitation, linear 1 x 1 to few again."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        config: EfficientNetConfig,
        *,
        rngs: nnx.Rngs,
    ):
        hidden = expansion * in_channels
        self.conv_pw = Conv(in_channels, hidden, 1, rngs=rngs)
        self.bn1 = BatchNorm(hidden, eps=config.eps)
        self.conv_dw = depthwise_conv(hidden, kernel_size, stride, config, rngs=rngs)
        self.bn2 = BatchNorm(hidden, eps=config.eps)
        self.se = squeeze_excite(hidden, in_channels, config, rngs=rngs)
        self.conv_pwl = Conv(hidden, channels, 1, rngs=rngs)
        self.bn3 = BatchNorm(channels, eps=config.eps)
        self.residual = stride == 1 and in_channels == channels
        self.activation = config.activation

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = self.activation(self.bn1(self.conv_pw(x)))
        y = self.activation(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(self.se(y)))
        return x + y if self.residual else y


class EfficientNet(Network[EfficientNetConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    classifiers = ("classifier",)

    def __init__(self, config: EfficientNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        in_channels = config.stem_width
        self.conv_stem = Conv(
            3, in_channels, 3, stride=config.stem_stride, padding=config.pad(3), rngs=rngs
        )
        self.bn1 = BatchNorm(in_channels, eps=config.eps)
        stages = []
        for stage, (kernel, first_stride, expansion, channels, _) in enumerate(config.stages):
            channels, blocks = config.scale(channels), []
            for index in range(config.repeat(stage)):
                shape = (in_channels, channels, kernel, first_stride if index == 0 else 1)
                if expansion == 1:
                    blocks.append(DepthwiseSeparable(*shape, config, rngs=rngs))
                else:
                    blocks.append(InvertedResidual(*shape, expansion, config, rngs=rngs))
                in_channels = channels
            stages.append(nnx.List(blocks))
        self.blocks = nnx.List(stages)
        self.conv_head = Conv(in_channels, config.width, 1, rngs=rngs)
        self.bn2 = BatchNorm(config.width, eps=config.eps)
        self.classifier = classifier(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        x = self.config.activation(self.bn1(self.conv_stem(images)))
        tap("stem", x)
        for stage, blocks in enumerate(self.blocks):
            x = run_blocks(blocks, x, tap, f"blocks.{stage}")
            tap(f"blocks.{stage}", x)
        x = self.config.activation(self.bn2(self.conv_head(x)))
        tap("head", x)
        return x.mean((1, 2))
