"""RSA of cross-validated distances: what noise adds to distances is left out.

Where every row was measured R times with errors of its own, as by other augmentations of an image
or other seeds of a network, the squared distance of two mean rows is too large by the errors'
variance: two encoders of nothing but noise have much alike. Products of differences from different
measurements have no such bias,

    r_ij = 1 / (R (R - 1)) sum_{a != b} (x_i^a - x_j^a)'(x_i^b - x_j^b)
         = (||sum_a delta_a||^2 - sum_a ||delta_a||^2) / (R (R - 1)),     delta_a = x_i^a - x_j^a,

and estimate ||E x_i - E x_j||^2, falling below 0 by chance where it is small (Walther et al. 2016;
"crossnobis" of features that have been whitened by the noise). They are compared by value: cosines
take 0 for what it is, no distance; ranks of noisy values are mostly those of noise.

Cost: R n^2 D operations that no matrix product does, R times the memory of `pairwise_rsa` for a
tile, and n^2 / 2 values for each encoder.

Not guaranteed: anything where errors are shared by the measurements; those count as signal.

References:
    Walther, Nili, Ejaz, Alink, Kriegeskorte, Diedrichsen (2016), Reliability of dissimilarity
    measures for multi-voxel pattern analysis. NeuroImage 137.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..arithmetic import AnyArray, gather_rows
from ..jit_over import jit_over
from ..validate import (
    all_rows,
    check_mask,
    check_matrix,
    check_option,
    check_pairs,
    check_rows,
    check_sequence,
    compute_dtype,
)
from .comparators import BY_VALUE
from .dissimilarities import common_scale, entries_per_row, parts_of_columns, rounding
from .rsa import agreement


@jit_over("repeats", "mask")
def crossvalidated_rsa(
    repeats: Sequence[Sequence[Float[AnyArray, "n _"]]],
    *,
    comparator: str = "cosine",
    mask: Bool[AnyArray, " n"] | None = None,
    axis_name=None,
) -> Float[Array, "E E"]:
    """Agreement of cross-validated squared distances, for all pairs of encoders.

    By default the cosine of sum_{a != b} (x_i^a - x_j^a)'(x_i^b - x_j^b) over the pairs i < j.

    Args:
      repeats: for each of E encoders two or more arrays [n, d_e], measurements of the same rows
        with independent errors; halves are upcast to float32.
      comparator: "cosine", "pearson", "whitened_cosine" or "whitened_pearson", as `comparators` has
        them.
      mask: [n] rows that count; the others may hold anything.
      axis_name: mesh axis the rows are sharded over, if any.

    Returns:
      [E, E] symmetric, in [-1, 1] up to rounding, 1 on the diagonal; 0 in the row and column of an
      encoder that is constant in every measurement or, but for cosines, whose distances are all
      equal; NaN in those of an encoder with NaN or inf.

    Raises:
      ValueError: if the measurements of an encoder are fewer than two or no floating-point matrices
        of one shape, the rows of encoders differ in number, an option is unknown, or there are
        fewer than 3 rows or more than 46,340.

    Example:
      >>> import jax
      >>> from substrate_jax.kernels import pairwise_rsa
      >>> noise = jax.random.normal(jax.random.key(0), (2, 3, 30, 8))  # two encoders of no signal
      >>> means, options = list(noise.mean(1)), {"distance": "squared_euclidean"}
      >>> f"{pairwise_rsa(means, comparator='cosine', **options)[0, 1]:.2f}"
      '0.83'
      >>> f"{crossvalidated_rsa([list(of) for of in noise])[0, 1]:.2f}"
      '0.13'

    References:
      Walther et al. 2016; Diedrichsen et al. 2021.
    """
    _check_repeats(repeats)
    check_option("comparator", comparator, BY_VALUE)
    local = repeats[0][0].shape[0]
    check_mask(mask, local)
    rows = all_rows(local, axis_name)
    check_rows(rows, 3, "RSA")
    check_pairs(rows)
    dtype = compute_dtype(*(x for of in repeats for x in of))
    most, widest = max(map(len, repeats)), max(of[0].shape[1] for of in repeats)

    def padded(of):
        """Measurements [R, n, d] of one encoder; those that it lacks have no differences."""
        x = jnp.stack([jnp.asarray(x, dtype) for x in of])
        x = x if mask is None else jnp.where(mask[None, :, None], x, 0)
        return jnp.pad(x, ((0, most - len(of)), (0, 0), (0, widest - x.shape[2])))

    everyone = gather_rows(jnp.stack([padded(of) for of in repeats]), axis_name, axis=2)

    def scaled(x, valid):
        return common_scale(x, valid, "squared_euclidean")

    def values(x, here, partners):
        found = jnp.zeros((), dtype)
        for part in parts_of_columns(x):
            apart = part[:, here][:, :, None] - part[:, partners]
            found += jnp.sum(jnp.sum(apart, axis=0) ** 2 - jnp.sum(apart**2, axis=0), axis=2)
        return found

    return agreement(
        everyone,
        scaled,
        values,
        comparator,
        mask,
        axis_name,
        per_row=most * entries_per_row(everyone[0, 0], "squared_euclidean"),
        rounding=rounding(most * widest, dtype),
        relative=True,
    )


def _check_repeats(repeats):
    check_sequence("repeats", repeats)
    for number, of in enumerate(repeats):
        name = f"repeats[{number}]"
        check_sequence(name, of)
        if len(of) < 2:
            raise ValueError(
                f"{name} must hold at least 2 measurements, got {len(of)}: use pairwise_rsa."
            )
        for index, x in enumerate(of):
            check_matrix(f"{name}[{index}]", x)
        shapes = sorted({x.shape for x in of})
        if len(shapes) > 1:
            raise ValueError(f"{name} must have one shape, got {shapes}: measure the same rows.")
    counts = [of[0].shape[0] for of in repeats]
    if len(set(counts)) > 1:
        raise ValueError(f"repeats have {counts} rows: align them so that all have the same rows.")
