"""Tall matrices [d, l] of few columns, whose rows may be sharded: starts, bases, signs, products.

They are the bases of `pca` and `streaming_pca`, where a row is a feature: with an axis name every
device holds its own rows, and columns are summed over all of them. `factor_rows` is for as many
columns as features, of which no device could hold a factor of every other.

References
    J. Demmel, L. Grigori, M. Hoemmen, J. Langou, "Communication-optimal parallel and sequential QR
    and LU factorizations", SIAM J. Sci. Comput. 34, 2012.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import from_first, matmul, pmax, psum
from ..validate import all_rows, axis_size

GROUP = 4  # factors that are stacked at once


def random_block(key, rows: int, width: int, dtype, axis_name=None) -> Float[Array, "d l"]:
    """Gaussian [rows, width]; row i depends on `key` and i alone, however rows are sharded."""
    index = jnp.arange(rows)
    if axis_name is not None:
        index = index + rows * jax.lax.axis_index(axis_name)
    keys = jax.vmap(partial(jax.random.fold_in, key))(index)
    return jax.vmap(lambda one: jax.random.normal(one, (width,), dtype))(keys)


def orthonormalize(tall: Float[Array, "d l"], axis_name=None):
    """Q and R of a matrix whose rows may be sharded; Q is orthonormal even if the rank falls short.

    Each device factors its own rows, and all of them the stacked R factors (Demmel et al. 2012).
    """
    q, r = jnp.linalg.qr(tall)
    if axis_name is None:
        return q, r
    height, index = r.shape[0], jax.lax.axis_index(axis_name)
    stacked = jnp.zeros((all_rows(height, axis_name), r.shape[1]), r.dtype)
    stacked = psum(jax.lax.dynamic_update_slice_in_dim(stacked, r, index * height, 0), axis_name)
    turn, r = jnp.linalg.qr(stacked)
    return matmul(q, jax.lax.dynamic_slice_in_dim(turn, index * height, height)), r


def factor_rows(x: Float[Array, "n d"], axis_name) -> tuple[Float[Array, "n r"], Array]:
    """Q, of which each device has its rows, and R [r, d], r = min(n, d), of rows that are sharded.

    The R of each device's rows are stacked by groups of devices, and those of the groups by groups
    of groups, until one is left; each factor on the way turns the Q of before (Demmel et al. 2012).
    For p devices about log_4 p times, a device holds up to `GROUP` factors of min(n, d) rows (as
    many as a prime of p, if that is larger), and receives one less.

    Args:
      x: rows of this device.
      axis_name: mesh axis that the rows are sharded over.
    """
    q, r = jnp.linalg.qr(x)
    stride = 1
    for size in _groups(axis_size(axis_name)):
        r, here = _of_group(r, stride, size, axis_name)
        height, width = r.shape[1:]
        turn, r = jnp.linalg.qr(r.reshape(size * height, width))
        q = matmul(q, jax.lax.dynamic_slice_in_dim(turn, here * height, height))
        stride *= size
    return q, from_first(r, axis_name)


def triangle_of_all(r: Float[Array, "r d"], axis_name) -> Float[Array, "r d"]:
    """The R of the stacked factors of all devices, r <= d, as `factor_rows` has it, without Q."""
    stride = 1
    for size in _groups(axis_size(axis_name)):
        stacked, _ = _of_group(r, stride, size, axis_name)
        r = jnp.linalg.qr(stacked.reshape(-1, r.shape[1]), mode="r")
        stride *= size
    return r


def _groups(devices: int) -> list[int]:
    """Factors of a number, of which small ones are joined up to `GROUP`.

    Example:
      >>> _groups(1), _groups(8), _groups(12), _groups(7)
      ([], [4, 2], [4, 3], [7])
    """
    found, size = [], 2
    while devices > 1:
        while devices % size:
            size += 1
        devices //= size
        if found and found[-1] * size <= GROUP:
            found[-1] *= size
        else:
            found.append(size)
    return found


def _of_group(r, stride: int, size: int, axis_name):
    """[size, ...] what the devices of a group hold, in one order for all, and the place of this.

    A group is `size` devices, each `stride` after the one before.
    """
    devices = axis_size(axis_name)
    here = jax.lax.axis_index(axis_name) // stride % size

    def other(device: int, step: int) -> int:  # that is so many steps further in its group
        place = device // stride % size
        return device + ((place + step) % size - place) * stride

    stacked = jnp.zeros((size, *r.shape), r.dtype)
    for step in range(size):
        pairs = [(other(device, step), device) for device in range(devices)]
        found = jax.lax.ppermute(r, axis_name, pairs) if step else r
        stacked = jax.lax.dynamic_update_index_in_dim(stacked, found, (here + step) % size, 0)
    return stacked, here


def peak_sign(columns: Float[Array, "n k"], axis_name=None) -> Float[Array, " k"]:
    """Sign of each column's entry of largest magnitude; among near ties, of the first.

    Entries tie if they are within sqrt(eps) of the largest, so that rounding does not choose.
    """
    columns = jax.lax.stop_gradient(columns)
    size = jnp.abs(columns)
    peak = pmax(jnp.max(size, axis=0), axis_name)
    near = size >= (1 - jnp.finfo(size.dtype).eps ** 0.5) * peak[None, :]
    place = jnp.arange(size.shape[0])
    if axis_name is not None:
        place = place + size.shape[0] * jax.lax.axis_index(axis_name)
    last = all_rows(size.shape[0], axis_name)
    first = -pmax(jnp.max(jnp.where(near, -place[:, None], -last), axis=0), axis_name)
    chosen = jnp.where(place[:, None] == first[None, :], columns, 0)
    return jnp.where(psum(jnp.sum(chosen, axis=0), axis_name) < 0, -1, 1).astype(columns.dtype)


def contract_rows(x: Float[Array, "n d"], scores: Float[Array, "n l"]) -> Float[Array, "d l"]:
    """x' scores for few columns of scores."""
    # As (scores' x)' of untransposed scores, both of which XLA would undo: on CPU 1.1 to 2.5 times
    # as fast, and the product that made the scores 2 times.
    scores = jax.lax.optimization_barrier(scores)
    return jax.lax.optimization_barrier(matmul(scores.T, x)).T
