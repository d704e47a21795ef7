import numpy as np
import pytest

from substrate_jax.analyses.probe.episodes import SHOTS, draw_episodes

LABELS = np.array(["b", "a", "c"])[np.r_[np.zeros(13, int), np.ones(20, int), np.full(31, 2)]]
LABELS = np.random.default_rng(0).permutation(LABELS)


@pytest.fixture(scope="module")
def drawn():
    return draw_episodes(LABELS, shots=(5, 1, 2), episodes=3, seed=4)


def test_every_class_gives_as_many_labels_and_none_is_held_out(drawn):
    assert drawn.shots == (1, 2, 5)
    assert drawn.number == 3
    assert len(drawn.each) == 9
    for one in drawn.each:
        assert np.bincount(drawn.codes[one.train]).tolist() == [one.shots] * 3
        assert len(set(one.train.tolist())) == len(one.train)
        assert not set(one.train) & set(one.test)
        assert np.array_equal(one.test, drawn.test)
        assert np.array_equal(drawn.names[drawn.codes[one.train]], LABELS[one.train])


def test_halves_share_no_row_and_keep_the_classes(drawn):
    assert sorted([*drawn.pool, *drawn.test]) == list(range(len(LABELS)))
    assert np.bincount(drawn.codes[drawn.test]).tolist() == [10, 6, 15]


def test_fewer_labels_are_a_subset_of_more(drawn):
    for few, many in ((1, 2), (2, 5)):
        for one, other in zip(drawn.train(few), drawn.train(many), strict=True):
            assert set(one) < set(other)


def test_seeds_and_numbers_give_other_draws_and_the_same_again(drawn):
    again = draw_episodes(LABELS, shots=(1, 2, 5), episodes=2, seed=4)
    assert np.array_equal(again.train(5), drawn.train(5)[:2])
    assert not np.array_equal(drawn.train(5)[0], drawn.train(5)[1])
    other = draw_episodes(LABELS, shots=(5,), episodes=1, seed=5)
    assert not np.array_equal(other.test, drawn.test)


def test_seven_rows_give_four_labels():
    assert draw_episodes([0] * 7 + [1] * 7, shots=(4,)).train(4).shape == (5, 8)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([3, 3, 3], {"shots": (1,)}, "one class only"),
        (LABELS, {}, f"class b has 13 rows, 7 of them to draw from, and {SHOTS[-1]} labels"),
        ([0, 0, 1], {"shots": (1,)}, "class 1 has 1 rows"),
        (LABELS, {"shots": (0, 1)}, "shots must be different"),
        (LABELS, {"shots": (1, 1)}, "shots must be different"),
        (LABELS, {"shots": ()}, "shots must be different"),
        (LABELS, {"shots": (1,), "episodes": 0}, "episodes must be at least 1, got 0"),
        ([0.5, 1.5], {"shots": (1,)}, "labels must be a vector of integers or strings"),
        ([[0, 1]], {"shots": (1,)}, "labels must be a vector"),
    ],
)
def test_what_cannot_be_drawn_is_refused(labels, options, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        draw_episodes(labels, **options)


def test_labels_that_were_not_drawn_are_refused(drawn):
    with pytest.raises(ValueError, match="no episodes of 3 labels per class"):
        drawn.train(3)
