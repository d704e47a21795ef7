"""HTS-AT, CLAP's network of sounds: a Swin transformer over folded spectrograms.

A spectrogram of t frames and k bands is normalized by band with running statistics, stretched to
r s frames by bicubic interpolation and folded into a square of side s, r = s / k: rows are bands of
the first s frames, then those of the next s, and so on, columns are frames. Blocks, merging and
windows are those of `swin`. Features are the mean over space of the normalized last map; the tap
`projection` is what two layers make of them, CLAP's joint space of sound and text, not normalized.

Fused, a sound longer than t frames is four spectrograms (`data.spectrogram`). The whole and its
three parts, in patches three times as long, are each embedded; side by side the parts make a map y
of the size of the whole's, x, and with a gate g = sigmoid(local(x + y) + global(x + y))

    2 x g + 2 y (1 - g)

goes on in place of x.

References: K. Chen et al., arXiv:2202.00874 (HTS-AT); Y. Wu et al., arXiv:2211.06687 (CLAP, which
fuses as Y. Dai et al., arXiv:2009.14082).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from substrate_jax.data.spectrogram import PARTS
from substrate_jax.encoders.networks.convolutions import Conv, ConvKernel
from substrate_jax.encoders.networks.interpolation import cubic_weights
from substrate_jax.encoders.networks.layers import (
    BatchNorm,
    LayerNorm,
    Linear,
    Tap,
    add_channels,
    gelu,
    no_tap,
    truncated_normal,
)
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.networks.swin import PatchEmbed, Stage, SwinConfig, run_stages

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": gelu}
LONG = 3  # times as long as others are the patches of a part


@dataclass(frozen=True)
class HTSATConfig:
    """Shape of an HTS-AT.

    Args:
        depths, channels: blocks and channels per stage.
        head_width: channels of a head.
        window: side of the windows.
        side: of the folded spectrogram.
        patch_size: of the first layer.
        bands: of the spectrogram.
        frames: of the spectrogram.
        mlp_ratio: hidden channels of a block to its channels.
        reduction: by which the gate of fusion narrows its channels; 0 for a network without fusion.
        projection: channels of the joint space, 0 for none.
        activation: between the projection's layers, "relu" or "gelu".

    Raises:
        ValueError: bands that do not divide the side, more frames than fit into the square, or as
            `swin.SwinConfig`.

    Example:
        >>> HTSATConfig().width, HTSATConfig().input_shape
        (768, (1001, 64))
    """

    family: ClassVar[str] = "htsat"

    depths: tuple[int, ...] = (2, 2, 6, 2)
    channels: tuple[int, ...] = (96, 192, 384, 768)
    head_width: int = 24
    window: int = 8
    side: int = 256
    patch_size: int = 4
    bands: int = 64
    frames: int = 1001
    mlp_ratio: float = 4.0
    reduction: int = 0
    projection: int = 512
    activation: str = "relu"

    def __post_init__(self) -> None:
        if self.bands < 1 or self.side % self.bands:
            raise ValueError(f"bands={self.bands}: give a divisor of side={self.side}")
        if not 0 < self.frames <= self.stretched:
            raise ValueError(
                f"frames={self.frames}: a square of side={self.side} holds {self.stretched} frames "
                f"of {self.bands} bands; give 1 to that"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r}: give {' or '.join(ACTIVATIONS)}")
        assert self.trunk  # which checks the rest

    @property
    def trunk(self) -> SwinConfig:
        """The Swin transformer of the folded spectrogram."""
        return SwinConfig(
            self.depths,
            self.channels,
            windows=(self.window,) * len(self.depths),
            head_width=self.head_width,
            patch_size=self.patch_size,
            mlp_ratio=self.mlp_ratio,
            num_classes=0,
            image_size=self.side,
        )

    @property
    def stretched(self) -> int:
        """Frames that the square is folded of."""
        return self.side // self.bands * self.side

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the spectrogram of one sound."""
        plain = (self.frames, self.bands)
        return (PARTS + 1, *plain) if self.reduction else plain

    @property
    def num_classes(self) -> int:
        """None: it was trained on texts."""
        return 0

    @property
    def width(self) -> int:
        """Features per sound."""
        return self.channels[-1]

    def build(self, rngs: nnx.Rngs) -> "HTSAT":
        """The module with fresh weights."""
        return HTSAT(self, rngs=rngs)


def fold(x: Float[Array, "n p t k"], config: HTSATConfig) -> Float[Array, "n s s p"]:
    """Spectrograms stretched in time and folded into squares, the p of one sound as channels."""
    n, parts, frames, bands = x.shape
    side, wanted = config.side, config.stretched
    if frames < wanted:
        # The first and the last frame keep their places.
        places = np.arange(wanted) * ((frames - 1) / (wanted - 1))
        weights = jnp.asarray(cubic_weights(places, frames), x.dtype)
        x = jnp.einsum("st,nptk->npsk", weights, x)
    x = x.reshape(n, parts, side // bands, side, bands).transpose(0, 2, 4, 3, 1)
    return x.reshape(n, side, side, parts)


class Gate(nnx.Module):
    """Two 1 x 1 convolutions, each normalized, the first narrower by `reduction`."""

    def __init__(self, channels: int, reduction: int, *, rngs: nnx.Rngs):
        narrow = channels // reduction
        self.conv1 = Conv(channels, narrow, 1, bias=True, rngs=rngs)
        self.bn1 = BatchNorm(narrow)
        self.conv2 = Conv(narrow, channels, 1, bias=True, rngs=rngs)
        self.bn2 = BatchNorm(channels)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Before the sigmoid."""
        return self.bn2(self.conv2(jax.nn.relu(self.bn1(self.conv1(x)))))


class LongPatches(nnx.Module):
    """Patches `LONG` times as wide as high, flattened, times one matrix."""

    def __init__(self, size: int, channels: int, *, rngs: nnx.Rngs):
        shape = (size, LONG * size, 1, channels)
        self.weight = ConvKernel(truncated_normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "n s s p"]) -> Float[Array, "n h w c"]:
        """The maps of the p parts side by side."""
        size, long, _, channels = self.weight.shape
        n, side, _, parts = x.shape
        rows, columns = side // size, side // long
        x = x[:, : rows * size, : columns * long].reshape(n, rows, size, columns, long, parts)
        x = x.transpose(0, 1, 5, 3, 2, 4).reshape(n, rows, parts * columns, size * long)
        return add_channels(x @ self.weight[...].reshape(-1, channels), self.bias[...])


class FusedPatchEmbed(PatchEmbed):
    """Patches of the whole and, where the sound is longer, of its parts, fused."""

    def __init__(self, config: HTSATConfig, *, rngs: nnx.Rngs):
        super().__init__(config.trunk, in_channels=1, rngs=rngs)
        channels = config.channels[0]
        self.long = LongPatches(config.patch_size, channels, rngs=rngs)
        self.local_gate = Gate(channels, config.reduction, rngs=rngs)
        self.global_gate = Gate(channels, config.reduction, rngs=rngs)

    def fused(
        self, x: Float[Array, "n s s p"], longer: Bool[Array, " n"]
    ) -> Float[Array, "n h w c"]:
        """Embed the patches of p spectrograms, the whole the first."""
        whole = self.proj(x[..., :1])
        parts = self.long(x[..., 1:])
        missing = whole.shape[2] - parts.shape[2]
        parts = jnp.pad(parts, ((0, 0), (0, 0), (0, missing), (0, 0)))
        both = whole + parts
        pooled = both.mean((1, 2), keepdims=True)
        gate = jax.nn.sigmoid(self.local_gate(both) + self.global_gate(pooled))
        mixed = 2 * whole * gate + 2 * parts * (1 - gate)
        return self.norm(jnp.where(longer[:, None, None, None], mixed, whole))


class Projection(nnx.Module):
    """Features to the joint space of sound and text."""

    def __init__(self, config: HTSATConfig, *, rngs: nnx.Rngs):
        self.linear1 = Linear(config.width, config.projection, rngs=rngs)
        self.linear2 = Linear(config.projection, config.projection, rngs=rngs)
        self.activation = ACTIVATIONS[config.activation]

    def __call__(self, features: Float[Array, "n d"]) -> Float[Array, "n e"]:
        """Not normalized."""
        return self.linear2(self.activation(self.linear1(features)))


class HTSAT(Network[HTSATConfig]):
    """Spectrograms to pooled features."""

    classifiers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: HTSATConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.batch_norm = BatchNorm(config.bands)
        if config.reduction:
            self.patch_embed = FusedPatchEmbed(config, rngs=rngs)
        else:
            self.patch_embed = PatchEmbed(config.trunk, in_channels=1, rngs=rngs)
        self.layers = nnx.List(
            [Stage(index, config.trunk, rngs=rngs) for index in range(len(config.depths))]
        )
        self.norm = LayerNorm(config.width, eps=config.trunk.eps)
        self.projection = Projection(config, rngs=rngs) if config.projection else None

    def features(self, images: Float[Array, "n ..."], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled features of spectrograms [n, t, k] in dB; fused, of [n, 5, t, k].

        Of the five planes the first four are spectrograms; the last is 1 where the sound is longer,
        else 0.
        """
        if isinstance(self.patch_embed, FusedPatchEmbed):
            spectrograms, longer = images[:, :PARTS], images[:, PARTS, 0, 0] > 0
            x = fold(self.batch_norm(spectrograms), self.config)
            x = self.patch_embed.fused(x, longer)
        else:
            x = self.patch_embed(fold(self.batch_norm(images[:, None]), self.config))
        tap("patch_embed", x)
        x = self.norm(run_stages(self.layers, x, tap))
        tap("norm", x)
        pooled = x.mean((1, 2))
        if self.projection is not None:
            tap("projection", self.projection(pooled))
        return pooled
