"""Cubic interpolation: torch's as a matrix, and timm's of position tables."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

KERNEL = (
    -0.75
)  # slope at 1 of the cubic convolution kernel (R. Keys 1981, doi:10.1109/TASSP.1981.1163711)


def cubic_weights(places: Float[np.ndarray, " m"], count: int) -> Float[np.ndarray, "m n"]:
    """Weights of n values on a line at the places asked for; values at the ends are repeated.

    Args:
        places: where, in steps from the first value.
        count: n.

    Returns:
        float64, every row of which sums to 1; four values of it are not 0.

    Example:
        >>> cubic_weights(np.array([1.5]), 4).tolist()
        [[-0.09375, 0.59375, 0.59375, -0.09375]]
    """
    taps = np.floor(places)[:, None].astype(int) + np.arange(-1, 3)
    x, a = np.abs(places[:, None] - taps), KERNEL
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    weights = np.zeros((len(places), count))
    rows = np.broadcast_to(np.arange(len(places))[:, None], taps.shape)
    np.add.at(weights, (rows, np.clip(taps, 0, count - 1)), np.where(x <= 1, near, far))
    return weights


def resample_positions(
    table: Float[np.ndarray, "1 t c"], grid: int, *, prefix: int = 1
) -> Float[np.ndarray, "1 u c"]:
    """A position table of `prefix` rows and a square grid, resampled to `grid` x `grid`.

    Antialiased bicubic with kernel parameter -0.5, as timm does on loading.

    Raises:
        ValueError: the rows after the prefix are not those of a square.
    """
    count = table.shape[1] - prefix
    side = math.isqrt(max(count, 0))
    if side**2 != count:
        raise ValueError(
            f"pos_embed has {count} patch positions, which is not a square number; "
            "only square position tables can be resampled"
        )
    positions = jnp.asarray(table[0, prefix:], jnp.float32).reshape(side, side, -1)
    resampled = jax.image.resize(
        positions,
        (grid, grid, positions.shape[-1]),
        "cubic",
        antialias=True,
        precision=jax.lax.Precision.HIGHEST,
    )
    patches = np.asarray(resampled, table.dtype).reshape(1, grid**2, -1)
    return np.concatenate([table[:, :prefix], patches], axis=1)
