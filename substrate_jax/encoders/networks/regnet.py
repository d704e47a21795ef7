"""RegNetX and RegNetY (Radosavovic et al. 2020, arXiv:2003.13678).

The width of block j is quantized from a line, u_j = w_0 + w_a j: it is w_0 w_m^s rounded to eights,
with s = round(log_{w_m}(u_j / w_0)); blocks of one width make a stage. Every block is a residual
1 x 1, grouped 3 x 3, 1 x 1 without bottleneck, and every stage begins by halving the resolution.
RegNetY weighs the channels after the grouped convolution by squeeze-and-excitation, whose reduced
width is a share of the block's input. Pooled features are the spatial mean of the last stage.
Module names are timm's (`stem`, `s1.b1.conv1.conv`, `head.fc`).
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import ConvNorm, SqueezeExcite
from substrate_jax.encoders.networks.layers import Head, Tap, no_tap
from substrate_jax.encoders.networks.network import Network


@dataclass(frozen=True)
class RegNetConfig:
    """Shape of a RegNet by the paper's parameters: d, w_0, w_a, w_m and the group width.

    Args:
        depth: blocks of all stages together.
        initial_width: w_0, a multiple of 8.
        slope: w_a, channels per block.
        multiplier: w_m, the least ratio between the widths of stages; above 1.
        group_width: channels per group of the 3 x 3 convolutions.
        se_ratio: squeezed channels over a block's input channels; 0 for RegNetX.

    Raises:
        ValueError: parameters that describe no network.

    Example:
        >>> RegNetConfig(13, 24, 36.44, 2.49, 8).stages
        ((24, 1), (56, 1), (152, 4), (368, 7))
    """

    family: ClassVar[str] = "regnet"

    depth: int
    initial_width: int
    slope: float
    multiplier: float
    group_width: int
    se_ratio: float = 0.0
    stem_channels: int = 32
    stem_stride: int = 2
    num_classes: int = 1000
    image_size: int = 224

    def __post_init__(self):
        for name in ("depth", "initial_width", "group_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give 1 or more")
        if self.initial_width % 8:
            raise ValueError(f"initial_width={self.initial_width}: give a multiple of 8")
        if self.slope < 0:
            raise ValueError(f"slope={self.slope}: give 0 or more; widths may not fall")
        if self.multiplier <= 1:
            raise ValueError(f"multiplier={self.multiplier}: give more than 1")

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Channels and blocks of each stage; channels are a multiple of the group's."""
        line = self.initial_width + self.slope * np.arange(self.depth)
        steps = np.round(np.log(line / self.initial_width) / np.log(self.multiplier))
        widths = 8 * np.round(self.initial_width * self.multiplier**steps / 8).astype(int)
        return tuple(
            (self.group(width) * round(width / self.group(width)), depth)
            for width, depth in Counter(widths.tolist()).items()
        )

    def group(self, channels: int) -> int:
        """Channels per group of the 3 x 3 convolutions; all where there are fewer."""
        return min(self.group_width, channels)

    @property
    def width(self) -> int:
        """Features per image."""
        return self.stages[-1][0]

    def build(self, rngs: nnx.Rngs) -> "RegNet":
        """The module with fresh weights."""
        return RegNet(self, rngs=rngs)


class Block(nnx.Module):
    """Residual block of 1 x 1, grouped 3 x 3 and 1 x 1 convolutions."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, config: RegNetConfig, *, rngs: nnx.Rngs
    ):
        relu = jax.nn.relu
        groups = channels // config.group(channels)
        squeezed = round(config.se_ratio * in_channels)
        self.conv1 = ConvNorm(in_channels, channels, 1, activation=relu, rngs=rngs)
        self.conv2 = ConvNorm(
            channels, channels, 3, stride=stride, groups=groups, activation=relu, rngs=rngs
        )
        self.se = SqueezeExcite(channels, squeezed, rngs=rngs) if config.se_ratio else None
        self.conv3 = ConvNorm(channels, channels, 1, rngs=rngs)
        changes_shape = stride != 1 or in_channels != channels
        self.downsample = (
            ConvNorm(in_channels, channels, 1, stride=stride, rngs=rngs) if changes_shape else None
        )

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = self.conv2(self.conv1(x))
        if self.se is not None:
            y = self.se(y)
        if self.downsample is not None:
            x = self.downsample(x)
        return jax.nn.relu(x + self.conv3(y))


class RegNet(Network[RegNetConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: RegNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        in_channels = config.stem_channels
        self.stem = ConvNorm(
            3, in_channels, 3, stride=config.stem_stride, activation=jax.nn.relu, rngs=rngs
        )
        for stage, (channels, depth) in enumerate(config.stages, start=1):
            blocks = {}
            for index in range(1, depth + 1):
                stride = 2 if index == 1 else 1
                blocks[f"b{index}"] = Block(in_channels, channels, stride, config, rngs=rngs)
                in_channels = channels
            setattr(self, f"s{stage}", nnx.Dict(blocks))
        self.head = Head(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        x = self.stem(images)
        tap("stem", x)
        for stage, (_, depth) in enumerate(self.config.stages, start=1):
            blocks = getattr(self, f"s{stage}")
            # Flax sorts keys as text, b10 before b2.
            for index in range(1, depth + 1):
                x = blocks[f"b{index}"](x)
                tap(f"s{stage}.b{index}", x)
            tap(f"s{stage}", x)
        return x.mean((1, 2))
