"""Rows that are equal, and lists of neighbors in which they tie.

Equal rows have equal similarities to any row, but two columns of a matrix product may be rounded
differently. So only the first of each kind, of all shards, is compared (`ring`), and the others are
put into the lists beside it: by its value, then by index, as if each had been compared.

With following[j] the next row equal to row j, the list of row i is merged from the k + 1 kinds
nearest to it, i itself left out: k times the lowest index is taken of the nearest kinds that have
rows left, and that kind goes on to its following row.

Cost: a sort of 5 n numbers on every device, and, where any row repeats, k^2 comparisons per row.

Not guaranteed: kinds are told apart by 96 bits, which different rows share with probability 2^-96.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from ..arithmetic import gather_rows
from ..blocks import first_row


class Copies(NamedTuple):
    """Which rows of all shards are equal.

    Attributes:
      first: lowest number of a row equal to each row.
      following: the next number of a row equal to each row; n, and for n itself, if none.
      own: `first` of the local rows.
      repeated: whether any row has another first than itself.
    """

    first: Int[Array, " n"]
    following: Int[Array, " n+1"]
    own: Int[Array, " m"]
    repeated: Bool[Array, ""]


def find_copies(hashes: UInt32[Array, "4 m"], axis_name=None) -> Copies:
    """The copies among the rows that count, and apart from them among the others.

    Args:
      hashes: of the local rows, from `hash_rows`.
      axis_name: mesh axis the rows are sharded over, if any.

    Example:
      >>> x = jnp.array([[1.0], [2.0], [1.0], [1.0]])
      >>> found = find_copies(hash_rows(x, jnp.ones(4, bool)))
      >>> found.first.tolist(), found.following.tolist(), bool(found.repeated)
      ([0, 1, 0, 0], [2, 4, 3, 4, 4], True)
    """
    local = hashes.shape[1]
    hashes = gather_rows(hashes, axis_name, axis=1)
    rows = hashes.shape[1]
    numbers = jnp.arange(rows, dtype=jnp.int32)

    def by_word(order, word):  # a word after the other: XLA compiles one sort, and a small one
        return order[jnp.argsort(word[order], stable=True)].astype(jnp.int32), None

    start = numbers + 0 * hashes[0].astype(jnp.int32)  # varies over the devices as words do
    order, _ = jax.lax.scan(by_word, start, hashes)  # equal rows in their order
    ordered = hashes[:, order]
    starts = (numbers == 0) | jnp.any(ordered != jnp.roll(ordered, 1, axis=1), axis=0)
    heads = order[jax.lax.cummax(jnp.where(starts, numbers, 0))]
    first = jnp.zeros_like(order).at[order].set(heads)
    after = jnp.where(jnp.roll(starts, -1), rows, jnp.roll(order, -1))
    following = jnp.full(rows + 1, rows, jnp.int32).at[order].set(after)
    own = jax.lax.dynamic_slice_in_dim(first, first_row(local, axis_name), local)
    return Copies(first, following, own, ~jnp.all(starts))


def with_copies(
    values: Float[Array, "q k+1"],
    names: Int[Array, "q k+1"],
    own: Int[Array, " q"],
    copies: Copies,
) -> Int[Array, "q k"]:
    """The k rows with the largest values, ties by lower number, each row's own left out.

    Args:
      values: of the k + 1 first rows with the largest, descending.
      names: numbers of those rows, n where there is none.
      own: number of each row.
      copies: from `find_copies`.

    Returns:
      Numbers over all shards; n where there are no more.

    Example:
      >>> copies = find_copies(hash_rows(jnp.array([[1.0], [2.0], [1.0]]), jnp.ones(3, bool)))
      >>> values, names = jnp.array([[1.0, 0.5]]), jnp.array([[0, 1]])
      >>> with_copies(values, names, jnp.array([0]), copies).tolist()
      [[2]]
    """
    q, k = names.shape[0], names.shape[1] - 1
    nobody = copies.following.shape[0] - 1
    own = own[:, None]

    def alone(values, names):
        place = jnp.where(jnp.any(names == own, axis=1), jnp.argmax(names == own, axis=1), k)
        numbers = jnp.arange(k)[None, :]
        numbers = jnp.where(numbers < place[:, None], numbers, numbers + 1)
        return jnp.take_along_axis(names, numbers, axis=1)

    def merged(values, names):
        def without_own(numbers):
            return jnp.where(numbers == own, copies.following[numbers], numbers)

        def take(ahead, _):
            value = jnp.where(ahead < nobody, values, -jnp.inf)
            tied = value == jnp.max(value, axis=1, keepdims=True)
            taken = jnp.min(jnp.where(tied, ahead, nobody), axis=1, keepdims=True)
            after = without_own(copies.following[taken])
            return jnp.where(ahead == taken, after, ahead), taken[:, 0]

        return jax.lax.scan(take, without_own(names), None, length=k)[1].T

    found = jax.lax.cond(copies.repeated, merged, alone, values, names)
    return found.reshape(q, k)


def hash_rows(x: Float[Array, "m d"], counts: Bool[Array, " m"]) -> UInt32[Array, "4 m"]:
    """Words that are the same for equal rows, and differ in the first for rows that do not count.

    Example:
      >>> words = hash_rows(jnp.array([[0.0], [-0.0], [1.0]]), jnp.ones(3, bool))
      >>> (words[:, :1] == words).all(axis=0).tolist()
      [True, True, False]
    """
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0, x), jnp.uint32)  # -0 is 0
    bits = _mix(bits.reshape(x.shape[0], -1))
    # By parts of 32 or fewer: the terms of longer sums are stored first (XLA on CPU).
    parts = -(-bits.shape[1] // 32)
    bits = jnp.pad(bits, ((0, 0), (0, -bits.shape[1] % parts))).reshape(x.shape[0], -1, parts)
    weights = _mix(jnp.arange(1, 3 * bits[0].size + 1, dtype=jnp.uint32)).reshape(3, -1, parts)
    hashes = [(~counts).astype(jnp.uint32)]
    for weight in weights | 1:
        part = _mix(jnp.sum(bits * weight[None], axis=1, dtype=jnp.uint32))
        hashes.append(jnp.sum(part * weight[0][None, :], axis=1, dtype=jnp.uint32))
    return jnp.stack(hashes)


def _mix(bits):
    """A bijection of 32-bit words under which every bit depends on every other."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return bits ^ (bits >> 16)
