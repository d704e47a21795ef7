"""ConvNeXt V1 (Liu et al. 2022, arXiv:2201.03545) and V2 (Woo et al. 2023, arXiv:2301.00808).

V2 drops the layer scale and adds global response normalization in each block's MLP. Features are
the spatial mean of the last stage, normalized by the head's LayerNorm and, where the head has a
hidden layer, mapped by that. Module names are timm's.
For masked pretraining (FCMAE), `feature_map` takes a mask of visible positions and holds hidden
ones at zero around every spatial convolution, so no hidden pixel reaches a visible position. One
difference from a sparse convolution remains: hidden positions add a constant to the norm of GRN.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import Conv
from substrate_jax.encoders.networks.layers import (
    LayerNorm,
    Linear,
    Mlp,
    NormHead,
    Tap,
    gelu,
    mul_channels,
    no_tap,
    run_blocks,
)
from substrate_jax.encoders.networks.network import Network


@dataclass(frozen=True)
class ConvNeXtConfig:
    """Shape of a ConvNeXt: blocks and channels per stage, its stem and its head.

    With `conv_mlp` the checkpoint keeps the two maps of each MLP as 1 x 1 convolutions. `eps` is of
    every LayerNorm; the head's has `head_eps` where that is given.
    """

    family: ClassVar[str] = "convnext"

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    patch_size: int = 4
    kernel_size: int = 7
    layer_scale: float | None = 1e-6
    grn: bool = False
    conv_mlp: bool = False
    head_hidden: int | None = None
    eps: float = 1e-6
    num_classes: int = 1000
    image_size: int = 224
    head_eps: float | None = None

    def __post_init__(self):
        if self.image_size < self.stride:
            raise ValueError(
                f"image_size={self.image_size} is less than {self.stride}, the pixels of a "
                "position of the last stage; give larger images"
            )

    @property
    def width(self) -> int:
        """Features per image."""
        return self.head_hidden or self.channels[-1]

    @property
    def stride(self) -> int:
        """Pixels per side behind one position of the last stage."""
        return self.patch_size * 2 ** (len(self.depths) - 1)

    def build(self, rngs: nnx.Rngs) -> "ConvNeXt":
        """The module with fresh weights."""
        return ConvNeXt(self, rngs=rngs)


class Block(nnx.Module):
    """x + gamma * mlp(norm(depthwise(x)))."""

    def __init__(self, channels: int, config: ConvNeXtConfig, *, rngs: nnx.Rngs):
        self.conv_dw = Conv(
            channels,
            channels,
            config.kernel_size,
            padding=config.kernel_size // 2,
            groups=channels,
            bias=True,
            std=0.02,
            rngs=rngs,
        )
        self.norm = LayerNorm(channels, eps=config.eps)
        linear = partial(Conv, kernel_size=1, bias=True, std=0.02) if config.conv_mlp else Linear
        self.mlp = Mlp(channels, 4 * channels, grn=config.grn, linear=linear, rngs=rngs)
        scale = config.layer_scale
        self.gamma = None if scale is None else nnx.Param(jnp.full(channels, scale))

    def __call__(
        self, x: Float[Array, "n h w c"], mask: Float[Array, "n h w 1"] | None = None
    ) -> Float[Array, "n h w c"]:
        """Apply the block; positions where `mask` is 0 contribute nothing."""
        if mask is not None:
            x = x * mask
        y = self.norm(self.conv_dw(x))
        if mask is not None:
            y = y * mask
        y = self.mlp(y)
        return x + (y if self.gamma is None else mul_channels(y, self.gamma[...]))


class Stage(nnx.Module):
    """An optional halving of the resolution, then blocks."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        config: ConvNeXtConfig,
        *,
        rngs: nnx.Rngs,
    ):
        self.downsample = (
            nnx.List(
                [
                    LayerNorm(in_channels, eps=config.eps),
                    Conv(in_channels, channels, 2, stride=2, bias=True, std=0.02, rngs=rngs),
                ]
            )
            if in_channels != channels
            else None
        )
        self.blocks = nnx.List([Block(channels, config, rngs=rngs) for _ in range(depth)])


class ConvNeXt(Network[ConvNeXtConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: ConvNeXtConfig, *, rngs: nnx.Rngs):
        self.config = config
        first = config.channels[0]
        size = config.patch_size
        self.stem = nnx.List(
            [
                Conv(3, first, size, stride=size, bias=True, std=0.02, rngs=rngs),
                LayerNorm(first, eps=config.eps),
            ]
        )
        stages = []
        for index, (depth, channels) in enumerate(zip(config.depths, config.channels, strict=True)):
            in_channels = config.channels[max(index - 1, 0)]
            stages.append(Stage(in_channels, channels, depth, config, rngs=rngs))
        self.stages = nnx.List(stages)
        self.head = NormHead(
            config.channels[-1],
            config.num_classes,
            hidden=config.head_hidden,
            activation=gelu,
            eps=config.eps if config.head_eps is None else config.head_eps,
            rngs=rngs,
        )

    def feature_map(
        self,
        images: Float[Array, "n h w 3"],
        tap: Tap = no_tap,
        *,
        visible: Float[Array, "n g g"] | None = None,
    ) -> Float[Array, "n g g c"]:
        """The last stage's output; where `visible` is 0 the image is hidden."""

        def mask_at(x):
            if visible is None:
                return None
            repeat = x.shape[1] // visible.shape[1]
            return jnp.repeat(jnp.repeat(visible, repeat, 1), repeat, 2)[..., None].astype(x.dtype)

        convolution, norm = self.stem
        x = norm(convolution(images))
        tap("stem", x)
        for number, stage in enumerate(self.stages):
            if stage.downsample is not None:
                norm, convolution = stage.downsample
                x = convolution(norm(x))
            x = run_blocks(stage.blocks, x, tap, f"stages.{number}.blocks", mask_at(x))
            tap(f"stages.{number}", x)
        return x

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        return self.head(self.feature_map(images, tap).mean((1, 2)))
