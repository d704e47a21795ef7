"""What a program does on each device, read from its jaxpr and its compiled text.

Flops of matrix products and convolutions come from the jaxpr, loops multiplied out, since XLA
counts the body of a loop once. Collectives come from the compiled program: XLA adds and joins them.
A loop without a known number of steps counts as one.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

import jax
import jax.extend.core
import numpy as np

# Passes through a matrix unit of bfloat16 that a product takes of float32 operands.
PASSES = {
    jax.lax.Precision.DEFAULT: 1,
    jax.lax.Precision.HIGH: 3,
    jax.lax.Precision.HIGHEST: 6,
    None: 1,
}
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16}


@dataclasses.dataclass(frozen=True)
class Product:
    """Matrix products of one kind.

    Attributes:
        flops: on each device.
        dtype: of the operands.
        passes: through a unit of bfloat16.
        side: of a square product of as many flops, batches apart; 0 of a convolution.
    """

    flops: float
    dtype: str
    passes: int
    side: float = 0.0


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind and size.

    Attributes:
        kind: one of `KINDS`.
        shape: of the largest array that one gives, such as f32[16,8].
        count: how often it happens.
        bytes: that a device receives in one.
    """

    kind: str
    shape: str
    count: int
    bytes: float


def products(jaxpr, share: float = 1.0) -> Iterator[Product]:
    """Matrix products and convolutions of a program, on each device.

    Args:
        jaxpr: of the program.
        share: of its arrays that one device has, where they are split by the compiler.
    """
    for equation in jaxpr.eqns:
        name, inside, times = equation.primitive.name, share, 1
        if name in ("dot_general", "conv_general_dilated"):
            left, right = (operand.aval for operand in equation.invars[:2])
            size, side = equation.outvars[0].aval.size, 0.0
            if name == "dot_general":
                (contracted, _), (batch, _) = equation.params["dimension_numbers"]
                depth = math.prod(left.shape[axis] for axis in contracted)
                batches = max(1, math.prod(left.shape[axis] for axis in batch))
                side = (depth * size * share / batches) ** (1 / 3)
            else:
                numbers = equation.params["dimension_numbers"]
                depth = right.size // right.shape[numbers.rhs_spec[0]]
            precision = equation.params["precision"]
            highest = precision[0] if isinstance(precision, tuple) else precision
            passes = PASSES.get(highest, 1) if left.dtype == np.float32 else 1
            yield Product(2.0 * depth * size * share, left.dtype.name, passes, side)
        elif name == "shard_map":
            inside = 1.0
        elif name == "scan":
            times = equation.params["length"]
        parts = [
            [dataclasses.replace(one, flops=one.flops * times) for one in products(part, inside)]
            for part in jax.extend.core.jaxprs_in_params(equation.params)
        ]
        if name == "cond":  # one branch is taken: the dearest, to be safe
            parts = [max(parts, key=lambda found: sum(p.flops * p.passes for p in found))]
        yield from (one for part in parts for one in part)


def collectives(text: str) -> list[Collective]:
    """Collectives of a compiled program, loops multiplied out where XLA knows their steps."""
    bodies = _computations(text)
    times = _times(bodies)
    found: dict[tuple, int] = {}
    for name, lines in bodies.items():
        for line in lines:
            match = re.search(r" = (\(.*?\)|\S+) (" + "|".join(KINDS) + r")(-start)?\(", line)
            if match and times.get(name):
                arrays = sorted(_arrays(match[1]), key=_bytes)
                if (
                    match[3]
                    and len(arrays) > 1
                    and match[2] in ("all-gather", "collective-permute")
                ):
                    arrays = arrays[len(arrays) // 2 :]  # the operands stand before what comes back
                groups = _group_size(line)
                key = match[2], arrays[-1], sum(map(_bytes, arrays)) * _received(match[2], groups)
                found[key] = found.get(key, 0) + times[name]
    return [Collective(kind, shape, count, size) for (kind, shape, size), count in found.items()]


def _received(kind: str, devices: int) -> float:
    """Bytes that each device receives, over those of what it is left with."""
    others = (devices - 1) / devices if devices else 1.0
    if kind == "all-reduce":  # each part is summed somewhere, and sent to all
        return 2 * others
    if kind == "reduce-scatter":
        return float(max(devices - 1, 1))
    return 1.0 if kind == "collective-permute" else others


def _computations(text: str) -> dict[str, list[str]]:
    """Name of each computation -> its lines; the entry is called "ENTRY"."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            lines = found.setdefault("ENTRY" if match[1] else match[2], [])
        else:
            lines.append(line)
    return found


_CALLS = re.compile(
    r"(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_STEPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


_BELOW = re.compile(r"ROOT .* compare\(%?[\w.\-]+, %?([\w.\-]+)\), direction=LT")


def _steps(line: str, bodies: dict[str, list[str]]) -> int:
    """Steps of a loop: said, or those of a counter from 0, as jax's loops are; else 1."""
    if said := _STEPS.search(line):
        return int(said[1])
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    test = "\n".join(bodies.get(condition[1], []) if condition else [])
    if below := _BELOW.search(test):
        bound = re.search(rf"%?{re.escape(below[1])} = s32\[\]\S* constant\((\d+)\)", test)
        return int(bound[1]) if bound else 1
    return 1


def _times(bodies: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation is run."""
    calls: dict[str, list[tuple[str, int]]] = {}
    for name, lines in bodies.items():
        for line in lines:
            count = _steps(line, bodies) if " while(" in line else 1
            called = _CALLS.findall(line)
            for branches in _BRANCHES.findall(line):
                called += [each.strip().lstrip("%") for each in branches.split(",")]
            calls.setdefault(name, []).extend((each, count) for each in called)
    times: dict[str, int] = {}

    def visit(name: str, count: int) -> None:
        times[name] = times.get(name, 0) + count
        for called, steps in calls.get(name, []):
            visit(called, count * steps)

    visit("ENTRY", 1)
    return times


def _arrays(shape: str) -> list[str]:
    """The arrays of a shape, tuples taken apart; counters of an asynchronous one are left out."""
    arrays = [f"{kind}[{size}]" for kind, size in re.findall(r"(\w+)\[([\d,]*)\]", shape)]
    return [array for array in arrays if array != "u32[]" or len(arrays) == 1]


def _bytes(array: str) -> float:
    kind, size = re.fullmatch(r"(\w+)\[([\d,]*)\]", array).groups()  # pyright: ignore
    bits = _BITS.get(kind) or int(re.sub(r"\D", "", kind) or 8)
    return math.prod(map(int, size.split(",") if size else ())) * bits / 8


def _group_size(line: str) -> int:
    """Devices that one collective joins; 0 where the text does not say."""
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(match[1].split(","))
    return 0
