"""MaxViT (Tu et al. 2022, arXiv:2204.01697) as its authors released it in TensorFlow.

A block is an inverted residual with squeeze-and-excitation, then attention within w x w windows,
then attention over w x w grids whose points lie h / w apart, so that every block sees the whole map
at linear cost. The score of a query at (i, j) and a key at (k, l) of one window or grid is

    query . key / sqrt(head width) + table[head, k - i + w - 1, l - j + w - 1],    w = image / 32

and the table, hence the checkpoint, fixes the image size. Features are tanh(fc(norm(mean))), the
hidden layer of the head. Padding is "same" as in TensorFlow, GELU its tanh approximation. Module
names are timm's. Not covered: timm's own variants (`maxvit_*_rw_*`, `maxxvit*`).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.attention import (
    attend,
    cut,
    relative_bias,
    relative_positions,
    split_heads,
    uncut,
)
from substrate_jax.encoders.networks.convolutions import Conv, SqueezeExcite
from substrate_jax.encoders.networks.layers import (
    BatchNorm,
    LayerNorm,
    Linear,
    Mlp,
    NormHead,
    Tap,
    gelu_tanh,
    no_tap,
    normal,
    run_blocks,
)
from substrate_jax.encoders.networks.network import Network

STRIDE = 32
HEAD_WIDTH = 32
CONV_EPS, ATTENTION_EPS = 1e-3, 1e-5

Partition = Literal["window", "grid"]


@dataclass(frozen=True)
class MaxViTConfig:
    """Shape of a MaxViT: blocks and channels per stage, its stem, and the side of its windows.

    The published ones have windows and grids of `image_size` / 32 positions per side, the default.
    """

    family: ClassVar[str] = "maxvit"

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    stem_channels: int = 64
    num_classes: int = 1000
    image_size: int = 224
    window: int | None = None

    def __post_init__(self):
        unit = STRIDE if self.window is None else self.window * 2 ** (1 + len(self.depths))
        if self.image_size < unit or self.image_size % unit:
            raise ValueError(
                f"image_size={self.image_size}: windows fill the maps only at multiples of "
                f"{unit}; give one, and weights made for it"
            )
        if any(channels % HEAD_WIDTH for channels in self.channels):
            raise ValueError(
                f"channels={self.channels}: heads are {HEAD_WIDTH} wide; give multiples of that"
            )

    @property
    def width(self) -> int:
        """Features per image."""
        return self.channels[-1]

    @property
    def partition(self) -> int:
        """Side of a window and of a grid, in positions."""
        return self.image_size // STRIDE if self.window is None else self.window

    def build(self, rngs: nnx.Rngs) -> "MaxViT":
        """The module with fresh weights."""
        return MaxViT(self, rngs=rngs)


class Stem(nnx.Module):
    """Two 3 x 3 convolutions, the first of stride 2."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(3, channels, 3, stride=2, padding="same", bias=True, rngs=rngs)
        self.norm1 = BatchNorm(channels, eps=CONV_EPS)
        self.conv2 = Conv(channels, channels, 3, padding="same", bias=True, rngs=rngs)

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n h2 w2 c"]:
        """Apply the layers."""
        return self.conv2(gelu_tanh(self.norm1(self.conv1(images))))


class Shortcut(nnx.Module):
    """Mean over 2 x 2 positions, and a 1 x 1 convolution where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, *, rngs: nnx.Rngs):
        changes = in_channels != out_channels
        self.expand = Conv(in_channels, out_channels, 1, bias=True, rngs=rngs) if changes else None

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Halve the resolution."""
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return x if self.expand is None else self.expand(x)


class MBConv(nnx.Module):
    """Pre-normalized inverted residual with squeeze-and-excitation, arXiv:1905.11946."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, rngs: nnx.Rngs):
        hidden = 4 * out_channels
        self.shortcut = Shortcut(in_channels, out_channels, rngs=rngs) if stride == 2 else None
        self.pre_norm = BatchNorm(in_channels, eps=CONV_EPS)
        self.conv1_1x1 = Conv(in_channels, hidden, 1, rngs=rngs)
        self.norm1 = BatchNorm(hidden, eps=CONV_EPS)
        self.conv2_kxk = Conv(
            hidden, hidden, 3, stride=stride, padding="same", groups=hidden, rngs=rngs
        )
        self.norm2 = BatchNorm(hidden, eps=CONV_EPS)
        self.se = SqueezeExcite(hidden, out_channels // 4, activation=jax.nn.silu, rngs=rngs)
        self.conv3_1x1 = Conv(hidden, out_channels, 1, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = gelu_tanh(self.norm1(self.conv1_1x1(self.pre_norm(x))))
        y = self.se(gelu_tanh(self.norm2(self.conv2_kxk(y))))
        return (x if self.shortcut is None else self.shortcut(x)) + self.conv3_1x1(y)


class RelativePosition(nnx.Module):
    """A bias for every pair of points of a window, looked up by their offset."""

    def __init__(self, window: int, heads: int, *, rngs: nnx.Rngs):
        shape = (heads, 2 * window - 1, 2 * window - 1)
        self.relative_position_bias_table = nnx.Param(normal(rngs.params(), shape, 0.02))
        self.window = window

    def __call__(self) -> Float[Array, "heads t t"]:
        """Bias by head, query and key, float32."""
        table = self.relative_position_bias_table[...]
        # This table goes by key minus query.
        positions = relative_positions(self.window).T
        return relative_bias(table.reshape(table.shape[0], -1).T, positions)


class Attention(nnx.Module):
    """Self-attention of many heads with relative positions."""

    def __init__(self, width: int, window: int, *, rngs: nnx.Rngs):
        self.heads = width // HEAD_WIDTH
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.rel_pos = RelativePosition(window, self.heads, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "n m t c"]) -> Float[Array, "n m t c"]:
        """Attend over the positions of each window or grid."""
        heads = split_heads(self.qkv(x), 3, self.heads)
        return self.proj(attend(*heads, bias=self.rel_pos()[None, None]))


class PartitionAttention(nnx.Module):
    """x + attention(norm(x)) within windows or grids, then x + mlp(norm(x))."""

    def __init__(self, width: int, window: int, partition: Partition, *, rngs: nnx.Rngs):
        self.norm1 = LayerNorm(width, eps=ATTENTION_EPS)
        self.attn = Attention(width, window, rngs=rngs)
        self.norm2 = LayerNorm(width, eps=ATTENTION_EPS)
        self.mlp = Mlp(width, 4 * width, activation=gelu_tanh, rngs=rngs)
        self.window, self.partition = window, partition

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Apply the block."""
        x = x + self._attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attention(self, x: Float[Array, "n s s c"]) -> Float[Array, "n s s c"]:
        side = x.shape[1]
        if self.partition == "window":
            return uncut(self.attn(cut(x, self.window)), side)
        # The first points of all windows of side s / w make the first grid, and so on.
        grids = cut(x, side // self.window).swapaxes(1, 2)
        return uncut(self.attn(grids).swapaxes(1, 2), side)


class Block(nnx.Module):
    """Convolution, window attention, grid attention."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, window: int, *, rngs: nnx.Rngs
    ):
        self.conv = MBConv(in_channels, channels, stride, rngs=rngs)
        self.attn_block = PartitionAttention(channels, window, "window", rngs=rngs)
        self.attn_grid = PartitionAttention(channels, window, "grid", rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        return self.attn_grid(self.attn_block(self.conv(x)))


class Stage(nnx.Module):
    """Blocks, the first of stride 2."""

    def __init__(self, in_channels: int, channels: int, depth: int, window: int, *, rngs: nnx.Rngs):
        self.blocks = nnx.List(
            [
                Block(
                    channels if index else in_channels,
                    channels,
                    1 if index else 2,
                    window,
                    rngs=rngs,
                )
                for index in range(depth)
            ]
        )


class MaxViT(Network[MaxViTConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: MaxViTConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.stem = Stem(config.stem_channels, rngs=rngs)
        stages, in_channels = [], config.stem_channels
        for depth, channels in zip(config.depths, config.channels, strict=True):
            stages.append(Stage(in_channels, channels, depth, config.partition, rngs=rngs))
            in_channels = channels
        self.stages = nnx.List(stages)
        self.head = NormHead(
            config.width,
            config.num_classes,
            hidden=config.width,
            activation=jnp.tanh,
            eps=ATTENTION_EPS,
            rngs=rngs,
        )

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Penultimate features: the head's hidden layer."""
        x = self.stem(images)
        tap("stem", x)
        for number, stage in enumerate(self.stages):
            x = run_blocks(stage.blocks, x, tap, f"stages.{number}.blocks")
            tap(f"stages.{number}", x)
        return self.head(x.mean((1, 2)))
