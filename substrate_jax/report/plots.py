"""Curves over numbers of components, and bars that show changes.

All are at most `report.drawing.PHONE` inches wide, so that a phone shows them whole: names
stand beside their bars, legends below the curves. A color never tells alone: marks differ in shape,
and values are written beside their names.

Cost: about 0.1 s per figure.

Not guaranteed: that curves which nearly agree can be told from each other; the legend has values.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from substrate_jax.report.axes import (
    WORDS,
    beside,
    inch_axes,
    legend,
    legend_height,
    marked,
    read_curve,
    read_points,
    scale,
)
from substrate_jax.report.drawing import FONT, INK, PHONE, all_marks, drawable, fitting, text_width
from substrate_jax.report.strips import OURS, PAPER
from substrate_jax.report.text import digits, short

INTERVAL, SPREAD = "#a3c9e2", "#e9e9e9"
LESS, MORE = "#d55e00", "#0072b2"
K_LINE = {"color": "#999999", "linewidth": 0.9, "zorder": 1.5}
# Inches: left of curves, their height, and from them to the legend.
LEFT, HIGH, BELOW = 0.55, 2.5, 0.45
ROW = 0.19


def sweep(
    ks: Sequence[int],
    median: Sequence[float],
    *,
    interval: tuple[Sequence[float], Sequence[float]] | None,
    spread: tuple[Sequence[float], Sequence[float]],
    paper: Mapping[int, float],
    k: int,
    names: Mapping[str, str],
) -> Figure:
    """The median over pairs of domains against the number of components.

    Args:
        ks: numbers of components, ascending.
        median: of the pairs at each.
        interval: ends of the median's interval at each.
        spread: least and greatest pair at each.
        paper: number of components -> the paper's median.
        k: the number used elsewhere, marked by a line.
        names: of "median", "interval", "spread" and "paper" in the legend.

    Returns:
        The figure, its legend below.
    """
    figure, axes = _curves(2 + bool(interval) + bool(paper))
    ends = sorted({*ks, *paper})
    ticks = {float(value): f"{value:g}" for value in ends}
    limits = (ends[0] / 1.15, ends[-1] * 1.15)
    scale(axes, "x", limits, "components K (logarithmic)", logarithmic=True, ticks=ticks)
    scale(axes, "y", (0.0, 1.0), "PCKA")
    axes.axvline(k, **K_LINE)
    drawn: dict[str, Artist] = {"spread": _band(axes, ks, spread, SPREAD)}
    if interval:
        drawn["interval"] = _band(axes, ks, interval, INTERVAL)
    if paper:
        style = marked(PAPER, hollow=True) | {"linestyle": "-", "linewidth": 0.9}
        (drawn["paper"],) = axes.plot(list(paper), list(paper.values()), **style)
        read_curve(axes, names["paper"], list(paper), list(paper.values()))
    style = marked(OURS) | {"linestyle": "-", "linewidth": 1.8}
    values = np.array(median, float)
    (drawn["median"],) = axes.plot(ks, values, **style)
    ends = None if interval is None else np.array(interval, float).T
    read_curve(axes, names["median"], ks, values, ends)
    order = ("median", "interval", "spread", "paper")
    legend(figure, [(drawn[key], names[key]) for key in order if key in drawn], LEFT)
    return figure


def variance(shares: Mapping[str, Sequence[float]], *, k: int) -> Figure:
    """Share of the variance in the leading components, cumulated, one curve per domain.

    Args:
        shares: domain -> share of each component.
        k: the number used elsewhere, marked by a line.

    Returns:
        The figure, its legend below in the order of the curves at k.
    """
    sums = {name: np.cumsum(np.array(values, float)) for name, values in shares.items()}
    at_k = {name: float(values[min(k, len(values)) - 1]) for name, values in sums.items()}
    marks = dict(zip(sums, all_marks(), strict=False))
    most = max(map(len, sums.values()))
    powers = [2**i for i in range(int(np.log2(most)) + 1)]
    figure, axes = _curves(len(sums))
    ticks = {float(power): str(power) for power in powers}
    limits = (0.93, most * 1.08)
    scale(axes, "x", limits, "components (logarithmic)", logarithmic=True, ticks=ticks)
    top = max(float(values[-1]) for values in sums.values())
    top = min(1.0, float(np.ceil(10 * top)) / 10)
    scale(axes, "y", (0.0, top), "cumulative share of variance")
    axes.axvline(k, **K_LINE)
    rows = []
    for name in sorted(sums, key=lambda name: -at_k[name]):
        count = len(sums[name])
        at = [power - 1 for power in powers if power <= count]
        style = marked(marks[name]) | {"linestyle": "-", "linewidth": 1.3, "markevery": at}
        (curve,) = axes.plot(np.arange(1, count + 1), sums[name], **style)
        read_curve(axes, name, powers[: len(at)], sums[name][at])
        rows.append((curve, f"{drawable(name, 34)}: {short(at_k[name])} at {k}"))
    legend(figure, rows, LEFT)
    return figure


@dataclasses.dataclass(frozen=True)
class Curve:
    """Values over numbers, with intervals.

    Attributes:
        label: in the legend.
        x: positive numbers, ascending.
        y: values; those that are NaN are left out.
        low: lower ends of their intervals; NaN for none.
        high: upper ends.
        mark: color and shape.
        hollow: marks with white inside, and a thinner line.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    mark: tuple[str, str]
    hollow: bool = False


def curves(lines: Sequence[Curve], *, across: str, quantity: str, most: float) -> Figure:
    """Curves over a logarithmic axis, their intervals as upright lines a little apart.

    Args:
        lines: in the order of the legend.
        across: what the horizontal axis shows.
        quantity: what the upright axis shows.
        most: the largest value that there is, such as 100 of percent: ends are cut there.

    Returns:
        The figure, its legend below.
    """
    figure, axes = _curves(len(lines))
    numbers = sorted({float(x) for line in lines for x in line.x})
    limits = (numbers[0] / 1.2, numbers[-1] * 1.2)
    ticks = {number: f"{number:g}" for number in numbers}
    scale(axes, "x", limits, across, logarithmic=True, ticks=ticks)
    values = np.concatenate([np.array([*line.y, *line.low, *line.high], float) for line in lines])
    values = np.clip(values[np.isfinite(values)], 0.0, most)
    room = 0.04 * max(float(np.ptp(values)), 0.1 * most)
    bounds = (max(float(values.min()) - room, 0.0), min(float(values.max()) + room, most))
    scale(axes, "y", bounds, quantity)
    rows = []
    for line, shift in zip(lines, np.linspace(-1, 1, len(lines)), strict=True):
        x, y, low, high = (np.array(v, float) for v in (line.x, line.y, line.low, line.high))
        x = x * 1.012**shift if len(lines) > 1 else x
        found = np.isfinite(y)
        style = marked(line.mark, line.hollow, 4.5)
        style |= {"linestyle": "-", "linewidth": 0.9 if line.hollow else 1.6}
        axes.vlines(x[found], *np.clip([low[found], high[found]], *bounds), **_upright(line.mark))
        (drawn,) = axes.plot(x[found], y[found], **style)
        ends = np.c_[low, high][found]
        read_curve(axes, line.label, np.array(line.x, float)[found], y[found], ends)
        rows.append((drawn, line.label))
    legend(figure, rows, LEFT)
    return figure


def _upright(mark: tuple[str, str]) -> dict[str, Any]:
    return {"color": mark[0], "linewidth": 0.9, "alpha": 0.7, "zorder": 1.8}


def bars(
    groups: Mapping[str, Mapping[str, float]], *, baseline: float, quantity: str, line: str
) -> Figure:
    """Values as bars that begin at a baseline, so that their lengths are the changes.

    Args:
        groups: heading -> name -> value.
        baseline: where bars begin.
        quantity: what the axis shows.
        line: what the baseline is.

    Returns:
        The figure.
    """
    headings, rows = [], []
    y = 0.05
    for heading, values in groups.items():
        # Bold type is a tenth wider.
        headings.append((fitting(heading, 1.1 * FONT, 2.2), y + ROW))
        y += 1.6 * ROW
        for name, value in values.items():
            rows.append((drawable(name), value, y + ROW / 2))
            y += ROW
    left = 0.25 + max(
        *(1.1 * text_width(heading, FONT) for heading, _ in headings),
        *(text_width(name, FONT) for name, *_ in rows),
    )
    margins = {"left": left, "right": 0.5, "bottom": BELOW, "top": 0.25}
    figure, axes = inch_axes(PHONE, BELOW + y + 0.05 + 0.25, **margins)
    changes = np.array([value - baseline for _, value, _ in rows])
    reach = 1.15 * max(0.01, *np.abs(changes))
    scale(axes, "x", (baseline - reach, baseline + reach), quantity)
    scale(axes, "y", (y + 0.05, 0.0), ticks={})
    colors = np.where(changes > 0, MORE, LESS)
    middles = [middle for *_, middle in rows]
    axes.barh(middles, changes, height=0.62 * ROW, left=baseline, color=colors)
    words = [f"{name}: {digits(value)}" for name, value, _ in rows]
    read_points(axes, [value for _, value, _ in rows], middles, words)
    axes.axvline(baseline, color=INK, linewidth=1.2)
    axes.set_title(f"{line}: {baseline:.3f}", pad=4, **WORDS)
    for heading, middle in headings:
        beside(axes, middle, heading, 0.12 - left, ha="left", weight="bold")
    for name, value, middle in rows:
        beside(axes, middle, name, -0.08, ha="right")
        beside(axes, middle, f"{value:.3f}", 0.4, end=1, ha="right")
    return figure


def _band(axes: Axes, x: Sequence[float], ends: Sequence[Sequence[float]], color: str) -> Artist:
    """Fill what lies between two curves."""
    low, high = (np.array(end, float) for end in ends)
    return axes.fill_between(x, low, high, color=color, linewidth=0)


def _curves(rows: int) -> tuple[Figure, Axes]:
    """A figure for curves, with room below for the rows of a legend."""
    bottom = BELOW + legend_height(rows)
    height = bottom + HIGH + 0.12
    return inch_axes(PHONE, height, left=LEFT, right=0.2, bottom=bottom, top=0.12)
