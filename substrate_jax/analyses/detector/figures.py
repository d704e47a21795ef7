"""Figures of a detector: reliability, and accuracy against the share of images that are answered.

Cost: about 0.1 s per figure.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.analyses.detector.calibration import Bin
from substrate_jax.report.axes import inch_axes, legend, legend_height, marked, read_curve, scale
from substrate_jax.report.drawing import INK, MARKS, PHONE
from substrate_jax.report.text import counted

LEFT, HIGH, BELOW = 0.6, 2.5, 0.45
DIAGONAL = {"color": "#999999", "linewidth": 0.9, "zorder": 1.5}


def reliability(bins: Sequence[Bin]) -> Figure:
    """Accuracy against confidence, in percent, with intervals and the diagonal.

    Args:
        bins: by confidence.

    Returns:
        The figure, its legend below.
    """
    figure, axes = inch_axes(
        PHONE, BELOW + HIGH + 0.12 + legend_height(2), left=LEFT, right=0.2,
        bottom=BELOW + legend_height(2), top=0.12,
    )  # fmt: skip
    x = [100 * one.confidence for one in bins]
    low = 10 * np.floor(min([*x, *(100 * one.accuracy.low for one in bins), 90]) / 10)
    scale(axes, "x", (low, 100.5), "confidence, %")
    scale(axes, "y", (low, 100.5), "accuracy, %")
    (line,) = axes.plot([low, 100], [low, 100], **DIAGONAL)
    ends = [(100 * one.accuracy.low, 100 * one.accuracy.high) for one in bins]
    for at, pair in zip(x, ends, strict=True):
        axes.plot([at, at], pair, color=INK, linewidth=1.2, zorder=1.9)
    y = [100 * one.accuracy.value for one in bins]
    (dots,) = axes.plot(x, y, **marked(MARKS[0]))
    read_curve(axes, "accuracy", x, y, ends)
    most = max(one.rows for one in bins)
    words = f"bins of {counted(1, 'row')} to {most:,}, 95% intervals over rows"
    legend(figure, [(dots, words), (line, "perfectly calibrated")], LEFT)
    return figure


def coverage(
    curves: Mapping[str, Sequence[float]], coverages: Sequence[float], best: Sequence[float]
) -> Figure:
    """Accuracy of the answered rows against the share that is answered, in percent.

    Args:
        curves: score -> accuracy at each coverage, in [0, 1].
        coverages: shares answered.
        best: accuracy if every wrong answer were the first to be withheld.

    Returns:
        The figure, its legend below in the order of the curves at 80%.
    """
    rows = len(curves) + 1
    bottom = BELOW + legend_height(rows)
    figure, axes = inch_axes(
        PHONE, bottom + HIGH + 0.12, left=LEFT, right=0.2, bottom=bottom, top=0.12
    )
    x = 100 * np.array(coverages)
    values = np.array([*curves.values(), best])
    low = 10 * np.floor(10 * values.min())
    scale(axes, "x", (x[0] - 1, 101), "answered, % of known and unknown rows")
    scale(axes, "y", (low, 100.5), "right, % of the answered")
    (line,) = axes.plot(x, 100 * np.array(best), **DIAGONAL)
    drawn = []
    at = int(np.argmin(np.abs(np.array(coverages) - 0.8)))
    for (name, curve), mark in zip(curves.items(), MARKS, strict=False):
        style = marked(mark, size=4.5) | {"linestyle": "-", "linewidth": 1.3}
        (one,) = axes.plot(x, 100 * np.array(curve), **style)
        read_curve(axes, name, x, 100 * np.array(curve))
        drawn.append((one, f"{name}: {100 * curve[at]:.1f}% right at 80% answered", -curve[at]))
    drawn.sort(key=lambda one: one[2])
    best_words = "if every wrong answer were withheld first"
    legend(figure, [*((one, words) for one, words, _ in drawn), (line, best_words)], LEFT)
    return figure
