"""What tests share: derived tolerances, and one function run under every parallel transform."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

AXIS = "rows"
ALL = False  # --long: see conftest.py


def long(*values):
    """A case of `pytest.mark.parametrize` that is left out unless --long is given."""
    return pytest.param(*values, marks=pytest.mark.long)


def tolerance(reduction_length: int, dtype=jnp.float32, condition: float = 1.0) -> float:
    """Relative error expected of a sum of `reduction_length` terms: eps x sqrt(length) x condition.

    Rounding errors of a long sum behave like a random walk (Higham 2002, section 2.8), with a
    factor 8 for the tail over many entries. `condition` is the problem's own amplification.
    """
    return 8 * float(jnp.finfo(dtype).eps) * np.sqrt(reduction_length) * condition


def transforms(devices: int = 8, *, every: bool | None = None) -> dict[str, Callable]:
    """Name -> caller `(function, sharded, *replicated)` for each way users compile a kernel.

    Uncompiled calls are those of the doctests. `jax.pmap` is a `jax.shard_map` in other clothes: it
    is left out but with --long, or where a test asks for `every` way.

    `function(*sharded, *replicated, axis_name=...)` must return replicated values. `sharded`
    arrays (or pytrees of them) are split along axis 0, whose length must divide by `devices`.
    """
    mesh = jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )

    def jit(function, sharded, *replicated):
        return jax.jit(partial(function, axis_name=None))(*sharded, *replicated)

    def pmap(function, sharded, *replicated):
        split = jax.tree.map(lambda a: a.reshape(devices, -1, *a.shape[1:]), tuple(sharded))
        in_axes = (0,) * len(split) + (None,) * len(replicated)
        mapped = jax.pmap(
            partial(function, axis_name=AXIS),
            axis_name=AXIS,
            in_axes=in_axes,
            devices=jax.devices()[:devices],
        )
        return jax.tree.map(lambda a: a[0], mapped(*split, *replicated))

    def shard_map(function, sharded, *replicated):
        in_specs = (PartitionSpec(AXIS),) * len(sharded) + (PartitionSpec(),) * len(replicated)
        mapped = jax.shard_map(
            partial(function, axis_name=AXIS),
            mesh=mesh,
            in_specs=in_specs,
            out_specs=PartitionSpec(),
        )
        return jax.jit(mapped)(*sharded, *replicated)

    ways = {"jit": jit, "pmap": pmap, "shard_map": shard_map}
    if not (ALL if every is None else every):
        del ways["pmap"]
    return ways


def random_orthogonal(rng: np.random.Generator, d: int) -> np.ndarray:
    """A Haar-distributed d x d rotation in float64."""
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


KINDS_OF_ROWS = ("Gaussian", "cubed", "clustered")


def random_rows(rng: np.random.Generator, n: int, d: int, kind: str) -> np.ndarray:
    """Rows [n, d] of standard deviations i^-1/2: Gaussian, their cubes, or in 6 clusters."""
    x = rng.normal(size=(n, d))
    if kind == "cubed":
        x = x**3
    elif kind == "clustered":
        x = 0.2 * x + rng.normal(size=(6, d))[rng.integers(6, size=n)]
    return (x * np.arange(1, d + 1) ** -0.5).astype(np.float32)


def relative_error(got, want) -> float:
    """max |got - want| / max |want| over all entries, in float64."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.max(np.abs(got - want)) / max(np.max(np.abs(want)), np.finfo(np.float64).tiny))


def matrix_products(jaxpr) -> Iterator[tuple[int, Any]]:
    """Flops of every matrix product of a program, loops multiplied out, and its precision."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            yield 2 * depth * equation.outvars[0].aval.size, equation.params["precision"]
        times = equation.params.get("length", 1)
        for part in jax.extend.core.jaxprs_in_params(equation.params):
            yield from ((times * flops, precision) for flops, precision in matrix_products(part))
