"""Rows of a training: every row once an epoch, the same share of every class."""

import numpy as np
import pytest

from substrate_jax.training.rows import epoch_rows, labeled_rows, rows_per_class


def test_every_epoch_takes_every_row_once():
    rows, batch = np.arange(20, 30), 4
    taken = np.concatenate([epoch_rows(rows, 0, step, batch) for step in range(5)])
    for epoch in range(2):
        assert sorted(taken[epoch * 10 : (epoch + 1) * 10]) == list(rows)
    assert list(taken[:10]) != list(taken[10:])
    assert list(epoch_rows(rows, 0, 3, batch)) == list(taken[12:16])  # known from the step alone
    assert len(epoch_rows(rows, 0, 0, 25)) == 25


def test_shares_are_of_every_class_and_nested():
    labels = np.repeat([0, 1, 2], [10, 40, 31])
    order = np.random.default_rng(0).permutation(len(labels))
    labels = labels[order]
    some = {share: labeled_rows(labels, share, 3) for share in (0.1, 0.5, 1.0)}
    for share, rows in some.items():
        counts = [round(share * n) for n in (10, 40, 31)]
        assert np.bincount(labels[rows], minlength=3).tolist() == counts
        assert len(set(rows)) == len(rows)
    assert set(some[0.1]) < set(some[0.5]) < set(some[1.0])
    assert set(labeled_rows(labels, 0.5, 4)) != set(some[0.5])


@pytest.mark.parametrize(
    ("fraction", "match"),
    [
        (0.0, "fraction=0: give a share of the labels above 0, at most 1"),
        (1.1, "fraction=1.1: give a share"),
        (0.04, "fraction=0.04 leaves class 0 without images, as it has 10; give 0.1 or more"),
    ],
)
def test_bad_shares_are_refused(fraction, match):
    with pytest.raises(ValueError, match=match):
        labeled_rows(np.repeat([0, 1], [10, 100]), fraction, 0)


def test_so_many_rows_of_every_class_are_nested_and_the_first_of_the_shares():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    few, more = rows_per_class(labels, 3, 5), rows_per_class(labels, 7, 5)
    assert np.bincount(labels[few]).tolist() == [3, 3, 3]
    assert set(few) < set(more)
    # Of one seed, three of ten are those that 30 % of ten are.
    own = labeled_rows(labels, 0.3, 5)
    assert set(few[labels[few] == 0]) == set(own[labels[own] == 0])
    assert set(few) != set(rows_per_class(labels, 3, 6))
    for count in (0, 11):
        with pytest.raises(ValueError, match=f"{count} images of each class: class 0 has 10"):
            rows_per_class(labels, count, 0)
