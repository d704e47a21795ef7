"""What a notebook shows: figures, and results as short tables."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

import substrate_jax as sj
from substrate_jax import kernels

RNG = np.random.default_rng(0)
SHARED = RNG.normal(size=(30, 3))
PANEL = {
    name: (SHARED @ RNG.normal(size=(3, width)) + 0.5 * RNG.normal(size=(30, width))).astype("f4")
    for name, width in (("one", 5), ("two", 6), ("three", 1200))
}
IDS = tuple(map(str, range(30)))


def rows(markdown):
    """Cells of a table's rows, without the title and the head."""
    title, blank, head, rule, *body = markdown.splitlines()
    assert blank == ""
    assert head.count("|") == rule.count("|")
    return title, [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def test_a_notebook_shows_a_heat_map_at_its_own_size():
    matrix = jax.jit(kernels.pairwise_cka)(list(PANEL.values()))
    figure = sj.plot.heatmap(matrix, list(PANEL), quantity="CKA")
    data, metadata = figure._repr_png_()
    image = Image.open(io.BytesIO(data))
    assert metadata["width"] == round(figure.get_figwidth() * 96)
    assert image.width == pytest.approx(1.5 * metadata["width"], abs=2)
    assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 50


def test_a_heat_map_stands_as_given_without_its_tree():
    matrix = np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]])
    shown = [
        sj.plot.heatmap(matrix[order][:, order], list("abc"), tree=tree)._repr_png_()[0]
        for tree in (True, False)
        for order in ([0, 1, 2], [0, 2, 1])
    ]
    assert len(set(shown)) == 4
    flat = sj.plot.heatmap(matrix, list("abc"), tree=False)
    assert flat.get_figheight() < sj.plot.heatmap(matrix, list("abc")).get_figheight()


@pytest.mark.parametrize(("matrix", "names"), [(np.eye(3), "ab"), (np.ones(3), "abc"), ([], "")])
def test_what_is_no_matrix_of_the_names_is_refused(matrix, names):
    with pytest.raises(ValueError, match=r"^matrix has shape .*; give \d x \d"):
        sj.plot.heatmap(matrix, list(names))


def test_features_show_their_widths():
    title, body = rows(sj.Features(IDS, np.arange(30) % 4, PANEL)._repr_markdown_())
    assert title == "Features of 30 rows, 4 labels"
    assert body == [["one", "5"], ["two", "6"], ["three", "1,200"]]
    assert "no labels" in sj.Features(IDS, None, PANEL)._repr_markdown_()


def test_a_substrate_shows_its_shares_of_variance():
    substrate = sj.Substrate.fit(PANEL, k=4)
    title, body = rows(substrate._repr_markdown_())
    assert title == "Substrate of 3 encoders, 1,211 features"
    shares = np.asarray(substrate.explained_variance_ratio)
    assert [row[0] for row in body] == ["0", "1", "2", "3"]
    assert [float(row[1][:-1]) for row in body] == pytest.approx(100 * shares, abs=0.06)
    assert float(body[-1][2][:-1]) == pytest.approx(100 * shares.sum(), abs=0.06)


def test_a_calibration_shows_each_pair_once():
    found = kernels.calibrate_cka(list(PANEL.values()))
    title, body = rows(found._repr_markdown_())
    assert title == "Calibration of 3 encoders, each pair once, null by closed form"
    pairs = np.asarray(found.score)[np.triu_indices(3, 1)]
    want = [f"{value:.3g}" for value in np.quantile(pairs.astype(float), (0, 0.5, 1))]
    assert dict((row[0], row[1:]) for row in body)["score"] == want


def test_a_calibration_of_nothing_but_nan_shows_nan():
    one = np.full((), np.nan, np.float32)
    found = kernels.Calibration(one, one, one, one, method="permutation")
    title, body = rows(found._repr_markdown_())
    assert title == "Calibration of 1 values, null by permutation"
    assert all(row[1:] == ["nan"] * 3 for row in body)
