"""Two figures of speed: time against size, and rate against arithmetic intensity (roofline).

Both axes are logarithmic, so that a power law is a straight line whose slope is its exponent. A
roofline shows the rate that a machine allows for a given number of flops per byte: min(compute,
bandwidth x intensity).

Cost: about 0.1 s per figure. Not guaranteed: that points of nearly equal value can be told apart.

References: S. Williams, A. Waterman, D. Patterson (2009), Roofline: an insightful visual
performance model for multicore architectures. M. Okabe, K. Ito (2008), Color universal design.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.report.axes import inch_axes, legend, legend_height, marked, read_curve, scale
from substrate_jax.report.drawing import FONT, INK, PHONE, drawable, text_width

# Inches under the axes, to the legend, and left of the legend.
BELOW, LEGEND_LEFT = 0.45, 0.25


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of one kind.

    Attributes:
        label: what the legend calls them.
        x: where they stand.
        y: as many.
        mark: color and shape.
        hollow: white inside.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[str, str]
    hollow: bool = False


def growth(curves: Sequence[Curve], *, x_title: str, wide: float = 2.4) -> Figure:
    """Seconds against size, a fitted power law through the points of each curve.

    Args:
        curves: with sizes as x and seconds as y, all positive.
        x_title: what the sizes are.
        wide: inches of the plot.

    Returns:
        The figure, its legend below.
    """
    left, high = 0.82, 2.3
    bottom = BELOW + legend_height(len(curves))
    longest = max(text_width(drawable(c.label, 60), FONT) for c in curves)
    width = min(max(left + wide + 0.25, 0.6 + longest), PHONE)
    margins = {"left": left, "right": width - left - wide, "bottom": bottom, "top": 0.12}
    figure, axes = inch_axes(width, bottom + high + 0.12, **margins)
    x, y = _points(curves)
    sizes = {value: f"{value:,.0f}" for value in sorted(set(x.tolist()))}
    scale(axes, "x", spread(x, 1.25), x_title, logarithmic=True, ticks=sizes)
    y_limits, seconds = spread(y, 1.6), seconds_ticks(y)
    scale(axes, "y", y_limits, "seconds per call", logarithmic=True, ticks=seconds)
    rows = []
    for curve in curves:
        if len(set(curve.x)) > 1:
            fit = np.poly1d(np.polyfit(np.log(curve.x), np.log(curve.y), 1))
            ends = np.array([min(curve.x), max(curve.x)], float)
            axes.plot(ends, np.exp(fit(np.log(ends))), color=curve.mark[0], linewidth=1.0)
        (points,) = axes.plot(curve.x, curve.y, **marked(curve.mark, curve.hollow), zorder=3)
        read_curve(axes, curve.label, curve.x, curve.y)
        rows.append((points, curve.label))
    legend(figure, rows, LEGEND_LEFT)
    return figure


def roofline(curves: Sequence[Curve], *, compute: float, bandwidth: float) -> Figure:
    """Achieved flop/s against flops per byte, under the two ceilings.

    Args:
        curves: with flops per byte as x and flop/s as y.
        compute: flop/s of the largest matrix product.
        bandwidth: bytes per second of the largest copy.

    Returns:
        The figure, its legend below.
    """
    left, high = 0.95, 3.2
    bottom = BELOW + legend_height(len(curves) + 1)
    margins = {"left": left, "right": 0.2, "bottom": bottom, "top": 0.15}
    figure, axes = inch_axes(PHONE, bottom + high + 0.15, **margins)
    x, y = _points(curves)
    ridge = compute / bandwidth
    x_limits = spread(np.append(x, [ridge / 15, ridge]), 2.0)
    y_limits = spread(np.append(y, compute), 2.0)
    x_ticks = {10.0**exponent: power(exponent, "") for exponent in decades(x_limits)}
    y_ticks = {10.0**exponent: power(exponent, "flop/s") for exponent in decades(y_limits)}
    x_title = "flops needed for each byte moved"
    scale(axes, "x", x_limits, x_title, logarithmic=True, ticks=x_ticks)
    scale(axes, "y", y_limits, "achieved flop/s", logarithmic=True, ticks=y_ticks)
    corners = np.array([max(x_limits[0], y_limits[0] / bandwidth), ridge, x_limits[1]])
    ceiling = np.minimum(compute, bandwidth * corners)
    (line,) = axes.plot(corners, ceiling, color=INK, linewidth=1.4)
    limit = f"machine: copy {bandwidth / 1e9:.1f} GB/s, matrix product {compute / 1e9:,.0f} GF/s"
    rows = [(line, limit)]
    for curve in curves:
        (points,) = axes.plot(curve.x, curve.y, **marked(curve.mark, curve.hollow), zorder=3)
        read_curve(axes, curve.label, curve.x, curve.y)
        rows.append((points, curve.label))
    legend(figure, rows, LEGEND_LEFT)
    return figure


def _points(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """x and y of all points."""
    x, y = (np.concatenate([getattr(c, name) for c in curves]).astype(float) for name in "xy")
    return x, y


def spread(values: np.ndarray, factor: float) -> tuple[float, float]:
    """Limits with room around values.

    Example:
        >>> spread(np.array([2.0, 8.0]), 2.0)
        (1.0, 16.0)
    """
    return float(values.min() / factor), float(values.max() * factor)


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
