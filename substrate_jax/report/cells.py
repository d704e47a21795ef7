"""Cells of color with their values in them, and the scale of the colors beside them."""

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.colors import Colormap, Normalize
from matplotlib.ticker import MaxNLocator

from substrate_jax.report.drawing import Drawing, drawable, ink_on, text_width
from substrate_jax.report.text import short


def colors_of(
    values: Float[np.ndarray, "*shape"], limits: tuple[float, float], colormap: str | Colormap
) -> Float[np.ndarray, "*shape 4"]:
    """Color of each value, white for none.

    Args:
        values: NaN for none.
        limits: values of the first and last color; values beyond take the nearer one.
        colormap: from the first limit to the second.

    Returns:
        Red, green, blue and opacity from 0 to 1, in a last axis of their own.
    """
    colors = matplotlib.colormaps.get_cmap(colormap).with_extremes(bad="white")
    return colors(Normalize(*limits)(np.ma.masked_invalid(values)))


def cells(
    drawing: Drawing,
    matrix: Float[np.ndarray, "m k"],
    colored: Float[np.ndarray, "m k 4"],
    written: Bool[np.ndarray, "m k"],
    corner: tuple[float, float],
    side: float,
    size: float,
) -> None:
    """Draw colored cells with white lines between them, and the values that are to be written.

    Args:
        drawing: to draw on.
        matrix: values.
        colored: their colors.
        written: which values stand in their cells.
        corner: the lower left one, in inches.
        side: of a cell, in inches.
        size: of the type, in points.
    """
    m, k = matrix.shape
    left, bottom = corner
    wide, high = side * k, side * m
    drawing.image(colored, left, bottom, wide, high)
    for count, other, upright in ((k, high, True), (m, wide, False)):
        edges = np.arange(1, count)[:, None] * [side, side]
        ends = np.broadcast_to([0, other], edges.shape)
        across, up = (edges, ends) if upright else (ends, edges)
        drawing.lines(left + across, bottom + up, "white", 0.6)
    for i, j in np.argwhere(written):
        place = left + (j + 0.5) * side, bottom + high - (i + 0.5) * side
        drawing.text(*place, short(float(matrix[i, j])), size, color=ink_on(colored[i, j]))


def color_bar(
    drawing: Drawing,
    limits: tuple[float, float],
    quantity: str,
    corner: float,
    top: float,
    room: float,
    colormap: str | Colormap,
) -> None:
    """Draw the scale of colors with what they stand for beside it.

    Args:
        drawing: to draw on.
        limits: values of the first and last color.
        quantity: what the colors stand for.
        corner: left side of the scale, in inches.
        top: its upper end, from which it hangs, in inches.
        room: how far down it may reach, in inches.
        colormap: from the first limit to the second.
    """
    tall = max(min(room, 2.8), 0.6)
    low = top - tall
    scale = colors_of(np.linspace(limits[1], limits[0], 256), limits, colormap)
    drawing.image(scale[:, None], corner, low, 0.1, tall)
    locator = MaxNLocator(5 if tall > 0.7 else 1, steps=[1, 2, 5, 10])
    ticks = np.asarray(locator.tick_values(*limits))
    for value in ticks[(ticks >= limits[0]) & (ticks <= limits[1] + 1e-9)]:
        height = low + tall * (value - limits[0]) / (limits[1] - limits[0])
        drawing.text(corner + 0.13, height, f"{value:.2g}".replace("-", "−"), 7, ha="left")
    words = drawable(quantity, 60)
    size = min(7.5, 7.5 * (low + tall - 0.03) / text_width(words, 7.5)) if words else 7.5
    drawing.text(corner + 0.43, low + tall, words, size, ha="right", up=True)
