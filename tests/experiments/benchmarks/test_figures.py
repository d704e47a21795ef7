"""Figures of speed: the law through points, the ceilings over them, and legends below."""

import itertools

import numpy as np
import pytest

from experiments.benchmarks.figures import Curve, growth, roofline
from substrate_jax.report.drawing import PHONE, all_marks, png
from tests.report.boxes import misplaced

NAME = "pairwise_kernel of a $form$ that nobody would call short, {}"


def curves_of(count: int, sizes: int) -> list[Curve]:
    rng = np.random.default_rng(count)
    x = [2.0 ** (7 + i) for i in range(sizes)]
    return [
        Curve(NAME.format(i), x, (1e-9 * rng.uniform(1, 9) * np.array(x) ** 2).tolist(), mark)
        for i, mark in enumerate(itertools.islice(all_marks(), count))
    ]


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_law_goes_through_the_points_of_its_curve():
    x, seconds = [128, 512, 4096], [3e-9 * n**1.5 for n in (128, 512, 4096)]
    figure = growth([Curve("ours", x, seconds, ("#0072b2", "o"))], x_title="rows N")
    law, points = figure.axes[0].lines
    np.testing.assert_allclose(points.get_xydata(), np.c_[x, seconds])
    ends = [[128, seconds[0]], [4096, seconds[2]]]
    np.testing.assert_allclose(law.get_xydata(), ends, rtol=1e-6)
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("log", "log")


def test_one_size_has_no_law():
    figure = growth([Curve("ours", [512], [0.02], ("#0072b2", "o"), True)], x_title="rows N")
    (points,) = figure.axes[0].lines
    assert points.get_markerfacecolor() == "white"
    assert labels(figure) == ["ours"]
    assert png(figure)


def test_rates_stand_under_the_ceilings_of_the_machine():
    curves = [Curve("ours", [0.5, 300.0], [5e9, 2e11], ("#0072b2", "o"))]
    figure = roofline(curves, compute=2.85e11, bandwidth=1.2e10)
    ceiling, points = figure.axes[0].lines
    np.testing.assert_allclose(points.get_xydata(), [[0.5, 5e9], [300.0, 2e11]])
    x, y = ceiling.get_xydata().T
    np.testing.assert_allclose(y, np.minimum(2.85e11, 1.2e10 * x))
    assert x[1] == 2.85e11 / 1.2e10
    first, second = labels(figure)
    assert "copy 12.0 GB/s" in first
    assert "matrix product 285 GF/s" in first
    assert second == "ours"


@pytest.mark.parametrize("count", [1, 6, 20])
@pytest.mark.parametrize("sizes", [1, 3, 12])
def test_texts_are_in_no_one_s_way_and_figures_fit_a_phone(count, sizes):
    curves = curves_of(count, sizes)
    figures = [
        growth(curves, x_title="rows N"),
        roofline(curves, compute=2.85e11, bandwidth=1.2e10),
    ]
    for figure in figures:
        assert len(labels(figure)) >= count
        assert misplaced(figure) == []
        assert figure.get_figwidth() <= PHONE
