"""MaxViT's own mechanisms against float64 NumPy, and a block in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.encoders import maxvit
from substrate_jax.encoders.weights import abstract_module, fill, inventory
from tests.encoders.modules import filled
from tests.helpers import relative_error, tolerance


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameter(variable):
    return np.asarray(variable[...], np.float64)


def masked_attention(attention, x, window, partition):
    """Dense attention over the whole map in float64, pairs outside one window or grid masked."""
    n, side, _, width = x.shape
    strides = side // window
    qkv = x.reshape(n, side**2, width).astype(np.float64) @ parameter(attention.qkv.weight)
    query, key, value = np.split(qkv + parameter(attention.qkv.bias), 3, axis=-1)
    table = parameter(attention.rel_pos.relative_position_bias_table)
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
    out = attended @ parameter(attention.proj.weight) + parameter(attention.proj.bias)
    return out.reshape(x.shape)


@pytest.mark.parametrize("partition", ["window", "grid"])
def test_partitioned_attention_is_masked_attention(partition):
    window, width = 2, 64
    attention = filled(lambda: maxvit.Attention(width, window, rngs=nnx.Rngs(0)))
    x = normal((2, 6, 6, width))
    parts = maxvit.split(x, window, partition)
    assert parts.shape == (2 * 9, 4, width)
    got = maxvit.merge(attention(parts), x.shape, window, partition)
    want = masked_attention(attention, x, window, partition)
    assert relative_error(got, want) <= tolerance(width, condition=4)


@pytest.mark.parametrize("partition", ["window", "grid"])
def test_merging_undoes_splitting(partition):
    x = normal((2, 6, 9, 4))
    np.testing.assert_array_equal(
        maxvit.merge(maxvit.split(x, 3, partition), x.shape, 3, partition), x
    )


def test_a_block_runs_in_bfloat16_and_has_finite_gradients():
    block = filled(lambda: maxvit.Block(8, 32, 2, 2, rngs=nnx.Rngs(0)))
    x = jnp.asarray(normal((2, 8, 8, 8)))
    graph, state = nnx.split(block)

    def run(state, x):
        return nnx.merge(graph, state)(x)

    def loss(state):
        y = run(state, x)
        return y.sum(), y

    (_, want), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(state)
    assert all(np.isfinite(gradient).all() for gradient in jax.tree.leaves(gradients))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state)
    got = jax.jit(run)(half, x.astype(jnp.bfloat16))
    assert (got.shape, got.dtype) == ((2, 4, 4, 32), jnp.bfloat16)
    # Some 16 roundings in a row.
    assert relative_error(got, want) <= 16 * float(jnp.finfo(jnp.bfloat16).eps)


def test_weights_for_another_image_size_are_refused():
    small, larger = (
        abstract_module(maxvit.MaxViTConfig((1,), (32,), num_classes=0, image_size=size))
        for size in (64, 96)
    )
    arrays = {key: np.zeros(shape, np.float32) for key, shape in inventory(small).items()}
    message = r"2 misshapen: .*_table \(1, 3, 3\) instead of \(1, 5, 5\)"
    with pytest.raises(ValueError, match=message):
        fill(larger, arrays, source="small")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 230}, "image_size=230: .* multiples of 32"),
        ({"image_size": 0}, "image_size=0"),
        ({"channels": (32, 40)}, r"channels=\(32, 40\): heads are 32 wide"),
    ],
)
def test_a_bad_config_is_refused(options, message):
    options = {"depths": (1, 1), "channels": (32, 64)} | options
    with pytest.raises(ValueError, match=message):
        maxvit.MaxViTConfig(**options)
