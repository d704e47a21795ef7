"""Published tables judged to the figures computed from them apart, and tables that are refused."""

import numpy as np
import pytest

from substrate_jax.analyses.transferability.judgment import STATIC, judge
from substrate_jax.analyses.transferability.published import list_tables, read_table
from substrate_jax.analyses.transferability.rankings import regret, static_order

# Table, ranking -> mean over targets of weighted tau, tau, and top-1 regret in points, computed
# with scipy, the regret by the first of the models that tie (in the order of their names).
FIGURES = {
    ("supervised_cnn", STATIC): (0.837, 0.830, 0.085),
    ("self_supervised", STATIC): (0.634, 0.601, 0.377),
    ("model_spider", STATIC): (0.680, 0.648, 0.775),
    ("model_spider", "logme"): (0.675, 0.577, 0.387),
    ("model_spider", "h_score"): (0.657, 0.602, 0.825),
    ("model_spider", "nce"): (0.655, 0.619, 0.400),
    ("model_spider", "leep"): (0.429, 0.412, 2.575),
    ("model_spider", "gbc"): (0.155, 0.185, 1.912),
    ("medmnist", STATIC): (0.500, 0.458, 0.142),
    ("medmnist", "sfda"): (0.187, 0.075, 0.341),
    ("medmnist", "logme"): (0.036, -0.045, 0.955),
    ("medmnist", "leep"): (-0.200, -0.187, 1.740),
}
SHAPES = {
    "supervised_cnn": (11, 11, 0),
    "self_supervised": (12, 13, 0),
    "model_spider": (10, 8, 9),
    "medmnist": (9, 11, 8),
}


@pytest.fixture(scope="module")
def tables():
    return {name: read_table(name) for name in list_tables()}


def test_all_tables_are_here(tables):
    found = {name: (*of.accuracy.shape, len(of.scores)) for name, of in tables.items()}
    assert found == SHAPES


@pytest.mark.parametrize(("name", "ranking"), FIGURES)
def test_figures_of_the_tables(name, ranking, tables):
    table = tables[name]
    found = judge(table.accuracy, table.scores, models=table.models, targets=table.targets, draws=0)
    row = found.scores.index(ranking)
    got = dict(zip(found.metrics, found.value[row], strict=True))
    weighted, tau, first = FIGURES[name, ranking]
    assert round(got["weighted_tau"], 3) == weighted
    assert round(got["tau"], 3) == tau
    by_name = np.argsort(table.models)
    accuracy = table.accuracy[by_name].T
    score = {STATIC: static_order(table.accuracy), **table.scores}[ranking][by_name].T
    ties_apart = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1)
    assert round(float(regret(-ties_apart, accuracy).mean()), 3) == first
    distinct = all(len(set(row)) == len(row) for row in score.tolist())
    if distinct:
        assert round(got["regret_1"], 3) == first


def test_no_published_score_beats_the_static_order(tables):
    for name in ("model_spider", "medmnist"):
        table = tables[name]
        found = judge(
            table.accuracy, table.scores, models=table.models, targets=table.targets, draws=0
        )
        best = found.value[:, found.metrics.index("weighted_tau")]
        assert found.scores[int(best.argmax())] == STATIC


GOOD = "model,target,accuracy,s\na,x,1,4\nb,x,2,5\na,y,3,6\nb,y,4,7\n"


def write(folder, text):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_a_table_of_ones_own(tmp_path):
    table = read_table(write(tmp_path, GOOD), {"s": -1})
    assert (table.name, table.models, table.targets) == ("t", ("a", "b"), ("x", "y"))
    assert table.accuracy.tolist() == [[1, 3], [2, 4]]
    assert table.scores["s"].tolist() == [[-4, -6], [-5, -7]]
    assert table.directions == {"s": -1}
    assert table.families is None


def test_a_table_with_families_spaces_and_a_byte_order_mark(tmp_path):
    text = "\ufeff" + GOOD.replace("accuracy,s", " accuracy , family").replace(",4\n", ",f\n")
    text = text.replace(",5\n", ",g\n").replace(",6\n", ",f\n").replace(",7\n", ",g\n")
    table = read_table(write(tmp_path, text))
    assert table.families == ("f", "g")
    assert not table.scores


BAD = {
    "no file": ("nowhere.csv", None, "'nowhere.csv' is no file.*model_spider"),
    "no accuracy": (GOOD.replace("accuracy", "auc"), None, "no column 'accuracy'.*auc"),
    "empty": ("", None, "no column 'model'"),
    "a column twice": (GOOD.replace(",s\n", ",accuracy\n"), None, "'accuracy' is there twice"),
    "a missing cell": (GOOD.replace("a,y,3,6", "a,y,3"), None, "line 4: give 4 cells"),
    "an empty cell": (GOOD.replace("a,y,3,6", "a,y,,6"), None, "line 4: accuracy is ''"),
    "a cell too many": (GOOD.replace("a,y,3,6", "a,y,3,6,1"), None, "line 4: give 4 cells"),
    "a word": (GOOD.replace("a,y,3,6", "a,y,3,six"), None, "line 4: s is 'six'"),
    "NaN": (GOOD.replace("a,y,3,6", "a,y,nan,6"), None, "line 4: accuracy is 'nan'"),
    "infinity": (GOOD.replace("a,y,3,6", "a,y,3,-inf"), None, "line 4: s is '-inf'"),
    "a missing row": (GOOD.replace("a,y,3,6\n", ""), None, "no row of a on y .1 of 4"),
    "a row twice": (GOOD + "a,y,3,6\n", None, "line 6: a on y is there twice"),
    "unknown score": (GOOD, {"logme": -1}, "direction of 'logme': .*it has s"),
    "unknown direction": (GOOD, {"s": 0}, "direction s=0: give 1 .* -1"),
    "not text": (b"\xff\xfe" + GOOD.encode("utf-16-le"), None, "no CSV in UTF-8"),
    "two families": (
        "model,target,accuracy,family\na,x,1,f\na,y,2,g\n",
        None,
        "a is of family 'f' and of 'g'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_tables_refused(case, tmp_path):
    text, directions, message = BAD[case]
    path = text if case == "no file" else write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, directions)
    assert "\n" not in str(caught.value)
