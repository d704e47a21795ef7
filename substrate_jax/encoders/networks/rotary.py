"""Rotary positions of patches on a square grid (Su et al. 2021, arXiv:2104.09864), as DINOv3's.

With d channels of a head, a patch at row y and column x, both from -1 to 1, has d / 2 angles

    2 pi y base^(-4 i / d), then 2 pi x base^(-4 i / d), i = 0, ..., d / 4 - 1

and pair j, channels j and j + d / 2 of its queries and keys, is turned by angle j. So scores of
attention know how two patches lie to each other. Tokens before the patches are not turned.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def axial_angles(
    grid: int, width: int, base: float, *, prefix: int = 0
) -> Float[np.ndarray, "t d2"]:
    """Angles of `prefix` tokens, which are 0, and of the patches in row-major order.

    Args:
        grid: patches per side.
        width: channels of a head, a multiple of 4.
        base: of the frequencies.
        prefix: tokens before the patches.

    Example:
        >>> (axial_angles(2, 4, 100.0, prefix=1) / np.pi).tolist()
        [[0.0, 0.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    centers = 2 * (np.arange(grid) + 0.5) / grid - 1
    frequencies = 2 * np.pi * base ** (-4 / width * np.arange(width // 4))
    angles = centers[:, None] * frequencies
    rows, columns = np.repeat(angles, grid, axis=0), np.tile(angles, (grid, 1))
    patches = np.concatenate([rows, columns], axis=1)
    return np.concatenate([np.zeros((prefix, width // 2)), patches])


def rotate(
    x: Float[Array, "*n t h d"], angles: Float[np.ndarray, "t d2"]
) -> Float[Array, "*n t h d"]:
    """Queries or keys, turned by the angles of their tokens.

    Example:
        >>> rotate(jnp.asarray([[[1.0, 0.0]]]), np.asarray([[np.pi / 2]])).round(6).tolist()
        [[[0.0, 1.0]]]
    """
    angles = angles.reshape(*(1,) * (x.ndim - 3), len(angles), 1, -1)
    cosine, sine = jnp.asarray(np.cos(angles), x.dtype), jnp.asarray(np.sin(angles), x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-1
    )
