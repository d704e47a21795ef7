"""Images that are from no domain: noise and single colors, for how a detector takes them.

Cost: none until they are read.
"""

import numpy as np

from substrate_jax.data.sources import Source, digest

COUNT = 128
SIDE = 64
NOISE, CONSTANT = "noise", "single colors"


def noise(count: int = COUNT) -> Source:
    """Images of 64 x 64 pixels, every number drawn alone from 0 to 255.

    Example:
        >>> noise(3)[0].image.shape
        (64, 64, 3)
    """
    return _generated(NOISE, count, lambda rng: rng.integers(0, 256, (SIDE, SIDE, 3)))


def constant(count: int = COUNT) -> Source:
    """Images of 64 x 64 pixels, each of one color.

    Example:
        >>> image = constant(3)[0].image
        >>> bool((image == image[0, 0]).all())
        True
    """
    return _generated(
        CONSTANT, count, lambda rng: np.broadcast_to(rng.integers(0, 256, 3), (SIDE, SIDE, 3))
    )


def _generated(name: str, count: int, draw) -> Source:
    ids = tuple(f"{name}/{row}" for row in range(count))

    def read(row: int):
        return np.array(draw(np.random.default_rng(row)), np.uint8)

    return Source(name, ids, None, digest("generated", name, "1"), read)
