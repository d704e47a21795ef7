"""Two figures of speed: time against size, and rate against arithmetic intensity (roofline).

Both axes are logarithmic, so that a power law is a straight line whose slope is its exponent. A
roofline shows the rate that a machine allows for a given number of flops a byte: min(compute,
bandwidth x intensity).

Cost: about 0.1 s a figure. Not guaranteed: that labels of equal points do not lie on each other.

References: S. Williams, A. Waterman, D. Patterson (2009), Roofline: an insightful visual
performance model for multicore architectures. M. Okabe, K. Ito (2008), Color universal design.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.report.drawing import (
    FONT,
    INK,
    Axes,
    Curve,
    Drawing,
    drawable,
    legend,
    text_width,
)


def growth(curves: Sequence[Curve], *, x_title: str, wide: float = 2.4) -> Figure:
    """Seconds against size, a fitted power law through the points of each curve.

    Args:
        curves: with sizes as x and seconds as y, all positive.
        x_title: what the sizes are.
        wide: inches of the plot.

    Returns:
        The figure, its legend below.
    """
    left, high, row = 0.82, 2.3, 0.17
    bottom = 0.55 + row * len(curves) + 0.05
    longest = max(text_width(drawable(c.label, 60), FONT) for c in curves)
    width = max(left + wide + 0.25, 0.55 + longest)
    drawing = Drawing(width, bottom + high + 0.12)
    x, y = (np.concatenate([getattr(c, name) for c in curves]).astype(float) for name in "xy")
    axes = Axes(drawing, (left, bottom), (wide, high), spread(x, 1.25), spread(y, 1.6))
    ticks = {value: f"{value:,.0f}" for value in apart(sorted(set(x.tolist())), 1.5)}
    axes.frame(ticks, seconds_ticks(y), (x_title, "seconds a call"))
    for index, curve in enumerate(curves):
        if len(set(curve.x)) > 1:
            fit = np.poly1d(np.polyfit(np.log(curve.x), np.log(curve.y), 1))
            ends = np.array([min(curve.x), max(curve.x)], float)
            axes.line(ends, np.exp(fit(np.log(ends))), curve.mark[0], 1.0)
        axes.scatter(curve)
        legend(drawing, curve, 0.25, bottom - 0.55 - row * index)
    return drawing.finish()


def roofline(curves: Sequence[Curve], *, compute: float, bandwidth: float) -> Figure:
    """Achieved flop/s against flops a byte, under the two ceilings.

    Args:
        curves: with flops a byte as x and flop/s as y.
        compute: flop/s of the largest matrix product.
        bandwidth: bytes a second of the largest copy.

    Returns:
        The figure, its legend on the right.
    """
    left, bottom, wide = 0.95, 0.62, 5.0
    high = max(3.6, 0.19 * len(curves) - 0.4)  # room for the legend
    longest = max(text_width(drawable(c.label, 60), FONT) for c in curves)
    drawing = Drawing(left + wide + 0.55 + longest, bottom + high + 0.2)
    x, y = (np.concatenate([getattr(c, name) for c in curves]).astype(float) for name in "xy")
    ridge = compute / bandwidth
    x_limits = spread(np.append(x, [ridge / 15, ridge]), 2.0)
    y_limits = spread(np.append(y, compute), 2.0)
    axes = Axes(drawing, (left, bottom), (wide, high), x_limits, y_limits)
    powers = {
        name: {10.0**p: power(p, unit) for p in decades(limits)}
        for name, limits, unit in (("x", x_limits, ""), ("y", y_limits, "flop/s"))
    }
    axes.frame(powers["x"], powers["y"], ("flops needed for each byte moved", "achieved flop/s"))
    start = max(x_limits[0], y_limits[0] / bandwidth)
    corners = np.array([start, ridge, x_limits[1]])
    axes.line(corners, np.minimum(compute, bandwidth * corners), INK, 1.4)
    level = axes.place(np.sqrt(ridge * x_limits[1]), compute)[0]
    drawing.text(level[0], level[1] + 0.09, f"matrix product {compute / 1e9:,.0f} GF/s", FONT)
    slope = axes.place(np.sqrt(start * ridge), np.sqrt(start * ridge) * bandwidth)[0]
    copied = f"copy {bandwidth / 1e9:.1f} GB/s"
    drawing.text(slope[0] + 0.12, slope[1] - 0.08, copied, FONT, ha="left")
    for index, curve in enumerate(curves):
        axes.scatter(curve)
        legend(drawing, curve, left + wide + 0.25, bottom + high - 0.1 - 0.19 * index)
    return drawing.finish()


def spread(values: np.ndarray, factor: float) -> tuple[float, float]:
    """Limits with room around values.

    Example:
        >>> spread(np.array([2.0, 8.0]), 2.0)
        (1.0, 16.0)
    """
    return float(values.min() / factor), float(values.max() * factor)


def apart(values: Sequence[float], ratio: float) -> list[float]:
    """Ascending values without those that would crowd the one before.

    Example:
        >>> apart([1.0, 1.2, 2.0, 4.0], 1.5)
        [1.0, 2.0, 4.0]
    """
    kept: list[float] = []
    for value in values:
        if not kept or value >= ratio * kept[-1]:
            kept.append(value)
    return kept


def decades(limits: tuple[float, float]) -> range:
    """Exponents of the powers of ten between two limits.

    Example:
        >>> list(decades((0.5, 200.0)))
        [0, 1, 2]
    """
    low, high = np.log10(limits)
    return range(int(np.ceil(low)), int(np.floor(high)) + 1)


def power(exponent: int, unit: str) -> str:
    """A power of ten with its unit and prefix.

    Example:
        >>> power(2, ""), power(10, "flop/s"), power(-1, "")
        ('100', '10 Gflop/s', '0.1')
    """
    if not unit:
        return f"{10.0**exponent:,.12g}"
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    step = min(max(exponent // 3, 0), len(prefixes) - 1)
    return f"{10.0 ** (exponent - 3 * step):,.12g} {prefixes[step]}{unit}"


def seconds_ticks(seconds: np.ndarray) -> dict[float, str]:
    """Ticks for times: powers of ten, and between them where there are few."""
    limits = spread(seconds, 1.6)
    digits = (1,) if len(decades(limits)) > 2 else (1, 2, 5)
    exponents = decades((limits[0] / 10, limits[1]))
    values = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    return {value: duration(value) for value in values if limits[0] <= value <= limits[1]}


def duration(seconds: float) -> str:
    """Seconds in the unit that fits.

    Example:
        >>> duration(2e-5), duration(0.005), duration(20.0)
        ('20 µs', '5 ms', '20 s')
    """
    if seconds >= 100:
        return f"{seconds:,.0f} s"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
