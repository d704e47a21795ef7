"""What chance gives for any measure of the table: its null under permuted rows.

Linear and RBF CKA, distance correlation and mutual k-NN have the moments of all permutations in
closed form (`nulls.calibration`, `nulls.permutation_moments`): `Measure.calibrate` computes theirs.
Every other measure is sampled. A draw shuffles the rows of every encoder by an order of its own and
computes the whole matrix once, so that all pairs share the draws and each pair (x, y), x != y, sees
a uniformly random order of one side against the other: p = (1 + #{null >= observed}) / (draws + 1),
exact if rows are exchangeable (Phipson, Smyth 2010). What a draw gives jointly for several pairs is
what independent encoders give.

An encoder shuffled against itself is another encoder; entry [x, x] is that of no draw and is NaN.

Cost: `permutations` times that of the measure on all rows. Sharded rows are gathered, and the
devices share the draws. Memory: that of the measure on all rows on one device, and `permutations`
E^2.

Not guaranteed: anything if rows are not exchangeable; strata restrict the orders to rows that are.

References:
    Phipson, Smyth (2010), Permutation p-values should never be zero. Statistical Applications in
    Genetics and Molecular Biology 9.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from ..arithmetic import AnyArray, count_rows, from_first, gather_rows, valid_rows
from ..nulls.calibrated import Calibration
from ..nulls.calibration import METHODS, at_least_one_order, rescale
from ..nulls.enumeration import log_least_p_of_strata
from ..nulls.orders import check_draws, sample_null
from ..nulls.p_values import tail_from_sample
from ..validate import (
    all_rows,
    check_blocks,
    check_fraction,
    check_option,
    check_rows,
    check_strata,
)
from .by_name import measure_named, rows_needed


def calibrate_measure(
    measure: str,
    blocks: Sequence[Float[AnyArray, "n _"]],
    *,
    method: str = "permutation",
    permutations: int = 200,
    alpha: float = 0.05,
    key: jax.Array | None = None,
    mask: Bool[AnyArray, " n"] | None = None,
    strata: Int[AnyArray, " n"] | None = None,
    axis_name=None,
    **options,
) -> Calibration:
    """Any measure of all pairs of encoders, calibrated against the permutation of rows.

    Args:
      measure: a name in `MEASURES`.
      blocks: E arrays [n, d_e] with the same rows; halves are upcast to float32.
      method: "permutation" (a sample), or "closed_form" where `MEASURES[measure].calibrate` is.
      permutations: draws, at least 1 / alpha - 1; for "permutation" only.
      alpha: level of tau, in (0, 1).
      key: a `jax.random.key`, for "permutation" only; the same key draws the same orders on any
        number of devices.
      mask: [n] rows that count; the others may hold anything.
      strata: [n] integer labels: rows are permuted within their label only; for "permutation" only.
      axis_name: mesh axis the rows are sharded over, if any; the draws are then split over it.
      **options: of this measure, such as k, bandwidth, variance or folds.

    Returns:
      A `Calibration` with [E, E] arrays. Of "permutation" tau, score and p are NaN on the diagonal;
      p is at least 1 / (permutations + 1) and at least 1 / n!. NaN where the measure is.

    Raises:
      ValueError: if the measure is unknown, has no closed form that is asked for, or refuses the
        blocks, or an option is out of range, or "permutation" lacks its key.

    Example:
      >>> x, y = jax.random.normal(jax.random.key(0), (2, 40, 3))
      >>> found = calibrate_measure("rsa", [x, x + y, y[::-1]], key=jax.random.key(1))
      >>> f"{found.p_value[0, 1]:.3f}", bool(found.p_value[0, 2] > 0.05)
      ('0.005', True)
    """
    entry = measure_named(measure)
    check_option("method", method, METHODS)
    check_fraction("alpha", alpha)
    check_blocks(blocks, mask)
    rows = all_rows(blocks[0].shape[0], axis_name)
    check_rows(rows, rows_needed(measure, **options), entry.title)
    if method == "closed_form":
        if entry.calibrate is None:
            raise ValueError(
                f"method 'closed_form' is not known for {measure!r}: use method='permutation'."
            )
        if strata is not None:
            raise ValueError(
                "strata restrict the permutations, which the closed form does not cover, got "
                "method='closed_form': use method='permutation'."
            )
        return entry.calibrate(blocks, alpha=alpha, mask=mask, axis_name=axis_name, **options)
    key = check_draws(key, permutations, alpha)
    check_strata(strata, blocks[0].shape[0])
    valid = valid_rows(blocks[0].shape[0], mask, axis_name)
    everyone = [jnp.asarray(gather_rows(x, axis_name)) for x in blocks]
    labels = gather_rows(strata, axis_name)

    def shuffled(orders):
        moved = [x[order] for x, order in zip(everyone, orders, strict=True)]
        return entry.compute(moved, mask=valid, **options)

    null = sample_null(
        shuffled,
        key,
        permutations,
        rows,
        mask=valid,
        strata=labels,
        axis_name=axis_name,
        sides=len(blocks),
    )
    # As a draw is computed, so that an order that changes nothing gives the same number.
    observed = from_first(entry.compute(everyone, mask=valid, **options), axis_name)
    itself = jnp.eye(len(blocks), dtype=bool)
    tau, p_value = (jnp.where(itself, jnp.nan, a) for a in tail_from_sample(observed, null, alpha))
    found = Calibration(rescale(observed, tau), tau, p_value, observed, method)
    least = None
    if labels is not None:
        least = from_first(log_least_p_of_strata(labels, valid, p_value.dtype), axis_name)
    return at_least_one_order(found, count_rows(blocks[0].shape[0], mask, axis_name), least)
