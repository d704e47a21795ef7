"""Transformers of texts: CLIP's tower (arXiv:2103.00020) and BERT (arXiv:1810.04805).

Tokens are rows of a table, with a position's row added; below 0 there is no token
(`data.tokens.PADDING`).

    CLIP    vision's blocks, x + f(norm(x)), each token attending to those before it; features are
            the last normalization of the token that ends the text, which has seen all of it. The
            linear map to the joint space of images and texts is the tap `projection`.
    BERT    normalized embeddings, then blocks norm(x + f(x)); no token attends to padding, and the
            features are the mean over the tokens, or the first one's.

The taps of blocks are pooled over the tokens as features are: padding is in none of them. Features
of a text depend neither on other texts nor on how much padding follows it.

Cost: O(t^2 c + t c^2) a block for t tokens of c channels, padding among them.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int32

from substrate_jax.encoders.networks.attention import causal, without
from substrate_jax.encoders.networks.layers import (
    LayerNorm,
    Linear,
    Mlp,
    Tap,
    no_tap,
    truncated_normal,
)
from substrate_jax.encoders.networks.network import Network
from substrate_jax.encoders.networks.vit import ACTIVATIONS, Attention, Block, ViTConfig


@dataclass(frozen=True)
class _Transformer:
    """Shape of a transformer of texts.

    Args:
        width, depth, heads: channels of a token, blocks, attention heads.
        hidden: channels between the maps of an MLP.
        vocabulary: rows of the table of tokens.
        positions: rows of the table of positions.
        length: tokens of a text, at most `positions`.
        activation: of the MLP.
        eps: of every LayerNorm.

    Raises:
        ValueError: heads that do not divide the width, or a length without positions.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    vocabulary: int
    positions: int
    length: int
    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu"
    eps: float = 1e-5

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: choose a divisor of width={self.width}")
        if not 1 <= self.length <= self.positions:
            raise ValueError(f"length={self.length}: give 1 to {self.positions} tokens")

    @property
    def num_classes(self) -> int:
        """None: it was trained on texts."""
        return 0


@dataclass(frozen=True)
class CLIPTextConfig(_Transformer):
    """Shape of CLIP's tower of texts.

    Args:
        end: number of the token that ends a text, whose first place is read out; None for the token
            with the highest number, as old configurations have it.
        projection: channels of the joint space, 0 for none.
    """

    family: ClassVar[str] = "clip_text"

    end: int | None = None
    projection: int = 0

    @property
    def blocks(self) -> ViTConfig:
        """A vision transformer of the same blocks."""
        return ViTConfig(
            self.width,
            self.depth,
            self.heads,
            mlp_ratio=(self.hidden + 0.5) / self.width,  # of which it takes the whole channels
            activation=self.activation,
            eps=self.eps,
        )

    def build(self, rngs: nnx.Rngs) -> "CLIPText":
        """The module with fresh weights."""
        return CLIPText(self, rngs=rngs)


@dataclass(frozen=True)
class BertConfig(_Transformer):
    """Shape of a BERT.

    Args:
        types: kinds of sentences that were told apart; a text is of the first.
        pool: "mean" over the tokens, or the "cls" token, the first.

    Example:
        >>> BertConfig(384, 6, 12, 1536, 30522, 512, 256).pool
        'mean'
    """

    family: ClassVar[str] = "bert"

    types: int = 2
    pool: Literal["mean", "cls"] = "mean"

    def build(self, rngs: nnx.Rngs) -> "Bert":
        """The module with fresh weights."""
        return Bert(self, rngs=rngs)


class CLIPText(Network[CLIPTextConfig]):
    """Tokens to the features of the token that ends the text."""

    classifiers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.token_embed = _table(config.vocabulary, config, rngs)
        self.pos_embed = nnx.Param(
            truncated_normal(rngs.params(), (1, config.positions, config.width))
        )
        self.blocks = nnx.List([Block(config.blocks, rngs=rngs) for _ in range(config.depth)])
        self.norm = LayerNorm(config.width, eps=config.eps)
        self.projection = (
            Linear(config.width, config.projection, bias=False, rngs=rngs)
            if config.projection
            else None
        )

    def features(self, images: Int32[Array, "n t"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Features of texts, given as numbers of tokens."""
        end = end_of(images, self.config.end)
        x = embed(images, self.token_embed, self.pos_embed)
        bias = jnp.asarray(causal(images.shape[1]))
        last = _at(x, end)
        tap("embed", last)
        for index, block in enumerate(self.blocks):
            x = block(x, None, bias)
            last = _at(x, end)
            tap(f"blocks.{index}", last)
        features = self.norm(last)
        if self.projection is not None:
            tap("projection", self.projection(features))
        return features


class PostNormBlock(nnx.Module):
    """norm(x + attention(x)), then norm(x + mlp(x))."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.attn = Attention(config.width, config.heads, rngs=rngs)
        self.norm1 = LayerNorm(config.width, eps=config.eps)
        activation = ACTIVATIONS[config.activation]
        self.mlp = Mlp(config.width, config.hidden, activation=activation, rngs=rngs)
        self.norm2 = LayerNorm(config.width, eps=config.eps)

    def __call__(
        self, x: Float[Array, "n t c"], bias: Float[Array, "n 1 t t"]
    ) -> Float[Array, "n t c"]:
        """Apply the block, `bias` on the scores of attention."""
        x = self.norm1(x + self.attn(x, None, bias))
        return self.norm2(x + self.mlp(x))


class Bert(Network[BertConfig]):
    """Tokens to the mean of their features, or to the first one's."""

    classifiers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.token_embed = _table(config.vocabulary, config, rngs)
        self.pos_embed = nnx.Param(
            truncated_normal(rngs.params(), (1, config.positions, config.width))
        )
        self.type_embed = _table(config.types, config, rngs)
        self.norm_embed = LayerNorm(config.width, eps=config.eps)
        self.blocks = nnx.List([PostNormBlock(config, rngs=rngs) for _ in range(config.depth)])

    def features(self, images: Int32[Array, "n t"], tap: Tap = no_tap) -> Float[Array, "n d"]:
        """Features of texts, given as numbers of tokens."""
        x = embed(images, self.token_embed, self.pos_embed)
        x = self.norm_embed(x + jnp.broadcast_to(self.type_embed[...][:1, None], x.shape))
        bias = without(images < 0)
        features = self._pool(x, images)
        tap("embed", features)
        for index, block in enumerate(self.blocks):
            x = block(x, bias)
            features = self._pool(x, images)
            tap(f"blocks.{index}", features)
        return features

    def _pool(self, x: Float[Array, "n t c"], tokens: Int32[Array, "n t"]) -> Float[Array, "n c"]:
        return x[:, 0] if self.config.pool == "cls" else mean_of(x, tokens)


def embed(
    tokens: Int32[Array, "n t"], table: nnx.Param, positions: nnx.Param
) -> Float[Array, "n t c"]:
    """Rows of the table, and those of the first positions added. Beyond the table they are NaN."""
    # The row of padding is never looked at, but must be one.
    x = jnp.take(table[...], jnp.maximum(tokens, 0), axis=0, mode="fill")
    return x + jnp.broadcast_to(positions[...][:, : tokens.shape[1]], x.shape)


def end_of(tokens: Int32[Array, "n t"], end: int | None) -> Int32[Array, " n"]:
    """Where each text ends: the first place of the token `end`, or of the highest number.

    As transformers has it, 0 where the token is not there.

    Example:
        >>> tokens = jnp.array([[7, 3, 9, 3, -1], [7, 9, 9, -1, -1]])
        >>> end_of(tokens, 3).tolist(), end_of(tokens, None).tolist()
        ([1, 0], [2, 1])
    """
    return jnp.argmax(tokens if end is None else tokens == end, axis=1).astype(jnp.int32)


def mean_of(x: Float[Array, "n t c"], tokens: Int32[Array, "n t"]) -> Float[Array, "n c"]:
    """The mean over the tokens of each text, in float32 inside; padding does not count.

    Example:
        >>> x = jnp.array([[[1.0], [3.0], [50.0]]])
        >>> mean_of(x, jnp.array([[4, 5, -1]])).tolist()
        [[2.0]]
    """
    there = (tokens >= 0)[:, :, None].astype(jnp.float32)
    total = (x.astype(jnp.float32) * there).sum(1)
    return (total / there.sum(1)).astype(x.dtype)


def _at(x: Float[Array, "n t c"], places: Int32[Array, " n"]) -> Float[Array, "n c"]:
    """One token of each text."""
    return jnp.take_along_axis(x, places[:, None, None], axis=1)[:, 0]


def _table(rows: int, config: _Transformer, rngs: nnx.Rngs) -> nnx.Param:
    return nnx.Param(truncated_normal(rngs.params(), (rows, config.width)))
