r"""CKA, debiased CKA and mutual kNN recall of pairs of blocks under given orders of one side.

With K and L the centered Gram matrices of two blocks and an order P of the rows of the second,

    <K, P L P'>,   <diag K, P diag L>,   #{(i, j): j in N_K(i) and in P N_L(i)}

change with the order and nothing else does. All pairs and measures take the same order in a draw.
Pairs of narrow blocks are multiplied in their features, ||X'P Y||^2, filled up with zeros to one
width, so that they are one product; of wide ones the Gram matrices are held
(`kernels.nulls.permutation`, whose measured cost of an entry decides). Common neighbors are looked
up: n k for a pair.

Draws are split over the devices of a mesh; each is computed on one, so that their number changes no
digit. Memory: 4 n^2 bytes for a wide block, and n^2 for the neighbors of each left block.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from substrate_jax import kernels
from substrate_jax.kernels.alignment.hsic import rounding
from substrate_jax.kernels.alignment.normalization import normalized_blocks
from substrate_jax.kernels.arithmetic import HIGHEST, from_first, gather_rows
from substrate_jax.kernels.nulls.permutation import GATHER, permuted_products
from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS, over_rows, replicate, shard_rows

Pair = tuple[int, int]
Blocks = Sequence[Float[np.ndarray, "n _"]]


class Sampled(NamedTuple):
    """Measures of P pairs of blocks under m orders.

    Attributes:
        cka: [m, P]; 0 where a block is constant.
        debiased_cka: [m, P]; NaN where rounding is all that debiasing leaves.
        mutual_knn: [m, P] recall.
    """

    cka: Float[np.ndarray, "m P"]
    debiased_cka: Float[np.ndarray, "m P"]
    mutual_knn: Float[np.ndarray, "m P"]


def sample(
    left: Blocks,
    right: Blocks,
    pairs: Sequence[Pair],
    orders: Int[np.ndarray, "m n"],
    k: int,
    mesh: Mesh,
) -> Sampled:
    """The measures of each pair, the rows of its right block put in each order.

    Args:
        left: blocks of one side, all of one width; see `filled_up`.
        right: of the other, the same rows.
        pairs: which are compared, numbers of left and right.
        orders: of the rows of `right`.
        k: neighbors, below n.
        mesh: whose devices share the draws.

    Example:
        >>> from substrate_jax.mesh import make_mesh
        >>> x = np.array([[0, 1], [1, 3], [5, 2], [2, 2], [4, 0], [3, 5]], np.float32)
        >>> found = sample([x], [2 * x], [(0, 0)], np.arange(6)[None], 2, make_mesh("data=1"))
        >>> [value.round(3).tolist() for value in found]
        [[[1.0]], [[1.0]], [[1.0]]]
    """
    n, draws = len(left[0]), len(orders)
    sides = [[_standing(x, k) for x in side] for side in (left, right)]
    first, second = (np.array(side, np.int32) for side in zip(*pairs, strict=True))
    placed, _ = shard_rows(np.asarray(orders, np.int32), mesh)
    held = _held(sides, pairs)
    found = _program(mesh)(replicate(held, mesh), placed)
    inner, crossed, common = (np.asarray(value, np.float64)[:draws] for value in found)

    def of_pairs(values: list) -> tuple[np.ndarray, np.ndarray]:
        return np.array(values[0])[first], np.array(values[1])[second]

    both = np.multiply(*of_pairs([[one.varied for one in side] for side in sides]))
    whole = of_pairs([[one.whole for one in side] for side in sides])
    own = of_pairs([[one.unbiased for one in side] for side in sides])
    debiased = _unbiased(inner, crossed, both, n)
    return Sampled(
        _ratio(inner, np.sqrt(whole[0]) * np.sqrt(whole[1])),
        _ratio(debiased, np.sqrt(own[0]) * np.sqrt(own[1])),
        common * both / (n * k),
    )


class _Standing(NamedTuple):
    """What no order of the rows changes of a block."""

    scaled: np.ndarray  # [n, d] centered, tr K = 1
    width: int  # columns that are not 0
    diagonal: np.ndarray  # [n] of K
    whole: float  # <K, K>
    unbiased: float  # n (n - 3) times the unbiased HSIC with itself; NaN where lost
    varied: float  # 1, or 0 for a constant block
    near: np.ndarray  # [n, k]


def _standing(x: np.ndarray, k: int) -> _Standing:
    n = len(x)
    scaled, scale, near = map(np.asarray, _of_block(x, k))
    product = scaled.T @ scaled if scaled.shape[1] <= n else scaled @ scaled.T
    whole = float(np.sum(np.square(product, dtype=np.float64)))
    diagonal, varied = np.sum(scaled**2, axis=1), float(scale > 0)
    unbiased = _unbiased(whole, float(np.sum(np.square(diagonal, dtype=np.float64))), varied, n)
    if unbiased <= float(rounding(jnp.int32(n), jnp.float32)) * whole:
        unbiased = float("nan") if varied else 0.0
    width = int(np.max(np.flatnonzero(np.any(scaled, axis=0)), initial=0)) + 1
    return _Standing(scaled, width, diagonal, whole, unbiased, varied, near)


@functools.partial(jax.jit, static_argnums=1)
def _of_block(x, k: int):
    scaled, scales, _ = normalized_blocks([x], None)
    return scaled[0], scales[0], kernels.nearest_neighbors(x, k)


def _unbiased(inner, crossed, traces, n: int):
    """n (n - 3) times the unbiased estimate of HSIC, as `kernels.alignment.hsic` has it."""
    return inner - n / (n - 2) * crossed + traces / ((n - 1) * (n - 2))


def _ratio(value, norm):
    """value / norm; 0 where the norm is, NaN where it is."""
    return np.where(norm == 0, 0.0, value / np.where(norm == 0, 1.0, norm))


def filled_up(blocks: Blocks, rows: int, width: int) -> list[Float[np.ndarray, "m w"]]:
    """Blocks of one shape, so that one program serves all: zeros below and to the right.

    Columns of zeros change no measure; rows of zeros are to be masked.

    Example:
        >>> [x.shape for x in filled_up([np.ones((3, 2)), np.ones((3, 4))], 3, 4)]
        [(3, 4), (3, 4)]
    """
    found = []
    for block in blocks:
        found.append(np.zeros((rows, width), np.float32))
        found[-1][: block.shape[0], : block.shape[1]] = block
    return found


def feature_space(n: int, left: int, right: int) -> bool:
    """Whether a draw of a pair of these widths is cheaper by its features than by Gram matrices.

    Example:
        >>> feature_space(500, 16, 16), feature_space(500, 384, 384)
        (True, False)
    """
    return 2 * left * right + GATHER * right <= n * GATHER / 2


def _held(sides: Sequence[Sequence[_Standing]], pairs: Sequence[Pair]) -> dict:
    """What the draws need, by name; pairs that are narrow come before those that are wide."""
    left, right = sides
    n = len(left[0].scaled)
    narrow = [feature_space(n, left[i].width, right[j].width) for i, j in pairs]
    first, second = (np.array(side, np.int32) for side in zip(*pairs, strict=True))
    near = np.zeros((len(left), n, n), bool)
    for of, one in zip(near, left, strict=True):
        np.put_along_axis(of, one.near, True, axis=1)
    held = {
        "near": near,
        "lists": np.stack([one.near for one in right]),
        "first": first,
        "second": second,
        "diagonals": tuple(
            np.stack([side[number].diagonal for number in numbers])
            for side, numbers in ((left, first), (right, second))
        ),
        "place": np.argsort(np.argsort(~np.array(narrow), kind="stable")).astype(np.int32),
    }
    small = [pair for pair, is_small in zip(pairs, narrow, strict=True) if is_small]
    wide = [pair for pair, is_small in zip(pairs, narrow, strict=True) if not is_small]
    if small:
        width = max(max(left[i].width, right[j].width) for i, j in small)
        held["features"] = tuple(
            np.stack([side[number].scaled[:, :width] for number in numbers])
            for side, numbers in zip(sides, zip(*small, strict=True), strict=True)
        )
    if wide:
        numbers = [sorted(set(side)) for side in zip(*wide, strict=True)]
        held["grams"] = tuple(
            np.stack([side[number].scaled @ side[number].scaled.T for number in of])
            for side, of in zip(sides, numbers, strict=True)
        )
        held["entries"] = tuple(
            np.array([of.index(number) for number in side], np.int32)
            for of, side in zip(numbers, zip(*wide, strict=True), strict=True)
        )
    return held


@functools.lru_cache
def _program(mesh: Mesh):
    def compute(held, orders):
        everyone = (gather_rows(x, DATA_AXIS) for x in jax.lax.map(_draw(held), orders))
        return tuple(from_first(x, DATA_AXIS) for x in everyone)

    return over_rows(compute, mesh, (EVERYWHERE, ROWS))


def _draw(held):
    """The function order -> products of Grams, of diagonals, and common neighbors of all pairs."""
    count, n = held["near"].shape[:2]
    near = held["near"].reshape(count * n * n)
    rows = held["first"][:, None] * n + jnp.arange(n, dtype=jnp.int32)[None]  # of near, [P, n]
    of_grams = permuted_products(*held["grams"]) if "grams" in held else None

    def draw(order):
        parts = []
        if "features" in held:
            x, y = held["features"]
            crossed = jnp.einsum("pnk,pnl->pkl", x, y[:, order], precision=HIGHEST)
            parts.append(jnp.sum(crossed**2, axis=(1, 2)))
        if of_grams is not None:
            parts.append(of_grams(order)[held["entries"]])
        inner = jnp.concatenate(parts)[held["place"]]
        mine, other = held["diagonals"]
        names = jnp.argsort(order)  # row order[i] of the right side is called i
        renamed = names[held["lists"][:, order]].astype(jnp.int32)[held["second"]]
        common = near[rows[:, :, None] * n + renamed]
        common = jnp.sum(common, axis=(1, 2), dtype=jnp.int32)
        return inner, jnp.sum(mine * other[:, order], axis=1), common

    return draw
