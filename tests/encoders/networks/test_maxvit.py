"""MaxViT: attention in windows and grids against dense, masked attention in float64."""

import jax
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders.networks import maxvit
from substrate_jax.encoders.weights import abstract_module, fill, inventory
from tests.encoders.networks.modules import filled
from tests.encoders.networks.oracles import float64, layer_norm, linear
from tests.helpers import relative_error, tolerance


def masked_attention(p, x, window, partition):
    """Dense attention over the whole map in float64, pairs outside one window or grid masked."""
    n, side, _, width = x.shape
    strides = side // window
    tokens = x.reshape(n, side**2, width).astype(np.float64)
    query, key, value = np.split(linear(tokens, p, "attn.qkv"), 3, axis=-1)
    table = p["attn.rel_pos.relative_position_bias_table"]
    attended = np.zeros(query.shape)
    for a in range(side**2):
        for head in range(width // 32):
            channels = slice(32 * head, 32 * head + 32)
            scores = query[:, a, channels][:, None] @ key[:, :, channels].transpose(0, 2, 1)
            scores = scores[:, 0] / np.sqrt(32)
            for b in range(side**2):
                points = np.array([divmod(a, side), divmod(b, side)])
                number, place = points // window, points % window
                if partition == "grid":
                    number, place = points % strides, points // strides
                offset = place[1] - place[0] + window - 1
                same = (number[0] == number[1]).all()
                scores[:, b] += table[head][tuple(offset)] if same else -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            attended[:, a, channels] = (weights[:, None] @ value[:, :, channels])[:, 0]
    return linear(attended, p, "attn.proj").reshape(x.shape)


@pytest.mark.parametrize("partition", ["window", "grid"])
def test_partitioned_attention_is_masked_attention(partition):
    window, width = 2, 64
    block = filled(lambda: maxvit.PartitionAttention(width, window, partition, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, width)).astype(np.float32)
    p = float64(block)
    y = x + masked_attention(p, layer_norm(x, p, "norm1", 1e-5), window, partition)
    hidden = linear(layer_norm(y, p, "norm2", 1e-5), p, "mlp.fc1")
    hidden *= 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    want = y + linear(hidden, p, "mlp.fc2")
    got = jax.jit(block.__call__)(x)
    assert relative_error(got, want) <= tolerance(4 * width, condition=4)


def test_weights_for_another_image_size_are_refused():
    small, larger = (
        abstract_module(maxvit.MaxViTConfig((1,), (32,), num_classes=0, image_size=size))
        for size in (64, 96)
    )
    arrays = {key: np.zeros(shape, np.float32) for key, shape in inventory(small).items()}
    message = r"2 misshapen: .*_table \(1, 3, 3\) instead of \(1, 5, 5\)"
    with pytest.raises(ValueError, match=message):
        fill(larger, arrays, source="small")
