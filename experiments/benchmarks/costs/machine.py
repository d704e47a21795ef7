"""Rates of a machine: measured on the devices of a run, or published of a chip.

Every rate is of one device while all devices of the mesh do the same, for they may share
processors, memory and links. Measured are the largest of a few: a float32 and a bfloat16 matrix
product, smaller products side by side and a convolution, which reach less of a processor, a copy,
the largest of long rows, the sorting of short ones, exp, and a sum and a permutation over the
devices.
"""

import dataclasses
import functools
import math

from ..measure import best_seconds, wait
from ..pods.chips import Chip
from .tally import Tally

LARGEST = 100  # values that the ordering of a row keeps
IMAGES, PIXELS, CHANNELS = 16, 14, 64  # of a convolution of 3 x 3, as of a residual network


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates of one device, all of them busy.

    Attributes:
        title: what machine, and where its rates are from.
        platform: as jax calls it.
        devices: how many.
        flops: type of the operands -> flops per second of a matrix product.
        passes: whether float32 products take several passes of bfloat16, `flops` being of one.
        bytes: size of an array -> bytes per second, read and written; small ones stay in caches.
        ordered: length of rows -> values per second among which the largest are found; empty where
            nobody says.
        functions: values of exp per second; None likewise.
        places: looked up per second, one by one; None likewise.
        received: "sum", "permute", "gather" -> bytes per second that a device receives.
        by_side: type of the operands and side of products, 0 for convolutions -> flops per second;
            empty where `flops` is of all.
        sorted: values per second that are put in order by two keys; None where nobody says.
    """

    title: str
    platform: str
    devices: int
    flops: dict[str, float]
    passes: bool
    bytes: dict[int, float]
    ordered: dict[int, float]
    functions: float | None
    places: float | None
    received: dict[str, float]
    by_side: dict[tuple[str, int], float] = dataclasses.field(default_factory=dict)
    sorted: float | None = None

    def seconds(self, work: Tally) -> dict[str, float]:
        """Seconds of a program by what they are spent on, one after the other."""
        if self.passes:
            products = work.unit_flops / self.flops["bfloat16"]
        elif self.by_side:
            products = sum(flops / self._side_rate(*of) for of, flops in work.products.items())
        else:
            products = sum(flops / self._rate(dtype) for dtype, flops in work.flops.items())
        found = {
            "products": products,
            "memory": sum(moved / _nearest(self.bytes, size) for size, moved in work.bytes.items()),
            "ordering": sum(
                values / _nearest(self.ordered, length)
                for length, values in work.ordered.items()
                if self.ordered
            ),
            "sorting": work.sorted / self.sorted if self.sorted else 0.0,
            "functions": work.functions / self.functions if self.functions else 0.0,
            "places": work.places / self.places if self.places else 0.0,
            "links": sum(size / self.received[kind] for kind, size in work.received.items()),
        }
        return {name: seconds for name, seconds in found.items() if seconds}

    def _side_rate(self, dtype: str, side: int) -> float:
        """Of the nearest side that is known; a convolution is none but itself."""
        of = dtype if any(kind == dtype for kind, _ in self.by_side) else "float32"
        sides = [known for kind, known in self.by_side if kind == of and bool(known) == bool(side)]
        nearest = min(sides, key=lambda known: abs(math.log(max(known, 1) / max(side, 1))))
        return self.by_side[of, nearest]

    def _rate(self, dtype: str) -> float:
        return self.flops.get(dtype) or self.flops["float32"]


def _nearest(rates: dict[int, float], size: int) -> float:
    return rates[min(rates, key=lambda known: abs(math.log(known / max(size, 1))))]


def published(chip: Chip, devices: int) -> Machine:
    """Of so many devices of a TPU; how fast it orders values or looks them up nobody says."""
    received = chip.link_rate / chip.devices / 2  # half of the links' rate comes in
    return Machine(
        title=f"{devices} devices of {chip.title}, rates of {chip.source}",
        platform="tpu",
        devices=devices,
        flops={"bfloat16": chip.flops / chip.devices},
        passes=True,
        bytes={1: chip.memory_rate / chip.devices},
        ordered={},
        functions=None,
        places=None,
        received=dict.fromkeys(("sum", "permute", "gather"), received),
    )


def measured(mesh, *, dtype: str = "float32", shrink: int = 1) -> Machine:
    """Of the devices of a mesh, each at the work of all; takes seconds.

    Args:
        mesh: from `make_mesh`; in a run of several processes all must call.
        dtype: of the encoders' arithmetic: products of it are measured too.
        shrink: divides the sides of the matrices.
    """
    import jax
    import jax.numpy as jnp

    from substrate_jax.mesh import DATA_AXIS, EVERYWHERE, ROWS, over_rows

    devices = mesh.shape[DATA_AXIS]
    side = max(64, 1024 // shrink)
    long = max(1 << 12, (1 << 24) // devices // shrink)  # beyond the caches
    sizes = [size for size in (1 << 14, 1 << 18, 1 << 22) if size < long] + [long]

    def varied(x):
        return jax.lax.pcast(x, DATA_AXIS, to="varying")

    def rate(amount: float, step, *shape: int, kind="float32", repeats: int = 4) -> float:
        """Of `step` on an array of this shape on each device, in a program of its own."""
        make = over_rows(
            lambda: jax.random.normal(jax.random.key(0), shape, kind), mesh, (), EVERYWHERE
        )
        spread = over_rows(varied, mesh, EVERYWHERE, ROWS)

        def and_meet(x):  # or one process has the machine alone while another is between calls
            found = jax.lax.optimization_barrier(step(x))  # else it is compiled otherwise
            return found, jax.lax.psum(found.reshape(-1)[0], DATA_AXIS)

        program = over_rows(and_meet, mesh, ROWS, (ROWS, EVERYWHERE))
        call = functools.partial(wait, program, wait(spread, wait(make)))
        return amount / best_seconds(call, repeats)

    def written(size: int) -> float:
        """Bytes per second of an array that exists already, as most of a program's do."""
        times = max(1, sizes[-1] // size)  # within a program, or its start is what is timed

        def step(x):
            return jax.lax.fori_loop(0, times, lambda _, x: x + 1, x)

        return rate(8 * size * times, step, size)

    convolution = (IMAGES, PIXELS, PIXELS, CHANNELS)

    def convolved(x):
        kernel = jnp.ones((3, 3, CHANNELS, CHANNELS), x.dtype)
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    flops = {
        kind: rate(
            2 * side**3,
            lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST),
            *(side, side),
            kind=kind,
        )
        for kind in dict.fromkeys(("float32", dtype))
    }
    by_side = {(kind, side): flops[kind] for kind in flops}
    for kind in flops:
        for small in (16, 64, 256):  # as many as are 1/8 of the flops of the large one
            some = max(1, side**3 // 8 // small**3)
            by_side[kind, small] = rate(
                2 * some * small**3,
                lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST),
                *(some, small, small),
                kind=kind,
            )
        by_side[kind, 0] = rate(
            2 * 9 * CHANNELS**2 * IMAGES * PIXELS**2, convolved, *convolution, kind=kind
        )
    size = 1 << 18

    def looked_up(x):
        return x[(jnp.abs(x) * size).astype(jnp.int32) % size]

    some = max(16, 1024 // shrink)

    def in_order(x):  # as lists of neighbors are merged
        numbers = jnp.broadcast_to(jnp.arange(x.shape[1], dtype=jnp.int32)[None, :], x.shape)
        least, found = jax.lax.sort((x, numbers), dimension=1, num_keys=2)
        return least + found.astype(x.dtype)

    def largest(x):
        return jax.lax.top_k(x, min(LARGEST, x.shape[1] // 2))[0]

    values = max(64, 1024 // shrink) * 256
    onward = [(device, (device + 1) % devices) for device in range(devices)]
    received = {}
    if devices > 1:
        sent = long // 4
        total = rate(
            2 * 4 * sent * (devices - 1) / devices,
            lambda x: varied(jax.lax.psum(x, DATA_AXIS)),
            sent,
        )
        moved = rate(4 * sent, lambda x: jax.lax.ppermute(x, DATA_AXIS, onward), sent)
        received = {"sum": total, "permute": moved, "gather": moved}
    return Machine(
        title=f"{devices} devices of {jax.devices()[0].device_kind}, rates measured now",
        platform=jax.default_backend(),
        devices=devices,
        flops=flops,
        passes=False,
        bytes={4 * size: written(size) for size in sizes},
        ordered={
            length: rate(values, largest, values // length, length) for length in (256, 1024, 4096)
        },
        functions=rate(long // 4, jnp.exp, long // 4),
        places=rate(size, looked_up, size),
        received=received,
        by_side=by_side,
        sorted=rate(some * 2 * LARGEST, in_order, some, 2 * LARGEST),
    )
