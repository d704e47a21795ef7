"""BEiT (Bao et al. 2021, arXiv:2106.08254) and BEiT V2 (Peng et al. 2022, arXiv:2208.06366).

A vision transformer that knows positions only by a bias on the scores of attention, learned in
every block for each offset of two patches: (2 g - 1)^2 rows of a table for a grid of g x g, and
three more for pairs with the class token. Queries and values have a bias, keys have none. Both
versions are one network, of different pretraining; the checkpoints are fine-tuned on labels.
Features are the normalized mean of the patch tokens. Module names are timm's.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from substrate_jax.encoders.networks.attention import (
    attend,
    relative_bias,
    relative_positions,
    split_heads,
    without_tables,
)
from substrate_jax.encoders.networks.layers import (
    LayerNorm,
    Linear,
    Mlp,
    Tap,
    add_channels,
    classifier,
    mul_channels,
    no_tap,
    run_blocks,
    truncated_normal,
)
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.networks.vit import PatchEmbed


@dataclass(frozen=True)
class BEiTConfig:
    """Shape of a BEiT.

    Raises:
        ValueError: the image is not a whole number of patches, or the width of heads.
    """

    family: ClassVar[str] = "beit"

    width: int
    depth: int
    heads: int
    patch_size: int = 16
    image_size: int = 224
    mlp_ratio: float = 4.0
    layer_scale: float = 1e-5
    eps: float = 1e-6
    num_classes: int = 1000

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is no whole number of patches of "
                f"{self.patch_size} pixels; give a multiple of {self.patch_size}"
            )
        if self.width % self.heads:
            raise ValueError(
                f"heads={self.heads} does not divide width={self.width}; "
                f"give a divisor of {self.width}"
            )

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    def build(self, rngs: nnx.Rngs) -> "BEiT":
        """The module with fresh weights."""
        return BEiT(self, rngs=rngs)


def relative_positions_with_token(grid: int) -> Int[np.ndarray, "t t"]:
    """Row of the bias table for each pair of tokens, the class token first.

    The last three rows are those of the class token as query, as key, and with itself.

    Example:
        >>> relative_positions_with_token(1)
        array([[3, 1],
               [2, 0]], dtype=int32)
    """
    offsets = np.int32((2 * grid - 1) ** 2)
    index = np.pad(relative_positions(grid), ((1, 0), (1, 0)))
    index[0, 1:], index[1:, 0], index[0, 0] = offsets, offsets + 1, offsets + 2
    return index


class Attention(nnx.Module):
    """Self-attention of many heads with a bias for each relative position."""

    def __init__(self, config: BEiTConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.qkv = Linear(width, 3 * width, bias=False, rngs=rngs)
        self.q_bias = nnx.Param(jnp.zeros(width))
        self.v_bias = nnx.Param(jnp.zeros(width))
        self.relative_position_bias_table = nnx.Param(
            jnp.zeros(((2 * config.grid - 1) ** 2 + 3, config.heads))
        )
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = config.heads

    def __call__(
        self, x: Float[Array, "n t c"], positions: Int[Array, "t t"]
    ) -> Float[Array, "n t c"]:
        """Attend over the tokens; `positions` says the table's row for each pair."""
        query, value = self.q_bias[...], self.v_bias[...]
        qkv = add_channels(self.qkv(x), jnp.concatenate([query, jnp.zeros_like(query), value]))
        bias = relative_bias(self.relative_position_bias_table[...], positions)[None]
        return self.proj(attend(*split_heads(qkv, 3, self.heads), bias=bias))


class Block(nnx.Module):
    """x + gamma_1 * attention(norm(x)), then x + gamma_2 * mlp(norm(x))."""

    def __init__(self, config: BEiTConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.norm1 = LayerNorm(width, eps=config.eps)
        self.attn = Attention(config, rngs=rngs)
        self.gamma_1 = nnx.Param(jnp.full(width, config.layer_scale))
        self.norm2 = LayerNorm(width, eps=config.eps)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), rngs=rngs)
        self.gamma_2 = nnx.Param(jnp.full(width, config.layer_scale))

    def __call__(
        self, x: Float[Array, "n t c"], positions: Int[Array, "t t"]
    ) -> Float[Array, "n t c"]:
        """Apply the block."""
        x = x + mul_channels(self.attn(self.norm1(x), positions), self.gamma_1[...])
        return x + mul_channels(self.mlp(self.norm2(x)), self.gamma_2[...])


class BEiT(Network[BEiTConfig]):
    """Images to pooled features; `classify` maps those to logits."""

    classifiers = ("head",)

    def __init__(self, config: BEiTConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.patch_embed = PatchEmbed(width, config.patch_size, rngs=rngs)
        self.cls_token = nnx.Param(truncated_normal(rngs.params(), (1, 1, width)))
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.depth)])
        self.fc_norm = LayerNorm(width, eps=config.eps)
        self.head = classifier(width, config.num_classes, rngs=rngs)

    def features(self, images: Float[Array, "n h w 3"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Pooled penultimate features."""
        patches = self.patch_embed(images)
        tap("patch_embed", patches)
        token = jnp.broadcast_to(self.cls_token[...], (patches.shape[0], 1, patches.shape[2]))
        x = jnp.concatenate([token, patches], axis=1)
        # One constant for all blocks: at 512 pixels it has 4 MB.
        positions = jnp.asarray(relative_positions_with_token(self.config.grid))
        x = run_blocks(self.blocks, x, tap, "blocks", positions)
        return self.fc_norm(x[:, 1:].mean(1))

    def adapt_checkpoint(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave out the index tables of older files, which follow from the config."""
        return without_tables(arrays)
