"""Small images of noise."""

import numpy as np

SIZE = 8


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3), np.uint8)
