"""What measures of centered rows share: their scale, components, widths, and loops over pairs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..alignment.normalization import normalized_blocks, without_nan
from ..arithmetic import HIGHEST, divide, gather_rows, pmax, psum, root
from ..blocks import first_row
from ..validate import all_rows, check_blocks, check_rows, compute_dtype
from .singular_vectors import in_own_columns, singular_vectors


def centered_shapes(blocks, mask, axis_name):
    """Centered blocks of unit trace, 0 of those with NaN, and their scales [E]."""
    check_blocks(blocks, mask)
    check_rows(all_rows(blocks[0].shape[0], axis_name), 2, "a comparison of shapes")
    scaled, scales, _ = normalized_blocks(blocks, mask, axis_name)
    return without_nan(scaled, scales), scales


def uncentered_shapes(blocks, mask, axis_name):
    """Blocks with entries of at most 1, 0 of those with NaN, and their scales [E]."""
    check_blocks(blocks, mask)
    check_rows(all_rows(blocks[0].shape[0], axis_name), 2, "a comparison of shapes")
    dtype, scaled, scales = compute_dtype(*blocks), [], []
    for x in blocks:
        x = x.astype(dtype) if mask is None else jnp.where(mask[:, None], x.astype(dtype), 0)
        reach = pmax(jnp.max(jnp.abs(x), initial=0), axis_name)
        scales.append(jnp.where(jnp.isfinite(reach), reach, jnp.nan))
        scaled.append(divide(x, scales[-1]))
    scales = jnp.stack(scales)
    return without_nan(scaled, scales), scales


def of_unit_norm(x, axis_name):
    """`x`, of unit norm but for rounding, with the derivative of x / ||x||."""
    size = root(psum(jnp.sum(x**2), axis_name))
    held = jax.lax.stop_gradient(size)
    return divide(x, jnp.where(held == 0, 0, divide(size, held)))


def components(scaled, variance, axis_name):
    """U [E, n, r] of the rows at hand and S [E, r], both 0 where dropped, and X'U [E, d, r].

    Kept are the fewest components that hold a share `variance` of the sum of squares (1: all), but
    none of a singular value below max(n, d) eps of the largest.
    """
    stacked = stack_padded(scaled)
    left, values, _ = jax.lax.map(lambda x: singular_vectors(x, axis_name), stacked)
    longest = max(all_rows(stacked.shape[1], axis_name), stacked.shape[2])
    keep = values > longest * jnp.finfo(values.dtype).eps * values[:, :1]
    if variance < 1:  # for 1, sums would not see what is below the root of eps
        energy = values**2
        before = jnp.cumsum(energy, axis=1) - energy
        keep &= before < variance * jnp.sum(energy, axis=1, keepdims=True)
    left = jnp.where(keep[:, None, :], left, 0)
    loads = psum(jnp.einsum("end,enr->edr", stacked, left, precision=HIGHEST), axis_name)
    return left, jnp.where(keep, values, 0), loads


def rotated_to_fewer_columns(blocks, axis_name):
    """Blocks turned so that none has more columns than there are rows; inner products stay.

    X' = Q R gives X Q = R', of n columns. The rows have to be gathered for that.
    """
    local = blocks[0].shape[0]
    rows = all_rows(local, axis_name)

    def rotate(x):
        if x.shape[1] <= rows:
            return x
        everyone = gather_rows(x, axis_name)
        turned = in_own_columns(everyone)
        return jax.lax.dynamic_slice_in_dim(turned, first_row(local, axis_name), local)

    return [rotate(x) for x in blocks]


def stack_padded(blocks):
    """[E, n, d] blocks with columns of zeros added up to the widest."""
    width = max(x.shape[1] for x in blocks)
    return jnp.stack([jnp.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in blocks])


def every_pair(function, encoders):
    """[..., E, E] values of `function((i, j))` for i <= j, 0 elsewhere."""
    rows, columns = np.triu_indices(encoders)
    values = jax.lax.map(function, (jnp.asarray(rows), jnp.asarray(columns)))
    result = jnp.zeros((*values.shape[1:], encoders, encoders), values.dtype)
    return result.at[..., rows, columns].set(jnp.moveaxis(values, 0, -1))
