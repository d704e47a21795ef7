"""Gram matrices of layers: built from all features, scaled, and permuted for the null of the best.

A layer has one row per image, X [n, d]. Its Gram matrix is a sum over blocks b of features,

    K = sum_b X[:, b] X[:, b]',

each block centered exactly on the device that holds it, so no rows are gathered and only n x n sums
travel. K is then scaled to a trace of 1, which no CKA sees and which keeps sums of large
activations from overflowing.

Cost: 2 n^2 d flops per layer, E^2 n^2 for <K_l, K_m> of all pairs, n^2 A B per permutation of the
rows of A against B layers.

Not guaranteed: matrices are summed in float32 from activations as they are, which should lie
between 1e-8 and 1e8 in size.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.layers.results import LayerFamily
from substrate_jax.kernels.arithmetic import divide, is_constant, matmul
from substrate_jax.kernels.nulls.permutation import permuted_products
from substrate_jax.mesh import COLUMNS, DATA_AXIS, EVERYWHERE, over_rows

BLOCK_BYTES = 2**26  # of a layer's features on each device at a time


class LayerGram(NamedTuple):
    """Gram matrix of a layer's centered rows, before it is scaled.

    Attributes:
        matrix: [n, n].
        largest: the largest size of an activation.
        entries: how many activations there are, n d.
    """

    matrix: Float[Array, "n n"]
    largest: Float[Array, ""]
    entries: np.float32


def layer_gram(rows: Float[np.ndarray, "n d"], mesh: Mesh) -> LayerGram:
    """The Gram matrix of a layer, its features spread over the devices."""
    (n, width), devices = rows.shape, mesh.shape[DATA_AXIS]
    step = devices * max(1, BLOCK_BYTES // (4 * n))
    sharding = NamedSharding(mesh, COLUMNS)

    def of_block(start: int):
        block = rows[:, start : start + step]
        block = np.pad(block, ((0, 0), (0, -block.shape[1] % devices)))
        placed = jax.make_array_from_callback(block.shape, sharding, block.__getitem__)
        return _block_program(mesh)(placed)

    matrix, largest = of_block(0)
    for start in range(step, width, step):
        more, reach = of_block(start)
        matrix, largest = matrix + more, jnp.maximum(largest, reach)
    return LayerGram(matrix, largest, np.float32(n * width))


@functools.lru_cache
def _block_program(mesh: Mesh):
    def block_gram(features):
        centered = kernels.center(features)
        product, reach = matmul(centered, centered.T), jnp.max(jnp.abs(features))
        return jax.lax.psum(product, DATA_AXIS), jax.lax.pmax(reach, DATA_AXIS)

    return over_rows(block_gram, mesh, COLUMNS)


@jax.jit
def hsic_of_grams(
    grams: Sequence[LayerGram],
) -> tuple[Float[Array, "E n n"], kernels.PairwiseHsic]:
    """Gram matrices of unit trace, and the sums that CKA of all pairs takes; a constant gives 0."""
    stack = jnp.stack([gram.matrix for gram in grams])
    roots = jnp.sqrt(jnp.maximum(jnp.trace(stack, axis1=1, axis2=2), 0))
    reaches = jnp.stack([jnp.sqrt(gram.entries) * gram.largest for gram in grams])
    scale = jnp.where(is_constant(roots, reaches, stack.dtype), 0, roots)
    inverse = divide(1, scale)
    stack = stack * inverse[:, None, None] * inverse[:, None, None]  # the square may overflow
    norms = jnp.diagonal(stack, axis1=1, axis2=2)
    # By rows first: one sum of n^2 terms would lose digits.
    products = jnp.einsum("iab,jab->aij", stack, stack, precision=jax.lax.Precision.HIGHEST)
    count = jnp.asarray(stack.shape[1], jnp.int32)
    return stack, kernels.PairwiseHsic(
        jnp.sum(products, axis=0), matmul(norms, norms.T), jnp.sum(norms, axis=1), scale, count
    )


def null_maxima(
    stack: Float[Array, "E n n"],
    hsic: kernels.PairwiseHsic,
    family: LayerFamily,
    mesh: Mesh,
    *,
    permutations: int,
    seed: int,
) -> Float[np.ndarray, " p"]:
    """The highest CKA of the family in each permutation; the devices share the permutations.

    Args:
        stack: of `hsic_of_grams`, as the sums.
        hsic: the sums.
        family: the pairs; its rows are the first of the stack, its columns the last.
        mesh: from `make_mesh`.
        permutations: draws.
        seed: of the draws, which are the same on any number of devices.
    """
    program = _null_program(mesh, permutations, family)
    return np.asarray(program(stack, hsic.inner, jax.random.key(seed)))


@functools.lru_cache
def _null_program(mesh: Mesh, permutations: int, family: LayerFamily):
    rows, columns = slice(None, family.n_rows), slice(-family.n_columns, None)
    members = family.members

    def maxima(stack, inner, key):
        roots = jnp.sqrt(jnp.diagonal(inner))
        norms = roots[rows, None] * roots[None, columns]
        products = permuted_products(stack[rows], stack[columns])

        def highest(order):
            return kernels.max_null(divide(products(order), norms)[None], jnp.asarray(members))[0]

        return kernels.sample_null(highest, key, permutations, stack.shape[1], axis_name=DATA_AXIS)

    return over_rows(maxima, mesh, EVERYWHERE)
