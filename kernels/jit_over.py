"""Kernels as one compiled program each, as the functions of `jax.numpy` are.

Called outside `jax.jit`, a kernel would compile each of its hundred operations for the shapes at
hand, and its loops at every call.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def jit_over(*arrays: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: `jax.jit` over the arguments named, with all others static.

    Inside a map over devices the function is called as it is, and so it is when an argument is none
    that `jax.jit` takes, so that the function itself says what is wrong with it.

    Args:
      arrays: parameters that are arrays, trees of arrays, or None.

    Example:
      >>> @jit_over("x")
      ... def power(x, exponent=2):
      ...     return x**exponent
      >>> float(power(jax.numpy.float32(3)))
      9.0
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters
        program = jax.jit(function, static_argnames=[n for n in parameters if n not in arrays])

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = {**dict(zip(parameters, args, strict=False)), **kwargs}
            mapped = given.get("axis_name") is not None
            fits = all(
                _all_arrays(value) if name in arrays else _hashable(value)
                for name, value in given.items()
            )
            if fits and not mapped:
                with contextlib.suppress(ValueError):  # said below, in its words alone
                    return program(*args, **kwargs)
            return function(*args, **kwargs)

        return call

    return decorate


def _all_arrays(value: Any) -> bool:
    """Whether all of a value are arrays that `jax.jit` takes for what they are."""
    if isinstance(value, list | tuple):
        return all(map(_all_arrays, value))
    if dataclasses.is_dataclass(value):
        return all(leaf is not value and _all_arrays(leaf) for leaf in jax.tree.leaves(value))
    if type(value) is np.ndarray:
        return value.dtype.isnative and _is_number(value.dtype)
    return value is None or isinstance(value, jax.Array)


def _is_number(dtype: np.dtype) -> bool:
    return dtype.itemsize <= 8 and (
        jax.numpy.issubdtype(dtype, jax.numpy.number) or dtype == np.bool_
    )


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
