"""Curves and bars: their points, what tells them apart, and the words beside them."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from substrate_jax.report.drawing import PHONE, png
from substrate_jax.report.plots import LESS, MORE, bars, sweep, variance
from tests.report.boxes import misplaced

KS = [4, 8, 16, 24, 25, 64]
MEDIAN = np.array([0.9, 0.8, 0.7, 0.65, 0.64, 0.6])
WORDS = {
    "median": "median over pairs of domains",
    "interval": "its 95% interval",
    "spread": "from the least pair to the greatest",
    "paper": "paper: median of its four domains, another panel",
}
NAMES = [f"a $domain$ with_quite a long name {i}" for i in range(15)]


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("interval", [None, (MEDIAN - 0.03, MEDIAN + 0.03)])
@pytest.mark.parametrize("paper", [{}, {16: 0.7, 32: 0.6}])
def test_a_sweep_lists_what_it_has(interval, paper):
    spread = (MEDIAN - 0.3, np.minimum(MEDIAN + 0.2, 1))
    figure = sweep(KS, MEDIAN, interval=interval, spread=spread, paper=paper, k=16, names=WORDS)
    kept = {"median": True, "interval": interval is not None, "spread": True, "paper": bool(paper)}
    assert labels(figure) == [WORDS[key] for key, shown in kept.items() if shown]
    curves = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    np.testing.assert_allclose(curves[-1].get_xydata(), np.c_[KS, MEDIAN])
    if paper:
        np.testing.assert_allclose(curves[0].get_xydata(), [[16, 0.7], [32, 0.6]])
    assert figure.get_figwidth() <= PHONE
    assert misplaced(figure) == []
    assert png(figure)


def test_a_sweep_may_lack_values():
    median = [0.9, None, 0.7]
    figure = sweep(
        [4, 8, 16], median, interval=None, spread=(median, median), paper={}, k=8, names=WORDS
    )
    assert png(figure)


def test_no_two_curves_of_the_variance_look_alike():
    rng = np.random.default_rng(2)
    shares = {name: rng.dirichlet(np.ones(20 + i)) * 0.87 for i, name in enumerate(NAMES)}
    figure = variance(shares, k=16)
    curves = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len({(line.get_color(), line.get_marker()) for line in curves}) == len(NAMES)
    sums = {name: np.cumsum(values) for name, values in shares.items()}
    order = sorted(NAMES, key=lambda name: -sums[name][15])
    for curve, name, label in zip(curves, order, labels(figure), strict=True):
        np.testing.assert_allclose(curve.get_ydata(), sums[name])
        np.testing.assert_allclose(curve.get_xdata(), np.arange(1, len(sums[name]) + 1))
        assert label.endswith(f": {sums[name][15]:.2f} at 16".replace("0.", "."))
    assert figure.axes[0].get_ylim() == (0.0, 0.9)
    assert misplaced(figure) == []
    assert figure.get_figwidth() <= PHONE


def test_a_domain_of_fewer_components_than_k_is_shown_to_its_end():
    figure = variance({"a": [0.5, 0.25], "b": [0.25, 0.25, 0.25]}, k=16)
    assert labels(figure) == ["a: .75 at 16", "b: .75 at 16"]


def test_bars_begin_at_the_baseline_and_tell_their_sign_by_side_and_color():
    groups = {
        "without one encoder": dict(zip(NAMES, 0.7 + 0.01 * np.arange(-7, 8), strict=True)),
        "without one of a very long heading " * 3: {"vit": 0.7},
    }
    figure = bars(groups, baseline=0.7, quantity="median $PCKA$", line="all encoders")
    (axes,) = figure.axes
    assert len(axes.patches) == 16
    rows = [value for values in groups.values() for value in values.values()]
    for bar, value in zip(axes.patches, rows, strict=True):
        assert bar.get_x() == 0.7
        assert bar.get_width() == pytest.approx(value - 0.7)
    colors = [to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert colors[:15] == [LESS] * 8 + [MORE] * 7
    heights = [bar.get_y() for bar in axes.patches]
    assert heights == sorted(heights)
    assert axes.yaxis_inverted()
    words = [text.get_text() for text in axes.texts]
    assert [word for word in words if word[:2] == "0."] == [f"{value:.3f}" for value in rows]
    assert axes.get_title() == "all encoders: 0.700"
    assert misplaced(figure) == []
    assert figure.get_figwidth() <= PHONE


def test_bars_of_no_change_have_an_axis():
    figure = bars({"h": {"a": 0.5}}, baseline=0.5, quantity="q", line="l")
    assert figure.axes[0].get_xlim() == pytest.approx((0.4885, 0.5115))
    assert png(figure)
