"""The forms of a convolution that XLA compiles well on CPU, on channels-last maps [n, h, w, c].

With x padded and K the k x k kernel, y[r, c] = sum_ij x[s r + i, s c + j] K_ij for stride s.

- Windows: the k^2 shifted copies of x side by side, then one product. k^2 times the map's memory;
  its gradient is two products more.
- Groups: the k^2 products first, which read x where it lies, then their shifted sum. XLA's own form
  of groups of 24 channels does 10 to 16 GF/s on one core of Zen 5, windows of an image 30 to 55,
  products of an image 55 to 125 (torch 30 to 95).
- Depthwise: k^2 shifted multiply-adds, which fuse into one loop (17 to 30 GF/s, XLA's own form 1).
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from substrate_jax.encoders.networks.layers import mul_channels

Padding = int | Literal["same"]
Pads = Sequence[tuple[int, int]]


def pad_widths(
    padding: Padding, sides: Sequence[int], size: int, stride: int
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


def pad(x: Float[Array, "... h w c"], pads: Pads) -> Float[Array, "... h2 w2 c"]:
    """Zeros around the map."""
    return jnp.pad(x, ((0, 0),) * (x.ndim - 3) + (*pads, (0, 0)))


def windows(
    x: Float[Array, "... h w c"], sizes: tuple[int, int], stride: int, pads: Pads
) -> list[Float[Array, "... h2 w2 c"]]:
    """The shifted copies of a padded map that a kernel meets, row-major, each strided."""
    x = pad(x, pads)
    rows, columns = (
        (side - size) // stride * stride + 1
        for side, size in zip(x.shape[-3:-1], sizes, strict=True)
    )
    return [
        x[..., i : i + rows : stride, j : j + columns : stride, :]
        for i in range(sizes[0])
        for j in range(sizes[1])
    ]


def window_products(
    x: Float[Array, "n h w e"], weight: Float[Array, "k k e d"], stride: int, padding: Padding
) -> Float[Array, "n h2 w2 d"]:
    """The product of all windows side by side with the kernel."""
    size = weight.shape[0]
    pads = pad_widths(padding, x.shape[1:3], size, stride)
    stacked = jnp.concatenate(windows(x, (size, size), stride, pads), axis=-1)
    return stacked @ weight.reshape(-1, weight.shape[-1])


def grouped_products(
    x: Float[Array, "n h w c"],
    weight: Float[Array, "k k e d"],
    stride: int,
    padding: Padding,
    groups: int,
) -> Float[Array, "n h2 w2 d"]:
    """sum_ij shift_ij(x K_ij) of every group, one image at a time.

    A stride s makes s^2 phases of x, each with the part of the kernel that meets it.
    """
    size, _, channels, features = weight.shape
    n, *sides, _ = x.shape
    pads = pad_widths(padding, sides, size, stride)
    rows, columns = (
        (side + sum(widths) - size) // stride + 1 for side, widths in zip(sides, pads, strict=True)
    )
    kernels = weight.reshape(size, size, channels, groups, -1).transpose(3, 2, 0, 1, 4)
    # Narrow groups join in blocks, zero off the diagonal: a product with 4 channels is all memory.
    joined = math.gcd(groups, max(16 // channels, 1))
    if joined > 1:
        groups, channels = groups // joined, channels * joined
        blocks = kernels.reshape(groups, joined, -1, size, size, kernels.shape[-1])
        blocks = jnp.einsum("gmeijd,ml->gmeijld", blocks, jnp.eye(joined, dtype=weight.dtype))
        kernels = blocks.reshape(groups, channels, size, size, -1)

    def convolve(images):
        maps = pad(images, pads)
        maps = jnp.moveaxis(maps.reshape(*maps.shape[:-1], groups, channels), -2, 0)
        terms = []
        for i in range(min(size, stride)):
            for j in range(min(size, stride)):
                taps = kernels[:, :, i::stride, j::stride]
                height, width = rows + taps.shape[2] - 1, columns + taps.shape[3] - 1
                phase = maps[..., i::stride, j::stride, :][..., :height, :width, :]
                products = jnp.einsum(
                    "g...e,geijd->g...ijd", phase, taps, preferred_element_type=jnp.float32
                )
                terms.append(_add_shifted(products))
        return _total(terms).astype(images.dtype)

    turns = _turns(x)
    y = jnp.moveaxis(jax.lax.map(convolve, turns), 1, -2)
    y = y if turns.ndim == x.ndim else y.swapaxes(0, 1)
    return y.reshape(n, rows, columns, features)


def _total(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def _turns(x):
    """[n, ...] as a loop takes it: one image at a time, so that what it makes stays in cache.

    On m devices [n / m, m, ...], an image of every device at a time: XLA gathers a sharded axis
    that a loop walks along.
    """
    count = math.gcd(len(x), jax.device_count())
    return x if count == 1 else x.reshape(count, -1, *x.shape[1:]).swapaxes(0, 1)


@jax.custom_vjp
def _add_shifted(products):
    """y[..., r, c, d] = sum_ij products[..., r + i, c + j, i, j, d]."""
    *_, height, width, down, across, _ = products.shape
    rows, columns = height - down + 1, width - across + 1
    return _total(
        products[..., i : i + rows, j : j + columns, i, j, :]
        for i in range(down)
        for j in range(across)
    )


def _add_shifted_forward(products):
    return _add_shifted(products), products.shape[-3:-1]


# The adjoint takes windows. JAX's own adds k^2 padded copies, each of the size of the products.
def _add_shifted_backward(sizes, cotangent):
    pads = [(size - 1, size - 1) for size in sizes]
    stacked = jnp.stack(windows(cotangent, sizes, 1, pads)[::-1], axis=-2)
    return (stacked.reshape(*stacked.shape[:-2], *sizes, -1),)


_add_shifted.defvjp(_add_shifted_forward, _add_shifted_backward)


def depthwise_products(
    x: Float[Array, "n h w c"], weight: Float[Array, "k k 1 c"], stride: int, padding: Padding
) -> Float[Array, "n h2 w2 c"]:
    """k^2 shifted copies of x, each times its channels' weights, added."""
    # With stride 1 "same" is an equal width on all sides, and the gradient is worth its own form.
    if padding == "same" and stride == 1 and weight.shape[0] % 2:
        padding = weight.shape[0] // 2
    if stride == 1 and padding != "same":
        return _unit_stride(x, weight, padding)
    return _shifted_products(x, weight, stride, padding)


def _shifted_products(x, weight, stride, padding):
    size, kernel = weight.shape[0], weight.reshape(-1, weight.shape[-1])
    pads = pad_widths(padding, x.shape[1:3], size, stride)
    shifted = windows(x, (size, size), stride, pads)
    return _total(mul_channels(y, kernel[i]) for i, y in enumerate(shifted))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _unit_stride(x, weight, padding):
    return _shifted_products(x, weight, 1, padding)


def _unit_stride_forward(x, weight, padding):
    return _shifted_products(x, weight, 1, padding), (x, weight)


def _unit_stride_backward(padding, residuals, cotangent):
    x, weight = residuals
    size, channels = weight.shape[0], weight.shape[-1]
    dx = _shifted_products(cotangent, weight[::-1, ::-1], 1, size - 1 - padding)
    turns = _turns(x), _turns(cotangent)

    def add_images(sums, images_and_cotangents):
        images, cotangents = images_and_cotangents
        shifted = windows(images, (size, size), 1, [(padding, padding)] * 2)
        products = [(copy * cotangents).sum(-3) for copy in shifted]
        return [total + product for total, product in zip(sums, products, strict=True)], None

    *count, _, columns, _ = turns[1].shape[1:]
    zeros = jnp.zeros((*count, columns, channels), x.dtype)
    sums, _ = jax.lax.scan(add_images, [zeros] * size**2, turns)
    totals = [total.reshape(-1, channels).sum(0) for total in sums]
    return dx, jnp.stack(totals).reshape(weight.shape)


_unit_stride.defvjp(_unit_stride_forward, _unit_stride_backward)
