"""MobileViTV2 (Mehta & Rastegari 2022, arXiv:2206.02680): convolutions with linear attention.

Inverted residuals halve the resolution; from stride 8 on each stage ends in a transformer whose
attention is linear in the number of patches. A map is seen as 2 x 2 patches, and each of the four
pixels p of a patch attends over the same pixel of all patches i:

    context_p = sum_i softmax_i(query_pi) key_pi,      out_pi = relu(value_pi) * context_p

with a scalar query. Maps stay [n, h, w, c]: patches are two axes split in the attention, never
gathered. As in timm a map of odd side is first resampled to the next even one, bilinear with the
corners held, and stays so: at 224 pixels the last stage is 8 x 8 in place of 7 x 7. Features are
the spatial mean of the last stage. Module names are timm's.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.convolutions import Conv, ConvNorm, round_channels
from substrate_jax.encoders.networks.layers import (
    Head,
    LayerNorm,
    Mlp,
    Tap,
    no_tap,
    run_blocks,
)
from substrate_jax.encoders.networks.network import Network

PATCH = 2
# Of each stage: channels at multiplier 1, inverted residuals, transformer blocks after them.
STAGES = ((64, 1, 0), (128, 2, 0), (256, 1, 2), (384, 1, 4), (512, 1, 3))
STEM = 32

# Each image over space and channels.
ImageNorm = partial(LayerNorm, eps=1e-5, axes=(1, 2, 3))


@dataclass(frozen=True)
class MobileViTV2Config:
    """Shape of a MobileViTV2: the multiplier of all channels, and its stages."""

    family: ClassVar[str] = "mobilevit"

    multiplier: float
    stages: tuple[tuple[int, int, int], ...] = STAGES
    image_size: int = 256
    num_classes: int = 1000

    def __post_init__(self):
        if int(STEM * self.multiplier) < 1:
            raise ValueError(f"multiplier={self.multiplier}: give at least {1 / STEM}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(int(channels * self.multiplier) for channels, _, _ in self.stages)

    @property
    def width(self) -> int:
        """Features per image."""
        return self.channels[-1]

    def build(self, rngs: nnx.Rngs) -> "MobileViTV2":
        """The module with fresh weights."""
        return MobileViTV2(self, rngs=rngs)


class InvertedResidual(nnx.Module):
    """1 x 1 expansion to twice the channels, depthwise 3 x 3, linear 1 x 1 projection."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, rngs: nnx.Rngs):
        hidden, silu = round_channels(2 * in_channels), jax.nn.silu
        self.conv1_1x1 = ConvNorm(in_channels, hidden, 1, activation=silu, rngs=rngs)
        self.conv2_kxk = ConvNorm(
            hidden, hidden, 3, stride=stride, groups=hidden, activation=silu, rngs=rngs
        )
        self.conv3_1x1 = ConvNorm(hidden, out_channels, 1, rngs=rngs)
        self.residual = stride == 1 and in_channels == out_channels

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Apply the block."""
        y = self.conv3_1x1(self.conv2_kxk(self.conv1_1x1(x)))
        return x + y if self.residual else y


class LinearAttention(nnx.Module):
    """Separable self-attention over patches, one pixel of the patch at a time; float32 scores."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.qkv_proj = Conv(width, 1 + 2 * width, 1, bias=True, rngs=rngs)
        self.out_proj = Conv(width, width, 1, bias=True, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Attend over the patches."""
        n, h, w, c = x.shape
        qkv = self.qkv_proj(x).reshape(n, h // PATCH, PATCH, w // PATCH, PATCH, -1)
        query, key, value = jnp.split(qkv, (1, 1 + c), axis=-1)
        weights = jax.nn.softmax(query.astype(jnp.float32), axis=(1, 3))
        context = (weights * key.astype(jnp.float32)).sum((1, 3), keepdims=True)
        attended = jax.nn.relu(value) * context.astype(x.dtype)
        return self.out_proj(attended.reshape(n, h, w, c))


class TransformerBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm1 = ImageNorm(width)
        self.attn = LinearAttention(width, rngs=rngs)
        self.norm2 = ImageNorm(width)
        linear = partial(Conv, kernel_size=1, bias=True)
        self.mlp = Mlp(width, 2 * width, activation=jax.nn.silu, linear=linear, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Apply the block."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MobileViTBlock(nnx.Module):
    """Depthwise convolution, projection to half the channels, transformer, projection back."""

    def __init__(self, channels: int, depth: int, *, rngs: nnx.Rngs):
        width = round_channels(channels / 2)
        self.conv_kxk = ConvNorm(
            channels, channels, 3, groups=channels, activation=jax.nn.silu, rngs=rngs
        )
        self.conv_1x1 = Conv(channels, width, 1, rngs=rngs)
        self.transformer = nnx.List([TransformerBlock(width, rngs=rngs) for _ in range(depth)])
        self.norm = ImageNorm(width)
        self.conv_proj = ConvNorm(width, channels, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        """Apply the block; odd sides become even."""
        rows, columns = (side + side % PATCH for side in x.shape[1:3])
        x = self.conv_1x1(self.conv_kxk(resample(x, rows, columns)))
        for block in self.transformer:
            x = block(x)
        return self.conv_proj(self.norm(x))


class MobileViTV2(Network[MobileViTV2Config]):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: MobileViTV2Config, *, rngs: nnx.Rngs):
        self.config = config
        in_channels = int(STEM * config.multiplier)
        self.stem = ConvNorm(3, in_channels, 3, stride=2, activation=jax.nn.silu, rngs=rngs)
        stages = []
        for number, channels in enumerate(config.channels):
            _, residuals, depth = config.stages[number]
            blocks = []
            for index in range(residuals):
                stride = 2 if number > 0 and index == 0 else 1
                blocks.append(InvertedResidual(in_channels, channels, stride, rngs=rngs))
                in_channels = channels
            if depth:
                blocks.append(MobileViTBlock(channels, depth, rngs=rngs))
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.head = Head(config.width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        x = self.stem(images)
        tap("stem", x)
        for number, stage in enumerate(self.stages):
            x = run_blocks(stage, x, tap, f"stages.{number}")
            tap(f"stages.{number}", x)
        return x.mean((1, 2))


def resample(x: Float[Array, "n h w c"], rows: int, columns: int) -> Float[Array, "n h2 w2 c"]:
    """The map at another size: bilinear, first and last positions kept in place."""
    if x.shape[1:3] == (rows, columns):
        return x
    by_rows, by_columns = (
        jnp.asarray(_tents(old, new), x.dtype)
        for old, new in zip(x.shape[1:3], (rows, columns), strict=True)
    )
    return jnp.einsum("ih,jw,nhwc->nijc", by_rows, by_columns, x)


def _tents(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Share of each old position in each new one."""
    positions = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(old)[None]))
