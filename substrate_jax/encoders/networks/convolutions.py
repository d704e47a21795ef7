"""Convolutions and pooling on channels-last maps [n, h, w, c], in the forms XLA compiles well.

A convolution that is a matrix product (1 x 1, and kernel = stride) is computed as one. On CPU,
where XLA runs a depthwise or grouped kernel slowly and differentiates any kernel slowly, other
forms take their place: see `cpu_convolutions`.

Padding is a number of pixels on every side, as in torch, or "same" as in TensorFlow: out of
ceil(side / stride), with the odd pixel at the end.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.cpu_convolutions import (
    Padding,
    depthwise_products,
    grouped_products,
    pad_widths,
    window_products,
)
from substrate_jax.encoders.networks.layers import BatchNorm, add_channels, normal, truncated_normal

WIDEST_DENSE = 1024  # channels of which all groups are joined on NVIDIA GPUs


class ConvKernel(nnx.Param):
    """A convolution kernel, HWIO here and OIHW in a checkpoint."""

    from_checkpoint = (2, 3, 1, 0)
    to_checkpoint = (3, 2, 0, 1)


class Conv(nnx.Module):
    """2-D convolution. He-normal (fan-out) unless `std` gives the deviation.

    Raises:
        ValueError: no channels, or groups that do not divide them.
    """

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
        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups
            or out_channels % groups
        ):
            raise ValueError(
                f"a convolution from {in_channels} to {out_channels} channels in {groups} groups: "
                "give channels, and groups that divide both"
            )
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        key, he = rngs.params(), math.sqrt(2 / (kernel_size**2 * out_channels))
        self.weight = ConvKernel(
            normal(key, shape, he) if std is None else truncated_normal(key, shape, std)
        )
        self.bias = nnx.Param(jnp.zeros(out_channels)) if bias else None
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        self.padding: Padding = padding

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Convolve."""
        weight, groups = self.weight[...], self.groups
        if self.kernel_size == self.stride == groups == 1 and self.padding in (0, "same"):
            y = x @ weight[0, 0]
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
        """Convolve, normalize, activate."""
        x = self.bn(self.conv(x))
        return x if self.activation is None else self.activation(x)


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next where that loses over a tenth.

    Example:
        >>> [round_channels(channels) for channels in (3.0, 11, 32 * 1.1, 44)]
        [8, 16, 32, 48]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


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
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "n h2 w2 d"]:
    """2-D convolution by XLA; on CPU as products for small maps, strided 1 x 1 kernels and groups.

    The small maps are for the gradient: a training step of a small ResNet at 32 pixels was measured
    at 1.1 s with XLA's and 0.46 s with windows; later, on Zen 5, the two were within 6 %.
    On NVIDIA GPUs groups are joined up to 1,024 channels: cuDNN took 1.6 to 3.7 times as long for
    groups of 24 of 72 to 576 channels (bfloat16, H200), and .7 times for 1,512.
    """
    by_xla = partial(_by_xla, stride=stride, padding=padding, groups=groups)
    if groups > 1:
        products = partial(grouped_products, stride=stride, padding=padding, groups=groups)
    elif x.shape[1] <= 32 or weight.shape[0] == 1:
        products = partial(window_products, stride=stride, padding=padding)
    else:
        return by_xla(x, weight)
    by_cuda = by_xla
    if groups > 1 and weight.shape[-1] <= WIDEST_DENSE:
        by_cuda = partial(joined_groups, stride=stride, padding=padding, groups=groups)
    return jax.lax.platform_dependent(x, weight, cpu=products, cuda=by_cuda, default=by_xla)


def depthwise(
    x: Float[Array, "n h w c"], weight: Float[Array, "k k 1 c"], padding: Padding, stride: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """Depthwise convolution by XLA, or on CPU as shifted multiply-adds."""
    return jax.lax.platform_dependent(
        x,
        weight,
        cpu=partial(depthwise_products, stride=stride, padding=padding),
        default=partial(_by_xla, stride=stride, padding=padding, groups=x.shape[-1]),
    )


def _by_xla(x, weight, stride, padding, groups):
    return jax.lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=pad_widths(padding, x.shape[1:3], weight.shape[0], stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def joined_groups(
    x: Float[Array, "n h w c"],
    weight: Float[Array, "k k e d"],
    stride: int,
    padding: Padding,
    groups: int,
) -> Float[Array, "n h2 w2 d"]:
    """The convolution with the kernel of all groups, zero where two of them meet."""
    kernels = weight.reshape(*weight.shape[:3], groups, -1)
    dense = jnp.einsum("ijegd,hg->ijhegd", kernels, jnp.eye(groups, dtype=weight.dtype))
    return _by_xla(x, dense.reshape(*weight.shape[:2], x.shape[-1], -1), stride, padding, 1)


def max_pool(
    x: Float[Array, "n h w c"], size: int = 3, stride: int = 2, padding: int = 1
) -> Float[Array, "n h2 w2 c"]:
    """Maximum over size x size windows."""
    return jax.lax.reduce_window(
        x,
        np.array(-np.inf, x.dtype),  # no jax array: under jit JAX would not know the derivative
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
