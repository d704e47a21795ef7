import numpy as np
import pytest
from scipy import stats

from substrate_jax.analyses.intervals import t_interval
from substrate_jax.analyses.probe.answers import answers, head_pairs, over_targets
from tests.analyses.probe.synthetic import comparison, synthetic_result


def test_intervals_are_those_of_t_tests_and_widen_for_all_answers():
    compared = {name: comparison(1.0, seed=seed) for seed, name in enumerate(("a", "b"))}
    found = answers(compared)
    assert [len(one) for one in found.values()] == [6, 6]
    for name, of in found.items():
        accuracy, place = compared[name].accuracy[:, 2], compared[name].place
        for one in of:
            ours = accuracy[place("substrate 16", one.head)]
            theirs = accuracy[place(one.encoder, one.rival_head)]
            test = stats.ttest_rel(ours, theirs)
            for level, ends in (
                (0.95, (one.low, one.high)),
                (1 - 0.05 / 12, (one.low_of_all, one.high_of_all)),
            ):
                want = test.confidence_interval(level)
                assert ends == pytest.approx((want.low, want.high), rel=1e-10)
            assert one.mean == pytest.approx(ours.mean() - theirs.mean(), rel=1e-12)
            rivals = [accuracy[place(other, one.rival_head)].mean() for other in ("narrow", "wide")]
            best = ("narrow", "wide")[int(np.argmax(rivals))]
            assert one.encoder == (best if one.rival == "best" else "wide")


def test_over_targets_counts_targets_not_draws():
    result = synthetic_result([6.0, -6.0, 5.0], by_domain=True)
    first = result.overall[0]
    means = [one.answers[0].mean for name, one in result.targets.items() if not one.by_domain]
    assert first.targets == 3
    assert first.mean == pytest.approx(np.mean(means), rel=1e-12)
    low, high = t_interval(np.array(means), 0.95)
    assert (first.low, first.high) == (low, high)
    assert (first.better, first.worse) == (2, 1)
    single = synthetic_result([1.0], by_domain=True)
    assert not over_targets(single.targets)


def test_heads_without_a_value_give_no_answer():
    assert answers({"a": comparison(shots=(1,), heads=("ridge, tuned",))}) == {"a": []}
    (best, widest) = answers({"a": comparison(shots=(1,))})["a"]
    assert (best.head, widest.rival) == ("paper", "widest")
    assert head_pairs(["mine", "discriminant"], 1) == [("mine", "mine")]


def test_one_draw_has_no_interval():
    low, high = t_interval(np.array([[3.0]]), 0.95)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
