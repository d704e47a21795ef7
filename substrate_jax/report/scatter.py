"""Points of two quantities, of which two are named: what a choice takes, and what it misses.

As wide as a phone. All points are alike but the chosen one and the best, which differ in color and
shape and are named below.

Cost: about 0.05 s per figure.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.report.axes import inch_axes, legend, legend_height, marked, read_points, scale
from substrate_jax.report.drawing import MARKS, PHONE, drawable
from substrate_jax.report.text import digits, number

LEFT, HIGH, BELOW = 0.6, 2.2, 0.45
POINTS, CHOSEN, BEST = ("#999999", "o"), MARKS[1], MARKS[2]


def scatter(points: Mapping[str, tuple[float, float]], *, x: str, y: str) -> Figure:
    """Points by name; the one that is rightmost and the one on top are told apart.

    Args:
        points: name -> x, y, all finite.
        x: what the choice is by, in words.
        y: what it is judged by, in words.

    Returns:
        The figure, its legend below: the point of highest x and that of highest y, the first of
        those that are equal.

    Raises:
        ValueError: no point.
    """
    if not points:
        raise ValueError("no points to draw; give one or more")
    names, values = list(points), np.array(list(points.values()), float)
    chosen, best = (int(place) for place in values.argmax(axis=0))
    bottom = BELOW + legend_height(2)
    figure, axes = inch_axes(
        PHONE, bottom + HIGH + 0.12, left=LEFT, right=0.2, bottom=bottom, top=0.12
    )
    scale(axes, "x", _around(values[:, 0]), x)
    scale(axes, "y", _around(values[:, 1]), y)
    axes.plot(*values.T, **marked(POINTS, hollow=True))
    words = [f"{name}: {digits(a)}, {digits(b)}" for name, (a, b) in points.items()]
    read_points(axes, values[:, 0], values[:, 1], words)
    rows = []
    for place, mark, word in ((chosen, CHOSEN, "chosen"), (best, BEST, "best")):
        # The best is drawn hollow over the chosen one, so that both show where they are the same.
        style = marked(mark, hollow=mark is BEST, size=6 if mark is CHOSEN else 10)
        (drawn,) = axes.plot(*values[place], **style)
        rows.append((drawn, f"{word}: {drawable(names[place], 34)}, {number(values[place, 1])}"))
    legend(figure, rows, LEFT)
    return figure


def _around(values: np.ndarray) -> tuple[float, float]:
    """Limits with room around the points, and of some width where all are equal."""
    low, high = float(values.min()), float(values.max())
    room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room
