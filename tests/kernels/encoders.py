"""Encoders that share directions, for tests of more than one folder."""

import numpy as np

ROWS = 37


def sample(n=ROWS, widths=(5, 9, 60), seed=0):
    """Encoders that share three directions, one wider than there are rows."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3))
    return [
        (shared @ rng.normal(size=(3, d)) + 0.5 * rng.normal(size=(n, d)) + 1).astype(np.float32)
        for d in widths
    ]
