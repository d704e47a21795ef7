"""The work of a program on each device, counted in its jaxpr: nothing is compiled.

Counted are flops of matrix products and convolutions, values that are ordered to find the largest,
values of functions such as exp, places that gathers read and scatters write one by one, bytes of
arrays that are written and read once, and bytes received in collectives. Element by element,
operations and gathers are taken as fused into what reads them: an array costs bytes where a
product, a loop or several operations read it. A loop counts as often as it runs, one whose end
depends on numbers once.

Not guaranteed: what XLA makes of the program. It may recompute, copy or pad.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax.extend.core

from ..pods.reading import products

_FUNCTIONS = (
    "erf",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "pow",
    "sin",
    "cos",
    "tanh",
)
_ELEMENTS = (
    *_FUNCTIONS,
    *("abs", "add", "add_any", "and", "bitcast_convert_type", "broadcast_in_dim", "ceil", "clamp"),
    *("concatenate", "dynamic_slice", "gather", "optimization_barrier"),
    *("convert_element_type", "copy", "copy_p", "div", "eq", "expand_dims", "floor", "ge", "gt"),
    *("imag", "integer_pow", "iota", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg"),
    *("not", "or", "pad", "pvary", "real", "reshape", "rev", "round", "rsqrt", "select_n", "sign"),
    *("slice", "sqrt", "square", "squeeze", "stop_gradient", "sub", "transpose", "xor"),
)
# Written in place: bytes are those of what is new, by its place among the operands.
_IN_PLACE = {"scatter": 2, "scatter-add": 2, "dynamic_update_slice": 1}
_LARGEST = ("top_k", "approx_top_k")
_COLLECTIVES = {"psum": "sum", "ppermute": "permute", "all_gather": "gather"}
_Kind = str | int | tuple[str, int]
_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")


@dataclasses.dataclass(frozen=True)
class Tally:
    """Work on each device.

    Attributes:
        flops: of matrix products and convolutions, by the type of their operands.
        unit_flops: the same, times the passes of bfloat16 that float32 takes in a matrix unit.
        ordered: values among which the largest are found, by the length of their rows, rounded to a
            power of 4.
        functions: values of exp, erf and the like.
        places: that gathers read and scatters write, each for itself.
        bytes: written once and read once, by the size of the arrays, rounded to a power of 4.
        received: bytes received, by "sum", "permute" and "gather".
        products: flops by the type of the operands and the side of a square product of as many,
            rounded to a power of 4; side 0 are convolutions.
        sorted: values that are put in order, all of them.
    """

    flops: Mapping[str, float]
    unit_flops: float
    ordered: Mapping[int, float]
    functions: float
    places: float
    bytes: Mapping[int, float]
    received: Mapping[str, float]
    products: Mapping[tuple[str, int], float] = dataclasses.field(default_factory=dict)
    sorted: float = 0.0


def tally(function, *arguments, devices: int, platform: str) -> Tally:
    """Count a jitted function's work.

    Args:
        function: jitted.
        arguments: shapes of what it takes.
        devices: that its rows are split over.
        platform: of the devices, such as "cpu": some programs differ between them.
    """
    jaxpr = function.trace(*arguments).jaxpr.jaxpr
    share = 1 / devices
    flops: dict[str, float] = collections.defaultdict(float)
    by_side: dict[tuple[str, int], float] = collections.defaultdict(float)
    unit_flops = 0.0
    for one in products(jaxpr, share):
        flops[one.dtype] += one.flops
        by_side[one.dtype, rounded(one.side) if one.side else 0] += one.flops
        unit_flops += one.flops * one.passes
    found: dict[str, float] = collections.defaultdict(float)
    moved: dict[int, float] = collections.defaultdict(float)
    ordered: dict[int, float] = collections.defaultdict(float)
    for kind, amount in _other(jaxpr, share, devices, platform):
        if isinstance(kind, int):
            moved[kind] += amount
        elif isinstance(kind, tuple):
            ordered[kind[1]] += amount
        else:
            found[kind] += amount
    received = {kind: found[kind] for kind in _COLLECTIVES.values() if found[kind]}
    return Tally(
        dict(flops),
        unit_flops,
        dict(ordered),
        found["functions"],
        found["places"],
        dict(moved),
        received,
        dict(by_side),
        found["sorted"],
    )


def _other(jaxpr, share: float, devices: int, platform: str) -> Iterator[tuple[_Kind, float]]:
    """What is not a product: kind, size of an array, or kind and length of rows; and amount."""
    readers: dict[Any, list[str]] = {}
    for equation in jaxpr.eqns:
        for operand in equation.invars:
            if isinstance(operand, jax.extend.core.Var):
                readers.setdefault(operand, []).append(_kind(equation))
    for result in jaxpr.outvars:
        readers.setdefault(result, []).append("outside")
    for equation in jaxpr.eqns:
        name, kind = equation.primitive.name, _kind(equation)
        inside, times = share, 1.0
        if name == "shard_map":
            inside = 1.0
        elif name == "scan":
            times = equation.params["length"]
        parts = [
            [(what, amount * times) for what, amount in _other(part, inside, devices, platform)]
            for part in jax.extend.core.jaxprs_in_params(equation.params)
        ]
        if name == "cond":
            parts = [_taken(equation, parts, platform)]
        for what, amount in itertools.chain(*parts):
            if not (isinstance(what, int) and kind == "elements"):
                yield what, amount
        if name in _FUNCTIONS:
            yield "functions", equation.outvars[0].aval.size * share
        elif name == "gather":
            size = math.prod(equation.params["slice_sizes"])
            yield "places", equation.outvars[0].aval.size / size * share
        elif name in ("scatter", "scatter-add"):
            indices = equation.invars[1].aval
            yield "places", indices.size / indices.shape[-1] * share
        elif name == "sort":
            yield "sorted", equation.invars[0].aval.size * share
        elif name in _LARGEST:
            values = equation.invars[0].aval
            yield ("ordered", rounded(values.shape[-1])), values.size * share
        elif collective := _COLLECTIVES.get(name.removesuffix("_invariant")):
            others = (devices - 1) / devices
            factor = {"sum": 2 * others, "permute": 1.0 if devices > 1 else 0.0, "gather": others}
            size = sum(_bytes(result) for result in equation.outvars)
            yield collective, size * factor[collective] * share
        for result in equation.outvars:
            by = readers.get(result, [])
            fused = kind == "elements" and set(by) <= {"elements", "reduction"} and len(by) < 2
            if not fused and kind != "call":  # what a call gives is counted inside
                place = _IN_PLACE.get(name)
                size = _bytes(result if place is None else equation.invars[place]) * share
                yield rounded(size), 2 * size


def rounded(size: float) -> int:
    """To a power of 4.

    Example:
        >>> rounded(5), rounded(1000)
        (4, 1024)
    """
    return 4 ** round(math.log(max(size, 1), 4))


def _taken(equation, parts: list[list[tuple[_Kind, float]]], platform: str):
    """The branch of a platform; of others the dearest in bytes and values, to be safe."""
    for part, of in zip(parts, equation.params.get("branches_platforms") or (), strict=False):
        if of is None or platform in of:
            return part
    return max(parts, key=lambda part: sum(amount for _, amount in part))


def _kind(equation) -> str:
    name = equation.primitive.name
    if name in _ELEMENTS:
        return "elements"
    if name.startswith("reduce_") and name != "reduce_scatter":
        return "reduction"
    if name in _CALLS:
        inner = [
            _kind(one)
            for part in jax.extend.core.jaxprs_in_params(equation.params)
            for one in part.eqns
        ]
        return "elements" if set(inner) <= {"elements"} else "call"
    return "call" if name in ("shard_map", "scan", "while", "cond") else "other"


def _bytes(variable) -> float:
    aval = variable.aval  # a token has no shape
    return float(aval.size * aval.dtype.itemsize) if hasattr(aval, "shape") else 0.0
