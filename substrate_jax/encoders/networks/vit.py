"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) and their pretrained relatives.

One module serves classification ViTs, DeiT (distilled too), DINO, DINOv2 (layer scale, registers,
SwiGLU in its giant), DINOv3 (rotary positions in place of a table), MAE encoders, I-JEPA, CLIP
image towers (normalization before the first block, no bias in the patch embedding) and SigLIP
towers (attention pooling). Module names are timm's.

Tokens are the class token, the distillation token, registers, then patches in row-major order.
Features are by `pool`:

    token   the normalized class token, or its mean with the distillation token
    avg     the normalized mean of the patch tokens
    mean    the mean of the normalized patch tokens
    map     attention of a learned query over the normalized patch tokens, and an MLP on top
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.encoders.networks.attention import attend, split_heads
from substrate_jax.encoders.networks.convolutions import Conv
from substrate_jax.encoders.networks.interpolation import resample_positions
from substrate_jax.encoders.networks.layers import (
    LayerNorm,
    LayerScale,
    Linear,
    Mlp,
    Tap,
    classifier,
    gelu,
    gelu_tanh,
    no_tap,
    normal,
    quick_gelu,
    run_blocks,
    truncated_normal,
)
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.networks.rotary import axial_angles, rotate

ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer.

    Args:
        width, depth, heads: channels of a token, blocks, attention heads.
        patch_size, image_size: sides in pixels; pixels beyond the last whole patch are dropped.
        mlp_ratio: outputs of the first map of an MLP over `width`.
        ffn: "mlp", or "swiglu" whose first map makes gates and values, half each.
        activation: of "mlp".
        layer_scale: initial scale of the residual branches, None for none.
        pre_norm: whether tokens are normalized before the first block.
        class_token: whether there is one.
        distilled: whether there is a second class token, which learned from a teacher; each has a
            head of its own (arXiv:2012.12877).
        registers: extra tokens that are attended to and never read out (arXiv:2309.16588).
        prefix_positions: whether the tokens before the patches have rows in the position table.
        rotary: base of rotary positions in place of the table, None for the table; see `rotary`.
        eps: of every LayerNorm.
        pool: what the features are made of, see the module's docstring.
        num_classes: outputs of the head, 0 for no head.

    Raises:
        ValueError: heads that do not divide the width, or whose width rotary positions do not fit,
            or a pooled token that is not there.
    """

    family: ClassVar[str] = "vit"

    width: int
    depth: int
    heads: int
    patch_size: int = 16
    image_size: int = 224
    mlp_ratio: float = 4.0
    ffn: Literal["mlp", "swiglu"] = "mlp"
    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu"
    layer_scale: float | None = None
    pre_norm: bool = False
    class_token: bool = True
    distilled: bool = False
    registers: int = 0
    prefix_positions: bool = True
    eps: float = 1e-6
    pool: Literal["token", "avg", "mean", "map"] = "token"
    num_classes: int = 1000
    rotary: float | None = None

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: choose a divisor of width={self.width}")
        if self.image_size < self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is less than a patch of {self.patch_size}; give "
                "larger images"
            )
        if self.pool == "token" and not self.class_token:
            raise ValueError("pool='token': set class_token=True, or pool 'avg', 'mean' or 'map'")
        if self.rotary is not None and self.width // self.heads % 4:
            raise ValueError(
                f"heads={self.heads}: rotary positions want heads of a multiple of 4 channels"
            )
        if self.distilled and self.pool != "token":
            raise ValueError(f"distilled=True, pool={self.pool!r}: set pool 'token'")

    @property
    def prefix(self) -> int:
        """Tokens before the patches."""
        return self.class_token + self.distilled + self.registers

    @property
    def table_prefix(self) -> int:
        """Rows of the position table before those of the patches."""
        return self.prefix if self.prefix_positions else 0

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def angles(self) -> Float[np.ndarray, "t d2"] | None:
        """Rotary angles of all tokens, None where a table has the positions."""
        if self.rotary is None:
            return None
        return axial_angles(self.grid, self.width // self.heads, self.rotary, prefix=self.prefix)

    def build(self, rngs: nnx.Rngs) -> "ViT":
        """The module with fresh weights."""
        return ViT(self, rngs=rngs)


class Attention(nnx.Module):
    """Self-attention of many heads."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(
        self,
        x: Float[Array, "n t c"],
        angles: Float[np.ndarray, "t d2"] | None = None,
        bias: Float[Array, "m 1 t t"] | None = None,
    ) -> Float[Array, "n t c"]:
        """Attend over the tokens, queries and keys turned by `angles`, `bias` on the scores."""
        query, key, value = split_heads(self.qkv(x), 3, self.heads)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return self.proj(attend(query, key, value, bias))


class SwiGlu(nnx.Module):
    """fc2(silu(a) * b), where a and b are the halves of fc1(x) (arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.fc1 = Linear(width, hidden, rngs=rngs)
        self.fc2 = Linear(hidden // 2, width, rngs=rngs)

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Apply the two layers."""
        gate, value = jnp.split(self.fc1(x), 2, axis=-1)
        return self.fc2(jax.nn.silu(gate) * value)


def _mlp(config: ViTConfig, ffn: str, rngs: nnx.Rngs) -> nnx.Module:
    hidden = int(config.width * config.mlp_ratio)
    if ffn == "swiglu":
        return SwiGlu(config.width, hidden, rngs=rngs)
    return Mlp(config.width, hidden, activation=ACTIVATIONS[config.activation], rngs=rngs)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each scaled where the config says so."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        width, scale = config.width, config.layer_scale
        self.norm1 = LayerNorm(width, eps=config.eps)
        self.attn = Attention(width, config.heads, rngs=rngs)
        self.ls1 = None if scale is None else LayerScale(width, scale)
        self.norm2 = LayerNorm(width, eps=config.eps)
        self.mlp = _mlp(config, config.ffn, rngs)
        self.ls2 = None if scale is None else LayerScale(width, scale)

    def __call__(
        self,
        x: Float[Array, "n t c"],
        angles: Float[np.ndarray, "t d2"] | None = None,
        bias: Float[Array, "m 1 t t"] | None = None,
    ) -> Float[Array, "n t c"]:
        """Apply the block."""
        y = self.attn(self.norm1(x), angles, bias)
        x = x + (y if self.ls1 is None else self.ls1(y))
        y = self.mlp(self.norm2(x))
        return x + (y if self.ls2 is None else self.ls2(y))


class AttentionPool(nnx.Module):
    """y + mlp(norm(y)), y the attention of one learned query over the tokens (arXiv:2106.04560)."""

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.latent = nnx.Param(normal(rngs.params(), (1, 1, width), width**-0.5))
        self.q = Linear(width, width, rngs=rngs)
        self.kv = Linear(width, 2 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm = LayerNorm(width, eps=config.eps)
        self.mlp = _mlp(config, "mlp", rngs)
        self.heads = config.heads

    def __call__(self, x: Float[Array, "n t c"]) -> Float[Array, "n c"]:
        """Pool the tokens."""
        (query,) = split_heads(self.q(self.latent[...]), 1, self.heads)
        key, value = split_heads(self.kv(x), 2, self.heads)
        query = jnp.broadcast_to(query, (x.shape[0], *query.shape[1:]))
        y = self.proj(attend(query, key, value)[:, 0])
        return y + self.mlp(self.norm(y))


class PatchEmbed(nnx.Module):
    """Each patch, flattened, times one matrix."""

    def __init__(self, width: int, size: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.proj = Conv(3, width, size, stride=size, bias=bias, std=0.02, rngs=rngs)

    def __call__(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t c"]:
        """Embed the patches in row-major order."""
        x = self.proj(images)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class ViT(Network[ViTConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    classifiers = ("head", "head_dist")

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.patch_embed = PatchEmbed(width, config.patch_size, bias=not config.pre_norm, rngs=rngs)
        rows = config.grid**2 + config.table_prefix
        self.cls_token = _token(rngs, 1, width) if config.class_token else None
        self.dist_token = _token(rngs, 1, width) if config.distilled else None
        self.pos_embed = (
            nnx.Param(truncated_normal(rngs.params(), (1, rows, width)))
            if config.rotary is None
            else None
        )
        self.reg_token = _token(rngs, config.registers, width) if config.registers else None
        self.norm_pre = LayerNorm(width, eps=config.eps) if config.pre_norm else None
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        pooled = config.pool == "avg"
        self.norm = None if pooled else LayerNorm(width, eps=config.eps)
        self.attn_pool = AttentionPool(config, rngs=rngs) if config.pool == "map" else None
        self.fc_norm = LayerNorm(width, eps=config.eps) if pooled else None
        self.head = classifier(width, config.num_classes, rngs=rngs)
        second = config.num_classes if config.distilled else 0
        self.head_dist = classifier(width, second, rngs=rngs)

    def embed(self, images: Float[Array, "n h w 3"]) -> Float[Array, "n t c"]:
        """Patch tokens with their positions, without class token and registers."""
        x = self.patch_embed(images)
        if self.pos_embed is None:
            return x
        return x + jnp.broadcast_to(self.pos_embed[...][:, self.config.table_prefix :], x.shape)

    def encode(self, patches: Float[Array, "n t c"], tap: Tap = no_tap) -> Float[Array, "n u c"]:
        """All tokens after all blocks and, unless `pool="avg"`, the last norm."""
        config = self.config
        tokens = (self.cls_token, self.dist_token, self.reg_token)
        prefix = [token[...] for token in tokens if token is not None]
        x = patches
        if prefix:
            tokens = jnp.concatenate(prefix, axis=1)
            if config.prefix_positions and self.pos_embed is not None:
                tokens = tokens + self.pos_embed[...][:, : config.prefix]
            tokens = jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape[1:]))
            x = jnp.concatenate([tokens, x], axis=1)
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        x = run_blocks(self.blocks, x, tap, "blocks", config.angles)
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
        """What `features` makes of encoded tokens, by the config's `pool`."""
        patches = tokens[:, self.config.prefix :]
        if self.attn_pool is not None:
            return self.attn_pool(patches)
        if self.fc_norm is not None:
            return self.fc_norm(patches.mean(1))
        if self.config.pool == "mean":
            return patches.mean(1)
        return tokens[:, :2].mean(1) if self.config.distilled else tokens[:, 0]

    def classify(self, features: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        """Logits of the checkpoint's own classes.

        Raises:
            ValueError: a network without a classifier, or a distilled one, whose heads want one
                token each and not their mean.
        """
        if self.config.distilled:
            raise ValueError("distilled=True: the two heads take one token each, not the features")
        return super().classify(features)

    def adapt_checkpoint(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Resample a position table made for another image size."""
        table, config = arrays.get("pos_embed"), self.config
        rows = config.grid**2 + config.table_prefix
        if table is None or table.ndim != 3 or table.shape[1] == rows:
            return arrays
        resampled = resample_positions(table, config.grid, prefix=config.table_prefix)
        return arrays | {"pos_embed": resampled}


def _token(rngs: nnx.Rngs, count: int, width: int) -> nnx.Param:
    return nnx.Param(normal(rngs.params(), (1, count, width), 1e-6))


def gather_tokens(tokens: Float[Array, "n t c"], keep: Int[Array, "n k"]) -> Float[Array, "n k c"]:
    """The tokens named by `keep`, per image."""
    return jnp.take_along_axis(tokens, keep[:, :, None], axis=1)
