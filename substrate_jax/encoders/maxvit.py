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
from functools import lru_cache
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.encoders.convolutions import Conv, SqueezeExcite
from substrate_jax.encoders.layers import (
    BatchNorm,
    LayerNorm,
    Linear,
    Mlp,
    Tap,
    no_tap,
)

STRIDE = 32
HEAD_WIDTH = 32
CONV_EPS, ATTENTION_EPS = 1e-3, 1e-5

Partition = Literal["window", "grid"]
# Axes of [n, rows, i, columns, j, c] or [n, i, rows, j, columns, c] that bring rows and columns,
# which number the windows or grids, before i and j, which number the points of one.
AXES = {"window": (0, 1, 3, 2, 4, 5), "grid": (0, 2, 4, 1, 3, 5)}


@dataclass(frozen=True)
class MaxViTConfig:
    """Shape of a MaxViT: blocks and channels a stage, its stem, and the side of its windows.

    The published ones have windows and grids of `image_size` / 32 positions a side, the default.
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
        """Features an image."""
        return self.channels[-1]

    @property
    def partition(self) -> int:
        """Side of a window and of a grid, in positions."""
        return self.image_size // STRIDE if self.window is None else self.window

    def build(self, rngs: nnx.Rngs) -> "MaxViT":
        """The module with fresh weights."""
        return MaxViT(self, rngs=rngs)


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation of GELU, which TensorFlow trained with."""
    return jax.nn.gelu(x, approximate=True)


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
    """Pre-normalised inverted residual with squeeze-and-excitation, arXiv:1905.11946."""

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
        self.relative_position_bias_table = nnx.Param(
            0.02 * jax.random.normal(rngs.params(), shape)
        )
        self.window = window

    def __call__(self) -> Float[Array, "heads t t"]:
        """Bias by head, query and key, float32."""
        table = self.relative_position_bias_table[...].astype(jnp.float32)
        return table.reshape(table.shape[0], -1)[:, offsets(self.window)]


@lru_cache
def offsets(window: int) -> Int[np.ndarray, "t t"]:
    """Place of key minus query in a flat (2 w - 1) x (2 w - 1) table, points row-major.

    Example:
        >>> offsets(2)[0].tolist(), offsets(2)[3].tolist()
        ([4, 5, 7, 8], [0, 1, 3, 4])
    """
    row, column = np.divmod(np.arange(window**2), window)
    rows = row[None] - row[:, None] + window - 1
    columns = column[None] - column[:, None] + window - 1
    return rows * (2 * window - 1) + columns


class Attention(nnx.Module):
    """Multi-head self-attention with relative positions, scores in float32."""

    def __init__(self, width: int, window: int, *, rngs: nnx.Rngs):
        self.heads = width // HEAD_WIDTH
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.rel_pos = RelativePosition(window, self.heads, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "m t c"]) -> Float[Array, "m t c"]:
        """Attend over the tokens of each window."""
        m, tokens, width = x.shape
        qkv = self.qkv(x).reshape(m, tokens, 3, self.heads, HEAD_WIDTH)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        query = query * HEAD_WIDTH**-0.5
        scores = jnp.einsum("mhqc,mhkc->mhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores + self.rel_pos()[None], axis=-1).astype(x.dtype)
        attended = jnp.einsum("mhqk,mhkc->mqhc", weights, value)
        return self.proj(attended.reshape(m, tokens, width))


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
        parts = split(self.norm1(x), self.window, self.partition)
        x = x + merge(self.attn(parts), x.shape, self.window, self.partition)
        return x + self.mlp(self.norm2(x))


def split(
    x: Float[Array, "n h w c"], window: int, partition: Partition
) -> Float[Array, "m window*window c"]:
    """The points of each window, or of each grid, row-major."""
    folded = x.reshape(_folded(x.shape, window, partition)).transpose(AXES[partition])
    return folded.reshape(-1, window**2, x.shape[-1])


def merge(
    parts: Float[Array, "m t c"], shape: tuple[int, ...], window: int, partition: Partition
) -> Float[Array, "n h w c"]:
    """The map of this shape that `split` cut."""
    folded = _folded(shape, window, partition)
    axes = AXES[partition]
    parts = parts.reshape([folded[axis] for axis in axes])
    return parts.transpose(np.argsort(axes)).reshape(shape)


def _folded(shape, window, partition):
    n, h, w, c = shape
    if partition == "window":
        return n, h // window, window, w // window, window, c
    return n, window, h // window, window, w // window, c


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


class Hidden(nnx.Module):
    """The head's hidden layer."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.fc = Linear(width, width, rngs=rngs)


class Head(nnx.Module):
    """The norm after pooling, a hidden layer, and the classifier."""

    def __init__(self, width: int, num_classes: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(width, eps=ATTENTION_EPS)
        self.pre_logits = Hidden(width, rngs=rngs)
        self.fc = Linear(width, num_classes, rngs=rngs) if num_classes else None


class MaxViT(nnx.Module):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: MaxViTConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.stem = Stem(config.stem_channels, rngs=rngs)
        stages, in_channels = [], config.stem_channels
        for depth, channels in zip(config.depths, config.channels, strict=True):
            stages.append(Stage(in_channels, channels, depth, config.partition, rngs=rngs))
            in_channels = channels
        self.stages = nnx.List(stages)
        self.head = Head(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Penultimate features: the head's hidden layer."""
        x = self.stem(images)
        tap("stem", x)
        for number, stage in enumerate(self.stages):
            for index, block in enumerate(stage.blocks):
                x = block(x)
                tap(f"stages.{number}.blocks.{index}", x)
            tap(f"stages.{number}", x)
        pooled = self.head.norm(x.mean((1, 2)))
        return jnp.tanh(self.head.pre_logits.fc(pooled))

    def classify(self, features: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """Logits of the checkpoint's own classes."""
        return self.head.fc(features)
