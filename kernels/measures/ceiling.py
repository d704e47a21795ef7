"""How high a measure can be expected to get: the agreement of two halves of one network's units.

The units (columns) of an encoder are a sample of those it might have. Split at random into halves A
and B, the encoder agrees with itself by r = m(A, B), m the measure; from halves to the whole the
Spearman-Brown formula of a mean of two parallel parts gives

    ceiling = 2 r / (1 + r),    r the mean over the splits.

A pair of encoders (x, y) that differ in nothing but which units they have reaches about
sqrt(ceiling_x ceiling_y), the bound of the theory of attenuation.

Of a measure that is not symmetric r is the mean of both ways. Where r is 0 or less there is nothing
to correct, and the ceiling is r.

Cost: `splits` times four times that of the measure at half the width. Memory: that of the measure
of 2 E halves.

Not guaranteed: that units are parallel parts, as the formula assumes; principal components, each
orthogonal to all others, are not, nor are the channels of one attention head. It says nothing of
other weights of the same network: for that, compare two seeds as two encoders.

References:
    Spearman (1910), Correlation calculated from faulty data. British Journal of Psychology 3.
    Brown (1910), Some experimental results in the correlation of mental abilities. The same.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..arithmetic import AnyArray
from ..validate import all_rows, check_at_least, check_blocks, check_rows
from .by_name import measure_named, rows_needed


def split_half_ceiling(
    measure: str,
    blocks: Sequence[Float[AnyArray, "n _"]],
    key: jax.Array,
    *,
    splits: int = 5,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
    **options,
) -> Float[Array, " E"]:
    """The agreement of each encoder with itself by halves of its units, corrected to all of them.

    2 r / (1 + r), r the mean measure between the halves.

    Args:
      measure: a name in `MEASURES`.
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      key: a `jax.random.key`; the same key splits the same way on any number of devices.
      splits: how many, at least 1.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      **options: of the measure, such as k, bandwidth, variance or folds.

    Returns:
      [E], at most 1; NaN for an encoder of one unit, which has no halves, and where the measure of
      two halves is NaN.

    Raises:
      ValueError: if the measure is unknown or refuses the blocks, or there is no split.

    Example:
      >>> z = jax.random.normal(jax.random.key(0), (50, 2))
      >>> x = z @ jax.random.normal(jax.random.key(1), (2, 40))  # 40 units of two dimensions
      >>> y = jax.random.normal(jax.random.key(2), (50, 40))  # unrelated units
      >>> found = split_half_ceiling("debiased_cka", [x, y], jax.random.key(3))
      >>> bool(found[0] > 0.9), bool(abs(found[1]) < 0.2)
      (True, True)
    """
    entry = measure_named(measure)
    check_at_least("splits", splits, 1)
    check_blocks(blocks, mask)
    check_rows(
        all_rows(blocks[0].shape[0], axis_name), rows_needed(measure, **options), entry.title
    )
    wide = [e for e, x in enumerate(blocks) if x.shape[1] > 1]
    chosen, count = [jnp.asarray(blocks[e]) for e in wide], len(wide)
    if not chosen:
        return jnp.full(len(blocks), jnp.nan)

    def split(number):
        own = jax.random.fold_in(key, number)
        halves = [[], []]
        for x, key_x in zip(chosen, jax.random.split(own, count), strict=True):
            order = jax.random.permutation(key_x, x.shape[1])
            middle = x.shape[1] // 2
            for half, columns in zip(halves, (order[:middle], order[middle:]), strict=True):
                half.append(x[:, columns])
        found = entry.compute(halves[0] + halves[1], mask=mask, axis_name=axis_name, **options)
        there, back = (jnp.diagonal(found, offset) for offset in (count, -count))
        return (there + back) / 2

    numbers = jnp.arange(splits)
    half = jnp.mean(jax.lax.map(split, numbers), axis=0)
    whole = jnp.where(half > 0, 2 * half / (1 + half), half)
    return jnp.full(len(blocks), jnp.nan, whole.dtype).at[jnp.asarray(wide)].set(whole)
