"""A loss without a target that keeps features from collapsing, where nothing else holds them open.

Reference:
    A. Bardes, J. Ponce, Y. LeCun (2022), VICReg, arXiv:2105.04906. Its code halves the term for
    each of two views.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from substrate_jax import kernels
from substrate_jax.kernels.arithmetic import AnyArray, divide, psum
from substrate_jax.kernels.jit_over import jit_over
from substrate_jax.losses.batch import check_pair, number_of_rows


@jit_over("features", "mask")
def variance_loss(
    features: Float[AnyArray, "b d"],
    *,
    floor: float = 1.0,
    epsilon: float = 1e-4,
    axis_name=None,
    mask: Bool[AnyArray, " b"] | None = None,
) -> Float[Array, ""]:
    """How far the standard deviations of a batch's features are below a floor, on average.

        mean_j max(0, floor - sqrt(var_j + epsilon)),    var_j over b - 1

    Args:
      features: [b, d] of the network that is trained.
      floor: the deviation that is enough, above 0.
      epsilon: keeps the slope finite at a variance of 0, above 0.
      axis_name: mesh axis that the rows are sharded over, if any.
      mask: [b] rows that count.

    Returns:
      A scalar in [0, floor]. At features that are exactly constant its gradient is 0: it holds them
      open and does not open them again.

    Raises:
      ValueError: features that are no floating-point matrix, fewer than 2 rows, or a `floor` or
        `epsilon` that is not above 0.

    Example:
      >>> x = jnp.array([[1.0, 5.0], [1.0, -5.0]])
      >>> round(float(variance_loss(x)), 4)  # half of 1 - sqrt(1e-4)
      0.495
    """
    check_pair({"features": features}, mask, axis_name, least=2, what="a variance loss")
    if not (floor > 0 and epsilon > 0):
        raise ValueError(f"floor={floor}, epsilon={epsilon}: give numbers above 0.")
    deviations = kernels.center(features, mask, axis_name)
    rows = number_of_rows(deviations, mask, axis_name)
    variance = divide(psum(jnp.sum(deviations**2, axis=0), axis_name), rows - 1)
    return jnp.mean(jnp.maximum(floor - jnp.sqrt(variance + epsilon), 0))
