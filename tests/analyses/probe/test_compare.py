import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from substrate_jax.analyses.probe.compare import (
    AVERAGE,
    balanced_accuracy,
    compare,
    paired_differences,
)
from substrate_jax.analyses.probe.episodes import draw_episodes
from substrate_jax.analyses.probe.heads import batch as batch_of_heads
from substrate_jax.analyses.probe.heads.batch import make_batch
from substrate_jax.analyses.probe.inputs import Input
from substrate_jax.analyses.probe.methods import HEADS, Head, Scores
from substrate_jax.analyses.probe.results import Method, ProbeComparison

LABELS = np.repeat([0, 1, 2], 30)
RNG = np.random.default_rng(0)
INPUTS = [
    Input(name, RNG.normal(size=(90, 5)) + gap * np.eye(3, 5)[LABELS], (name,), flops=7)
    for name, gap in (("near", 0.5), ("far", 20.0))
]


@pytest.fixture(scope="module")
def drawn():
    return draw_episodes(LABELS, shots=(1, 4), episodes=3)


@pytest.fixture(scope="module")
def found(drawn):
    heads = ["nearest mean", "neighbors", "ridge, tuned"]
    return compare(INPUTS, drawn, heads=heads, average=["near", "far"])


def test_balanced_accuracy_is_scikit_learns():
    truth, predicted = RNG.integers(3, size=50), RNG.integers(3, size=(2, 50))
    want = [100 * balanced_accuracy_score(truth, one) for one in predicted]
    assert balanced_accuracy(predicted, truth) == pytest.approx(want, rel=1e-14)


def test_every_method_has_a_row_and_far_classes_are_told_apart(found):
    names = [method.name for method in found.methods]
    assert names[-1] == f"neighbors on {AVERAGE}"
    assert len(names) == 7
    assert found.accuracy.shape == (7, 2, 3)
    assert (found.accuracy[found.place("far", "nearest mean")] == 100).all()
    assert not found.unsolved.any()
    with pytest.raises(ValueError, match="no method 'ridge' on 'far'"):
        found.place("far", "ridge")


def test_one_label_leaves_nothing_to_tune_on(found):
    row = found.place("far", "ridge, tuned")
    assert np.isnan(found.accuracy[row, 0]).all()
    assert (found.accuracy[row, 1] == 100).all()
    assert np.isfinite(
        np.delete(found.accuracy, [row, found.place("near", "ridge, tuned")], 0)
    ).all()


def test_accuracy_is_of_each_episodes_own_rows(found, drawn):
    one = drawn.each[-1]
    x, row = INPUTS[0].features, found.place("near", "nearest mean")
    means = np.stack(
        [x[one.train[drawn.codes[one.train] == code]].mean(axis=0) for code in range(3)]
    )
    distances = ((x[one.test][:, None] - means[None]) ** 2).sum(axis=2)
    want = balanced_accuracy_score(LABELS[one.test], distances.argmin(axis=1))
    assert found.accuracy[row, -1, -1] == pytest.approx(100 * want, rel=1e-14)


def test_averages_are_of_probabilities(found, drawn):
    batches = [make_batch(one.features, drawn.codes, drawn.train(4), drawn.test) for one in INPUTS]
    total = np.sum([HEADS["neighbors"].apply(batch).scores for batch in batches], axis=0)
    want = balanced_accuracy(total.argmax(axis=-1), LABELS[drawn.test])
    assert np.array_equal(found.accuracy[found.place(AVERAGE, "neighbors"), 1], want)


def test_costs_count_the_input_and_the_head(found):
    by_name = {method.name: method for method in found.methods}
    linear = by_name["nearest mean on near"].costs
    assert [cost.flops for cost in linear] == [7 + 2 * 5 * 3 + 3] * 2
    assert linear[0].image_bytes == 20
    assert linear[0].model_bytes == 4 * 3 * 6
    rows = [cost.model_bytes for cost in by_name["neighbors on near"].costs]
    assert rows == [4 * 3 * 6, 4 * 12 * 6]
    both = by_name[f"neighbors on {AVERAGE}"]
    assert both.encoders == ("near", "far")
    assert both.width == 10
    assert both.costs[1].flops == 2 * by_name["neighbors on near"].costs[1].flops


def test_heads_give_probabilities_where_they_say_so(drawn):
    codes, train = drawn.codes, drawn.train(4)
    batch = make_batch(INPUTS[0].features, codes, train, drawn.test)
    for name, head in HEADS.items():
        scores = head.apply(batch).scores
        assert scores.shape == (3, 45, 3), name
        sums = scores.sum(axis=-1)
        # Of a softmax in float64: a few roundings of numbers up to 1.
        assert (np.abs(sums - 1).max() < 1e-14) == head.probabilities, name


def comparison(accuracy):
    methods = [Method(str(row), "h", (), 1, ()) for row in range(len(accuracy))]
    return ProbeComparison(methods, (1, 2), 3, 45, accuracy, np.zeros(accuracy.shape[:2], int))


def test_intervals_are_those_of_paired_t_tests():
    accuracy = RNG.uniform(50, 90, size=(3, 2, 5))
    found = paired_differences(comparison(accuracy), 1, level=0.9)
    assert found.compared == 4
    for row in (0, 2):
        for column in range(2):
            test = stats.ttest_rel(accuracy[row, column], accuracy[1, column])
            for level, low, high in (
                (0.9, found.low, found.high),
                (1 - 0.1 / 4, found.low_of_all, found.high_of_all),
            ):
                want = test.confidence_interval(level)
                got = low[row, column], high[row, column]
                assert got == pytest.approx((want.low, want.high), rel=1e-10)
    assert not found.difference[1].any()


def test_intervals_miss_the_true_difference_as_rarely_as_they_say():
    # 2,000 comparisons of which 5 % should miss: binomial, sd 0.49 %; 4 sd either way.
    rng = np.random.default_rng(1)
    accuracy = rng.normal(size=(2001, 1, 5))
    accuracy[0] = 0
    found = paired_differences(dataclasses.replace(comparison(accuracy), shots=(1,)), 0)
    missed = (found.low[1:] > 0) | (found.high[1:] < 0)
    assert abs(missed.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_missing_values_and_single_episodes_have_no_interval():
    accuracy = RNG.uniform(50, 90, size=(2, 2, 3))
    accuracy[1, 0] = np.nan
    found = paired_differences(comparison(accuracy), 0)
    assert found.compared == 1
    assert np.isnan(found.low[1, 0])
    assert np.isfinite(found.low[1, 1])
    single = paired_differences(comparison(accuracy[:, :, :1]), 0)
    assert np.isnan(single.low).all()
    assert np.isfinite(single.mean[1, 1])


def test_a_fit_that_fails_ends_the_comparison(drawn):
    def fail(batch):
        raise ValueError(f"{batch.width} features")

    with pytest.raises(ValueError, match=r"^\d+ features$"):
        compare(INPUTS, drawn, heads={"mine": Head(fail, True)})


@pytest.mark.parametrize("head", ["paper", "ridge, tuned"])
def test_one_core_gives_what_several_do(drawn, head, monkeypatch):
    found = []
    for few in (0, batch_of_heads.FEW_ENTRIES):
        monkeypatch.setattr(batch_of_heads, "FEW_ENTRIES", few)
        rows = make_batch(INPUTS[0].features, drawn.codes, drawn.train(drawn.shots[-1]), drawn.test)
        found.append(HEADS[head].apply(rows).scores)
    # Float64 sums of a few hundred terms in another order, over 200 epochs.
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-9)


def test_unsolved_fits_are_reported(drawn):
    head = Head(lambda batch: Scores(HEADS["neighbors"].apply(batch).scores, 2), True)
    names = [one.name for one in INPUTS]
    found = compare(INPUTS, drawn, heads={"mine": head}, average=names)
    assert found.unsolved.tolist() == [[2, 2], [2, 2], [4, 4]]


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ([], {}, "inputs must have different names"),
        (INPUTS[:1] * 2, {}, "inputs must have different names"),
        (
            [Input("x", np.ones((3, 2)), ())],
            {},
            "input 'x' has 3 rows, and episodes were drawn from",
        ),
        (INPUTS, {"heads": ["svm"]}, "unknown head 'svm'"),
        (INPUTS, {"average": ["x"]}, "no input 'x' to average"),
    ],
)
def test_what_cannot_be_compared_is_refused(drawn, inputs, options, words):
    with pytest.raises(ValueError, match=words):
        compare(inputs, drawn, **options)


def test_baselines_and_levels_out_of_range_are_refused(found):
    with pytest.raises(ValueError, match="baseline must be a row of the 7 methods, got 7"):
        paired_differences(found, 7)
    with pytest.raises(ValueError, match="level must lie strictly between"):
        paired_differences(found, 0, level=1.0)
