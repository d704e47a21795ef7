"""Small targets that all tests of scores share, so that they share compiled programs."""

import numpy as np

# Rows, features: more rows, as many, and fewer rows than features.
SHAPES = [(60, 10), (60, 24), (24, 60)]


def target(n: int, d: int, classes: int = 3, seed: int = 0, apart: float = 1.0):
    """Features [n, d] with correlated columns about class means, and labels [n]."""
    rng = np.random.default_rng(seed + 1000 * n + d)
    labels = rng.permutation(np.arange(n) % classes)
    means = apart * rng.normal(size=(classes, d))
    x = means[labels] + rng.normal(size=(n, d)) @ (
        np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    )
    return (x * np.arange(1, d + 1) ** -0.5 + 0.5).astype(np.float32), labels
