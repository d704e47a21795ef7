"""What is to be known of a similarity measure of all pairs of encoders.

Invariances are those of one encoder's features x_i, the rows of all others kept: "rotation"
x_i -> Q'x_i, "scale" x_i -> c x_i, "shift" x_i -> x_i + b. A measure has those that are named and,
on data in general, no other of the three.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from jaxtyping import Array, Float

from ..nulls.calibrated import Calibration

RESAMPLING = ("bootstrap", "subsample")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """A similarity measure of all pairs of encoders.

    Attributes:
      title: what it is called in print.
      compute: function(blocks, *, mask=None, axis_name=None, **options) -> [E, E].
      symmetric: whether entry [x, y] equals [y, x].
      lowest: the lowest value there is; -inf if there is none.
      meaning_of_one: what 1, the highest value, means.
      meaning_of_zero: what 0 means.
      invariances: the changes of one encoder's features that leave it alone.
      effect_of_duplicates: what duplicate rows do to it.
      resampling: "bootstrap", rows drawn with replacement; "subsample", without, for measures that
        copies of a row would distort.
      citation: its source.
      minimum_rows: the fewest rows it takes with its default options.
      calibrate: as `compute`, with `alpha`, to a `Calibration` by the null's moments in closed
        form; None where they are not known.
      one_with_itself: whether an encoder has 1 with itself.
      sharded: whether sharded rows stay where they are.
      options: keywords of `compute` with their defaults.

    Example:
      >>> from substrate_jax.kernels import MEASURES
      >>> entry = MEASURES["pwcca"]
      >>> entry.symmetric, entry.lowest, sorted(entry.invariances)
      (False, 0.0, ['scale', 'shift'])
    """

    title: str
    compute: Callable[..., Float[Array, "E E"]]
    symmetric: bool
    lowest: float
    meaning_of_one: str
    meaning_of_zero: str
    invariances: frozenset[str]
    effect_of_duplicates: str
    resampling: str
    citation: str
    minimum_rows: int
    calibrate: Callable[..., Calibration] | None = None
    one_with_itself: bool = True
    sharded: bool = True
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
