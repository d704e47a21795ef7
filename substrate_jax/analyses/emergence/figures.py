"""Figures of a training: curves over the logarithm of steps, a thin line per seed, and their mean.

The horizontal axis is log(1 + step), so that the untrained network has a place.

Cost: about 0.1 s per figure.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from substrate_jax.report.axes import inch_axes, legend, legend_height, marked, read_points, scale
from substrate_jax.report.drawing import PHONE
from substrate_jax.report.text import digits

LEFT, HIGH, BELOW = 0.6, 2.5, 0.45
EPOCH = {"color": "#999999", "linewidth": 0.9, "zorder": 1.5}


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """A curve of several seeds.

    Attributes:
        label: in the legend.
        values: [s, T]; NaN where there are none.
        mark: color and shape of the mean.
    """

    label: str
    values: Float[np.ndarray, "s T"]
    mark: tuple[str, str]


def trajectories(
    lines: Sequence[Line], steps: Sequence[int], *, per_epoch: int, quantity: str
) -> Figure:
    """Curves over steps.

    Args:
        lines: in the order of the legend.
        steps: [T] watched, from 0.
        per_epoch: a line stands at the end of the first epoch.
        quantity: what the upright axis shows.

    Returns:
        The figure, its legend below.
    """
    bottom = BELOW + legend_height(len(lines))
    figure, axes = inch_axes(
        PHONE, bottom + HIGH + 0.12, left=LEFT, right=0.2, bottom=bottom, top=0.12
    )
    x = 1.0 + np.array(steps)
    ticks = {float(at): f"{step:,}" for at, step in zip(x, steps, strict=True)}
    scale(axes, "x", (0.93, 1.07 * x[-1]), "step (logarithmic)", logarithmic=True, ticks=ticks)
    values = np.concatenate([line.values.ravel() for line in lines])
    values = values[np.isfinite(values)]
    low, high = min(float(values.min()), 0.0), float(values.max())
    room = 0.04 * (high - low or 1.0)
    scale(axes, "y", (low - (room if low < 0 else 0), high + room), quantity)
    axes.axvline(1 + per_epoch, **EPOCH)
    rows = []
    for line in lines:
        if len(line.values) > 1:
            axes.plot(x, line.values.T, color=line.mark[0], linewidth=0.7, alpha=0.5, zorder=1.8)
        style = marked(line.mark, size=4.0) | {"linestyle": "-", "linewidth": 1.6}
        mean = line.values.mean(axis=0)
        (drawn,) = axes.plot(x, mean, **style)
        words = [
            f"{line.label} at step {step:,}: {digits(value)}"
            for step, value in zip(steps, mean, strict=True)
        ]
        read_points(axes, x, mean, words)
        rows.append((drawn, line.label))
    legend(figure, rows, LEFT)
    return figure
