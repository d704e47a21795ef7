"""Exact moments of the common edges of two neighbor graphs, one of them randomly relabeled.

Notation
    A is the 0/1 adjacency of a directed graph on n vertices in which every vertex has k out-edges
    and none to itself; q = k / (n-1), and A0 = A - q off the diagonal, whose rows sum to 0. The
    in-degree less k is c_a, r_a is the number of neighbors of a that have a among theirs, and
    r = sum r_a.
    Under a random relabeling P the number of common edges of A and B is a Mantel statistic,
    <A, P B P'> = n k q + <A0, P B0 P'>.

Mean and variance
    E = n k q. The ordered pairs of edges fall into six classes (same, reciprocal, common source,
    common target, chain in two orders, disjoint), over which A0 sums to

        s,   R,   -s,   v - s,   -R twice,   s + R - v,
        s = n k (1 - q),   R = r - n k q,   v = sum_a c_a^2,

    and each class of one graph meets its like in the other, evenly spread:

        Var = (s s' + R R') / (n (n-1)) + [s s' + (v-s)(v'-s') + 2 R R'] / (n (n-1)(n-2))
            + (s+R-v)(s'+R'-v') / (n (n-1)(n-2)(n-3)).

Third central moment
    The sums of three edges (`partitions`) that the zero rows of A0 leave are

        sum_a c_a^3,     sum_ab A0_ab^2 c_b,   sum_ab A0_ab A0_ba c_a,   c' A0 c,
        tr A0^3,   sum_abc A0_ab A0_bc A0_ac,   sum_ab A0_ab^3,   sum_ab A0_ab^2 A0_ba,

    all of them found from c, r and the numbers of cyclic triangles (a -> b -> c -> a) and
    transitive ones (a -> b -> c, a -> c), which `graph_sums` counts.

Cost, for each graph: 2 n k^2 look-ups and, for each block of rows, n k entries scattered; memory
for the n k indices of one graph at a time and two arrays of a block of rows by n and by k^2.

References:
    Mantel (1967), The detection of disease clustering and a generalized regression approach.
    Cancer Research 27.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..arithmetic import divide, gather_rows, psum
from ..blocks import block_size, first_row
from ..nulls.partitions import EDGES, Partition, third_moments
from ..validate import all_rows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GraphSums:
    """What the null of common edges needs to know of the graphs of E encoders at K values of k.

    Attributes:
      spread: sum_a c_a^2, the hubness.
      skew: sum_a c_a^3.
      reciprocal: r, ordered pairs (a, b) that are neighbors of each other.
      hub_reciprocal: sum_a c_a r_a.
      hub_chain: sum_a c_a sum_{b in N(a)} c_b.
      cyclic: triples a -> b -> c -> a.
      transitive: triples a -> b -> c with a -> c.
    """

    spread: Float[Array, "K E"]
    skew: Float[Array, "K E"]
    reciprocal: Float[Array, "K E"]
    hub_reciprocal: Float[Array, "K E"]
    hub_chain: Float[Array, "K E"]
    cyclic: Float[Array, "K E"]
    transitive: Float[Array, "K E"]

    def common_edges(self, n: Float[Array, ""], k: Float[Array, " K"]):
        """Mean, variance and skewness of the share of common edges, <A, P B P'> / (n k).

        Args:
          n: vertices.
          k: out-edges of each.

        Returns:
          [K, E, E] each, exact over all n! relabelings; NaN where k is not below n.
        """
        k = k[:, None]
        q = k / (n - 1)
        edges = n * k
        s = jnp.broadcast_to(edges * (1 - q), self.spread.shape)
        r, v = self.reciprocal - edges * q, self.spread

        def pairs(a):
            return a[:, :, None] * a[:, None, :]

        # Each factor is divided by n k first: their products would pass the range of float32.
        s, r, v = (divide(a, edges) for a in (s, r, v))
        variance = divide(pairs(s) + pairs(r), n * (n - 1))
        variance += divide(pairs(s) + pairs(v - s) + 2 * pairs(r), n * (n - 1) * (n - 2))
        variance += divide(pairs(s + r - v), n * (n - 1) * (n - 2) * (n - 3))
        variance = jnp.maximum(variance, 0)
        sums = self._cubic(n, k, q) / edges[None]
        third = jax.vmap(lambda each: third_moments(_kind, each, n), in_axes=1)(sums)
        deviation = jnp.sqrt(variance)
        # third_moments is of counts over n k on either side: one more n k makes it of the share.
        third = third / edges[:, :, None]
        skewness = divide(divide(divide(third, deviation), deviation), deviation)
        mean = jnp.broadcast_to(q[:, :, None], variance.shape)
        fits = (k < n)[:, :, None]
        return tuple(jnp.where(fits, moment, jnp.nan) for moment in (mean, variance, skewness))

    def _cubic(self, n, k, q):
        """[8, K, E] the sums of the module docstring."""
        edges, twice = n * k, n * k**2
        # A0 = A - q J with J = 1 off the diagonal; J sums to n (n-1) (n-2) over either triangle.
        whole = 3 * q**2 * edges * (n - 2) - q**3 * n * (n - 1) * (n - 2)
        degrees = self.spread + edges * k  # sum of squared in-degrees
        cyclic = self.cyclic - 3 * q * (twice - self.reciprocal) + whole
        ends = (twice - self.reciprocal) + (twice - edges) + (degrees - edges)
        sums = [
            self.skew,
            (1 - 2 * q) * self.spread,
            self.hub_reciprocal - q * self.spread,
            self.hub_chain + q * self.spread,
            cyclic,
            self.transitive - q * ends + whole,
            edges * (1 - q) ** 3 - q**3 * (n * (n - 1) - edges),
            (1 - 2 * q) * (self.reciprocal - edges * q),
        ]
        return jnp.stack([jnp.broadcast_to(a, self.spread.shape) for a in sums])


def graph_sums(
    neighbors: Int[Array, "E n k"],
    ks: tuple[int, ...],
    *,
    mask=None,
    axis_name=None,
    block_rows: int | None = None,
    dtype=jnp.float32,
) -> GraphSums:
    """Counts edges and triangles of each encoder's graph, for every k.

    Args:
      neighbors: lists of the local rows, nearest first, -1 where absent.
      ks: numbers of neighbors, each at most k.
      mask: [n] local rows that count.
      axis_name: mesh axis the rows are sharded over, if any.
      block_rows: rows handled at once; None for the most that keep arrays within 2^24 entries.
      dtype: of the sums.
    """
    _, local, k = neighbors.shape
    rows = all_rows(local, axis_name)
    cuts = jnp.asarray(ks, jnp.int32)
    size = block_size(block_rows, local, rows + 1 + k * k)
    blocks = -(-local // size)
    first = first_row(local, axis_name)
    places = jnp.arange(k, dtype=jnp.int32)

    def in_degrees(lists):  # [n, k] -> [K, N]
        found = [jnp.zeros(rows, jnp.int32).at[lists[:, :cut]].add(1, mode="drop") for cut in ks]
        return jnp.stack(found)

    present = jnp.where(neighbors < 0, rows, neighbors)
    degrees = psum(jax.lax.map(in_degrees, present), axis_name)
    valid = jnp.ones(local, bool) if mask is None else mask
    counted = jnp.zeros(rows, bool)
    counted = psum(
        jax.lax.dynamic_update_slice_in_dim(counted, valid, first, 0).astype(jnp.int32), axis_name
    )
    excess = jnp.where(counted[None, None, :] > 0, degrees - cuts[None, :, None], 0)

    def encoder(inputs):
        lists, excess = inputs
        all_lists = gather_rows(lists, axis_name)
        padded = jnp.pad(lists, ((0, blocks * size - local), (0, 0)), constant_values=-1)

        def block(start):
            mine = jax.lax.dynamic_slice_in_dim(padded, start, size)
            here = jnp.where(mine < 0, rows, mine)
            at = jnp.arange(size, dtype=jnp.int32)[:, None]
            # Rank of c among the neighbors of a, and of a among those of c; k where absent.
            outward = jnp.full((size, rows + 1), k, jnp.int32).at[at, here].set(places[None, :])
            outward = outward.at[:, rows].set(k)
            row = all_lists - (first + start)
            row = jnp.where((all_lists >= 0) & (row >= 0) & (row < size), row, size)
            inward = jnp.full((size, rows + 1), k, jnp.int32)
            source = jnp.arange(rows, dtype=jnp.int32)[:, None]
            inward = inward.at[row, source].set(
                jnp.broadcast_to(places[None, :], row.shape), mode="drop"
            )
            onward = jnp.where(mine[:, :, None] < 0, -1, all_lists[jnp.clip(mine, 0)])
            onward = jnp.where(onward < 0, rows, onward)  # [a, b, c]
            at = at[:, :, None]
            # Looked up once, not again for every k.
            ranks = jax.lax.optimization_barrier((outward[at, onward], inward[at, onward]))
            shut = dict(zip(("transitive", "cyclic"), ranks, strict=True))
            back = jnp.maximum(places[None, :], inward[at[:, :, 0], here])
            mutual = jnp.sum(back[None] < cuts[:, None, None], axis=2)  # [K, a]
            number = jnp.minimum(first + start + jnp.arange(size, dtype=jnp.int32), rows - 1)
            own = jnp.where(mine[None, :, 0] < 0, 0, excess[:, number]).astype(dtype)
            theirs = jnp.pad(excess, ((0, 0), (0, 1)))[:, here]  # [K, a, b]
            within = (places[None, :] < cuts[:, None])[:, None, :]
            theirs = jnp.sum(jnp.where(within, theirs, 0), axis=2)

            def within_each(rank):  # whole numbers up to k^2 per row, then floats
                found = [jnp.sum(rank[:, :cut, :cut] < cut, axis=(1, 2)) for cut in ks]
                return jnp.sum(jnp.stack(found).astype(dtype), axis=1)

            return {name: within_each(rank) for name, rank in shut.items()} | {
                "reciprocal": jnp.sum(mutual.astype(dtype), axis=1),
                "hub_reciprocal": jnp.sum(own * mutual.astype(dtype), axis=1),
                "hub_chain": jnp.sum(own * theirs.astype(dtype), axis=1),
            }

        found = jax.lax.map(block, jnp.arange(blocks, dtype=jnp.int32) * size)
        return jax.tree.map(lambda a: jnp.sum(a, axis=0), found)

    counts = psum(jax.lax.map(encoder, (neighbors, excess)), axis_name)
    counts = jax.tree.map(jnp.transpose, counts)
    c = jnp.swapaxes(excess, 0, 1).astype(dtype)
    return GraphSums(spread=jnp.sum(c**2, axis=2), skew=jnp.sum(c**3, axis=2), **counts)


def _kind(vertices: Partition) -> int | None:
    """Which of the eight sums a graph of three directed edges is; None if it sums to 0."""
    vertex = {slot: number for number, slots in enumerate(vertices) for slot in slots}
    edges = [(vertex[tail], vertex[head]) for tail, head in EDGES]
    if any(tail == head for tail, head in edges):
        return None  # no edge leads from a vertex to itself
    ends = [len(slots) for slots in vertices]
    if any(ends[head] == 1 for _, head in edges):
        return None  # the head of a single edge: the row sums to 0
    if len(vertices) == 4:  # three tails of single edges: into one vertex, or into a path's two
        return 0 if max(ends) == 3 and len({head for _, head in edges}) == 1 else 3
    if len(vertices) == 2:
        return 6 if len(set(edges)) == 1 else 7
    if 1 not in ends:  # a triangle
        return 4 if len({tail for tail, _ in edges}) == 3 else 5
    (single,) = [edge for edge in edges if ends[edge[0]] == 1]
    core = [edge for edge in edges if edge != single]
    if core[0] != core[1]:
        return 2
    # The same edge twice, and c at its head; at its tail c meets a row of squares, all alike.
    return 1 if single[1] == core[0][1] else None
