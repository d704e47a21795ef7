"""Measures by their names in the table: any of them, of all pairs of encoders."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Array, Bool, Float

from ..arithmetic import AnyArray
from ..validate import all_rows, check_blocks, check_option, check_rows
from .measure import Measure
from .table import MEASURES, SHARE


def measure_named(name: str) -> Measure:
    """The measure of this name.

    Raises:
      ValueError: if there is none; the message lists them.

    Example:
      >>> measure_named("rsa").title
      'RSA (Spearman)'
    """
    check_option("measure", name, tuple(MEASURES))
    return MEASURES[name]


def rows_needed(name: str, *, resampled: bool = False, **options) -> int:
    """The fewest rows a measure takes, on its own or with `bootstrap` as the table says.

    Args:
      name: in `MEASURES`.
      resampled: whether subsamples of floor(0.8 n) rows have to suffice.
      **options: of the measure, where they are not the defaults.

    Returns:
      The least number of rows n.

    Raises:
      ValueError: if the measure is unknown.

    Example:
      >>> rows_needed("mutual_knn"), rows_needed("mutual_knn", resampled=True, k=5)
      (11, 8)
    """
    measure = measure_named(name)
    options = {**measure.options, **options}
    rows = measure.minimum_rows
    if "k" in options:
        k = options["k"]
        rows = (k if isinstance(k, int) else max(k)) + 1
    elif "folds" in options:
        rows = 2 * options["folds"]
    subsampled = resampled and measure.resampling == "subsample"
    return math.ceil(rows / SHARE) if subsampled else rows


def pairwise_measure(
    measure: str,
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
    **options,
) -> Float[Array, "E E"]:
    """A measure of all pairs of encoders.

    Args:
      measure: a name in `MEASURES`.
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.
      **options: of this measure, such as k, bandwidth, variance or folds.

    Returns:
      [E, E]; entry [x, y] is of the ordered pair, the same both ways if the measure is symmetric.

    Raises:
      ValueError: if the measure is unknown, or its function refuses the blocks or an option.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [5.0, 2.0], [2.0, 2.0]])
      >>> pairwise_measure("procrustes", [x, 2 * x]).round(3).tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    entry = measure_named(measure)
    check_blocks(blocks, mask)
    check_rows(all_rows(blocks[0].shape[0], axis_name), 2, entry.title)
    return entry.compute(blocks, mask=mask, axis_name=axis_name, **options)
