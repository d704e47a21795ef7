"""Synthetic tokens of texts, made alike where the goldens are made and in the tests."""

import numpy as np

from substrate_jax.data.tokens import PADDING


def tokens(rows: int, length: int, vocabulary: int, end: int | None = None) -> np.ndarray:
    """Texts of two tokens to `length`, int32 [rows, length], padded; the last is as long as can be.

    Args:
        rows: texts.
        length: tokens at most.
        vocabulary: numbers are below it.
        end: the number that every text ends in, and that is nowhere else; None for any.
    """
    rng = np.random.Generator(np.random.SFC64(20261201))
    found = np.full((rows, length), PADDING, np.int32)
    for row, size in enumerate(np.linspace(2, length, rows).astype(int)):
        found[row, :size] = rng.integers(0, vocabulary - 1, size)
        if end is not None:
            found[row, :size][found[row, :size] == end] = 0
            found[row, size - 1] = end
    return found
