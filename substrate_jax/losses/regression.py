"""Losses of a projection of the features that is to be the target itself.

Both need the target's width, so a linear map from the features, which is trained along and then
dropped, comes first. Unlike CKA they fix the rotation, and `mse_loss` the scale: divide the target
by `SubstrateTarget.scale` and a projection that gives its mean has a loss of 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from substrate_jax.kernels.arithmetic import AnyArray
from substrate_jax.kernels.jit_over import jit_over
from substrate_jax.losses.batch import check_pair, mean_of_rows, ready, unit_rows


@jit_over("features", "target", "mask")
def mse_loss(
    features: Float[AnyArray, "b k"],
    target: Float[AnyArray, "b k"],
    *,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """Mean squared error over the images and the columns of the target.

    Args:
      features: [b, k], projected to the target's width.
      target: [b, k] of the same images; no gradient flows into it.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar, 0 or more.

    Raises:
      ValueError: inputs that are no floating-point matrices of one shape.

    Example:
      >>> float(mse_loss(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 5.0]])))
      4.5
    """
    x, y = _ready(features, target, mask, axis_name, "an MSE loss")
    return mean_of_rows(jnp.mean((x - y) ** 2, axis=1), mask, axis_name)


@jit_over("features", "target", "mask")
def cosine_loss(
    features: Float[AnyArray, "b k"],
    target: Float[AnyArray, "b k"],
    *,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """1 less the mean cosine between an image's features and its target.

    Args:
      features: [b, k], projected to the target's width.
      target: [b, k] of the same images; no gradient flows into it.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar in [0, 2]; a row of zeros, on either side, counts as a cosine of 0 and has no
      gradient. 0 where no row counts.

    Raises:
      ValueError: inputs that are no floating-point matrices of one shape.

    Example:
      >>> x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
      >>> round(float(cosine_loss(x, 2 * x)), 4)
      0.5
    """
    x, y = _ready(features, target, mask, axis_name, "a cosine loss")
    cosine = jnp.sum(unit_rows(x) * unit_rows(y), axis=1)
    return mean_of_rows(1 - cosine, mask, axis_name)


def _ready(features, target, mask, axis_name, what: str):
    given = {"features": features, "target": target}
    same = "project the features to the target's width"
    check_pair(given, mask, axis_name, least=1, what=what, same_width=same)
    return ready(features, target, mask)
