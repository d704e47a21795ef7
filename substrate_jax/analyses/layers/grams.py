"""Gram matrices of layers: built from all features, scaled, and permuted for the null of the best.

A layer has one row per image, X [n, d]. Its Gram matrix is a sum over blocks b of features,

    K = sum_b X[:, b] X[:, b]',

centered. Each device holds some rows of X, which meet those of the others in turn
(`kernels.blocks.visit_all`), and gives the same rows of K: none holds all rows of X. K is then
scaled to a trace of 1, which no CKA sees and which keeps sums of large activations from
overflowing.

Cost: 2 n^2 d flops per layer, E^2 n^2 for <K_l, K_m> of all pairs, n^2 A B per permutation of the
rows of A against B layers. Over p devices all is divided by p, memory too: but that each has all E
Gram matrices, E n^2 values, for its share of the permutations.

Not guaranteed: matrices are summed in float32 from activations as they are, which should lie
between 1e-8 and 1e8 in size.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from substrate_jax import kernels
from substrate_jax.analyses.layers.results import LayerFamily
from substrate_jax.kernels.arithmetic import divide, is_constant, matmul, psum
from substrate_jax.kernels.blocks import first_row, visit_all
from substrate_jax.kernels.nulls.permutation import permuted_products
from substrate_jax.mesh import (
    COLUMNS,
    DATA_AXIS,
    EVERYWHERE,
    ROWS,
    RowBlock,
    local_rows,
    over_rows,
    place_rows,
)

BLOCK_BYTES = 2**26  # of a layer's features on each device at a time


class LayerGram(NamedTuple):
    """Gram matrix of a layer's centered rows, before it is scaled.

    Attributes:
        matrix: [m, m], its rows split over the devices; 0 beyond the n images.
        largest: the largest size of an activation.
        entries: how many activations there are, n d.
    """

    matrix: Any
    largest: Any
    entries: Any


def layer_grams(rows: RowBlock, edges: Sequence[int], mesh: Mesh) -> list[LayerGram]:
    """The Gram matrices of layers side by side, each process reading the rows of its devices.

    Args:
        rows: [n, d_1 + d_2 + ..].
        edges: where the columns of each layer but the first begin.
        mesh: from `make_mesh`.
    """
    n, devices = len(rows), mesh.shape[DATA_AXIS]
    padded = n + -n % devices
    mine = local_rows(mesh, padded)
    valid = mine < n
    kept = mine[valid]
    # A slice of an array is no copy.
    whole = len(kept) > 0 and kept[-1] - kept[0] + 1 == len(kept)
    own = np.asarray(rows[slice(kept[0], kept[-1] + 1) if whole else kept])
    mask = place_rows(valid, mesh, padded)
    step = max(1, BLOCK_BYTES // (4 * (padded // devices)))
    program = _block_program(mesh)

    def gram(layer) -> LayerGram:
        matrix = largest = None
        for start in range(0, layer.shape[1], step):
            block = np.zeros((len(mine), *layer[:, start : start + step].shape[1:]), layer.dtype)
            block[valid] = layer[:, start : start + step]
            more, reach = program(place_rows(block, mesh, padded), mask)
            matrix = more if matrix is None else matrix + more
            largest = reach if largest is None else jnp.maximum(largest, reach)
        return LayerGram(matrix, largest, np.float32(n * layer.shape[1]))

    return [gram(layer) for layer in np.split(own, list(edges), axis=1)]


@functools.lru_cache
def _block_program(mesh: Mesh):
    def rows_of_gram(features, mask):
        centered = kernels.center(features, mask, DATA_AXIS)
        local, first = len(features), first_row(len(features), DATA_AXIS)
        rows = local * mesh.shape[DATA_AXIS]

        def meet(gram, share):
            them, first = share
            return jax.lax.dynamic_update_slice(gram, matmul(centered, them.T), (0, first))

        start = jnp.broadcast_to(0 * centered[:, :1], (local, rows))
        gram = visit_all(meet, start, (centered, jnp.asarray(first, jnp.int32)), DATA_AXIS)
        reach = jnp.max(jnp.where(mask[:, None], jnp.abs(features), 0))
        return gram, jax.lax.pmax(reach, DATA_AXIS)

    return over_rows(rows_of_gram, mesh, ROWS, (ROWS, EVERYWHERE))


def hsic_of_grams(
    grams: Sequence[LayerGram], mesh: Mesh, n: int
) -> tuple[Float[Array, "E m m"], kernels.PairwiseHsic]:
    """Gram matrices of unit trace, and the sums that CKA of all pairs takes; a constant gives 0.

    Args:
        grams: of n images, on the mesh.
        mesh: from `make_mesh`.
        n: images.

    Returns:
        The matrices, their rows (the second axis) split over the devices; and the sums.
    """
    return _hsic_program(mesh, len(grams), n)(list(grams))


@functools.lru_cache
def _hsic_program(mesh: Mesh, layers: int, n: int):
    def sums(grams):
        stack = jnp.stack([gram.matrix for gram in grams])
        local = stack.shape[1]

        def diagonal(stack):
            first = first_row(local, DATA_AXIS)
            own = jax.lax.dynamic_slice_in_dim(stack, first, local, axis=2)
            return jnp.diagonal(own, axis1=1, axis2=2)

        trace = psum(jnp.sum(diagonal(stack), axis=1), DATA_AXIS)
        roots = jnp.sqrt(jnp.maximum(trace, 0))
        reaches = jnp.stack([jnp.sqrt(gram.entries) * gram.largest for gram in grams])
        scale = jnp.where(is_constant(roots, reaches, stack.dtype), 0, roots)
        inverse = divide(1, scale)
        stack = stack * inverse[:, None, None] * inverse[:, None, None]  # the square may overflow
        norms = diagonal(stack)
        # By rows first: one sum of n^2 terms would lose digits.
        products = jnp.einsum("iab,jab->aij", stack, stack, precision=jax.lax.Precision.HIGHEST)
        found = jnp.sum(products, axis=0), matmul(norms, norms.T), jnp.sum(norms, axis=1)
        count = jnp.asarray(n, jnp.int32)
        return stack, kernels.PairwiseHsic(*psum(found, DATA_AXIS), scale, count)

    each = LayerGram(ROWS, EVERYWHERE, EVERYWHERE)
    return over_rows(sums, mesh, ([each] * layers,), (COLUMNS, EVERYWHERE))


def null_maxima(
    stack: Float[Array, "E m m"],
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
    program = _null_program(mesh, permutations, family, int(hsic.count))
    return np.asarray(program(stack, hsic.inner, jax.random.key(seed)))


@functools.lru_cache
def _null_program(mesh: Mesh, permutations: int, family: LayerFamily, n: int):
    rows, columns = slice(None, family.n_rows), slice(-family.n_columns, None)
    members = family.members

    def maxima(stack, inner, key):
        stack = stack[:, :n, :n]
        roots = jnp.sqrt(jnp.diagonal(inner))
        norms = roots[rows, None] * roots[None, columns]
        products = permuted_products(stack[rows], stack[columns])

        def highest(order):
            return kernels.max_null(divide(products(order), norms)[None], jnp.asarray(members))[0]

        return kernels.sample_null(highest, key, permutations, n, axis_name=DATA_AXIS)

    return over_rows(maxima, mesh, EVERYWHERE)
