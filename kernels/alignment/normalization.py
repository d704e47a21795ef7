"""Centered features of unit trace: what every alignment of linear kernels starts from.

No alignment depends on the scale of an encoder, so its rows are centered and divided by the root of
tr K = ||X||_F^2: sums of any order then neither overflow nor underflow. An encoder whose spread is
within rounding of the distance of its mean from 0 is constant: it becomes 0, with a zero gradient.
One that holds NaN or inf has the scale NaN, which tells a kernel which of its pairs are NaN.
Cost: a few passes over the features.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import AnyArray, divide, is_constant, pmax, psum
from ..blocks import at_one_width
from ..moments import center_rows
from ..validate import compute_dtype


def normalized_blocks(
    blocks: Sequence[Float[AnyArray, "n _"]],
    mask: Bool[AnyArray, " n"] | None,
    axis_name=None,
    feature_axis_name=None,
) -> tuple[list[Float[Array, "n _"]], Float[Array, " E"], Int[Array, ""]]:
    """Centered blocks of unit trace, in one dtype, with their scales and the number of rows."""
    dtype = compute_dtype(*blocks)
    scaled, scales, count = [], [], jnp.int32(0)
    for block in blocks:
        rows, count, origin, offset = center_rows(block.astype(dtype), mask, axis_name)
        reach = pmax(pmax(jnp.max(jnp.abs(rows), initial=0), axis_name), feature_axis_name)
        rows = divide(rows, reach)  # at most 1: squares cannot overflow
        trace = jnp.sum(jnp.sum(jax.lax.stop_gradient(rows) ** 2, axis=1))
        trace = psum(psum(trace, axis_name), feature_axis_name)
        scale = kernel_scale(reach, trace, count, origin + offset, feature_axis_name)
        scaled.append(rows * divide(reach, scale))
        scales.append(scale)
    return scaled, jnp.stack(scales), count


def marks(
    blocks: Sequence[Float[AnyArray, "n _"]], mask: Bool[AnyArray, " n"] | None, axis_name=None
) -> Float[Array, " E"]:
    """Signs of the scales: 1, 0 of a constant encoder, NaN of one with NaN or inf.

    One encoder after another: side by side they hold a centered copy of every block (XLA on CPU).
    """
    block = at_one_width(blocks, compute_dtype(*blocks))

    def mark(number):
        scale = normalized_blocks([block(number)], mask, axis_name)[1][0]
        return jnp.where(scale == 0, 0, jnp.sign(scale)).astype(jnp.float32)

    return jax.lax.map(mark, jnp.arange(len(blocks)))


def without_nan(scaled: list[Array], scales: Float[Array, " E"]) -> list[Array]:
    """The blocks, 0 in place of those with NaN, so that no sum carries NaN to other encoders."""
    return [jnp.where(jnp.isnan(scale), 0, x) for x, scale in zip(scaled, scales, strict=True)]


def nan_pairs(result: Float[Array, "*K E E"], scales: Float[Array, " E"]) -> Float[Array, "*K E E"]:
    """NaN in the row and column of an encoder whose scale is NaN, the rest as it is."""
    nan = jnp.isnan(scales)
    nan = jnp.broadcast_to(nan[:, None] | nan[None, :], result.shape)
    return jnp.where(nan, jnp.nan, result)


def kernel_scale(unit, trace, count, mean, feature_axis_name=None):
    """Root of unit^2 tr K, or 0 where that is within rounding of the norm of the means."""
    scale = unit * jnp.sqrt(trace)
    largest = pmax(jnp.max(jnp.abs(mean)), feature_axis_name)
    square = psum(jnp.sum(divide(mean, largest) ** 2), feature_axis_name)
    magnitude = largest * jnp.sqrt(count.astype(scale.dtype) * square)
    constant = is_constant(scale, magnitude, scale.dtype)
    return jax.lax.stop_gradient(jnp.where(constant, 0, scale))
