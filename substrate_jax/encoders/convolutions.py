"""Convolutions and pooling on channels-last maps [n, h, w, c], in the forms XLA compiles well.

A convolution that is a matrix product (1 x 1, and kernel = stride) is computed as one. On CPU,
where XLA runs a depthwise kernel one output at a time and differentiates any kernel slowly,
depthwise kernels become shifted multiply-adds and small maps a product over gathered windows.

Padding is a number of pixels on every side, as in torch, or "same" as in TensorFlow: out of
ceil(side / stride), with the odd pixel at the end.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.layers import BatchNorm, add_channels, mul_channels

Padding = int | Literal["same"]


class ConvKernel(nnx.Param):
    """A convolution kernel, HWIO here and OIHW in a checkpoint."""

    from_checkpoint = (2, 3, 1, 0)
    to_checkpoint = (3, 2, 0, 1)


class Conv(nnx.Module):
    """2-D convolution. He-normal (fan-out) unless `std` gives the deviation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: Padding = 0,
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
        weight, groups = self.weight[...], self.groups
        whole = groups == 1 and self.padding in (0, "same")
        if self.kernel_size == 1 and whole:
            y = x[:, :: self.stride, :: self.stride] @ weight[0, 0]
        elif self.kernel_size == self.stride and groups == 1 and not self.padding:
            y = patchify(x, self.stride) @ weight.reshape(-1, weight.shape[-1])
        elif groups == x.shape[-1] == weight.shape[-1]:
            y = depthwise(x, weight, self.padding, self.stride)
        else:
            y = convolution(x, weight, self.stride, self.padding, groups)
        return y if self.bias is None else add_channels(y, self.bias[...])


class ConvNorm(nnx.Module):
    """activation(bn(conv(x))) with odd kernels padded alike on all sides; linear without one."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Callable[[Array], Array] | None = None,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            rngs=rngs,
        )
        self.bn = BatchNorm(out_channels)
        self.activation = activation

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Convolve, normalise, activate."""
        x = self.bn(self.conv(x))
        return x if self.activation is None else self.activation(x)


def patchify(x: Float[Array, "n h w c"], size: int) -> Float[Array, "n h2 w2 d"]:
    """Cut into size x size patches and flatten each in (row, column, channel) order.

    Rows and columns beyond the last whole patch are dropped, as a strided convolution drops them.
    """
    n, h, w, c = x.shape
    rows, columns = h // size, w // size
    x = x[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, size * size * c)


def pad_widths(
    padding: Padding, sides: tuple[int, int], size: int, stride: int
) -> list[tuple[int, int]]:
    """Pixels before and after each of two sides.

    Example:
        >>> pad_widths("same", (224, 7), 3, 2)
        [(0, 1), (1, 1)]
    """
    if padding != "same":
        return [(padding, padding)] * 2
    totals = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in sides]
    return [(total // 2, total - total // 2) for total in totals]


def windows(
    x: Float[Array, "n h w c"], size: int, stride: int, padding: Padding
) -> list[Float[Array, "n h2 w2 c"]]:
    """The size^2 shifted copies of a padded map that a kernel meets, row-major, each strided."""
    pads = pad_widths(padding, x.shape[1:3], size, stride)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((side - size) // stride * stride + 1 for side in x.shape[1:3])
    return [
        x[:, i : i + rows : stride, j : j + columns : stride]
        for i in range(size)
        for j in range(size)
    ]


def convolution(
    x: Float[Array, "n h w c"],
    weight: Float[Array, "k k e d"],
    stride: int,
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
    """2-D convolution by XLA, or on CPU for small maps and groups as products over windows.

    The gradient of XLA's CPU convolution is the slow part: a training step of a small ResNet at
    32 pixels takes 1.1 s with it and 0.46 s with windows. Windows cost k^2 times the map's memory.
    Groups of 24 channels run at 3-4 GF/s in XLA and at 7-11 as windows of one image at a time.
    """

    def by_xla(x, weight):
        return jax.lax.conv_general_dilated(
            x,
            weight,
            window_strides=(stride, stride),
            padding=pad_widths(padding, x.shape[1:3], weight.shape[0], stride),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def by_windows(x, weight):
        stacked = jnp.concatenate(windows(x, weight.shape[0], stride, padding), axis=-1)
        return stacked @ weight.reshape(-1, weight.shape[-1])

    def by_groups(x, weight):
        size, _, channels, features = weight.shape
        kernels = weight.reshape(size**2 * channels, groups, -1)

        # One image at a time: its windows stay in cache.
        def convolve(image):
            parts = image.reshape(*image.shape[:2], groups, channels).transpose(2, 0, 1, 3)
            stacked = jnp.concatenate(windows(parts, size, stride, padding), axis=-1)
            y = jnp.einsum("ghwk,kgd->hwgd", stacked, kernels)
            return y.reshape(*y.shape[:2], features)

        return jax.lax.map(convolve, x)

    if groups > 1:
        return jax.lax.platform_dependent(x, weight, cpu=by_groups, default=by_xla)
    if x.shape[1] <= 32:
        return jax.lax.platform_dependent(x, weight, cpu=by_windows, default=by_xla)
    return by_xla(x, weight)


def depthwise(
    x: Float[Array, "n h w c"], weight: Float[Array, "k k 1 c"], padding: Padding, stride: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """Depthwise convolution.

    XLA's CPU convolution runs a depthwise kernel one output at a time (1 GF/s measured); there it
    is written as k^2 shifted multiply-adds, which fuse into one loop (17-30 GF/s measured).
    """
    # With stride 1 "same" is an equal width on all sides, and the gradient is worth its own form.
    if padding == "same" and stride == 1 and weight.shape[0] % 2:
        padding = weight.shape[0] // 2
    shifted = _shifted_depthwise if stride == 1 and padding != "same" else _shifted_products
    return jax.lax.platform_dependent(
        x,
        weight,
        cpu=lambda x, weight: shifted(x, weight, padding, stride),
        default=lambda x, weight: convolution(x, weight, stride, padding, groups=x.shape[-1]),
    )


def _shifted_products(x, weight, padding, stride):
    kernel = weight.reshape(-1, weight.shape[-1])
    shifted = windows(x, weight.shape[0], stride, padding)
    return sum(mul_channels(y, kernel[i]) for i, y in enumerate(shifted))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted_depthwise(x, weight, padding, stride):
    return _shifted_products(x, weight, padding, stride)


def _shifted_depthwise_forward(x, weight, padding, stride):
    return _shifted_products(x, weight, padding, stride), (x, weight)


def _shifted_depthwise_backward(padding, stride, residuals, cotangent):
    x, weight = residuals
    size = weight.shape[0]
    dx = _shifted_products(cotangent, weight[::-1, ::-1], size - 1 - padding, 1)
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


def max_pool(
    x: Float[Array, "n h w c"], size: int = 3, stride: int = 2, padding: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over size x size windows."""
    return jax.lax.reduce_window(
        x,
        jnp.array(-jnp.inf, x.dtype),
        jax.lax.max,
        (1, size, size, 1),
        (1, stride, stride, 1),
        ((0, 0), (padding, padding), (padding, padding), (0, 0)),
    )


class SqueezeExcite(nnx.Module):
    """x * sigmoid(expand(activation(reduce(mean of x over space)))) (arXiv:1709.01507).

    `names` are those of the two maps in the checkpoint, which keeps them as 1 x 1 convolutions.
    """

    def __init__(
        self,
        channels: int,
        reduced: int,
        *,
        activation: Callable[[Array], Array] = jax.nn.relu,
        names: tuple[str, str] = ("fc1", "fc2"),
        rngs: nnx.Rngs,
    ):
        self.names, self.activation = names, activation
        setattr(self, names[0], Conv(channels, reduced, 1, bias=True, rngs=rngs))
        setattr(self, names[1], Conv(reduced, channels, 1, bias=True, rngs=rngs))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Weigh the channels."""
        reduce, expand = (getattr(self, name) for name in self.names)
        mean = x.mean((1, 2), keepdims=True)
        return x * jax.nn.sigmoid(expand(self.activation(reduce(mean))))
