"""When a training is watched, and on what labels it learns."""

import numpy as np
import pytest

from substrate_jax.analyses.emergence.plan import make_plan, shuffled, watch_steps


@pytest.mark.parametrize("per_epoch", [1, 2, 5, 21, 64, 469])
@pytest.mark.parametrize("epochs", [1, 3, 12, 50])
def test_watched_steps_double_through_the_first_epoch_and_lie_close_after(per_epoch, epochs):
    steps = per_epoch * epochs + per_epoch // 3
    found = np.array(watch_steps(per_epoch, steps))
    assert found[0] == 0
    assert found[-1] == steps
    assert (np.diff(found) > 0).all()
    powers = 2 ** np.arange(per_epoch.bit_length())
    assert set(powers[1.2 * powers <= steps]) <= set(found)
    # No gap above a doubling, of the step that begins it or of one.
    assert (np.diff(found) <= np.maximum(found[:-1], 1)).all()
    assert len(found) <= 6 + np.log2(per_epoch) + 2 * np.log2(epochs + 1)


def test_trainings_are_objectives_by_seeds():
    plan = make_plan("mini_resnet18", ["supervised", "shuffled"], [3, 4], 100, epochs=2)
    assert plan.trainings[1:3] == [("supervised", 4), ("shuffled", 3)]
    assert (plan.per_epoch, plan.steps) == (1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 101}, "train_batch=101: there are 100 images"),
        ({"batch_size": 1}, "train_batch=1"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 10**12}, "epochs=1000000000000: these are more than"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        make_plan("mini_resnet18", ["supervised"], [0], 100, **options)


@pytest.mark.parametrize("seeds", [[-1, 0], [2**32 - 1, 2**32]])
def test_refuses_seeds_that_no_key_takes(seeds):
    with pytest.raises(ValueError, match="below 2"):
        make_plan("mini_resnet18", ["supervised"], seeds, 100)


def test_shuffled_labels_are_as_many_of_each_and_say_nothing():
    labels = np.repeat(np.arange(10), 100)
    found = shuffled(labels, 5)
    assert np.bincount(found).tolist() == np.bincount(labels).tolist()
    # Of 1,000 labels 100 agree by chance, with a deviation of 9.5.
    assert abs((found == labels).sum() - 100) < 5 * 9.5
    assert (found != shuffled(labels, 6)).any()
    np.testing.assert_array_equal(found, shuffled(labels, 5))
