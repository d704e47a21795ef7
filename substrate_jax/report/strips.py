"""Strips: values in lanes that stand under each other, each lane with its name.

A strip is at most `report.drawing.PHONE` inches wide, so that a phone shows it whole. A color
never tells alone: marks differ in shape, groups bear a letter, and values stand beside the names.

Cost: about 0.1 s per figure.

Not guaranteed: that all dots of a crowded lane are apart; beyond five levels they overlap.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from substrate_jax.report.axes import (
    beside,
    inch_axes,
    inches_from,
    length,
    marked,
    read_points,
    scale,
)
from substrate_jax.report.drawing import (
    FONT,
    GRID,
    INK,
    MARKS,
    PHONE,
    drawable,
    fitting,
    text_width,
)
from substrate_jax.report.tags import Tag
from substrate_jax.report.text import digits, interval

OURS, PAPER = MARKS[0], ("#222222", "D")
BAND = "#e9e9e9"
NOTE = {"color": "#555555", "fontsize": 7.5}
# Inches: room at both sides and under the axis; then those of a lane, and where in it, from its
# top, its name and its dots have their middle.
MARGIN, BELOW = 0.15, 0.42
LANE, NAME, DOTS = 0.45, 0.12, 0.32
# Dots too close to each other go up or down by steps of so many inches.
LEVELS, STEP = (0, 1, -1, 2, -2), 0.03


@dataclasses.dataclass(frozen=True)
class Lane:
    """Values in a row under their name.

    Attributes:
        label: what they are.
        values: drawn as dots.
        mark: color and shape of the dots.
        note: stands to the right of the label.
        hollow: dots with white inside.
        middle: drawn as a black line.
        interval: drawn as a line; an end that is infinite is open, drawn as an arrow at the border.
        paper: what a publication has, drawn as a hollow diamond.
    """

    label: str
    values: Sequence[float]
    mark: tuple[str, str] = OURS
    note: str = ""
    hollow: bool = False
    middle: float | None = None
    interval: tuple[float, float] | None = None
    paper: float | None = None


def strip(
    lanes: Sequence[Lane],
    *,
    quantity: str,
    limits: tuple[float, float] = (0.0, 1.0),
    band: tuple[float, float] | None = None,
    line: float | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Values of several kinds on one axis, one lane per kind.

    Args:
        lanes: from top to bottom.
        quantity: what the axis shows.
        limits: of the axis; widened to hold every value.
        band: shaded behind all lanes.
        line: drawn through all lanes.
        logarithmic: scale of the axis.

    Returns:
        The figure.
    """
    found = [value for lane in lanes for value in _numbers(lane)]
    limits = (min([limits[0], *found]), max([limits[1], *found]))
    if logarithmic:
        limits = (limits[0] / 1.1, limits[1] * 1.1)
    figure, axes = _lanes(LANE * len(lanes) + 0.05, MARGIN, limits, quantity, logarithmic)
    y = LANE * np.arange(len(lanes)) + DOTS
    if band:
        axes.barh(y, band[1] - band[0], height=0.23, left=band[0], color=BAND, zorder=1)
    if line is not None:
        axes.vlines(np.full(len(y), line), y - 0.115, y + 0.115, color=OURS[0], linewidth=1.4)
    points = _Points()
    for lane, middle in zip(lanes, y, strict=True):
        _name(axes, lane, middle - DOTS + NAME)
        values = np.array(lane.values, float)
        heights = middle - _levels(_along(axes, values))
        points.add(values, heights, marked(lane.mark, lane.hollow, 3.8))
        if lane.interval:
            drawn = np.clip(lane.interval, *limits)
            axes.plot(drawn, [middle, middle], color=INK, linewidth=1.2, zorder=1.9)
            for end, given, arrow in zip(drawn, lane.interval, "<>", strict=True):
                shape = "|" if np.isfinite(given) else arrow
                points.add([end], [middle], marked((INK, shape), size=6.0))
        ends = interval(*lane.interval) if lane.interval else ""
        words = [f"{lane.label}: {digits(value)}{ends}" for value in lane.values]
        read_points(axes, lane.values, heights, words)
        if lane.middle is not None:
            words = [f"{lane.label}, middle: {digits(lane.middle)}{ends}"]
            read_points(axes, [lane.middle], [middle], words)
            points.add([lane.middle], [middle], _stroke(14.0))
        if lane.paper is not None:
            points.add([lane.paper], [middle], marked(PAPER, True, 5.8) | {"zorder": 3})
            words = [f"{lane.label}, published: {digits(lane.paper)}"]
            read_points(axes, [lane.paper], [middle], words)
    points.draw(axes)
    return figure


def dots(
    rows: Mapping[str, Sequence[tuple[Tag, Sequence[float]]]],
    *,
    quantity: str,
    limits: tuple[float, float] = (0.0, 1.0),
) -> Figure:
    """Values of several groups, one row per name and one lane per group.

    A black line stands at the mean of several values.

    Args:
        rows: name -> (group, its values); groups without values are left out.
        quantity: what the horizontal axis shows.
        limits: of the axis.

    Returns:
        The figure.
    """
    lanes = [
        (name, tag, np.asarray(values, np.float64))
        for name, groups in rows.items()
        for tag, values in groups
        if len(values)
    ]
    gaps = (1.55 if a[0] != b[0] else 1.0 for a, b in itertools.pairwise(lanes))
    y = 0.17 * np.cumsum([0.6, *gaps])
    middles: dict[str, list[float]] = {}
    for middle, (name, *_) in zip(y, lanes, strict=True):
        middles.setdefault(name, []).append(middle)
    left = max(text_width(drawable(name, 20), FONT) for name in middles) + 0.35
    figure, axes = _lanes(float(y[-1]) + 0.15, left, limits, quantity)
    axes.spines["left"].set_visible(False)
    axes.hlines(y, *limits, color=GRID, linewidth=0.8, zorder=1)
    points = _Points()
    for middle, (_, tag, values) in zip(y, lanes, strict=True):
        style = marked((tag.color, "o"), size=4.1) | {"markeredgewidth": 0, "alpha": 0.75}
        heights = np.full(len(values), middle)
        points.add(values, heights, style)
        lane = f"{name}, {tag.meaning}"
        read_points(axes, values, heights, [f"{lane}: {digits(value)}" for value in values])
        if len(values) > 1:
            mean = values.mean()
            points.add([mean], [middle], _stroke(10.8))
            read_points(axes, [mean], [middle], [f"{lane}, mean: {digits(mean)}"])
    points.draw(axes)
    square = {"s": 92, "marker": "s", "lw": 0, "clip_on": False}
    square["color"] = [tag.color for _, tag, _ in lanes]
    axes.scatter(np.zeros(len(y)), y, transform=inches_from(axes, -0.13), **square)
    for middle, (_, tag, _) in zip(y, lanes, strict=True):
        letter = {"color": tag.ink, "fontsize": 6, "weight": "bold", "ha": "center"}
        beside(axes, middle, tag.letter, -0.13, **letter)
    for name, found in middles.items():
        beside(axes, float(np.mean(found)), drawable(name, 20), -0.27, ha="right")
    return figure


def _lanes(
    high: float,
    left: float,
    limits: tuple[float, float],
    quantity: str,
    logarithmic: bool = False,
) -> tuple[Figure, Axes]:
    """A figure whose y axis goes down from its upper border, in inches."""
    margins = {"left": left, "right": MARGIN, "bottom": BELOW, "top": 0.08}
    figure, axes = inch_axes(PHONE, BELOW + high + 0.08, **margins)
    scale(axes, "x", limits, quantity, logarithmic=logarithmic)
    scale(axes, "y", (high, 0.0), ticks={})
    return figure, axes


def _numbers(lane: Lane) -> list[float]:
    ends = [lane.middle, lane.paper, *(lane.interval or ())]
    return [*lane.values, *(end for end in ends if end is not None and np.isfinite(end))]


def _name(axes: Axes, lane: Lane, y: float) -> None:
    """The label of a lane on the left, shortened to leave room for its note on the right."""
    note = drawable(lane.note, 60)
    room = length(axes, "x") - text_width(note, NOTE["fontsize"]) - 0.25
    beside(axes, y, fitting(lane.label, FONT, room), 0.06, ha="left")
    beside(axes, y, note, -0.03, end=1, ha="right", **NOTE)


class _Points:
    """Points gathered by how they look: what looks alike is drawn at once, which saves time."""

    def __init__(self):
        self.found: dict[tuple, list[tuple[float, float]]] = {}

    def add(self, x: Iterable[float], y: Iterable[float], style: dict[str, Any]) -> None:
        """Keep points with a style of `axes.marked`."""
        self.found.setdefault(tuple(style.items()), []).extend(zip(x, y, strict=True))

    def draw(self, axes: Axes) -> None:
        """Draw all."""
        for style, places in self.found.items():
            axes.plot(*np.array(places).reshape(-1, 2).T, **dict(style))


def _stroke(size: float) -> dict[str, Any]:
    """An upright line over the points of a lane, its size in points."""
    return marked(("black", "|"), size=size) | {"markeredgewidth": 1.9, "zorder": 3}


def _along(axes: Axes, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Inches of values along the x axis."""
    pixels = axes.transData.transform(np.c_[values, np.zeros(len(values))])[:, 0]
    return pixels * length(axes, "x") / axes.bbox.width


def _levels(x: Float[np.ndarray, " n"], apart: float = 0.055) -> Float[np.ndarray, " n"]:
    """Heights that keep dots apart, in ascending order of x, as far as there are levels."""
    heights, last = np.zeros(len(x)), np.full(len(LEVELS), -np.inf)
    for i in np.argsort(x, kind="stable"):
        free = np.flatnonzero(x[i] - last >= apart)
        level = free[0] if len(free) else np.argmin(last)
        heights[i], last[level] = STEP * LEVELS[level], x[i]
    return heights
