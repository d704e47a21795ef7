"""What the losses share: checks of their inputs, rows of length 1, and means over a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from substrate_jax.kernels.arithmetic import AnyArray, count_rows, divide, psum, root
from substrate_jax.kernels.validate import (
    all_rows,
    check_mask,
    check_matrix,
    check_rows,
    compute_dtype,
)

Mask = Bool[AnyArray, " b"] | None


def check_pair(
    given: dict[str, Float[AnyArray, "b _"]],
    mask: Mask,
    axis_name,
    *,
    least: int,
    what: str,
    same_width: str = "",
) -> None:
    """Raise ValueError unless matrices have the same rows, enough of them.

    Args:
      given: the features and the target by the names of the arguments.
      mask: rows that count.
      axis_name: mesh axis that the rows are sharded over, if any.
      least: rows over all devices, padding included.
      what: what needs them, for the message.
      same_width: what to do where widths differ; they may, if empty.
    """
    for name, x in given.items():
        check_matrix(name, x)
    shapes = " and ".join(f"{name} {list(x.shape)}" for name, x in given.items())
    if len({x.shape[0] for x in given.values()}) > 1:
        raise ValueError(f"{shapes} have other rows: give the same images to both, in one order.")
    if same_width and len({x.shape[1] for x in given.values()}) > 1:
        raise ValueError(f"{shapes} have other widths: {same_width}.")
    rows = next(iter(given.values())).shape[0]
    check_mask(mask, rows)
    check_rows(all_rows(rows, axis_name), least, what)


def ready(
    features: Float[AnyArray, "b d"], target: Float[AnyArray, "b k"], mask: Mask
) -> tuple[Float[Array, "b d"], Float[Array, "b k"]]:
    """Both in the dtype of computing, zeros where rows do not count; the target held constant."""
    dtype = compute_dtype(features, target)
    x, y = (jnp.asarray(part).astype(dtype) for part in (features, target))
    y = jax.lax.stop_gradient(y)
    if mask is None:
        return x, y
    counts = jnp.asarray(mask)[:, None]
    return jnp.where(counts, x, 0), jnp.where(counts, y, 0)


def unit_rows(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Rows over their lengths; zeros, with a zero gradient, stay zeros.

    Example:
      >>> unit_rows(jnp.array([[3e30, 4e30], [0.0, 0.0]])).round(3).tolist()
      [[0.6, 0.8], [0.0, 0.0]]
    """
    # By the largest entry first, so that no square leaves the range of the dtype.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    x = divide(x, largest)
    return divide(x, root(jnp.sum(x**2, axis=-1, keepdims=True)))


def mean_of_rows(values: Float[Array, " b"], mask: Mask, axis_name) -> Float[Array, ""]:
    """The mean over the rows that count, of all shards; 0 where none does.

    Args:
      values: of each row, finite where it does not count.
      mask: rows that count.
      axis_name: mesh axis that the rows are sharded over, if any.
    """
    counted = values if mask is None else jnp.where(jnp.asarray(mask), values, 0)
    return divide(psum(jnp.sum(counted), axis_name), number_of_rows(values, mask, axis_name))


def number_of_rows(x: Float[Array, "b ..."], mask: Mask, axis_name) -> Float[Array, ""]:
    """How many rows count over all shards, in the dtype of x."""
    return count_rows(x.shape[0], mask, axis_name).astype(x.dtype)
