"""What follows from the times of a benchmark: growth with size, ratios, shares of the ceilings."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .cases import RATIOS
from .results import (
    Ceilings,
    Growth,
    KernelTime,
    Rates,
    SpaceChoice,
    TimeRatio,
)

OURS = "substrate_jax"


def growth(rows: Iterable[KernelTime]) -> list[Growth]:
    """Exponents of every ladder, ours and those of peers that were run in full."""
    curves: dict[tuple[str, str, str], list[tuple[int, float, float | None]]] = {}
    for row in rows:
        size = {"N": row.n, "D": row.total_width, "E": row.encoders}
        for axis in row.axes:
            point = (size[axis], row.seconds, row.flops)
            curves.setdefault((row.label, OURS, axis), []).append(point)
            for peer in row.peers if axis == "N" else ():
                if peer.seconds is not None and peer.extrapolated_from is None:
                    point = (size[axis], peer.seconds, None)
                    curves.setdefault((row.label, peer.name, axis), []).append(point)
    found = []
    for (label, method, axis), points in curves.items():
        sizes, seconds, flops = zip(*sorted(points), strict=True)
        if len(set(sizes)) > 1:
            of_flops = None if None in flops else slope(sizes, flops)
            found.append(Growth(label, method, axis, len(sizes), slope(sizes, seconds), of_flops))
    return found


def ratios(rows: Iterable[KernelTime]) -> list[TimeRatio]:
    """Seconds of one case over those of another at the same size, for the pairs of `RATIOS`."""
    seconds = {(row.label, row.n, row.total_width): row.seconds for row in rows}
    return [
        TimeRatio(label, base, n, width, found / seconds[base, n, width])
        for label, base in RATIOS
        for (name, n, width), found in seconds.items()
        if name == label and (base, n, width) in seconds
    ]


def choices_of_space(rows: Iterable[KernelTime]) -> list[SpaceChoice]:
    """What the cost model of CKA takes where both spaces were timed, and what that loses."""
    import jax

    from substrate_jax.kernels.alignment.linear_cka import resolve_space
    from substrate_jax.kernels.arithmetic import MeshAxes

    seconds: dict[tuple[int, ...], dict[str, float]] = {}
    for row in rows:
        if row.benchmark == "cka" and row.variant:
            space = row.variant.removesuffix(" space")
            seconds.setdefault((row.n, *row.widths), {})[space] = row.seconds
    found = []
    for (n, *widths), by_space in seconds.items():
        if len(by_space) == 2:
            blocks = [jax.ShapeDtypeStruct((n, width), np.float32) for width in widths]
            space = resolve_space("auto", blocks, MeshAxes())
            loss = by_space[space] / min(by_space.values())
            found.append(SpaceChoice(n, sum(widths), space, loss))
    return found


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y against log x.

    Example:
        >>> round(slope([1, 2, 4], [5, 20, 80]), 6)
        2.0
    """
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def with_fractions(rows: Iterable[KernelTime], best: Rates) -> list[KernelTime]:
    """The rows with their rates as shares of the ceilings."""
    return [
        dataclasses.replace(
            row,
            flops_fraction=row.flops_per_second / best.flops_per_second,
            bytes_fraction=row.bytes_per_second / best.bytes_per_second,
        )
        for row in rows
    ]


def summary(measured: Mapping[str, Rates]) -> Ceilings:
    """Ceilings by when they were measured, their best, and how far the least is below it."""

    def of_all(reduce) -> list[float]:
        return [
            reduce(getattr(rates, f.name) for rates in measured.values())
            for f in dataclasses.fields(Rates)
        ]

    best, least = of_all(max), of_all(min)
    drift = [1 - low / high for low, high in zip(least, best, strict=True)]
    return Ceilings(measured, Rates(*best), Rates(*drift))
