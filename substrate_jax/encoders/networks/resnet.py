"""ResNets with basic or bottleneck blocks (He et al. 2016, arXiv:1512.03385), version 1.5.

The stride of a bottleneck sits on its 3 x 3 convolution. ResNeXt (Xie et al. 2017,
arXiv:1611.05431) splits that convolution into groups, and wide ResNets (Zagoruyko and Komodakis
2016, arXiv:1605.07146) give it more channels. Pooled features are the spatial mean of the last
stage. Module names are timm's (`conv1`, `bn1`, `layer1.0.conv1`, `fc`), so parameter paths
are checkpoint keys. A 3 x 3 stem of stride 1 without pooling serves small images.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import Conv, max_pool
from substrate_jax.encoders.networks.layers import (
    BatchNorm,
    Tap,
    classifier,
    no_tap,
    run_blocks,
)
from substrate_jax.encoders.networks.network import Network


@dataclass(frozen=True)
class ResNetConfig:
    """Shape of a ResNet: blocks per stage, channels per stage, and its stem.

    The 3 x 3 convolution of a bottleneck has `cardinality` groups, each `base_width` wide where the
    stage has 64 channels and in proportion elsewhere.
    """

    family: ClassVar[str] = "resnet"

    depths: tuple[int, ...]
    bottleneck: bool
    channels: tuple[int, ...] = (64, 128, 256, 512)
    cardinality: int = 1
    base_width: int = 64
    stem_channels: int = 64
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_pool: bool = True
    num_classes: int = 1000
    image_size: int = 224

    def __post_init__(self):
        if not self.bottleneck and (self.cardinality, self.base_width) != (1, 64):
            raise ValueError(
                f"cardinality={self.cardinality}, base_width={self.base_width}: basic blocks have "
                "1 and 64; set bottleneck=True"
            )

    @property
    def expansion(self) -> int:
        """Output channels of a block over its inner channels."""
        return 4 if self.bottleneck else 1

    @property
    def width(self) -> int:
        """Features per image."""
        return self.channels[-1] * self.expansion

    def build(self, rngs: nnx.Rngs) -> "ResNet":
        """The module with fresh weights."""
        return ResNet(self, rngs=rngs)


class Block(nnx.Module):
    """Residual block of two 3 x 3 convolutions, or of 1 x 1, 3 x 3, 1 x 1."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        config: ResNetConfig,
        *,
        rngs: nnx.Rngs,
    ):
        out_channels = channels * config.expansion
        groups = config.cardinality
        inner = channels * config.base_width // 64 * groups
        if config.bottleneck:
            self.conv1 = Conv(in_channels, inner, 1, rngs=rngs)
            self.conv2 = Conv(inner, inner, 3, stride=stride, padding=1, groups=groups, rngs=rngs)
            self.conv3 = Conv(inner, out_channels, 1, rngs=rngs)
        else:
            self.conv1 = Conv(in_channels, inner, 3, stride=stride, padding=1, rngs=rngs)
            self.conv2 = Conv(inner, inner, 3, padding=1, rngs=rngs)
            self.conv3 = None
        self.bn1 = BatchNorm(inner)
        self.bn2 = BatchNorm(inner)
        self.bn3 = BatchNorm(out_channels) if config.bottleneck else None
        changes_shape = stride != 1 or in_channels != out_channels
        self.downsample = (
            nnx.List(
                [
                    Conv(in_channels, out_channels, 1, stride=stride, rngs=rngs),
                    BatchNorm(out_channels),
                ]
            )
            if changes_shape
            else None
        )

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.conv3 is not None and self.bn3 is not None:
            y = self.bn3(self.conv3(jax.nn.relu(y)))
        if self.downsample is not None:
            convolution, norm = self.downsample
            x = norm(convolution(x))
        return jax.nn.relu(x + y)


class ResNet(Network[ResNetConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    classifiers = ("fc",)

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        kernel = config.stem_kernel
        self.conv1 = Conv(
            3,
            config.stem_channels,
            kernel,
            stride=config.stem_stride,
            padding=kernel // 2,
            rngs=rngs,
        )
        self.bn1 = BatchNorm(config.stem_channels)
        in_channels = config.stem_channels
        for stage, (depth, channels) in enumerate(
            zip(config.depths, config.channels, strict=True), start=1
        ):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(Block(in_channels, channels, stride, config, rngs=rngs))
                in_channels = channels * config.expansion
            setattr(self, f"layer{stage}", nnx.List(blocks))
        self.fc = classifier(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        x = jax.nn.relu(self.bn1(self.conv1(images)))
        if self.config.stem_pool:
            x = max_pool(x)
        tap("stem", x)
        for stage in range(1, len(self.config.depths) + 1):
            name = f"layer{stage}"
            x = run_blocks(getattr(self, name), x, tap, name)
            tap(name, x)
        return x.mean((1, 2))
