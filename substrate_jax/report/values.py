"""Results as plain values, and matrices out of them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float


def plain(value: Any) -> Any:
    """A value as JSON and CSV have it: Python's own scalars and lists, None for NaN and infinity.

    Example:
        >>> plain({"a": np.float64("nan"), 10: (np.int32(2), np.array([0.5]))})
        {'a': None, '10': [2, [0.5]]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise ValueError(f"a value of type {type(value).__name__} ({value!r:.60}); give a number, "
                     "string, list or dict")  # fmt: skip


def square(values: Any, m: int, name: str) -> Float[np.ndarray, "m m"]:
    """Rows of numbers as an array; None becomes NaN.

    Raises:
        ValueError: it is not m x m.
    """
    matrix = np.array(values, np.float64)
    if matrix.shape != (m, m):
        raise ValueError(f"{name} has shape {matrix.shape}; give {m} x {m}, one row a name")
    return matrix


def upper(matrix: Float[np.ndarray, "m m"]) -> Float[np.ndarray, " pairs"]:
    """Values of the pairs i < j."""
    return matrix[np.triu_indices(len(matrix), 1)]
