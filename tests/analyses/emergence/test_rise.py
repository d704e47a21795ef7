"""Times of half rise on curves whose answer is known, leads, and what has no time."""

import numpy as np
import pytest
from scipy import stats

from substrate_jax.analyses.emergence.rise import Estimate, half_rise, lead

STEPS = (0, 1, 2, 4, 8, 16, 32)


def test_a_straight_line_in_the_logarithm_is_halfway_in_the_middle():
    u = np.log2(1.0 + np.array(STEPS))
    assert 1 + half_rise(STEPS, u) == pytest.approx(2 ** (u[-1] / 2))
    assert half_rise(STEPS, 0.3 + 0.1 * u) == pytest.approx(half_rise(STEPS, u))


def test_at_a_watched_step_it_is_that_step():
    assert half_rise(STEPS, np.array([0, 0, 0.1, 0.5, 0.9, 1, 1])) == pytest.approx(4)


def test_the_top_counts_and_the_first_crossing():
    # Half of .8 is crossed at step 2, then lost and crossed again; the end is no top.
    assert half_rise(STEPS, np.array([0, 0, 0.4, 0.2, 0.5, 0.8, 0.3])) == pytest.approx(2)


def test_falling_curves_have_a_time_only_where_they_may_fall():
    falling = np.array([10, 10, 8, 6, 4, 2, 3.0])
    assert np.isnan(half_rise(STEPS, falling))
    assert half_rise(STEPS, falling, falls=True) == pytest.approx(4)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(7),
        np.array([0.5, 0.5, 0.52, 0.54, 0.5, 0.51, 0.5]),  # less than .05
        np.array([100, 101, 102, 103, 104, 104, 104.0]),  # less than a twentieth of the start
        np.array([np.nan, 0, 1, 1, 1, 1, 1]),
        np.full(7, np.nan),
    ],
)
def test_what_hardly_rises_has_no_time(values):
    assert np.isnan(half_rise(STEPS, values, falls=True))


def test_steps_without_a_value_are_passed_over():
    values = np.array([0, np.nan, 0.25, np.nan, 0.75, 1, 1])
    u = (np.log2(3) + np.log2(9)) / 2
    assert half_rise(STEPS, values) == pytest.approx(2**u - 1)


@pytest.mark.parametrize(
    ("steps", "values"), [((0, 1), np.zeros(3)), ((1, 2), np.zeros(2)), ((0, 0), np.zeros(2))]
)
def test_refuses_steps_that_do_not_fit(steps, values):
    with pytest.raises(ValueError, match="from step 0 up"):
        half_rise(steps, values)


def test_leads_are_in_doublings_and_opposite_the_other_way():
    one, other = np.array([0.0, 3.0, np.nan]), np.array([3.0, 0.0, 1.0])
    np.testing.assert_allclose(lead(one, other), [2, -2, np.nan])
    np.testing.assert_allclose(lead(other, one)[:2], -lead(one, other)[:2])


def test_estimates_are_student_s_of_the_values_that_there_are():
    values = np.array([0.2, np.nan, 0.5, 0.9])
    found = Estimate.over(values, 0.9)
    known = values[np.isfinite(values)]
    want = stats.t.interval(0.9, 2, known.mean(), stats.sem(known))
    np.testing.assert_allclose([found.low, found.high], want)
    assert found.seeds == 3
    assert not found.settled
    assert Estimate.over(np.array([1.0, 1.1, 1.2]), 0.95).settled
    one = Estimate.over(np.array([2.0]), 0.95)
    assert (one.mean, one.seeds, one.settled) == (2.0, 1, False)
    assert np.isnan(one.low)
    assert Estimate.over(np.array([np.nan]), 0.95).seeds == 0
