"""Axes of matplotlib in the style of a report: placed in inches, with numbers that have room.

There is no pyplot, hence no global state, so that several threads may draw. No text is read as
mathematics: a name may hold any character.

Cost: about 15 ms for the axes and 0.5 ms for each text.

Not guaranteed: that names fit beside the axes; whoever asks for axes leaves room for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform

from substrate_jax.report.drawing import (
    FONT,
    GRID,
    INK,
    Drawn,
    Point,
    fitting,
    new_figure,
    rounded,
    text_width,
)
from substrate_jax.report.text import digits, interval

Side = Literal["x", "y"]

TICK_FONT = FONT - 0.5
MOST_NUMBERS = 7
# Inches that a number takes: wide on the x axis, high on the y axis.
NUMBER_ROOM = {"x": 0.4, "y": 0.3}
LEGEND_ROW, LEGEND_GAP = 0.18, 0.57
# What every text is given: its type, and that a dollar is a dollar.
WORDS: dict[str, Any] = {"color": INK, "fontsize": FONT, "parse_math": False}


def inch_axes(
    width: float, height: float, *, left: float, right: float, bottom: float, top: float
) -> tuple[Drawn, Axes]:
    """A figure with one pair of axes.

    Args:
        width: of the figure, in inches.
        height: of the figure, in inches.
        left: from the figure's left border to the axes, in inches.
        right: from the figure's right border to the axes, in inches.
        bottom: from the figure's lower border to the axes, in inches.
        top: from the figure's upper border to the axes, in inches.

    Returns:
        The figure and its axes.
    """
    figure = new_figure(width, height)
    size = ((width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes((left / width, bottom / height, *size))
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(linewidth=0.8, edgecolor=INK)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.7)
    axes.tick_params(length=0, labelsize=TICK_FONT, labelcolor=INK)
    return figure, axes


def scale(
    axes: Axes,
    side: Side,
    limits: tuple[float, float],
    title: str = "",
    *,
    logarithmic: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> None:
    """Set limits, numbers and title of one of the axes.

    Args:
        axes: of `inch_axes`.
        side: which one.
        limits: where it begins and ends.
        title: what it shows.
        logarithmic: whether its scale is.
        ticks: value -> what stands there, in ascending order; those that would touch the one before
            are left out. None for round numbers.
    """
    room = length(axes, side)
    if ticks is None:
        ticks = round_numbers(limits, int(room / NUMBER_ROOM[side]), logarithmic)
    ends, values = (np.array(list(v), float) for v in (limits, ticks))
    if logarithmic:
        ends, values = np.log(ends), np.log(values)
    places = room * (values - ends[0]) / (ends[1] - ends[0])
    apart = [text_width(label, TICK_FONT) if side == "x" else 0.1 for label in ticks.values()]
    shown = [list(ticks)[i] for i in _apart(places, np.array(apart) + 0.1)]
    axes.set(**{f"{side}scale": "log" if logarithmic else "linear"})
    axis: Axis = getattr(axes, f"{side}axis")
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(shown, [ticks[value] for value in shown], parse_math=False)
    axis.set_label_text(fitting(title, FONT, room), **WORDS)
    axes.set(**{f"{side}lim": limits})


def length(axes: Axes, side: Side) -> float:
    """Inches of one of the axes."""
    pixels = axes.bbox.width if side == "x" else axes.bbox.height
    return pixels / cast(Figure, axes.figure).dpi


def round_numbers(
    limits: tuple[float, float], most: int = MOST_NUMBERS, logarithmic: bool = False
) -> dict[float, str]:
    """About so many round numbers between two limits, and how they are written.

    Example:
        >>> round_numbers((-0.5, 0.5), 3)
        {-0.5: '−0.5', 0.0: '0', 0.5: '0.5'}
        >>> list(round_numbers((0.8, 12.0), logarithmic=True).values())
        ['1', '2', '5', '10']
    """
    most = int(np.clip(most, 2, MOST_NUMBERS))
    if logarithmic:
        values = _inside(_powers(limits, (1, 2, 5)), limits)
        values = values if len(values) <= most else _inside(_powers(limits, (1,)), limits)
    else:
        values = _inside(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(*limits), limits)
    return {float(v): digits(v) for v in values + 0.0}


def _powers(limits: tuple[float, float], digits: Sequence[int]) -> list[float]:
    low, high = np.floor(np.log10(limits)).astype(int)
    return [digit * 10.0**exponent for exponent in range(low, high + 1) for digit in digits]


def _inside(values: Sequence[float], limits: tuple[float, float]) -> Float[np.ndarray, " n"]:
    found = np.asarray(values, float)
    return found[(found >= limits[0] - 1e-9) & (found <= limits[1] + 1e-9)]


def _apart(places: Float[np.ndarray, " n"], sizes: Float[np.ndarray, " n"]) -> Iterator[int]:
    """Which of the things at ascending places do not touch the one kept before."""
    reached = -np.inf
    for i, (place, size) in enumerate(zip(places, sizes, strict=True)):
        if place - size / 2 >= reached:
            reached = place + size / 2
            yield i


def marked(mark: tuple[str, str], hollow: bool = False, size: float = 5.5) -> dict[str, Any]:
    """Arguments of `Axes.plot` for points of a color and a shape, without a line.

    Args:
        mark: color and shape.
        hollow: white inside.
        size: in points.
    """
    color, shape = mark
    return {
        "color": color,
        "linestyle": "none",
        "marker": shape,
        "markersize": size,
        "markeredgewidth": 1.2,
        "markerfacecolor": "white" if hollow else color,
        "clip_on": False,
    }


def beside(axes: Axes, y: float, words: str, inches: float, *, end: int = 0, **style) -> None:
    """Write a line at a height of the y axis.

    Args:
        axes: of `inch_axes`.
        y: middle of the line, as the y axis counts.
        words: the line.
        inches: from the end of the x axis; negative for left of it.
        end: of the x axis, 0 for left and 1 for right.
        style: other than `WORDS`, as `Axes.text` takes it.
    """
    written: dict[str, Any] = {"va": "center_baseline", "transform": inches_from(axes, inches)}
    axes.text(end, y, words, **written | WORDS | style)


def read_points(
    axes: Axes,
    x: Sequence[float] | Float[np.ndarray, " n"],
    y: Sequence[float] | Float[np.ndarray, " n"],
    words: Iterable[str],
) -> None:
    """Have points say something in a page, where the pointer is near or arrow keys have come.

    Args:
        axes: of `inch_axes`, their limits set.
        x: as the x axis counts; a point without a number is left out.
        y: as the y axis counts.
        words: of each point.
    """
    figure = cast(Drawn, axes.figure)
    places = axes.transData.transform(np.column_stack([x, y])) / figure.bbox.size
    for (across, up), text in zip(places, words, strict=True):
        if np.isfinite(across + up):
            figure.readings.append(Point(rounded(across), rounded(1 - up), text))


def read_curve(
    axes: Axes,
    label: str,
    x: Sequence[float] | Float[np.ndarray, " n"],
    y: Sequence[float] | Float[np.ndarray, " n"],
    ends: Sequence[tuple[float, float]] | Float[np.ndarray, "n 2"] | None = None,
) -> None:
    """Have the points of a curve say their values in a page, as `read_points`.

    Args:
        axes: of `inch_axes`, their limits set.
        label: of the curve.
        x: where its points are.
        y: their values.
        ends: of their intervals; NaN for none.
    """
    within = [""] * len(x) if ends is None else [interval(*pair) for pair in ends]
    words = [
        f"{label} at {digits(a)}: {digits(b)}{c}" for a, b, c in zip(x, y, within, strict=True)
    ]
    read_points(axes, x, y, words)


def inches_from(axes: Axes, inches: float) -> Transform:
    """Takes an end of the x axis, 0 or 1, and a y of the y axis, to so many inches to the right."""
    to_pixels = cast(Figure, axes.figure).dpi_scale_trans
    return axes.get_yaxis_transform() + ScaledTranslation(inches, 0, to_pixels)


def legend(figure: Figure, rows: Sequence[tuple[Artist, str]], left: float) -> None:
    """List marks and what they mean at the lower border, one per row of `LEGEND_ROW` inches.

    Args:
        figure: of `inch_axes`, its lower border `legend_height` away from what stands above.
        rows: what is drawn, and its label.
        left: inches from the left border.
    """
    handles, labels = zip(*rows, strict=True)
    room = figure.get_figwidth() - left - 0.35
    listed = figure.legend(
        handles,
        [""] * len(rows),
        loc="lower left",
        bbox_to_anchor=(left, 0.06),
        bbox_transform=figure.dpi_scale_trans,
        frameon=False,
        fontsize=FONT,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        handletextpad=0.6,
        labelspacing=LEGEND_GAP,
    )
    for text, label in zip(listed.get_texts(), labels, strict=True):
        text.set(text=fitting(label, FONT, room), **WORDS)


def legend_height(rows: int) -> float:
    """Inches that `legend` takes at the lower border."""
    return LEGEND_ROW * rows + 0.06
