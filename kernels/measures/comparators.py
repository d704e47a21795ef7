"""How alike two lists of dissimilarities are: the comparators of RSA.

Two encoders have dissimilarities a_ij and b_ij of the m = n (n - 1) / 2 pairs i < j. All but tau
are cosines, or inner products, of vectors f(a) and f(b) in which every pair has an entry:

    cosine            f(a) = a
    pearson           a less its mean
    spearman          ranks less their mean, ties taking their mean rank
    rho_a             12 / (m^3 - m) times the inner product of the same: the mean of Spearman's
                      correlation over all ways to break the ties
    whitened_cosine   V^-1/2 a, with V the covariance of dissimilarities under noise: of squared
                      distances of rows with independent errors, 4 for a pair with itself, 1 for
                      pairs that share a row, 0 for others
    whitened_pearson  the same of a less its mean.

V is 2 I + M M', M the m x n incidence of pairs and rows, and by Woodbury's identity a'V^-1 b is a
fourth of <H A H, H B H>, A and B the symmetric matrices with zeros on the diagonal: nothing of
m x m is formed. The whitened cosine of squared Euclidean distances is thus linear CKA, and of
Euclidean ones the square of distance correlation (Diedrichsen et al. 2021).

Kendall's tau counts pairs of pairs: with C in the same order in both, D in opposite order, T in all
and T_a, T_b those that are ties,

    tau_a = (C - D) / T,     tau_b = (C - D) / sqrt((T - T_a) (T - T_b)).

With the pairs sorted by a, and by b where a ties, D is the number of inversions of b, counted bit
by bit of its places: log2(m) passes over m numbers, whole but for the last sum of each.

rho_a and tau_a are for models that predict ties (Nili et al. 2014, Schuett et al. 2023): they do
not reward them. With itself an encoder has less than 1 if it has ties.

References:
    Diedrichsen, Berlot, Mur, Schuett, Shahbazi, Kriegeskorte (2021), Comparing representational
    geometries using whitened unbiased-distance-matrix similarity. Neurons, Behavior, Data Analysis
    and Theory.
    Nili, Wingfield, Walther, Su, Marslen-Wilson, Kriegeskorte (2014), A toolbox for
    representational similarity analysis. PLoS Computational Biology 10.
    Schuett, Kipnis, Diedrichsen, Kriegeskorte (2023), Statistical inference on representational
    geometries. eLife 12.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import divide, root

BY_ORDER = ("spearman", "rho_a", "tau_a", "tau_b")
BY_VALUE = ("pearson", "cosine", "whitened_pearson", "whitened_cosine")
COMPARATORS = (*BY_ORDER, *BY_VALUE)
CHUNK = 1 << 15  # whole numbers below this add up to less than 2^31


class Pairs(NamedTuple):
    """The pairs of rows that dissimilarities are of, some of which do not count."""

    rows: Int[Array, " m"]
    partners: Int[Array, " m"]
    counted: Bool[Array, " m"]
    valid: Bool[Array, " n"]

    @property
    def total(self) -> Int[Array, ""]:
        """How many pairs count."""
        return jnp.sum(self.counted, dtype=jnp.int32)


class Places(NamedTuple):
    """First and last place of each value's ties in ascending order; those not counted come last."""

    first: Int[Array, " m"]
    last: Int[Array, " m"]


def tied_places(
    values: Float[Array, " m"], pairs: Pairs, rounding: float, *, relative: bool
) -> Places:
    """The places of the values, of which runs within rounding are ties.

    Args:
      values: dissimilarities of the pairs.
      pairs: which of them count.
      rounding: how far values may be off.
      relative: whether that is a share of each value.
    """
    total, counted = pairs.total, pairs.counted
    order = jnp.argsort(jnp.where(counted, values, jnp.inf))
    ascending = jnp.where(counted, values, jnp.inf)[order]
    places = jnp.arange(len(values), dtype=jnp.int32)
    gap = jnp.diff(ascending, prepend=ascending[:1])

    def runs(new):
        """First and last place of the run that each place is in."""
        new = new.at[0].set(True) & (places < total)
        ends = jnp.append(new[1:], True) | (places + 1 == total)
        last = jnp.where(ends, places, len(values) - 1)
        return jax.lax.cummax(jnp.where(new, places, 0)), jax.lax.cummin(last, reverse=True)

    near = rounding * (ascending if relative else jnp.ones_like(ascending))
    apart = gap > near
    first, last = runs(apart)
    short = ascending[last] - ascending[first] <= 4 * near[last]
    first, last = runs(jnp.where(short, apart, gap != 0))
    back = jnp.zeros_like(places).at[order].set(places)
    return Places(first[back], last[back])


def compared_vector(
    comparator: str, values: Float[Array, " m"], pairs: Pairs, rounding: float, *, relative: bool
) -> Float[Array, " v"]:
    """f(a), scaled such that the inner product of two is the comparator."""
    total, dtype = pairs.total.astype(values.dtype), values.dtype
    if comparator in BY_ORDER:
        first, last = tied_places(values, pairs, rounding, relative=relative)
        # Twice the centered mean rank, a whole number, as a share of all ranks.
        centered = (first + last - (pairs.total - 1)).astype(dtype) / total
        ranks = jnp.where(pairs.counted, centered, 0)
        if comparator == "rho_a":
            return ranks * root(divide(3, total - 1 / total))
        return divide(ranks, jnp.linalg.norm(ranks))
    values = jnp.where(pairs.counted, values, 0)
    if comparator.endswith("pearson"):
        largest = jnp.max(values)
        least = jnp.min(jnp.where(pairs.counted, values, jnp.inf))
        size = jnp.maximum(largest, -least) if relative else 1
        same = largest - least <= 4 * rounding * size
        deviation = values - jnp.sum(values) / total
        values = jnp.where(pairs.counted & ~same, deviation, 0)
    if comparator.startswith("whitened"):
        values = _whitened(values, pairs)
    return divide(values, root(jnp.sum(values**2)))


def _whitened(values, pairs):
    """Entries of H A H for all pairs, and those of its diagonal over sqrt(2)."""
    count = jnp.sum(pairs.valid).astype(values.dtype)
    sums = jnp.zeros(pairs.valid.shape, values.dtype)
    means = sums.at[pairs.rows].add(values).at[pairs.partners].add(values) / count
    mean = jnp.sum(means) / count
    there = values - means[pairs.rows] - means[pairs.partners] + mean
    own = (mean - 2 * means) / 2**0.5
    return jnp.concatenate([jnp.where(pairs.counted, there, 0), jnp.where(pairs.valid, own, 0)])


def kendall(a: Places, b: Places, pairs: Pairs, *, corrected: bool, dtype) -> Float[Array, ""]:
    """tau_a of two encoders' places, or tau_b where `corrected`."""
    length = pairs.counted.shape[0]
    mine = jnp.where(pairs.counted, a.first, length)
    theirs = jnp.where(pairs.counted, b.first, length)
    mine, theirs = jax.lax.sort((mine, theirs), num_keys=2)
    total = pairs.total.astype(dtype)

    def ties(first, last):  # of each with the others of its run, over the number of pairs
        return _mean(jnp.where(pairs.counted, last - first, 0), total) / 2

    places = jnp.arange(length, dtype=jnp.int32)
    new = jnp.append(True, (mine[1:] != mine[:-1]) | (theirs[1:] != theirs[:-1]))
    first, last = _runs(new, places)
    both = _mean(jnp.where(mine < length, last - first, 0), total) / 2
    every = (total - 1) / 2
    left, right = ties(*a), ties(*b)
    balance = every - left - right + both - 2 * _mean_inversions(theirs, total)
    varied = jnp.any(pairs.counted & (a.first > 0)) & jnp.any(pairs.counted & (b.first > 0))
    balance = jnp.where(varied, balance, 0)  # exactly 0 where all are ties
    if corrected:
        return divide(balance, jnp.where(varied, root(every - left) * root(every - right), 0))
    return divide(balance, every)


def _runs(new, places):
    """First and last place of the run that each place is in."""
    ends = jnp.append(new[1:], True)
    first = jax.lax.cummax(jnp.where(new, places, 0))
    return first, jax.lax.cummin(jnp.where(ends, places, len(places) - 1), reverse=True)


def _mean(counts, total):
    """The sum of whole numbers, over `total`: the halves of their digits add up exactly."""
    padded = jnp.pad(counts, (0, -len(counts) % CHUNK)).reshape(-1, CHUNK)
    high, low = (
        jnp.sum(jnp.sum(part, axis=1, dtype=jnp.int32).astype(total.dtype)) / total
        for part in (padded // CHUNK, padded % CHUNK)
    )
    return high * CHUNK + low


def _mean_inversions(numbers, total):
    """How many pairs of places i < j have a larger number at i, over `total`.

    From the highest bit to the lowest, numbers that agree in all higher bits stand side by side in
    their old order. Among those, each with a 0 counts the ones before it; and then zeros go first.
    """
    places = jnp.arange(len(numbers), dtype=jnp.int32)
    bits = len(numbers).bit_length()

    def step(index, state):
        numbers, found = state
        shift = jnp.asarray(bits - 1 - index, jnp.int32)
        high = jnp.right_shift(numbers, shift + 1)
        bit = jnp.right_shift(numbers, shift) & 1
        start, end = _runs(jnp.append(True, high[1:] != high[:-1]), places)
        ones = jnp.cumsum(bit, dtype=jnp.int32)
        before = ones - bit - jnp.where(start > 0, ones[start - 1], 0)
        zeros = (end + 1 - start) - (ones[end] - jnp.where(start > 0, ones[start - 1], 0))
        there = start + jnp.where(bit == 1, zeros + before, places - start - before)
        found = found + _mean(jnp.where(bit == 0, before, 0), total)
        return jnp.zeros_like(numbers).at[there].set(numbers), found

    return jax.lax.fori_loop(0, bits, step, (numbers, 0 * total))[1]
