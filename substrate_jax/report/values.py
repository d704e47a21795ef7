"""Results as plain values: what JSON and CSV can hold.

A result is a dataclass. `plain` turns it into nested dicts by two rules, which are all there is
between a result and its JSON: the fields of a value marked `INLINE` stand among those of its owner,
and a field that is None by default is left out where it is None.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

INLINE = {"inline": True}  # metadata of a field


def plain(value: Any) -> Any:
    """A value as JSON and CSV have it: Python's own scalars and lists, None for NaN and infinity.

    Raises:
        ValueError: a value that JSON cannot hold, or two fields of one name side by side.

    Example:
        >>> plain({"a": np.float64("nan"), 10: (np.int32(2), np.array([0.5]))})
        {'a': None, '10': [2, [0.5]]}
        >>> @dataclasses.dataclass(frozen=True)
        ... class Head:
        ...     n: int
        >>> @dataclasses.dataclass(frozen=True)
        ... class Found:
        ...     head: Head = dataclasses.field(metadata=INLINE)
        ...     tau: float
        ...     low: float | None = None
        >>> plain(Found(Head(3), 0.5))
        {'n': 3, 'tau': 0.5}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if callable(tolist := getattr(value, "tolist", None)):  # NumPy's and JAX's arrays and scalars
        return plain(tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise ValueError(
        f"a value of type {type(value).__name__} ({value!r:.60}); give a number, string, list or "
        "dict"
    )


def _fields(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item is None and field.default is None:
            continue
        inline = field.metadata.get("inline", False)
        more = plain(item) if inline else {field.name: plain(item)}
        if twice := found.keys() & more.keys():
            raise ValueError(f"{type(value).__name__} with two fields {sorted(twice)[0]!r}")
        found |= more
    return found


def upper(matrix: Float[np.ndarray, "m m"]) -> Float[np.ndarray, " pairs"]:
    """Values of the pairs i < j."""
    return matrix[np.triu_indices(len(matrix), 1)]
