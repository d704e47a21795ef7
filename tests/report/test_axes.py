"""Axes in inches: their place, and numbers that do not touch."""

import numpy as np
import pytest

from substrate_jax.report.axes import (
    inch_axes,
    legend,
    legend_height,
    length,
    marked,
    round_numbers,
    scale,
)
from substrate_jax.report.drawing import png
from tests.report.boxes import misplaced


def axes_of(width=4.0, height=3.0):
    return inch_axes(width, height, left=0.6, right=0.3, bottom=0.5, top=0.2)


def test_axes_stand_where_they_were_asked_for():
    figure, axes = axes_of()
    assert length(axes, "x") == pytest.approx(4 - 0.9)
    assert length(axes, "y") == pytest.approx(3 - 0.7)
    corner = axes.get_position().p0 * figure.get_size_inches()
    np.testing.assert_allclose(corner, [0.6, 0.5])


@pytest.mark.parametrize(
    ("limits", "logarithmic", "want"),
    [
        ((0.0, 1.0), False, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((-0.3, 0.1), False, ["−0.3", "−0.2", "−0.1", "0", "0.1"]),
        ((0.8, 12.0), True, ["1", "2", "5", "10"]),
        ((0.01, 300.0), True, ["0.01", "0.1", "1", "10", "100"]),
    ],
)
def test_numbers_are_round_and_lie_between_the_limits(limits, logarithmic, want):
    assert list(round_numbers(limits, 6, logarithmic).values()) == want


@pytest.mark.parametrize("width", [1.5, 2.4, 5.0])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_numbers_that_would_touch_are_left_out(width, logarithmic):
    figure, axes = axes_of(width)
    values = [2.0**i for i in range(18)]
    ticks = {value: f"{value:,.0f}" for value in values}
    scale(axes, "x", (1.0, values[-1]), "size", logarithmic=logarithmic, ticks=ticks)
    scale(axes, "y", (0.001, 1e9), "seconds $", logarithmic=True)
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert 1 < len(shown) < 18
    assert shown[0] == "1"
    assert set(shown) <= set(ticks.values())
    assert misplaced(figure) == []


def test_legends_show_any_name_and_stay_in_their_room():
    rows = [f"_name {i} of $x^2" for i in range(5)] + ["a name " * 12]
    figure, axes = axes_of(3.0, 3.0)
    drawn = [axes.plot([0], [i], **marked(("#0072b2", "o")))[0] for i in range(6)]
    legend(figure, list(zip(drawn, rows, strict=True)), 0.3)
    (found,) = figure.legends
    texts = [text.get_text() for text in found.get_texts()]
    assert texts[:5] == rows[:5]
    assert "…" in texts[5]
    assert png(figure)
    top = found.get_window_extent().y1 / figure.dpi
    assert 0 < legend_height(6) - top < 0.1
