"""Layers shared by every family, with parameters named as in timm checkpoints.

The path of a parameter, joined by dots, is its timm key: nothing is renamed on loading. Only the
memory layout differs (torch keeps convolutions as OIHW and linear maps as [out, in]; here HWIO and
[in, out]), and the variable's type carries the permutation: `ConvKernel`, `LinearKernel`.

Images and feature maps are channels-last: [n, h, w, c]. Statistics of normalization layers are
float32 whatever the input.
"""

import math
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

Tap = Callable[[str, Array], None]


def no_tap(name: str, value: Array) -> None:
    """The tap that records nothing."""


def run_blocks(blocks: Iterable[nnx.Module], x: Array, tap: Tap, name: str, *arguments) -> Array:
    """The blocks one after another, each on x and the arguments, tapped as `name.index`."""
    for index, block in enumerate(blocks):
        x = block(x, *arguments)
        tap(f"{name}.{index}", x)
    return x


Draw = Array | np.random.Generator | None


def constant_rngs(draw: Draw) -> nnx.Rngs:
    """In place of `nnx.Rngs`, which has a key for each parameter: the same `draw` for all."""
    return cast(nnx.Rngs, types.SimpleNamespace(params=lambda: draw))


# Without a key nothing is drawn: tracing the generator was half the time of an abstract module.
# NumPy's generator compiles nothing, where JAX compiles an initializer for every shape.
def normal(key: Draw, shape: tuple[int, ...], std: float) -> Array | np.ndarray:
    """Numbers from N(0, std^2); zeros without a key."""
    if isinstance(key, np.random.Generator):
        return np.float32(std) * key.standard_normal(shape, np.float32)
    return jnp.zeros(shape) if key is None else std * jax.random.normal(key, shape)


def truncated_normal(key: Draw, shape: tuple[int, ...], std: float = 0.02) -> Array | np.ndarray:
    """Numbers from N(0, std^2), redrawn beyond two deviations; zeros without a key."""
    if isinstance(key, np.random.Generator):
        drawn = key.standard_normal(shape, np.float32)
        while (beyond := np.abs(drawn) > 2).any():
            drawn[beyond] = key.standard_normal(beyond.sum(), np.float32)
        return np.float32(std) * drawn
    return jnp.zeros(shape) if key is None else std * jax.random.truncated_normal(key, -2, 2, shape)


class LinearKernel(nnx.Param):
    """A linear map, [in, out] here and [out, in] in a checkpoint."""

    from_checkpoint = (1, 0)
    to_checkpoint = (1, 0)


class Linear(nnx.Module):
    """x W + b over the last axis, W drawn from N(0, 0.02) cut at two deviations."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.weight = LinearKernel(truncated_normal(rngs.params(), (in_features, out_features)))
        self.bias = nnx.Param(jnp.zeros(out_features)) if bias else None

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Apply the map."""
        y = x @ self.weight[...]
        return y if self.bias is None else add_channels(y, self.bias[...])


def add_channels(x: Float[Array, "... c"], bias: Float[Array, " c"]) -> Float[Array, "... c"]:
    """x + bias along the last axis, without implicit rank promotion."""
    return x + jax.lax.expand_dims(bias, range(x.ndim - 1))


def mul_channels(x: Float[Array, "... c"], scale: Float[Array, " c"]) -> Float[Array, "... c"]:
    """x * scale along the last axis, without implicit rank promotion."""
    return x * jax.lax.expand_dims(scale, range(x.ndim - 1))


def channels_last(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """x, with its channels innermost in memory on NVIDIA GPUs.

    A sum over space that no convolution precedes has XLA turn the map for it, and back: FCMAE's 36
    blocks took 20 ms where ConvNeXt's took 4 (H200, bfloat16).
    """
    last = partial(with_layout_constraint, layouts=Layout((0, 1, 2, 3)))
    return jax.lax.platform_dependent(x, cuda=last, default=lambda x: x)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias in float32, statistics over the given axes.

    Over the last alone it is the usual one; over all but the first, group normalization of one
    group. Weight and bias are by channel.
    """

    def __init__(self, width: int, *, eps: float = 1e-6, axes: int | tuple[int, ...] = -1):
        self.weight = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps, self.axes = eps, axes

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Normalize."""
        # A GPU's blocks take one row of each of 16 images otherwise, and too few of them run at
        # once: 9.0 us for [16, 197, 1024] against 5.2 (H200, bfloat16).
        y = x.reshape(-1, x.shape[-1]) if self.axes == -1 else x
        y = y.astype(jnp.float32)
        y = y - y.mean(self.axes, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(self.axes, keepdims=True) + self.eps)
        y = mul_channels(y, self.weight[...].astype(jnp.float32))
        y = add_channels(y, self.bias[...].astype(jnp.float32))
        return y.astype(x.dtype).reshape(x.shape)


class BatchNorm(nnx.Module):
    """Normalize each channel by running statistics, or by the batch's own in training.

    `module.train()` and `module.eval()` switch. Running statistics move by `momentum` toward the
    batch's mean and unbiased variance, as torch's do.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float = 0.1):
        self.weight = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.running_mean = nnx.BatchStat(jnp.zeros(width))
        self.running_var = nnx.BatchStat(jnp.ones(width))
        self.eps, self.momentum = eps, momentum
        self.use_running_average = True

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Normalize the last axis."""
        if self.use_running_average:
            mean = self.running_mean[...].astype(jnp.float32)
            variance = self.running_var[...].astype(jnp.float32)
        else:
            y = x.astype(jnp.float32)
            mean = y.mean((0, 1, 2))
            variance = jnp.square(add_channels(y, -mean)).mean((0, 1, 2))
            count = x.size // x.shape[-1]
            self._move(self.running_mean, mean)
            self._move(self.running_var, variance * (count / max(count - 1, 1)))
        scale = self.weight[...].astype(jnp.float32) * jax.lax.rsqrt(variance + self.eps)
        shift = self.bias[...].astype(jnp.float32) - mean * scale
        return add_channels(mul_channels(x.astype(jnp.float32), scale), shift).astype(x.dtype)

    def _move(self, running: nnx.BatchStat, batch: Float[Array, " c"]) -> None:
        running[...] = (1 - self.momentum) * running[...] + self.momentum * jax.lax.stop_gradient(
            batch
        )


class LayerScale(nnx.Module):
    """x * gamma over the last axis."""

    def __init__(self, width: int, initial: float):
        self.gamma = nnx.Param(jnp.full(width, initial))

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Scale the channels."""
        return mul_channels(x, self.gamma[...])


class GlobalResponseNorm(nnx.Module):
    """x + x * g / mean_c(g) * weight + bias, g = norm of x over space (arXiv:2301.00808)."""

    def __init__(self, width: int, *, eps: float = 1e-6):
        self.weight = nnx.Param(jnp.zeros(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Normalize the response of each channel against the others."""
        x = channels_last(x)
        squares = jnp.square(x.astype(jnp.float32)).sum((1, 2), keepdims=True)
        # The gradient of sqrt is infinite at 0, where a channel is dead over the whole image.
        norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
        relative = (norm / (norm.mean(-1, keepdims=True) + self.eps)).astype(x.dtype)
        return x + add_channels(mul_channels(x * relative, self.weight[...]), self.bias[...])


class Mlp(nnx.Module):
    """fc2(act(fc1(x))), with global response normalization between where `grn` is set.

    `linear(in, out, rngs=...)` makes the two maps: a checkpoint may keep them as convolutions.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Callable[[Array], Array] | None = None,
        grn: bool = False,
        linear: Callable[..., nnx.Module] = Linear,
        rngs: nnx.Rngs,
    ):
        self.fc1 = linear(width, hidden, rngs=rngs)
        self.grn = GlobalResponseNorm(hidden) if grn else None
        self.fc2 = linear(hidden, width, rngs=rngs)
        self.activation = activation or gelu

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Apply the two layers."""
        x = self.activation(self.fc1(x))
        return self.fc2(x if self.grn is None else self.grn(x))


def classifier(width: int, num_classes: int, *, rngs: nnx.Rngs) -> Linear | None:
    """The map from features to logits, None for no classes."""
    return Linear(width, num_classes, rngs=rngs) if num_classes else None


class Head(nnx.Module):
    """A classifier that checkpoints call `fc`."""

    def __init__(self, width: int, num_classes: int, *, rngs: nnx.Rngs):
        self.fc = classifier(width, num_classes, rngs=rngs)


class NormHead(nnx.Module):
    """activation(hidden(norm(x))), or norm(x) without a hidden layer; and a classifier of that."""

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        hidden: int | None,
        activation: Callable[[Array], Array],
        eps: float,
        rngs: nnx.Rngs,
    ):
        self.norm = LayerNorm(width, eps=eps)
        self.pre_logits = nnx.Dict(fc=Linear(width, hidden, rngs=rngs)) if hidden else None
        self.fc = classifier(hidden or width, num_classes, rngs=rngs)
        self.activation = activation

    def __call__(self, pooled: Float[Array, "n c"]) -> Float[Array, "n d"]:
        """Features of the pooled map."""
        x = self.norm(pooled)
        return x if self.pre_logits is None else self.activation(self.pre_logits.fc(x))


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x Phi(x), Phi the normal distribution function; not the tanh approximation.

    By erf, as torch has it: JAX's own form by erfc is more exact far below 0, and slower.
    """
    half = np.array(0.5, x.dtype)
    return x * (half + half * jax.lax.erf(x * np.array(math.sqrt(0.5), x.dtype)))


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation of GELU."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(1.702 x), the approximation that OpenAI's CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)
