"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) and their pretrained relatives.

One module serves classification ViTs, DINOv2 (layer scale), MAE encoders and CLIP image towers
(normalisation before the first block, no bias in the patch embedding). Features are the normalised
class token, or with `pool="avg"` the normalised mean of the patch tokens. Module names are timm's.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.encoders.convolutions import Conv
from substrate_jax.encoders.layers import (
    LayerNorm,
    LayerScale,
    Linear,
    Mlp,
    Tap,
    gelu,
    no_tap,
    quick_gelu,
)

ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu}


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer."""

    family: ClassVar[str] = "vit"

    width: int
    depth: int
    heads: int
    patch_size: int = 16
    image_size: int = 224
    mlp_ratio: float = 4.0
    layer_scale: float | None = None
    pre_norm: bool = False
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    eps: float = 1e-6
    pool: Literal["token", "avg"] = "token"
    num_classes: int = 1000

    @property
    def grid(self) -> int:
        """Patches a side."""
        return self.image_size // self.patch_size

    def build(self, rngs: nnx.Rngs) -> "ViT":
        """The module with fresh weights."""
        return ViT(self, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention, scores in float32."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(self, x: Float[Array, "n t c"]) -> Float[Array, "n t c"]:
        """Attend over the tokens."""
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.transpose(2, 0, 3, 1, 4)
        query = query * (width // self.heads) ** -0.5
        scores = jnp.einsum("nhqc,nhkc->nhqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        attended = jnp.einsum("nhqk,nhkc->nqhc", weights, value)
        return self.proj(attended.reshape(n, tokens, width))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each scaled where the config says so."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        width, scale = config.width, config.layer_scale
        self.norm1 = LayerNorm(width, eps=config.eps)
        self.attn = Attention(width, config.heads, rngs=rngs)
        self.ls1 = None if scale is None else LayerScale(width, scale)
        self.norm2 = LayerNorm(width, eps=config.eps)
        hidden = int(width * config.mlp_ratio)
        self.mlp = Mlp(width, hidden, activation=ACTIVATIONS[config.activation], rngs=rngs)
        self.ls2 = None if scale is None else LayerScale(width, scale)

    def __call__(self, x: Float[Array, "n t c"]) -> Float[Array, "n t c"]:
        """Apply the block."""
        y = self.attn(self.norm1(x))
        x = x + (y if self.ls1 is None else self.ls1(y))
        y = self.mlp(self.norm2(x))
        return x + (y if self.ls2 is None else self.ls2(y))


class PatchEmbed(nnx.Module):
    """Each patch, flattened, times one matrix."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        self.proj = Conv(
            3,
            config.width,
            config.patch_size,
            stride=config.patch_size,
            bias=not config.pre_norm,
            std=0.02,
            rngs=rngs,
        )

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t c"]:
        """Embed the patches in row-major order."""
        x = self.proj(images)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class ViT(nnx.Module):
    """Images to pooled features; `classify` maps those to logits."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.cls_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(
            0.02 * jax.random.truncated_normal(rngs.params(), -2, 2, (1, config.grid**2 + 1, width))
        )
        self.norm_pre = LayerNorm(width, eps=config.eps) if config.pre_norm else None
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        pooled = config.pool == "avg"
        self.norm = None if pooled else LayerNorm(width, eps=config.eps)
        self.fc_norm = LayerNorm(width, eps=config.eps) if pooled else None
        self.head = Linear(width, config.num_classes, rngs=rngs) if config.num_classes else None

    def embed(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t c"]:
        """Patch tokens with their positions, without the class token."""
        x = self.patch_embed(images)
        return x + jnp.broadcast_to(self.pos_embed[...][:, 1:], x.shape)

    def encode(self, patches: Float[Array, "n t c"], tap: Tap = no_tap) -> Float[Array, "n t+1 c"]:
        """Class token and patch tokens after all blocks and, for `pool="token"`, the last norm."""
        token = self.cls_token[...] + self.pos_embed[...][:, :1]
        token = jnp.broadcast_to(token, (patches.shape[0], 1, patches.shape[2]))
        x = jnp.concatenate([token, patches], axis=1)
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            tap(f"blocks.{index}", x)
        if self.norm is not None:
            x = self.norm(x)
            tap("norm", x)
        return x

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        patches = self.embed(images)
        tap("patch_embed", patches)
        return self.pool(self.encode(patches, tap))

    def pool(self, tokens: Float[Array, "n t c"]) -> Float[Array, "n c"]:
        """What `features` makes of encoded tokens: the class token, or the normalised mean."""
        return tokens[:, 0] if self.fc_norm is None else self.fc_norm(tokens[:, 1:].mean(1))

    def classify(self, features: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """Logits of the checkpoint's own classes."""
        return self.head(features)

    def adapt_checkpoint(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Resample a position table made for another image size."""
        table = arrays.get("pos_embed")
        if table is None or table.ndim != 3 or table.shape[1] == self.config.grid**2 + 1:
            return arrays
        return arrays | {"pos_embed": resample_positions(table, self.config.grid)}


def resample_positions(table: Float[np.ndarray, "1 t c"], grid: int) -> Float[np.ndarray, "1 u c"]:
    """A position table of one prefix token and a square grid, resampled to `grid` x `grid`.

    Antialiased bicubic with kernel parameter -0.5, as timm does on loading.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if side**2 != table.shape[1] - 1:
        raise ValueError(
            f"pos_embed has {table.shape[1] - 1} patch positions, which is not a square number; "
            "only square position tables can be resampled"
        )
    positions = jnp.asarray(table[0, 1:], jnp.float32).reshape(side, side, -1)
    resampled = jax.image.resize(
        positions,
        (grid, grid, positions.shape[-1]),
        "cubic",
        antialias=True,
        precision=jax.lax.Precision.HIGHEST,
    )
    patches = np.asarray(resampled, table.dtype).reshape(1, grid**2, -1)
    return np.concatenate([table[:, :1], patches], axis=1)


def gather_tokens(tokens: Float[Array, "n t c"], keep: Int[Array, "n k"]) -> Float[Array, "n k c"]:
    """The tokens named by `keep`, per image."""
    return jnp.take_along_axis(tokens, keep[:, :, None], axis=1)
