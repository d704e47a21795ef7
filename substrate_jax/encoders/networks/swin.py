"""Swin transformers (Liu et al. 2021, arXiv:2103.14030): attention within shifted windows.

A map of side s is cut into windows of w x w positions, and attention stays within each. Every
second block first rolls the map by w // 2, so that its windows straddle the borders of the last
block's; positions that only the roll made neighbors are masked. A stage whose window covers its
map neither cuts nor rolls. Scores get a learned bias for each offset of two positions: a table of
(2 w - 1)^2 rows. Attention costs O(s^2 w^2 c) in place of the O(s^4 c) of a whole map.

Between stages 2 x 2 positions are merged into one. Features are the mean over space of the
normalized last map. Module names are timm's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.encoders.networks.attention import (
    attend,
    cut,
    relative_bias,
    relative_positions,
    split_heads,
    uncut,
    without_tables,
)
from substrate_jax.encoders.networks.convolutions import Conv
from substrate_jax.encoders.networks.layers import (
    Head,
    LayerNorm,
    Linear,
    Mlp,
    Tap,
    no_tap,
    run_blocks,
    truncated_normal,
)
from substrate_jax.encoders.networks.network import Network

# What the published networks were trained with; weights behind it underflow to 0.
MASKED = -100.0


@dataclass(frozen=True)
class SwinConfig:
    """Shape of a Swin transformer: blocks, channels and window side per stage.

    Raises:
        ValueError: a stage's map cannot be cut into its windows, or its channels into heads.

    Example:
        >>> SwinConfig((2, 2, 6, 2), (96, 192, 384, 768)).sides
        (56, 28, 14, 7)
    """

    family: ClassVar[str] = "swin"

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    windows: tuple[int, ...] = (7, 7, 7, 7)
    head_width: int = 32
    patch_size: int = 4
    mlp_ratio: float = 4.0
    eps: float = 1e-5
    num_classes: int = 1000
    image_size: int = 224

    def __post_init__(self) -> None:
        stages = len(self.depths)
        if not stages == len(self.channels) == len(self.windows):
            raise ValueError(
                f"depths={self.depths}, channels={self.channels} and windows={self.windows} "
                "differ in length; give one of each per stage"
            )
        if any(channels % self.head_width for channels in self.channels):
            raise ValueError(
                f"head_width={self.head_width} does not divide channels={self.channels}; "
                "give a divisor of all"
            )
        unit = self.patch_size * 2 ** (stages - 1)
        if self.image_size % unit or any(
            side % min(side, window) for side, window in zip(self.sides, self.windows, strict=True)
        ):
            raise ValueError(
                f"image_size={self.image_size}: maps of {self.sides} positions per side do not "
                f"divide into windows of {self.windows}; give a multiple of "
                f"{unit * math.lcm(*self.windows)}"
            )

    @property
    def width(self) -> int:
        """Features per image."""
        return self.channels[-1]

    @property
    def sides(self) -> tuple[int, ...]:
        """Positions per side of each stage's map."""
        return tuple(self.image_size // self.patch_size // 2**i for i in range(len(self.depths)))

    def build(self, rngs: nnx.Rngs) -> "Swin":
        """The module with fresh weights."""
        return Swin(self, rngs=rngs)


def shift_regions(side: int, window: int, shift: int) -> Int[np.ndarray, "w t"]:
    """Which part of the map each position of each window of a rolled map comes from.

    Parts that the roll brought together have different numbers.
    """
    region = np.searchsorted([side - window, side - shift], np.arange(side), side="right")
    regions = 3 * region[:, None] + region
    windows = regions.reshape(side // window, window, side // window, window).swapaxes(1, 2)
    return windows.reshape(-1, window**2)


class WindowAttention(nnx.Module):
    """Self-attention of many heads within windows, with a bias for each relative position."""

    def __init__(self, channels: int, heads: int, window: int, *, rngs: nnx.Rngs):
        self.relative_position_bias_table = nnx.Param(
            truncated_normal(rngs.params(), ((2 * window - 1) ** 2, heads))
        )
        self.qkv = Linear(channels, 3 * channels, rngs=rngs)
        self.proj = Linear(channels, channels, rngs=rngs)
        self.heads, self.window = heads, window

    def __call__(
        self, x: Float[Array, "n w t c"], regions: Int[np.ndarray, "w t"] | None = None
    ) -> Float[Array, "n w t c"]:
        """Attend within each window, and within each of its `regions` where they are given."""
        table = self.relative_position_bias_table[...]
        bias = relative_bias(table, relative_positions(self.window))[None, None]
        if regions is not None:
            apart = jnp.asarray(regions[:, :, None] != regions[:, None, :])
            bias = bias + jnp.where(apart, MASKED, 0.0)[None, :, None]
        return self.proj(attend(*split_heads(self.qkv(x), 3, self.heads), bias=bias))


class Block(nnx.Module):
    """x + attention(norm(x)) within windows of the map rolled by `shift`, then x + mlp(norm(x))."""

    def __init__(
        self, channels: int, window: int, shift: int, config: SwinConfig, *, rngs: nnx.Rngs
    ):
        self.norm1 = LayerNorm(channels, eps=config.eps)
        self.attn = WindowAttention(channels, channels // config.head_width, window, rngs=rngs)
        self.norm2 = LayerNorm(channels, eps=config.eps)
        self.mlp = Mlp(channels, int(channels * config.mlp_ratio), rngs=rngs)
        self.window, self.shift = window, shift

    def __call__(self, x: Float[Array, "n s s c"]) -> Float[Array, "n s s c"]:
        """Apply the block."""
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x: Float[Array, "n s s c"]) -> Float[Array, "n s s c"]:
        side, window, shift = x.shape[1], self.window, self.shift
        if not shift:
            return uncut(self.attn(cut(x, window)), side)
        x = jnp.roll(x, (-shift, -shift), (1, 2))
        x = uncut(self.attn(cut(x, window), shift_regions(side, window, shift)), side)
        return jnp.roll(x, (shift, shift), (1, 2))


class PatchMerging(nnx.Module):
    """Each 2 x 2 positions side by side, normalized, times one matrix."""

    def __init__(self, in_channels: int, channels: int, eps: float, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(4 * in_channels, eps=eps)
        self.reduction = Linear(4 * in_channels, channels, bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "n s s c"]) -> Float[Array, "n s/2 s/2 d"]:
        """Halve the resolution."""
        n, side, _, channels = x.shape
        # Column before row within the square: checkpoints order the channels so.
        x = x.reshape(n, side // 2, 2, side // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.reshape(n, side // 2, side // 2, 4 * channels)))


class Stage(nnx.Module):
    """Patch merging in all stages but the first, then blocks."""

    def __init__(self, index: int, config: SwinConfig, *, rngs: nnx.Rngs):
        channels, side = config.channels[index], config.sides[index]
        window = min(config.windows[index], side)
        shift = window // 2 if window < side else 0
        self.downsample = (
            PatchMerging(config.channels[index - 1], channels, config.eps, rngs=rngs)
            if index
            else None
        )
        self.blocks = nnx.List(
            [
                Block(channels, window, shift * (number % 2), config, rngs=rngs)
                for number in range(config.depths[index])
            ]
        )


def run_stages(stages: Iterable[Stage], x: Float[Array, "n s s c"], tap: Tap) -> Array:
    """The stages one after another, tapped as `layers.index` and their blocks."""
    for index, stage in enumerate(stages):
        if stage.downsample is not None:
            x = stage.downsample(x)
        x = run_blocks(stage.blocks, x, tap, f"layers.{index}.blocks")
        tap(f"layers.{index}", x)
    return x


class PatchEmbed(nnx.Module):
    """Each patch, flattened, times one matrix, and normalized."""

    def __init__(self, config: SwinConfig, *, in_channels: int = 3, rngs: nnx.Rngs):
        size, channels = config.patch_size, config.channels[0]
        self.proj = Conv(in_channels, channels, size, stride=size, bias=True, std=0.02, rngs=rngs)
        self.norm = LayerNorm(channels, eps=config.eps)

    def __call__(self, images: Float[Array, "n h w i"]) -> Float[Array, "n s s c"]:
        """Embed the patches."""
        return self.norm(self.proj(images))


class Swin(Network[SwinConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: SwinConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.layers = nnx.List(
            [Stage(index, config, rngs=rngs) for index in range(len(config.depths))]
        )
        self.norm = LayerNorm(config.width, eps=config.eps)
        self.head = Head(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        x = self.patch_embed(images)
        tap("patch_embed", x)
        x = self.norm(run_stages(self.layers, x, tap))
        tap("norm", x)
        return x.mean((1, 2))

    def adapt_checkpoint(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave out the index and mask tables of older files, which follow from the config."""
        return without_tables(arrays)
