"""Where text stands in a figure, and which texts are in each other's way."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from substrate_jax.report.drawing import TEXT

HAIR = 0.01  # inches


def text_boxes(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Each text with its lower left and upper right corner, in inches.

    Text of matplotlib is known by its words, the outlines of a `Drawing` by their number.
    """
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    found = [
        (text.get_text(), text.get_window_extent(renderer).get_points() / figure.dpi)
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text()
    ]
    # The axes of a drawing are in inches.
    outlines = (part for part in figure.findobj(PathCollection) if part.get_gid() == TEXT)
    paths = itertools.chain.from_iterable(part.get_paths() for part in outlines)
    found += [
        (f"outline {number}", path.get_extents().get_points()) for number, path in enumerate(paths)
    ]
    return found


def misplaced(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that share more than a hair of the figure, and texts that leave it."""
    boxes, size = text_boxes(figure), figure.get_size_inches()
    found = [
        (name, "border")
        for name, (low, high) in boxes
        if (low < -HAIR).any() or (high > size + HAIR).any()
    ]
    for (one, (low, high)), (other, (bottom, top)) in itertools.combinations(boxes, 2):
        if (np.minimum(high, top) - np.maximum(low, bottom)).min() > HAIR:
            found.append((one, other))
    return found
