"""Heat maps: order, colors and what is written in the cells."""

import functools
import io
import itertools

import matplotlib
import numpy as np
import pytest
from PIL import Image

from substrate_jax.report import drawing, heatmaps, tags
from tests.analyses.cka.synthetic import symmetric
from tests.helpers import long
from tests.report.boxes import misplaced, text_boxes

NAME = "a name_of some $length$ 猫"


def test_clustering_brings_groups_together():
    rng = np.random.default_rng(3)
    groups = rng.permutation([0, 0, 0, 1, 1, 1, 2, 2, 2])
    similarity = np.where(groups[:, None] == groups, 0.9, 0.1) + symmetric(rng, 9, 0, 0.05, 0)
    ordered = groups[heatmaps.leaves(heatmaps.cluster(similarity), 9)]
    assert np.sum(np.diff(ordered) != 0) == 2


def test_cells_have_the_color_of_their_value_in_the_order_of_the_tree():
    matrix = np.array([[1.0, 0.25, 0.75], [0.25, 1.0, -0.5], [0.75, -0.5, 1.0]])
    size = heatmaps.CellSize(1.5, 0.1, 0.5, 8)
    tree = heatmaps.cluster(matrix)
    names = ["a", "b", "c"]
    figure = heatmaps.heatmap(matrix, names, quantity="q", size=size, tree=tree)
    (axes,) = figure.axes
    colors = np.asarray(axes.images[0].get_array())
    order = heatmaps.leaves(tree, 3)
    i, j = order.index(0), order.index(2)
    viridis = matplotlib.colormaps[heatmaps.COLORMAP]
    np.testing.assert_allclose(colors[i, j], viridis(0.75))
    i, j = order.index(1), order.index(2)
    np.testing.assert_allclose(colors[i, j], viridis(0.0))


def test_cells_say_their_values_where_they_are_drawn():
    matrix = np.array([[1.0, 0.25, 0.75], [0.25, 1.0, np.nan], [0.75, np.nan, 1.0]])
    tree = heatmaps.cluster(matrix)
    figure = heatmaps.heatmap(matrix, [NAME, "b", "c"], quantity="q", tree=tree)
    (found,) = figure.readings
    assert list(found.rows) == list(found.columns)
    i, j, k = (found.rows.index(name) for name in (NAME, "b", "c"))
    assert [found.values[i][j], found.values[k][i], found.values[j][k]] == ["0.250", "0.750", "–"]
    (axes,) = figure.axes
    left, right, bottom, top = axes.images[0].get_extent()
    wide, high = figure.get_size_inches()
    want = [left / wide, 1 - top / high, (right - left) / wide, (top - bottom) / high]
    np.testing.assert_allclose(found.box, want, atol=1e-4)


def test_colors_survive_the_png_exactly():
    rng, m = np.random.default_rng(5), 20
    matrix, marks = symmetric(rng, m, 0, 1, 1), list(tags.PARADIGMS.values()) * 5
    names = [f"encoder_{i}" for i in range(m)]
    file = drawing.png(heatmaps.heatmap(matrix, names, quantity="q", tags=marks))
    pixels = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).reshape(-1, 3)
    present = {tuple(color) for color in pixels.tolist()}
    viridis = matplotlib.colormaps[heatmaps.COLORMAP]
    ends = viridis(np.array([0.0, 1.0]), bytes=True)[:, :3]
    cells = viridis(matrix[np.triu_indices(m, 1)], bytes=True)[:, :3]
    for color in (*ends, *cells, (255, 255, 255)):
        assert tuple(map(int, color)) in present


def test_values_are_written_below_the_diagonal_alone():
    size = heatmaps.CellSize(1.8, 0.1, 0.6, 8)
    matrix = np.full((3, 3), 0.5)
    blank = drawing.png(heatmaps.heatmap(matrix, [""] * 3, quantity="", size=size))
    pixels = np.asarray(Image.open(io.BytesIO(blank)).convert("RGB"))
    # Right of and below the margins of an unlabeled map.
    left, top, side = (round(inches * 96 * drawing.PIXEL_RATIO) for inches in (0.1, 0.08, 0.6))
    for i, j in itertools.product(range(3), repeat=2):
        rows = slice(top + i * side + 9, top + (i + 1) * side - 9)
        columns = slice(left + j * side + 9, left + (j + 1) * side - 9)
        colors = len(np.unique(pixels[rows, columns].reshape(-1, 3), axis=0))
        assert (colors > 1) == (i > j), (i, j)


@pytest.mark.parametrize("count", [1, 3])
def test_a_matrix_that_does_not_fit_its_names_is_refused(count):
    names = ["a"] * count
    for draw in (heatmaps.heatmap, functools.partial(heatmaps.grid, columns=names)):
        with pytest.raises(ValueError, match=rf"shape \(2, 2\); give {count} x {count}") as error:
            draw(np.eye(2), names, quantity="q")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("m", [1, long(3), 15])
def test_texts_of_heat_maps_are_in_no_one_s_way(m):
    rng = np.random.default_rng(m)
    matrix, names = symmetric(rng, m, 0, 1, 1), [f"{NAME} {i}" for i in range(m)]
    marks = (list(tags.PARADIGMS.values()) * 4)[:m]
    tree = heatmaps.cluster(matrix)
    map_of = functools.partial(heatmaps.heatmap, matrix, names, quantity=NAME, tree=tree)
    titles = ("layer", "layer of the other")
    figures = [map_of(), map_of(size=heatmaps.LARGE, tags=marks, draw_tree=True)]
    figures += [heatmaps.grid(matrix[:2], names[:2], names, quantity=NAME, titles=titles)]
    for figure in figures:
        assert len(text_boxes(figure)) >= m
        assert misplaced(figure) == []


def test_correlations_stand_in_groups_and_fit_a_phone():
    rng = np.random.default_rng(7)
    correlation = rng.uniform(-1, 1, (32, 5))
    correlation[:, 1] = np.nan
    features = [f"{NAME} {i}" for i in range(5)]
    figure = heatmaps.correlations(correlation, features, [*"aabbb"], quantity="correlation r")
    first, second, _ = (np.asarray(image.get_array()) for image in figure.axes[0].images)
    assert (len(first), len(second)) == (2, 3)
    np.testing.assert_allclose(first[0], heatmaps.DIVERGING((correlation[:, 0] + 1) / 2))
    np.testing.assert_allclose(first[1], [(0.8, 0.8, 0.8, 1)] * 32)
    np.testing.assert_allclose(second[2], heatmaps.DIVERGING((correlation[:, 4] + 1) / 2))
    assert figure.get_figwidth() <= drawing.PHONE
    assert misplaced(figure) == []
