"""Third moments under permutation: from sums over distinct indices to sums over all indices.

Let P be uniform over the n! permutations and A, B fixed n x n matrices. The third power of
sum_ab A_ab B_P(a)P(b) is a sum over three index pairs, six indices. Sort its terms by which of the
six are equal: one class for each of the 203 partitions of six things. A class with v distinct
indices is spread evenly over all n (n-1) .. (n-v+1) ways to fill them, so

    E (sum_ab A_ab B_P(a)P(b))^3 = sum over classes c  D_c(A) D_c(B) / (n (n-1) .. (n-v_c+1)),

where D_c sums products of three entries over distinct indices. Möbius inversion on the lattice of
partitions writes D_c in sums without that restriction: merging b indices into one weighs
(-1)^(b-1) (b-1)!. Such a sum is a graph of three edges, and most vanish when the rows of A sum to
0: `distinct_sums` is told which remain, and finds the rest by itself.

References:
    Rota (1964), On the foundations of combinatorial theory I.
    Kazi-Aoual, Hitier, Sabatier, Lebreton (1995), Refined approximations to permutation tests for
    multivariate inference. Computational Statistics & Data Analysis 20.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..arithmetic import HIGHEST, divide

EDGES = ((0, 1), (2, 3), (4, 5))  # the six slots, by edge: tail and head
Partition = tuple[tuple[int, ...], ...]


def third_moments(
    kind: Callable[[Partition], int | None], sums: Float[Array, "m E"], n: Float[Array, ""]
) -> Float[Array, "E E"]:
    """E <A_i, P A_j P'>^3 of all pairs, given the m sums of each matrix that do not vanish.

    Args:
      kind: which of the m sums a graph of three edges is, None if it vanishes (`distinct_sums`).
      sums: of each matrix.
      n: rows.
    """
    total = jnp.zeros((sums.shape[1], sums.shape[1]), sums.dtype)
    for distinct, factors, multiplicity in distinct_sums(kind, sums.shape[0]):
        value = jnp.matmul(jnp.asarray(factors, sums.dtype), sums, precision=HIGHEST)
        ways = functools.reduce(lambda ways, v: ways * (n - v), range(1, distinct), n)
        # More distinct indices than rows: no terms.
        share = jnp.where(ways > 0, divide(multiplicity, ways), 0).astype(sums.dtype)
        total += share * (value[:, None] * value[None, :])
    return total


@functools.cache
def distinct_sums(
    kind: Callable[[Partition], int | None], count: int
) -> tuple[tuple[int, tuple[int, ...], int], ...]:
    """For each sort of class: distinct indices v, D as factors of the sums, and how many classes.

    Args:
      kind: from vertices, each the tuple of its slots (`EDGES`), to the number of a sum or None.
      count: numbers of sums.
    """
    found = Counter()
    for partition in partitions(tuple(range(2 * len(EDGES)))):
        factors = np.zeros(count, int)
        for merging in partitions(tuple(range(len(partition)))):
            merged = tuple(tuple(s for b in part for s in partition[b]) for part in merging)
            number = kind(merged)
            if number is not None:
                factors[number] += math.prod(
                    (-1) ** (len(part) - 1) * math.factorial(len(part) - 1) for part in merging
                )
        if factors.any():
            found[len(partition), tuple(int(f) for f in factors)] += 1
    return tuple((v, factors, times) for (v, factors), times in sorted(found.items()))


def partitions(things: tuple[int, ...]) -> list[Partition]:
    """All partitions of distinct things into blocks."""
    if not things:
        return [()]
    first, rest = things[0], things[1:]
    return [
        ((first, *together), *others)
        for size in range(len(things))
        for together in itertools.combinations(rest, size)
        for others in partitions(tuple(t for t in rest if t not in together))
    ]
