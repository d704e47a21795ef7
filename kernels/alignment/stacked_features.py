"""Features of several encoders side by side: whose they are, in what unit, and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..arithmetic import divide, pmax, power_of_two

COLUMNS = 512  # of a sum, added to at once: they stay in cache


class Center(NamedTuple):
    """Rows that count, and their mean, origin + offset."""

    count: Int[Array, ""]
    origin: Float[Array, " D"]
    offset: Float[Array, " D"]


def indicator(widths: Sequence[int], dtype) -> Float[Array, "D E"]:
    """[D, E] with a 1 where a stacked feature belongs to an encoder: a product sums over blocks."""
    return jnp.asarray(np.repeat(np.eye(len(widths)), widths, axis=0), dtype)


def of_features(values: Float[Array, " E"], widths: Sequence[int]) -> Float[Array, " D"]:
    """The value of the encoder that each stacked feature belongs to."""
    return values[np.repeat(np.arange(len(widths)), widths)]


def units_and_nan(
    rows: Float[Array, "n D"], widths: Sequence[int], axis_name
) -> tuple[Float[Array, " E"], Bool[Array, " E"]]:
    """Of each encoder, the power of two below its largest entry, and whether it has NaN or inf."""
    parts = jnp.split(rows, np.cumsum(widths)[:-1], axis=1)
    finite = [jnp.isfinite(part) for part in parts]
    nan = jnp.stack([~jnp.all(kept) for kept in finite]).astype(jnp.int32)
    reach = jnp.stack(
        [
            jnp.max(jnp.abs(jnp.where(kept, part, 0)), initial=0)
            for part, kept in zip(parts, finite, strict=True)
        ]
    )
    reach, nan = pmax((reach, nan), axis_name)
    return power_of_two(reach), nan > 0


def in_units(x, unit, nan, widths):
    """Stacked features over the unit of their encoder, 0 of one that has NaN or inf."""
    return jnp.where(
        jnp.broadcast_to(of_features(nan, widths), x.shape),
        0,
        divide(x, jnp.broadcast_to(of_features(unit, widths), x.shape)),
    )


def times(products: Sequence[Array], ratio: Float[Array, " E"], widths: Sequence[int]) -> tuple:
    """Upper block rows, of features that each are to be multiplied by their encoder's ratio."""
    ratios, starts = of_features(ratio, widths), np.cumsum((0, *widths)[:-1])
    return tuple(
        product * (ratios[start] * ratios[start:])[None, :]
        for product, start in zip(products, starts, strict=True)
    )


def add_by_columns(total, added, ratio):
    """total ratio + added(first, length), some columns at a time: what is added is never whole."""
    whole, rest = divmod(total.shape[1], COLUMNS)

    def add(first, length, total):
        here = jax.lax.dynamic_slice_in_dim(total, first, length, axis=1)
        factor = jax.lax.dynamic_slice_in_dim(ratio, first, length)
        here = here * factor[None, :] + added(first, length)
        return jax.lax.dynamic_update_slice_in_dim(total, here, first, axis=1)

    if whole:
        total = jax.lax.fori_loop(0, whole, lambda i, t: add(i * COLUMNS, COLUMNS, t), total)
    return add(whole * COLUMNS, rest, total) if rest else total
