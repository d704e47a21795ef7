"""How times are taken: the machine's own ceilings, ours and the peers' seconds, growth with size.

A time is the median of repeats after a warm-up, one repeat where a call takes seconds, of a program
compiled beforehand whose results are waited for; inputs lie on the device. The two ceilings, the
largest rate of a float32 matrix product and of a copy between two arrays that exist already, are
measured in the same process before, in the middle and after, and the largest counts: other work on
the machine shows as their drift. Growth is the least-squares slope of log seconds against log size.

Not guaranteed: that a ceiling is the hardware's; it is what XLA reached here. A kernel that hides
in caches may pass the copy's.
"""

import dataclasses
import functools
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import programs
from .cases import BENCHMARKS, Benchmark
from .peers import Peer, equal_threads
from .results import KernelTime, PeerTime, Rates
from .work import Size

EFFICIENCY = 0.3  # share of the ceiling that estimates assume
OVERHEAD = 3.0  # seconds of a step for inputs and compilation
SLOW_CALL = 4.0  # estimated seconds of a call that is timed once
PEER_MEMORY = 8 << 30
EXACT_SIDE = 2048  # of the largest matrix whose eigenvectors are computed in float64
AXES: dict[str, Callable[[Size], int]] = {
    "N": lambda size: size.n,
    "D": lambda size: size.total,
    "E": lambda size: size.encoders,
}


@dataclasses.dataclass(frozen=True)
class Step:
    """A benchmark at one size, and the ladders which that size is on."""

    benchmark: Benchmark
    size: Size
    axes: tuple[str, ...]

    @property
    def place(self) -> tuple:
        """Order in tables."""
        size = self.size
        ladder = [*AXES].index(self.axes[0])
        return BENCHMARKS.index(self.benchmark), ladder, size.n, size.total, size.encoders

    def call_seconds(self, ceiling: float) -> float:
        """Estimated seconds of one call."""
        return self.benchmark.expected_flops(self.size) / ceiling / EFFICIENCY

    def repeats(self, ceiling: float, repeats: int) -> int:
        """Calls that are timed: `repeats`, and one where a call is slow."""
        return 1 if self.call_seconds(ceiling) > SLOW_CALL else repeats

    def seconds(self, ceiling: float, repeats: int, peer_seconds: float) -> float:
        """Estimated seconds of the whole step, peers included."""
        rate = ceiling * EFFICIENCY
        calls = self.repeats(ceiling, repeats) + 1
        found = OVERHEAD + calls * self.call_seconds(ceiling)
        for peer in self.benchmark.peers if "N" in self.axes else ():
            cut = affordable(peer, self.size, peer_seconds * rate) if peer.version else None
            if cut:
                found += min(2 * peer.flops(cut) / rate, peer_seconds)
        if peer_seconds > 0 and self.compares_components:
            side, length = sorted((self.size.n, self.size.total))
            # In float64, which is half as fast.
            found += 2 * (2 * side**2 * length + 4 / 3 * side**3) / rate
        return found

    @property
    def compares_components(self) -> bool:
        """Whether a peer's components are compared, which takes the exact ones."""
        installed = any(peer.components and peer.version for peer in self.benchmark.peers)
        smaller = min(self.size.n, self.size.total)
        return "N" in self.axes and installed and smaller <= EXACT_SIDE


def plan(names: Sequence[str], rows: Sequence[int], shrink: int) -> list[Step]:
    """Steps of the chosen benchmarks, the cheapest first.

    Args:
        names: of benchmarks.
        rows: replace those of every ladder "N", and leave the other ladders out; [] for the table.
        shrink: divides widths, and the table's rows.
    """
    steps = []
    for benchmark in BENCHMARKS:
        if benchmark.name not in names:
            continue
        axes: dict[Size, list[str]] = {}
        for axis, sizes in benchmark.ladders.items():
            if rows and axis == "N":
                sizes = [dataclasses.replace(sizes[0], n=n) for n in rows]
            elif rows:
                continue
            for size in sizes:
                on = axes.setdefault(shrunk(size, shrink, keep_rows=bool(rows)), [])
                if axis not in on:
                    on.append(axis)
        steps += [Step(benchmark, size, tuple(on)) for size, on in axes.items()]
    return sorted(steps, key=lambda step: step.seconds(1e11, 1, 60.0))


def shrunk(size: Size, shrink: int, *, keep_rows: bool) -> Size:
    """A size with narrower encoders, and fewer rows unless they are to be kept."""
    widths = tuple(max(4, width // shrink) for width in size.widths)
    n = size.n if keep_rows else max(32, size.n // shrink)
    return Size(n, widths, min(size.k, *widths, n // 2))


def measure(
    step: Step, *, seed: int, repeats: int, ceiling: float, peer_seconds: float
) -> KernelTime:
    """A row: our time and rates at one size, and those of the peers."""
    import jax

    benchmark, size = step.benchmark, step.size
    repeats = step.repeats(ceiling, repeats)
    blocks = benchmark.setup(size, seed)
    placed = [jax.device_put(block) for block in blocks]
    start = time.perf_counter()
    if benchmark.stream:
        call, memory = programs.of_stream(benchmark.stream, size, placed)
    elif benchmark.run:
        call, memory = programs.of_kernel(benchmark.run, size, placed)
    else:
        raise ValueError(f"benchmark {benchmark.label} has neither run nor stream")
    compile_seconds = time.perf_counter() - start
    seconds, found = median_seconds(lambda: jax.block_until_ready(call()), repeats)
    ours = {key: np.asarray(value) for key, value in found.items()}
    del placed, found, call
    passes = float(ours.get("passes", 1))
    work = benchmark.work(size) * passes
    peers = []
    if "N" in step.axes and peer_seconds > 0:
        exact = exact_components(benchmark.setup, size, seed) if step.compares_components else None
        for peer in benchmark.peers:
            flops = peer_seconds * ceiling * EFFICIENCY
            row = peer_row(peer, size, blocks, ours, repeats, flops, exact)
            if row.seconds is not None:
                row = dataclasses.replace(row, ratio=row.seconds / seconds)
            peers.append(row)
    return KernelTime(
        benchmark=benchmark.name,
        variant=benchmark.variant,
        label=benchmark.label,
        axes=list(step.axes),
        n=size.n,
        widths=list(size.widths),
        total_width=size.total,
        encoders=size.encoders,
        k=size.k or None,
        passes=passes,
        seconds=seconds,
        repeats=repeats,
        compile_seconds=compile_seconds,
        flops=work.flops,
        bytes=work.bytes,
        intensity=work.intensity,
        flops_per_second=work.flops / seconds,
        bytes_per_second=work.bytes / seconds,
        memory_bytes=memory,
        peers=peers,
    )


@functools.lru_cache(maxsize=4)
def exact_components(setup: Callable, size: Size, seed: int):
    """Of the first block, kept for the kernels that share it."""
    return programs.exact_components(size, setup(size, seed)[0])


def affordable(peer: Peer, size: Size, flops: float) -> Size | None:
    """The size with as many of its encoders as a peer compares in so many flops."""
    while peer.flops(size) > flops or peer.memory(size) > PEER_MEMORY:
        if peer.least is None or size.encoders <= peer.least:
            return None
        size = size.first(size.encoders - 1)
    return size


def peer_row(
    peer: Peer, size: Size, blocks, ours: dict[str, Any], repeats: int, flops: float, exact=None
) -> PeerTime:
    """A peer's seconds and its difference from our result, with at most so many flops per call.

    With `exact` components also the largest sine of ours to them, and of its.
    """
    quantity = peer.quantity + (", relative" if peer.relative else "")
    row = PeerTime(
        name=peer.name,
        package=peer.package,
        version=peer.version,
        quantity=quantity,
        note=peer.note,
    )
    if peer.version is None:
        return dataclasses.replace(row, skipped=peer.state)
    cut = affordable(peer, size, flops)
    if cut is None:
        return dataclasses.replace(row, skipped="too slow at this size")
    try:
        with equal_threads(threads()):
            call = peer.prepare(cut, blocks[: cut.encoders] if peer.least else blocks)
            quick = peer.flops(cut) < flops / 20
            seconds, theirs = median_seconds(call, repeats if quick else 1, warm=quick)
    except Exception as error:  # one that fails must not cost the others their results
        reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        return dataclasses.replace(row, skipped=reason)
    found: dict[str, Any] = {}
    if cut != size:
        found["extrapolated_from"] = f"{cut.encoders} of {size.encoders} encoders"
    if peer.components:
        theirs, components = theirs
        if exact is not None:
            found["sine"] = programs.largest_sine(components, exact)
            found["our_sine"] = programs.largest_sine(ours["components"], exact)
    return dataclasses.replace(
        row,
        seconds=seconds * peer.flops(size) / peer.flops(cut),
        encoders=cut.encoders,
        difference=peer.difference(ours, theirs, cut.encoders),
        **found,
    )


def ceilings(shrink: int = 1) -> Rates:
    """Rates of a float32 matrix product and of a copy, the best of a few."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
    rate = 0.0
    for side in (2048, 4096):
        side = max(64, side // shrink)
        a = jax.random.normal(jax.random.key(0), (side, side))
        best = best_seconds(functools.partial(wait, product, a, a), 4)
        rate = max(rate, 2 * side**3 / best)
    # The target is given away and written in place: memory new to the process is 6 times slower.
    copy = jax.jit(lambda source, target: source + 1, donate_argnums=1, keep_unused=True)
    source = jnp.zeros(max(1 << 12, (1 << 26) // shrink))
    target = [jnp.ones_like(source)]

    def call():
        target.append(jax.block_until_ready(copy(source, target.pop())))

    return Rates(rate, 2 * source.nbytes / best_seconds(call, 5))


def peak_memory_bytes() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def threads() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait(function: Callable, *arguments):
    """The result, once it is there."""
    import jax

    return jax.block_until_ready(function(*arguments))


def timed(function: Callable) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def best_seconds(function: Callable, repeats: int) -> float:
    """The least time of several calls after a warm-up."""
    function()
    return min(timed(function)[0] for _ in range(repeats))


def median_seconds(function: Callable, repeats: int, *, warm: bool = True) -> tuple[float, Any]:
    """Median wall time of some calls, after a warm-up unless told otherwise, and the result."""
    if warm:
        function()
    times, value = [], math.nan
    for _ in range(repeats):
        seconds, value = timed(function)
        times.append(seconds)
    return statistics.median(times), value
