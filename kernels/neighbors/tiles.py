"""All rows' nearest neighbors from half of their similarities, where sorting is slow: on CPU.

The rows are cut into P blocks of u, and the similarities of block a with block b >= a, a tile, are
formed once: they serve the rows of a and, transposed, those of b. Each row then takes

1. the largest value of each chunk of c. The k-th largest of these is at most the k-th largest
   value, as k chunks hold one that large; bisection by counting finds a bound just below it.
2. a bit for each value that reaches the bound, 32 to a word. Where more than C = 5 k / 4 + 16 do,
   the bound is raised by bisection, a few times.
3. the index and the value of each such bit, and its rank by counting those that precede it.

Rows that still have more than C, as when so many tie with the k-th, are sorted whole: the lists are
exact, ties by lower index, whatever the values.

Cost: n (n + u) d flops, some 20 vector operations for each 16 values, and C^2 comparisons per row;
a heap takes 3 to 20 scalar operations per value (XLA's, n = 1,000 to 13,000). Memory:
n (n + u) / 2 values of one encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .directions import Directions, pair_similarities, some

LEAST_ROWS = 512
MOST_NEIGHBORS = 512  # beyond, sorting costs no more than counting
MOST_ENTRIES = 1 << 27  # of the tiles: 512 MiB of float32
# XLA's CPU compiler stores what it is to sum or compare, unless the terms are no more than these.
FUSED_TERMS = 32
WORD = 32
BITS = np.left_shift(np.uint32(1), np.arange(WORD, dtype=np.uint32))
RANKED_ROWS = 64  # at once, so that their candidates stay in cache
SORTED_ROWS = 256
RAISES = 2  # bisections of all values


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """How the rows are cut, and what is looked for.

    Attributes:
      k: neighbors.
      unit: rows of a block, u; a multiple of 64.
      parts: blocks, P; at most 32.
      chunk: values of which the largest is kept, c.
      most: candidates of a row, C.
    """

    k: int
    unit: int
    parts: int
    chunk: int
    most: int

    @property
    def rows(self) -> int:
        """P u, padding included."""
        return self.parts * self.unit

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Blocks a <= b of each tile."""
        first, second = np.triu_indices(self.parts)
        return first.astype(np.int32), second.astype(np.int32)

    @property
    def tile_of(self) -> np.ndarray:
        """[P, P] the tile of blocks a <= b."""
        tile = np.zeros((self.parts, self.parts), np.int32)
        tile[self.pairs] = np.arange(len(self.pairs[0]))
        return tile


def tile_grid(rows: int, k: int) -> TileGrid | None:
    """The grid with the least to compute; None if rows are few, k large or the tiles too many.

    Example:
      >>> tile_grid(4096, 100)
      TileGrid(k=100, unit=512, parts=8, chunk=8, most=144)
      >>> tile_grid(100, 10), tile_grid(1000, 500), tile_grid(20_000, 10)
      (None, None, None)
    """
    step = RANKED_ROWS
    least = max(step, min(384, rows // 10 // step * step), -(-rows // FUSED_TERMS // step) * step)
    units = range(least, least + 5 * step, step)
    unit = min(units, key=lambda u: -(-rows // u) * (-(-rows // u) + 1) * u**2)
    parts = -(-rows // unit)
    few = rows < max(LEAST_ROWS, 4 * k) or k > MOST_NEIGHBORS
    if few or parts * (parts + 1) // 2 * unit**2 > MOST_ENTRIES:
        return None
    # If chunks are 4 k or more, some 1.15 k values reach the k-th largest of their maxima.
    chunk = max(c for c in (1, 2, 4, 8, 16, 32) if c == 1 or parts * unit >= 4 * k * c)
    return TileGrid(k, unit, parts, chunk, -(-(5 * k // 4 + 16) // 16) * 16)


def similarity_tiles(
    found: Directions, valid: Bool[Array, " n"], grid: TileGrid
) -> Float[Array, "T u u"]:
    """`pair_similarities` of the rows of each pair of blocks; -inf where a row does not count."""
    padding = grid.rows - valid.shape[0]

    def pad(a):
        return jnp.pad(a, ((0, padding), *((0, 0),) * (a.ndim - 1)))

    found, valid = some(found, pad), pad(valid)

    def tile(pair):
        left, right = (some(found, lambda a, b=block: _part(a, b, grid.unit)) for block in pair)
        rows, columns = (_part(valid, block, grid.unit) for block in pair)
        return jnp.where(rows[:, None] & columns[None, :], pair_similarities(left, right), -jnp.inf)

    return jax.lax.map(tile, tuple(jnp.asarray(blocks) for blocks in grid.pairs))


def largest_of_tiles(
    tiles: Float[Array, "T u u"],
    twins: Int[Array, " n"],
    repeated: Bool[Array, ""],
    grid: TileGrid,
) -> Int[Array, "n k"]:
    """The k columns of largest value in each row but its own, largest first; -1 beyond those.

    Args:
      tiles: `similarity_tiles`.
      twins: lowest index of the rows equal to each row; those share its values.
      repeated: whether any row has another twin than itself.
      grid: of the rows.
    """
    rows = twins.shape[0]
    twins = jnp.concatenate([twins.astype(jnp.int32), _numbers(rows, grid.rows)])
    tiles = jax.lax.cond(repeated, lambda t: _tie(t, twins, grid), lambda t: t, tiles)
    block, within = np.divmod(np.arange(grid.rows), grid.unit)
    tiles = tiles.at[grid.tile_of[block, block], within, within].set(-jnp.inf)
    count, words = _candidates(tiles, 0 * twins.astype(tiles.dtype), grid)

    def ranked(first):
        here = first + _numbers(0, RANKED_ROWS)
        counts, bits = (jax.lax.dynamic_slice_in_dim(a, first, RANKED_ROWS) for a in (count, words))
        return _ranked(tiles, here, counts, bits, grid)

    lists = jax.lax.map(ranked, _numbers(0, grid.rows, RANKED_ROWS)).reshape(-1, grid.k)
    return _sort_the_rest(tiles, lists, count[:, 0] > grid.most, grid)[:rows]


def _tie(tiles, twins, grid):
    """The tiles with every row replaced by the first one equal to it; those stay as they are."""
    first, second = (jnp.asarray(blocks) for blocks in grid.pairs)

    def replace(number, tiles):
        rows, columns = (_part(twins, block[number], grid.unit) for block in (first, second))
        return tiles.at[number].set(_values(tiles, rows[:, None], columns[None, :], grid))

    return jax.lax.fori_loop(0, len(first), replace, tiles)


def _values(tiles, rows, columns, grid):
    low, high = jnp.minimum(rows, columns), jnp.maximum(rows, columns)
    tile = jnp.asarray(grid.tile_of)[low // grid.unit, high // grid.unit]
    return tiles[tile, low % grid.unit, high % grid.unit]


def _of_all_rows(of_rows, of_columns, grid):
    """[T, u, m] for the rows of each tile and [T, m, u] for its columns -> [P u, P m]."""
    width = of_rows.shape[2]
    first, second = (jnp.asarray(blocks) for blocks in grid.pairs)

    def place(number, whole):
        a, b = first[number], second[number]
        turned = of_columns[number].T
        whole = jax.lax.dynamic_update_slice(whole, turned, (b * grid.unit, a * width))
        return jax.lax.dynamic_update_slice(whole, of_rows[number], (a * grid.unit, b * width))

    whole = jnp.broadcast_to(of_rows[0, 0, 0], (grid.rows, grid.parts * width))
    return jax.lax.fori_loop(0, len(first), place, whole)


def _peaks(tiles, grid):
    """[P u, P u / c] the largest value of each chunk."""
    chunks = grid.unit // grid.chunk
    of_rows = jnp.max(tiles.reshape(-1, grid.unit, grid.chunk, chunks), axis=2)
    of_columns = jnp.max(tiles.reshape(-1, chunks, grid.chunk, grid.unit), axis=2)
    return _of_all_rows(of_rows, of_columns, grid)


def _words(tiles, bound, grid):
    """[P u, P u / 32] a bit for each value that reaches the bound of its row.

    Bit j of word (b, m) is that of column b u + j u / 32 + m.
    """
    words = grid.unit // WORD
    of_row, of_column = (bound.reshape(grid.parts, grid.unit)[blocks] for blocks in grid.pairs)
    reach = tiles.reshape(-1, grid.unit, WORD, words) >= of_row[:, :, None, None]
    of_rows = jnp.sum(jnp.where(reach, BITS[None, None, :, None], 0), axis=2, dtype=jnp.uint32)
    reach = tiles.reshape(-1, WORD, words, grid.unit) >= of_column[:, None, None, :]
    of_columns = jnp.sum(jnp.where(reach, BITS[None, :, None, None], 0), axis=1, dtype=jnp.uint32)
    return _of_all_rows(of_rows, of_columns, grid)


def _candidates(tiles, zero, grid):
    """[P u, 1] how many values reach a bound, at least k or all; [P u, P u / 32] which do.

    They are at most C, but where `RAISES` bisections do not get there.
    """
    peaks = _peaks(tiles, grid).reshape(grid.rows, grid.parts, -1)

    def reaching_peaks(bound):
        found = jnp.sum(peaks >= bound[:, None, None], axis=1, dtype=jnp.int8)
        return (jnp.sum(found, axis=1, dtype=jnp.int32, keepdims=True),)

    def reaching(bound):
        words = _words(tiles, bound, grid)
        found = jax.lax.population_count(words)
        return jnp.sum(found, axis=1, dtype=jnp.int32, keepdims=True), words

    low = zero - 2  # below any similarity
    high = jnp.maximum(jnp.max(jnp.max(peaks, axis=1), axis=1), low)
    steps = jnp.finfo(zero.dtype).nmant
    low, _ = _raised(reaching_peaks, low, high, grid.k, grid.k + grid.k // 16, steps)
    return _raised(reaching, low, high, grid.k, grid.most, RAISES)[1]


def _raised(look, bound, high, least, most, steps):
    """The bound raised by bisection until at most `most` entries reach it, and what it then finds.

    `look` gives how many reach a bound, [n, 1], and any arrays [n, _] beside that; `high` is the
    largest entry. Apart from the first, no bound is taken that fewer than `least` reach.
    """

    def go_on(state):
        _, _, found, step = state
        return (step == 0) | ((step <= steps) & jnp.any(found[0] > most))

    def bisect(state):
        bound, high, found, step = state
        middle = jnp.where(step == 0, bound, bound + (high - bound) / 2)
        there = look(middle)
        taken = (step == 0) | (there[0][:, 0] >= least)
        found = [jnp.where(taken[:, None], new, old) for new, old in zip(there, found, strict=True)]
        bound, high = jnp.where(taken, middle, bound), jnp.where(taken, high, middle)
        return bound, high, tuple(found), step + 1

    nothing = tuple(
        jnp.broadcast_to((0 * bound)[:, None].astype(kind.dtype), kind.shape)
        for kind in jax.eval_shape(look, bound)
    )
    bound, _, found, _ = jax.lax.while_loop(go_on, bisect, (bound, high, nothing, jnp.int32(0)))
    return bound, found


def _ranked(tiles, rows, count, words, grid):
    """[r, k] candidates of some rows by descending value, then by index; -1 beyond the last."""
    slots = _numbers(0, grid.most)[None, :]
    present = slots < count
    bits = jax.lax.population_count(words).astype(jnp.int32)
    ends = jnp.cumsum(bits, axis=1, dtype=jnp.int32)
    search = jax.vmap(lambda one: jnp.searchsorted(one, slots[0], side="right"))
    word = jnp.minimum(search(ends), words.shape[1] - 1)
    below = slots - jnp.take_along_axis(ends - bits, word, axis=1)
    bit = _place_of_bit(jnp.take_along_axis(words, word, axis=1), below)
    width = grid.unit // WORD
    index = word // width * grid.unit + bit * width + word % width
    index = jnp.where(present, index, 0)
    value = jnp.where(present, _values(tiles, rows[:, None], index, grid), -jnp.inf)

    def count_before(slot, rank):
        here, name = (jax.lax.dynamic_slice_in_dim(a, slot, 1, 1) for a in (value, index))
        return rank + ((here > value) | ((here == value) & (name < index))).astype(jnp.int32)

    rank = jax.lax.fori_loop(0, grid.most, count_before, 0 * index)
    rank = jnp.where(present, rank, grid.k)
    lists = jnp.full((len(rows), grid.k), -1, jnp.int32)
    return lists.at[jnp.arange(len(rows))[:, None], rank].set(index, mode="drop")


def _place_of_bit(word, below):
    """The bit that is set and has `below` set bits under it."""
    place = jnp.zeros_like(below)
    for width in (16, 8, 4, 2, 1):
        low = word & jnp.uint32((1 << width) - 1)
        count = jax.lax.population_count(low).astype(jnp.int32)
        above = below >= count
        word = jnp.where(above, word >> width, low)
        below, place = jnp.where(above, below - count, below), place + jnp.where(above, width, 0)
    return place


def _sort_the_rest(tiles, lists, unsettled, grid):
    """The lists, those of unsettled rows found from all values of the row."""
    everyone = _numbers(0, grid.rows)

    def search(rows):
        value = _values(tiles, rows[:, None], everyone[None, :], grid)
        value, index = jax.lax.top_k(value, grid.k)
        return jnp.where(value > -jnp.inf, index, -1)

    return search_again(search, lists, unsettled)


def search_again(
    search: Callable[[Int[Array, " q"]], Int[Array, "q k"]],
    lists: Int[Array, "n k"],
    again: Bool[Array, " n"],
) -> Int[Array, "n k"]:
    """The lists, those of the rows of `again` replaced by what `search` gives for them."""
    last = lists.shape[0] - 1

    def settle(state):
        lists, again = state
        rows = jnp.nonzero(again, size=SORTED_ROWS, fill_value=last + 1)[0].astype(jnp.int32)
        lists = lists.at[rows].set(search(jnp.minimum(rows, last)), mode="drop")
        return lists, again.at[rows].set(False, mode="drop")

    return jax.lax.while_loop(lambda state: jnp.any(state[1]), settle, (lists, again))[0]


def _numbers(*limits):
    return jnp.arange(*limits, dtype=jnp.int32)


def _part(x, block, size):
    return jax.lax.dynamic_slice_in_dim(x, block * size, size)
