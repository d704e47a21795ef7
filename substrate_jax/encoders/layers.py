"""Layers shared by every family, with parameters named as in timm checkpoints.

The path of a parameter, joined by dots, is its timm key: nothing is renamed on loading. Only the
memory layout differs (torch keeps convolutions as OIHW and linear maps as [out, in]; here HWIO and
[in, out]), and the variable's type says so: `ConvKernel` and `LinearKernel` carry the permutation.

Images and feature maps are channels-last: [n, h, w, c]. Convolutions that are matrix products
(1 x 1, and kernel = stride) are computed as such: on CPU, XLA's convolution is several times
slower than its dot for them. Statistics of normalisation layers are float32 whatever the input.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Tap = Callable[[str, Array], None]


def no_tap(name: str, value: Array) -> None:
    """The tap that records nothing."""


class ConvKernel(nnx.Param):
    """A convolution kernel, HWIO here and OIHW in a checkpoint."""

    from_checkpoint = (2, 3, 1, 0)
    to_checkpoint = (3, 2, 0, 1)


class LinearKernel(nnx.Param):
    """A linear map, [in, out] here and [out, in] in a checkpoint."""

    from_checkpoint = (1, 0)
    to_checkpoint = (1, 0)


class Linear(nnx.Module):
    """x W + b over the last axis, W drawn from N(0, 0.02) cut at two deviations."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, rngs: nnx.Rngs):
        initializer = jax.nn.initializers.truncated_normal(0.02)
        self.weight = LinearKernel(initializer(rngs.params(), (in_features, out_features)))
        self.bias = nnx.Param(jnp.zeros(out_features)) if bias else None

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Apply the map."""
        y = x @ self.weight[...]
        return y if self.bias is None else add_channels(y, self.bias[...])


class Conv(nnx.Module):
    """2-D convolution, padded as in torch. He-normal (fan-out) unless `std` gives the deviation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
        std: float | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        if std is None:
            initializer = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        else:
            initializer = jax.nn.initializers.truncated_normal(std)
        self.weight = ConvKernel(initializer(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(out_channels)) if bias else None
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.groups = groups

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Convolve."""
        weight = self.weight[...]
        if self.kernel_size == 1 and self.groups == 1 and not self.padding:
            y = x[:, :: self.stride, :: self.stride] @ weight[0, 0]
        elif self.kernel_size == self.stride and self.groups == 1 and not self.padding:
            y = patchify(x, self.stride) @ weight.reshape(-1, weight.shape[-1])
        elif self.groups == x.shape[-1] == weight.shape[-1] and self.stride == 1:
            y = depthwise(x, weight, self.padding)
        else:
            y = convolution(x, weight, self.stride, self.padding, self.groups)
        return y if self.bias is None else add_channels(y, self.bias[...])


def add_channels(x: Float[Array, "... c"], bias: Float[Array, " c"]) -> Float[Array, "... c"]:
    """x + bias along the last axis, without implicit rank promotion."""
    return x + jax.lax.expand_dims(bias, range(x.ndim - 1))


def mul_channels(x: Float[Array, "... c"], scale: Float[Array, " c"]) -> Float[Array, "... c"]:
    """x * scale along the last axis, without implicit rank promotion."""
    return x * jax.lax.expand_dims(scale, range(x.ndim - 1))


def patchify(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 d"]:
    """Cut into size x size patches and flatten each in (row, column, channel) order.

    Rows and columns beyond the last whole patch are dropped, as a strided convolution drops them.
    """
    n, h, w, c = x.shape
    rows, columns = h // size, w // size
    x = x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, size * size * c)


def convolution(
    x: Float[Array, "n h w c"],
    weight: Float[Array, "k k e d"],
    stride: int,
    padding: int,
    groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
    """2-D convolution by XLA, or on CPU for small maps as a product over gathered windows.

    The gradient of XLA's CPU convolution is the slow part: a training step of a small ResNet at
    32 pixels takes 1.1 s with it and 0.46 s with windows. Windows cost k^2 times the map's memory.
    """

    def by_xla(x, weight):
        return jax.lax.conv_general_dilated(
            x,
            weight,
            window_strides=(stride, stride),
            padding=[(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def by_windows(x, weight):
        size = weight.shape[0]
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
        windows = [
            x[:, i : i + stride * rows : stride, j : j + stride * columns : stride][
                :, :rows, :columns
            ]
            for i in range(size)
            for j in range(size)
        ]
        return jnp.concatenate(windows, axis=-1) @ weight.reshape(-1, weight.shape[-1])

    if groups == 1 and x.shape[1] <= 32:
        return jax.lax.platform_dependent(x, weight, cpu=by_windows, default=by_xla)
    return by_xla(x, weight)


def depthwise(
    x: Float[Array, "n h w c"], weight: Float[Array, "k k 1 c"], padding: int
) -> Float[Array, "n h2 w2 c"]:
    """Stride-1 depthwise convolution.

    XLA's CPU convolution runs a depthwise kernel one output at a time (1 GF/s measured); there it
    is written as k^2 shifted multiply-adds, which fuse into one loop (17-30 GF/s measured).
    """
    return jax.lax.platform_dependent(
        x,
        weight,
        cpu=lambda x, weight: _shifted_depthwise(x, weight, padding),
        default=lambda x, weight: convolution(x, weight, 1, padding, groups=x.shape[-1]),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted_depthwise(x, weight, padding):
    size = weight.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = x.shape[1] - size + 1, x.shape[2] - size + 1
    return sum(
        mul_channels(x[:, i : i + rows, j : j + columns], weight[i, j, 0])
        for i in range(size)
        for j in range(size)
    )


def _shifted_depthwise_forward(x, weight, padding):
    return _shifted_depthwise(x, weight, padding), (x, weight)


def _shifted_depthwise_backward(padding, residuals, cotangent):
    x, weight = residuals
    size = weight.shape[0]
    dx = _shifted_depthwise(cotangent, weight[::-1, ::-1], size - 1 - padding)
    rows, columns = cotangent.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    # One image at a time, so that the k^2 partial sums stay in cache.
    def add_image(sums, image_and_cotangent):
        image, cotangent = image_and_cotangent
        products = [
            (image[i : i + rows, j : j + columns] * cotangent).sum(0)
            for i in range(size)
            for j in range(size)
        ]
        return [total + product for total, product in zip(sums, products, strict=True)], None

    zeros = [jnp.zeros((columns, x.shape[-1]), x.dtype)] * size**2
    sums, _ = jax.lax.scan(add_image, zeros, (padded, cotangent))
    return dx, jnp.stack([total.sum(0) for total in sums]).reshape(weight.shape)


_shifted_depthwise.defvjp(_shifted_depthwise_forward, _shifted_depthwise_backward)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis, in float32."""

    def __init__(self, width: int, *, eps: float = 1e-6):
        self.weight = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Normalise the last axis."""
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        y = mul_channels(y, self.weight[...].astype(jnp.float32))
        return add_channels(y, self.bias[...].astype(jnp.float32)).astype(x.dtype)


class BatchNorm(nnx.Module):
    """Normalise each channel by running statistics, or by the batch's own in training.

    `module.train()` and `module.eval()` switch. Running statistics move by `momentum` towards the
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
        """Normalise the last axis."""
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
        """Normalise the response of each channel against the others."""
        squares = jnp.square(x.astype(jnp.float32)).sum((1, 2), keepdims=True)
        # The gradient of sqrt is infinite at 0, where a channel is dead over the whole image.
        norm = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
        relative = (norm / (norm.mean(-1, keepdims=True) + self.eps)).astype(x.dtype)
        return x + add_channels(mul_channels(x * relative, self.weight[...]), self.bias[...])


class Mlp(nnx.Module):
    """fc2(act(fc1(x))), with global response normalisation between where `grn` is set."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Callable[[Array], Array] | None = None,
        grn: bool = False,
        rngs: nnx.Rngs,
    ):
        self.fc1 = Linear(width, hidden, rngs=rngs)
        self.grn = GlobalResponseNorm(hidden) if grn else None
        self.fc2 = Linear(hidden, width, rngs=rngs)
        self.activation = activation or gelu

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        """Apply the two layers."""
        x = self.activation(self.fc1(x))
        return self.fc2(x if self.grn is None else self.grn(x))


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x Phi(x), Phi the normal distribution function; not the tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x sigmoid(1.702 x), the approximation that OpenAI's CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)
