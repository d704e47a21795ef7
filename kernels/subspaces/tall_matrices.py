"""Tall matrices [d, l] of few columns, whose rows may be sharded: starts, bases, signs, products.

They are the bases of `pca` and `streaming_pca`, where a row is a feature: with an axis name every
device holds its own rows, and columns are summed over all of them.

References
    J. Demmel, L. Grigori, M. Hoemmen, J. Langou, "Communication-optimal parallel and sequential QR
    and LU factorizations", SIAM J. Sci. Comput. 34, 2012.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..arithmetic import matmul, pmax, psum
from ..validate import all_rows


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
