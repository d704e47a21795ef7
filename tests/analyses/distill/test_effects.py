"""Outcomes: the chosen rate, and differences paired by seed."""

import numpy as np
from scipy import stats

from substrate_jax.analyses.distill.effects import best_rate, outcomes
from substrate_jax.analyses.distill.results import Training
from tests.analyses.distill.test_plan import changed

PLAN = changed(fractions=(0.1,), epochs=(4,), rates=(0.1, 0.3), weights=(1.0,))


def trainings():
    """Every condition at every rate for the first seed, at the second for the others."""
    rng = np.random.default_rng(0)
    found = []
    for i, condition in enumerate(PLAN.conditions(0.1)):
        for seed in PLAN.seeds:
            for rate in PLAN.rates if seed == 0 else PLAN.rates[1:]:
                accuracy = 50 + 2 * i + 3 * seed + rng.normal()
                found.append(
                    Training(condition, rate, seed, 10 + 100 * rate, accuracy, 1.0, 100.0 + seed, 5)
                )
    return found


def test_differences_are_those_of_paired_t_tests():
    given = trainings()
    order = np.random.default_rng(1).permutation(len(given))
    found = outcomes(PLAN, [given[row] for row in order], 0.9)
    assert [one.condition for one in found] == PLAN.conditions(0.1)
    accuracy = {
        one.condition: [t.accuracy for t in given if t.condition == one.condition and t.rate == 0.3]
        for one in found
    }
    alone, substrate = found[0], found[1]
    assert alone.gain is None
    assert alone.over_control is None
    for one in found:
        assert one.rate == 0.3
        assert list(one.validation) == ["0.1", "0.3"]
        assert one.images_per_second == 101
        np.testing.assert_array_equal(one.accuracy, accuracy[one.condition])
    for one in found[1:]:
        test = stats.ttest_rel(accuracy[one.condition], accuracy[alone.condition])
        ends = test.confidence_interval(0.9)
        np.testing.assert_allclose((one.gain.low, one.gain.high), (ends.low, ends.high))
        np.testing.assert_allclose(one.gain.least, (ends.high - ends.low) / 2)
    controls = {one.condition.target: one for one in found if one.over_control is not None}
    assert list(controls) == ["labels", "shuffled"]
    test = stats.ttest_rel(accuracy[substrate.condition], accuracy[controls["labels"].condition])
    over = controls["labels"].over_control
    np.testing.assert_allclose(over.mean, test.confidence_interval(0.9).low / 2 + over.high / 2)


def test_of_equal_rates_the_lowest_is_chosen_and_one_needs_no_validation():
    given = [
        Training(PLAN.conditions(0.1)[0], rate, 0, value, 0.0, 0.0, 0.0, 0)
        for rate, value in ((0.3, 5.0), (0.1, 5.0), (0.9, 4.0))
    ]
    assert best_rate(given, 0) == 0.1
    assert (
        best_rate([Training(PLAN.conditions(0.1)[0], 0.3, 0, np.nan, 0.0, 0.0, 0.0, 0)], 0) == 0.3
    )
