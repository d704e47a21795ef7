"""Outcomes: the chosen rate, differences paired by seed, and means over sets."""

import numpy as np
from scipy import stats

from substrate_jax.analyses.unlabeled.effects import outcomes, pooled
from substrate_jax.analyses.unlabeled.plan import SCRATCH, SUBSTRATE
from tests.analyses.unlabeled.synthetic import SETS, synthetic_plan, synthetic_tuned

PLAN = synthetic_plan()
TUNED = synthetic_tuned(PLAN, 3.0, 1.0)


def accuracy(way, labels, name):
    return np.array(
        [
            one.accuracy
            for one in TUNED
            if (one.condition.pretraining, one.condition.labels) == (way, labels)
            and one.condition.images == name
            and one.rate == 0.1
        ]
    )


def test_differences_are_those_of_paired_t_tests():
    order = np.random.default_rng(1).permutation(len(TUNED))
    found = outcomes(PLAN, SETS, [TUNED[row] for row in order], 0.9)
    assert [one.condition for one in found] == [
        condition
        for name in SETS
        for labels in PLAN.labels
        for condition in PLAN.conditions(name, labels)
    ]
    for one in found:
        way, where = one.condition.pretraining, (one.condition.labels, one.condition.images)
        assert one.rate == 0.1
        assert list(one.validation) == ["0.03", "0.1"]
        np.testing.assert_array_equal(one.accuracy, accuracy(way, *where))
        assert (one.gain is None) == (way == SCRATCH)
        assert (one.ahead is None) == (way == SUBSTRATE)
        for effect, first, second in (
            (one.gain, way, SCRATCH),
            (one.ahead, SUBSTRATE, way),
        ):
            if effect is not None:
                test = stats.ttest_rel(accuracy(first, *where), accuracy(second, *where))
                ends = test.confidence_interval(0.9)
                np.testing.assert_allclose((effect.low, effect.high), (ends.low, ends.high))
                np.testing.assert_allclose(effect.least, (ends.high - ends.low) / 2)
                assert effect.settled == (test.pvalue < 0.1)


def test_sets_are_averaged_within_each_seed():
    found = pooled(PLAN, outcomes(PLAN, SETS, TUNED, 0.95), 0.95)
    assert [(one.labels, one.pretraining) for one in found] == [
        (labels, way) for labels in PLAN.labels for way in PLAN.pretrainings
    ]
    for one in found:
        mean = np.mean([accuracy(one.pretraining, one.labels, name) for name in SETS], axis=0)
        np.testing.assert_allclose(one.accuracy, mean.mean())
        base = np.mean([accuracy(SCRATCH, one.labels, name) for name in SETS], axis=0)
        if one.gain is not None:
            np.testing.assert_allclose(one.gain.differences, mean - base)
