"""The table of scores, all scores of a panel, and what every score refuses."""

import inspect

import numpy as np
import pytest

from substrate_jax.analyses.transferability.scores.table import SCORES, score_encoders

from .data import SHAPES, target

ONE_ENCODER = [name for name, score in SCORES.items() if score.needs == ("labels",)]


def call(name, x, labels):
    """A score as the table calls it, with fewer Gaussians than these few rows have."""
    options = {"components_per_class": 1} if name == "nleep" else {}
    return SCORES[name].function(x, labels, **options)


@pytest.fixture(scope="module")
def panel():
    labels = target(*SHAPES[0])[1]
    found = {str(apart): target(*SHAPES[0], apart=apart)[0] for apart in (0.0, 0.5, 3.0)}
    return found, labels


def test_every_score_says_what_it_is():
    for name, score in SCORES.items():
        assert score.name == name
        assert score.direction == 1
        assert score.citation
        assert score.cost
        assert set(score.needs) <= {"labels", "panel", "source_probabilities"}
        document = inspect.getdoc(score.function)
        assert "higher is better" in document
        assert all(part in document for part in ("Args:", "Raises:", "Example:", "References:"))


def test_all_scores_of_a_panel_are_those_of_the_functions(panel):
    features, labels = panel
    heads = {"0.5": np.random.default_rng(0).dirichlet(np.ones(4), size=60)}
    found = score_encoders(features, labels, source_probabilities=heads, k=4, seed=2)
    assert found.encoders == ("0.0", "0.5", "3.0")
    assert found.scores == tuple(SCORES)
    assert found.values.dtype == np.float64
    assert np.all(found.seconds > 0)
    assert found.shared_seconds > 0
    for column, (name, score) in enumerate(SCORES.items()):
        options = {key: {"k": 4, "seed": 2}[key] for key in score.options}
        if "panel" in score.needs:
            want = score.function(features, labels, **options)
        elif "source_probabilities" in score.needs:
            want = [np.nan, score.function(heads["0.5"], labels), np.nan]
            assert found.reasons[name].keys() == {"0.0", "3.0"}
        else:
            want = [score.function(x, labels, **options) for x in features.values()]
        assert np.array_equal(found.values[:, column], want, equal_nan=True), name
    better = [name for name in SCORES if name not in ("subs_rank", "energy", "leep", "nce")]
    for name in better:  # the further the classes are apart, the better
        column = found.values[:, found.scores.index(name)]
        assert np.argmax(column) == 2, name
        assert np.all(np.diff(column) > 0) or name == "ncti", name


def test_what_a_score_refuses_is_nan_with_the_reason(panel):
    features, _ = panel
    labels = np.repeat([0, 1, 2], [1, 29, 30])
    found = score_encoders(features, labels, scores=["gbc", "h_score", "subs_rank"])
    assert np.all(np.isnan(found.values[:, [0, 2]]))
    assert np.all(np.isfinite(found.values[:, 1]))
    assert found.reasons["gbc"]["0.5"].startswith("labels have 1 row of class 0, and GBC needs 2")
    assert found.reasons["subs_rank"]["0.0"].startswith("k must be at most 10")


def test_inputs_that_no_score_takes_are_refused(panel):
    features, labels = panel
    x = features["0.0"]
    with pytest.raises(ValueError, match="at least one encoder"):
        score_encoders({}, labels)
    with pytest.raises(ValueError, match=r"scores must be of subs_rank, logme, .* got 'logMe'"):
        score_encoders(features, labels, scores=["logMe"])
    with pytest.raises(ValueError, match="give source_probabilities"):
        score_encoders(features, labels, scores=["leep"])
    with pytest.raises(ValueError, match=r"got \['b'\]: drop them"):
        score_encoders({"a": x}, labels, source_probabilities={"b": np.ones((60, 1))})
    with pytest.raises(ValueError, match=r"got \{'a': 60, 'b': 59\}: align"):
        score_encoders({"a": x, "b": x[1:]}, labels)
    with pytest.raises(ValueError, match=r"features\['a'\] holds NaN or inf in 1 of 60 rows \(2\)"):
        score_encoders({"a": np.where(np.arange(60)[:, None] == 2, np.nan, x)}, labels)


REFUSED = [
    (np.zeros(60, int), "one class only, 0"),
    (np.arange(60) % 2 - 1, "must not be negative, got -1"),
    (np.arange(60) % 2 + 0.0, "must be integers, got float64"),
    (np.arange(59) % 2, r"must have shape \(60,\)"),
]


@pytest.mark.parametrize("name", ONE_ENCODER)
def test_every_score_refuses_bad_labels_and_features(name):
    x, labels = target(*SHAPES[0])
    for bad, message in REFUSED:
        with pytest.raises(ValueError, match=f"labels .*{message}"):
            call(name, x, bad)
    holed = x.copy()
    holed[3, 2] = np.nan
    with pytest.raises(ValueError, match="features holds NaN or inf in 1 of 60 rows"):
        call(name, holed, labels)
    with pytest.raises(ValueError, match="features must be real floating-point, got int64"):
        call(name, x.astype(int), labels)


@pytest.mark.parametrize("name", ONE_ENCODER)
def test_constant_features_have_no_score_and_copies_of_rows_do(name):
    x, labels = target(*SHAPES[0])
    constant = np.full_like(x, 0.1)
    value = call(name, constant, labels)
    # LogME is not centered, so a constant feature is an intercept and has an evidence.
    assert np.isfinite(value) if name == "logme" else np.isnan(value)
    twice = np.concatenate([x[:30], x[:30]])
    assert np.isfinite(call(name, twice, np.tile(labels[:30], 2)))
    one_constant = np.concatenate([x[:, 1:], np.ones_like(x[:, :1])], axis=1)
    assert np.isfinite(call(name, one_constant, labels))


@pytest.mark.parametrize("name", ["gbc", "probe"])
def test_a_class_of_one_row_is_refused_where_two_are_needed(name):
    x = target(*SHAPES[0])[0]
    with pytest.raises(ValueError, match=r"have 1 row of class 7, and .* needs 2"):
        call(name, x, np.where(np.arange(60) == 5, 7, np.arange(60) % 2))


def test_features_of_one_row_are_refused():
    with pytest.raises(ValueError, match="features must have at least 2 rows, got 1"):
        call("logme", np.ones((1, 3), np.float32), [0])
