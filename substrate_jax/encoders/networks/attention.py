"""Attention of many heads over tokens, windows of a map, and positions relative to each other.

For queries, keys and values of one head, d wide, and a bias on their scores

    attend = softmax(query key^T / sqrt(d) + bias) value

with scores and softmax in float32 whatever the input. Over t tokens of width c it costs O(t^2 c).
On NVIDIA GPUs half-precision attention over 128 tokens or more is cuDNN's, which holds no scores:
1.5 times as fast for 197 and 257 tokens (H200), and slower than XLA's for windows of 49. Its bias
is of the input's dtype.

A token that must not be attended to has a bias of `EXCLUDED` as key: `causal` excludes those that
come later, `without` those of a mask.

A map [n, h, w, c] is cut into windows of side x side positions: [n, windows, positions, c], both in
row-major order. A bias learned for each offset of two positions of a window is a table of
(2 side - 1)^2 rows, one column per head.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from substrate_jax.encoders.networks.convolutions import patchify

FEWEST_TOKENS = 128  # for cuDNN's attention
EXCLUDED = -1e30  # whose exponential is 0 beside any score; bfloat16 holds it


def split_heads(
    x: Float[Array, "*n t d"], count: int, heads: int
) -> tuple[Float[Array, "*n t h e"], ...]:
    """The `count` maps that lie side by side in x, such as queries, keys and values, by head."""
    x = x.reshape(*x.shape[:-1], count, heads, x.shape[-1] // (count * heads))
    return tuple(x[..., i, :, :] for i in range(count))


def attend(
    query: Float[Array, "*n q h d"],
    key: Float[Array, "*n k h d"],
    value: Float[Array, "*n k h d"],
    bias: Float[Array, "*m h q k"] | None = None,
) -> Float[Array, "*n q c"]:
    """softmax(query key^T / sqrt(d) + bias) value, the heads side by side, c = h d.

    Args:
        query, key, value: see `split_heads`.
        bias: added to the scores; float32, of as many axes as they have.
    """
    plain = partial(_attend, query, key, value, bias)
    if _suits_cudnn(query, key):
        flash = partial(_attend_by_cudnn, query, key, value, bias)
        return jax.lax.platform_dependent(cuda=flash, default=plain)
    return plain()


def _attend(query, key, value, bias):
    # Heads first, keys by feature, and the softmax divided last, where there are fewer numbers:
    # 3 to 4 times as fast on CPU as products of arrays that lie as they come.
    query = jnp.swapaxes(query, -3, -2) * query.shape[-1] ** -0.5
    scores = jnp.matmul(query, jnp.moveaxis(key, -3, -1), preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    value = jnp.swapaxes(value, -3, -2)
    attended = jnp.matmul(weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    attended = (attended / jnp.sum(weights, axis=-1, keepdims=True)).astype(value.dtype)
    attended = jnp.swapaxes(attended, -3, -2)
    return attended.reshape(*attended.shape[:-2], -1)


def _suits_cudnn(query, key) -> bool:
    # JAX asks cuDNN for its version even where the program is for another platform.
    here = jax.default_backend() == "gpu" and "cuda" in jax.devices()[0].client.platform_version
    half = query.dtype in (jnp.bfloat16, jnp.float16)
    tokens = min(query.shape[-3], key.shape[-3])
    return here and half and query.ndim == 4 and tokens >= FEWEST_TOKENS


def _attend_by_cudnn(query, key, value, bias):
    bias = None if bias is None else bias.astype(query.dtype)
    attended = jax.nn.dot_product_attention(query, key, value, bias, implementation="cudnn")
    return attended.reshape(*attended.shape[:-2], -1)


def causal(tokens: int) -> Float[np.ndarray, "1 1 t t"]:
    """The bias by which each token attends to itself and those before it.

    Example:
        >>> (causal(2)[0, 0] < 0).tolist()
        [[False, True], [False, False]]
    """
    return np.triu(np.full((1, 1, tokens, tokens), EXCLUDED, np.float32), 1)


def without(mask: Bool[Array, "n t"]) -> Float[Array, "n 1 t t"]:
    """The bias by which no token attends to those where `mask` is true.

    Example:
        >>> (without(jnp.array([[False, True]]))[0, 0] < 0).tolist()
        [[False, True], [False, True]]
    """
    bias = jnp.where(mask, jnp.float32(EXCLUDED), jnp.float32(0))[:, None, None]
    return jnp.broadcast_to(bias, (*mask.shape[:1], 1, *mask.shape[1:] * 2))


def cut(x: Float[Array, "n h w c"], side: int) -> Float[Array, "n m t c"]:
    """The windows of a map, and the positions of each."""
    return patchify(x, side).reshape(x.shape[0], -1, side**2, x.shape[-1])


def uncut(windows: Float[Array, "n m t c"], height: int) -> Float[Array, "n h w c"]:
    """The map of this height that `cut` made windows of."""
    n, count, positions, c = windows.shape
    side = math.isqrt(positions)
    rows = height // side
    x = windows.reshape(n, rows, count // rows, side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height, -1, c)


def relative_positions(side: int) -> Int[np.ndarray, "t t"]:
    """Row of the bias table for each pair of positions in a window of `side` x `side`.

    With s the side, query (r, c) and key (r', c') have row (r - r' + s - 1) (2 s - 1) +
    (c - c' + s - 1).

    Example:
        >>> relative_positions(2)[0]  # the first position as query
        array([4, 3, 1, 0], dtype=int32)
    """
    coordinates = np.indices((side, side), np.int32).reshape(2, -1)
    rows, columns = coordinates[:, :, None] - coordinates[:, None, :] + np.int32(side - 1)
    return rows * np.int32(2 * side - 1) + columns


def relative_bias(
    table: Float[Array, "rows h"], positions: Int[Array, "t t"] | Int[np.ndarray, "t t"]
) -> Float[Array, "h t t"]:
    """Bias by head, query and key, float32; `positions` are rows of the table."""
    return table.astype(jnp.float32).T[:, positions]


def without_tables(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint without `relative_position_index` and `attn_mask`, which follow from the config.

    Example:
        >>> without_tables({"blocks.0.attn.relative_position_index": 0, "blocks.0.attn.proj": 1})
        {'blocks.0.attn.proj': 1}
    """
    tables = ("relative_position_index", "attn_mask")
    return {key: value for key, value in arrays.items() if key.rsplit(".", 1)[-1] not in tables}
