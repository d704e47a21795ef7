"""Strips: values stand where the axis says, dots apart, and names beside them."""

import numpy as np
import pytest

from substrate_jax.report.drawing import MARKS, PHONE, png
from substrate_jax.report.strips import OURS, PAPER, Lane, dots, strip
from substrate_jax.report.tags import Tag
from tests.report.boxes import misplaced, text_boxes

NAMES = ["depth", "_a", "a $domain$ with_quite a long name that is longer than its lane", "猫"]
KINDS = (Tag("D", "#0072b2", "one"), Tag("M", "#cc79a7", "two"), Tag("–", "#999999", "three"))


def points(figure, marker, color=None):
    """x and y of the points of a shape, and of a color if one is given, in the order drawn."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() == marker]
    lines = [line for line in lines if color in (None, line.get_color())]
    return np.concatenate([line.get_xydata() for line in lines] or [np.zeros((0, 2))])


def lanes_of(rng, count=15):
    names = (NAMES * 4)[:count]
    values = rng.uniform(0.3, 0.9, (count, 14))
    return [
        Lane(
            name,
            row,
            MARKS[i % 3],
            f"ceiling {i}.962",
            hollow=i % 2 == 1,
            middle=0.95,
            interval=(0.9, 0.99),
            paper=0.5,
        )
        for i, (name, row) in enumerate(zip(names, values, strict=True))
    ]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_every_value_of_a_strip_is_drawn_in_its_lane(logarithmic):
    lanes = [Lane("a", [0.25, 0.5, 0.75]), Lane("b", [0.5], MARKS[1], middle=0.6, paper=0.7)]
    limits = (0.2, 1.0)
    figure = strip(lanes, quantity="q", limits=limits, logarithmic=logarithmic)
    first, second = points(figure, OURS[1]), points(figure, MARKS[1][1])
    np.testing.assert_allclose(first[:, 0], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(second[:, 0], [0.5])
    assert len(set(first[:, 1])) == 1
    assert second[0, 1] > first[0, 1]
    np.testing.assert_allclose(points(figure, "|"), [[0.6, second[0, 1]]])
    np.testing.assert_allclose(points(figure, PAPER[1]), [[0.7, second[0, 1]]])
    assert figure.axes[0].get_xscale() == ("log" if logarithmic else "linear")


def test_points_say_their_values_where_they_are_drawn():
    lanes = [Lane("a", [0.25, np.nan], middle=0.5, interval=(0.2, np.inf), paper=0.7)]
    figure = strip(lanes, quantity="q", limits=(0.2, 1.0), logarithmic=True)
    first, middle, paper = figure.readings
    assert [first.words, middle.words, paper.words] == [
        "a: 0.25 (0.2 to open)",
        "a, middle: 0.5 (0.2 to open)",
        "a, published: 0.7",
    ]
    (axes,) = figure.axes
    box = axes.get_position()
    (low, high), ends = np.log(axes.get_xlim()), np.log([0.25, 0.7])
    want = box.x0 + box.width * (ends - low) / (high - low)
    np.testing.assert_allclose([first.x, paper.x], want, atol=1e-4)
    assert 1 - box.y1 < first.y < 1 - box.y0


def test_a_strip_is_widened_to_hold_every_value():
    lanes = [Lane("a", [-0.2], middle=1.3), Lane("b", [], interval=(0.1, np.inf), paper=1.5)]
    low, high = strip(lanes, quantity="q").axes[0].get_xlim()
    assert (low, high) == (-0.2, 1.5)
    low, high = (
        strip([Lane("a", [0.4, 20.0])], quantity="q", logarithmic=True, limits=(0.8, 10.0))
        .axes[0]
        .get_xlim()
    )
    assert (low, high) == (0.4 / 1.1, 20.0 * 1.1)


def test_an_open_end_of_an_interval_is_an_arrow_at_the_border():
    lanes = [Lane("a", [0.5], interval=(0.2, np.inf)), Lane("b", [], interval=(-np.inf, 0.8))]
    figure = strip(lanes, quantity="q")
    (right,), (left,) = points(figure, ">"), points(figure, "<")
    assert (right[0], left[0]) == (1.0, 0.0)
    assert points(figure, "|")[:, 0].tolist() == [0.2, 0.8]


def test_dots_of_equal_value_are_apart_as_far_as_there_are_levels():
    figure = strip([Lane("a", [0.5] * 5 + [0.9])], quantity="q")
    spots = points(figure, OURS[1])
    assert len(set(spots[:5, 1].round(6))) == 5
    assert spots[5, 1] == spots[0, 1]
    assert np.ptp(spots[:, 1]) < 0.2


@pytest.mark.parametrize("count", [1, 4, 15])
def test_texts_of_a_strip_are_in_no_one_s_way(count):
    rng = np.random.default_rng(count)
    options = {"band": (0.4, 0.6), "line": 0.5}
    figure = strip(lanes_of(rng, count), quantity="PCKA of $x$", **options)
    assert len(text_boxes(figure)) >= 2 * count + 3
    assert misplaced(figure) == []
    assert figure.get_figwidth() <= PHONE
    words = [text for text, _ in text_boxes(figure)]
    assert sum(word.startswith("ceiling") for word in words) == count
    assert png(figure)


def test_groups_of_dots_have_letters_and_a_mean_where_there_are_several():
    rows = {
        name: [(KINDS[0], [0.2, 0.4]), (KINDS[1], [0.5]), (KINDS[2], [] if name == "猫" else [0.9])]
        for name in NAMES
    }
    figure = dots(rows, quantity="calibrated CKA")
    words = [text for text, _ in text_boxes(figure)]
    assert [words.count(tag.letter) for tag in KINDS] == [4, 4, 3]
    np.testing.assert_allclose(points(figure, "|")[:, 0], [0.3] * 4)
    values = {tag.color: points(figure, "o", color=tag.color) for tag in KINDS}
    assert [len(values[tag.color]) for tag in KINDS] == [8, 4, 3]
    heights = np.sort(np.concatenate(list(values.values()))[:, 1])
    assert len(set(heights)) == 11
    assert misplaced(figure) == []
    assert figure.get_figwidth() <= PHONE
    assert png(figure)
