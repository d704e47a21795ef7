"""Sets to train on: which rows, which labels, and what is refused."""

import numpy as np
import pytest

from substrate_jax.data.decode import UnreadableImage
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.data.sources import Source
from substrate_jax.training.labeled_images import (
    read_images,
    read_training_data,
    split_sources,
)

SIZE = Preprocess(8)


def make(labels, names=(), name="made", bad=(), prefix="", shade=0):
    def read(row):
        if row in bad:
            raise UnreadableImage(f"{row}: broken")
        return np.full((8, 8, 3), shade + row, np.uint8)

    labels = None if labels is None else np.array(labels)
    n = 8 if labels is None else len(labels)
    ids = tuple(f"{prefix}{i}" for i in range(n))
    return Source(name, ids, labels, name, read, names)


def per_class(source):
    return np.unique(np.asarray(source.labels), return_counts=True)[1].tolist()


def test_a_quarter_of_every_class_is_held_out_by_seed_and_id():
    source = make([5] * 12 + [9] * 8)
    train, test = split_sources(source, seed=3)
    assert sorted(train.ids + test.ids) == sorted(source.ids)
    assert per_class(test) == [3, 2]
    turned = source.select(range(19, -1, -1))
    assert set(split_sources(turned, seed=3)[1].ids) == set(test.ids)
    assert any(set(split_sources(source, seed=s)[1].ids) != set(test.ids) for s in range(4, 8))


def test_a_limit_takes_all_classes_in_turn_and_extends_a_smaller_one():
    source = make([0] * 20 + [1] * 8 + [2] * 8)
    small, large = (split_sources(source, n=n)[0] for n in (9, 15))
    assert per_class(small) == [3, 3, 3]
    assert per_class(large) == [5, 5, 5]
    assert set(small.ids) < set(large.ids)
    assert len(split_sources(source, n=1000)[0]) == 27


def test_classes_are_matched_by_name_and_numbered_from_zero():
    train = make([3, 1, 3, 1], ("a", "b", "c", "d"))
    test = make([0, 1, 1], ("d", "b"), "test", prefix="t", shade=2)
    data = read_training_data(*split_sources(train, test), SIZE)
    assert data.label_names == ("b", "d")
    assert data.classes == 2
    assert data.train.labels.tolist() == [1, 0, 1, 0]
    assert data.test.labels.tolist() == [1, 0, 0]
    assert data.train.labels.dtype == np.int32
    assert (data.repeated, data.unreadable) == (2, 0)  # shades 2 and 3
    assert data.train.ids == train.ids
    assert data.train.images.shape == (4, 8, 8, 3)


def test_unreadable_images_are_left_out_or_named():
    train, test = make([0, 0, 1, 1], bad={1}), make([0, 1], name="test", prefix="t")
    with pytest.raises(UnreadableImage, match="1: broken"):
        read_training_data(train, test, SIZE)
    data = read_training_data(train, test, SIZE, skip_bad=True)
    assert data.train.ids == ("0", "2", "3")
    assert data.unreadable == 1
    assert data.train.labels.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="no image of class '0'"):
        read_training_data(make([0, 0, 1, 1], bad={0, 1}), test, SIZE, skip_bad=True)


@pytest.mark.parametrize(
    ("train", "test", "n", "message"),
    [
        (make(None), None, None, "made: no labels"),
        (make([4] * 9), None, None, "one class only"),
        (make([0] * 9 + [1] * 3), None, None, "class '1' has 3 images; give 4 or more"),
        (make([0] * 9 + [1] * 9), None, 1, "n=1: made has 2 classes"),
        (make([0, 1]), make([0, 2], name="other"), None, "other: label '2' is none of made"),
        (make([0, 1]), make(None, name="other"), None, "other: no labels"),
    ],
)
def test_refuses(train, test, n, message):
    with pytest.raises(ValueError, match=message):
        split_sources(train, test, n=n)


def test_a_set_without_labels_is_of_one_class_and_keeps_none():
    found = read_images(make(None), SIZE)
    assert found.images[:, 0, 0, 0].tolist() == list(range(8))
    assert found.labels.tolist() == [0] * 8
    assert found.source.labels is None
    numbered = read_images(make([7, 3, 7, 5]), SIZE)
    assert numbered.labels.tolist() == [2, 0, 2, 1]
    np.testing.assert_array_equal(np.asarray(numbered.source.labels), [7, 3, 7, 5])
    some = read_images(make(None, bad=(0, 5)), SIZE, skip_bad=True)
    assert some.ids == ("1", "2", "3", "4", "6", "7")
    with pytest.raises(UnreadableImage):
        read_images(make(None, bad=(0,)), SIZE)
