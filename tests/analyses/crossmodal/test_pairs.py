"""Pairs of rows, and orders that keep what each null keeps."""

import numpy as np
import pytest

from substrate_jax.analyses.crossmodal.orders import sample_orders
from substrate_jax.analyses.crossmodal.pairs import Pairs, pair_by_class, pair_by_id, pair_halves
from substrate_jax.analyses.crossmodal.sides import Side, found_in


def side(name, ids, classes=None, groups=None):
    x = {"one": np.arange(2.0 * len(ids)).reshape(-1, 2)}
    return Side(name, tuple(ids), x, None if classes is None else tuple(classes), groups)


def test_ids_match_in_any_order_and_without_suffix():
    left = side("picture", ["a.png", "b.png", "c.png", "d.png"], "1212")
    right = side("sound", ["d.wav", "c.wav", "b.wav", "a.wav", "e.wav"])
    pairs = pair_by_id(left, right)
    stems = [one[0] for one in left.ids]
    assert [right.ids[row][0] for row in pairs.right] == stems == list("abcd")
    assert pairs.notes == (
        "Ids are matched without their suffix.", "1 of 5 rows of sound have no partner.",
    )  # fmt: skip
    assert pairs.names == ("1", "2")
    assert not pairs.arbitrary


def test_classes_are_paired_with_themselves_and_by_the_seed():
    left = side("a", [f"l{i}" for i in range(12)], "001122001133")
    right = side("b", [f"r{i}" for i in range(9)], "222111000")
    pairs = pair_by_class(left, right, seed=1)
    assert pairs.names == ("0", "1", "2")
    assert pairs.counts.tolist() == [2, 2, 2]
    for of, rows in ((left, pairs.left), (right, pairs.right)):
        assert [of.classes[row] for row in rows] == list("001122")
        assert len(set(rows.tolist())) == 6
    assert pairs.notes == ("a has 1 classes that b lacks, left out: '3'.",)
    again = [pair_by_class(left, right, seed=seed).right.tolist() for seed in range(9)]
    assert again[1] == pairs.right.tolist()
    assert len(set(map(tuple, again))) > 1


def test_halves_share_no_row_and_keep_class_and_group():
    classes, groups = "0000111122", tuple("xxyyxxxyzz")
    of = side("a", [str(i) for i in range(10)], classes, groups)
    for by_group in (False, True):
        pairs = pair_halves(of, by_group=by_group)
        assert not set(pairs.left.tolist()) & set(pairs.right.tolist())
        for i, j in zip(pairs.left, pairs.right, strict=True):
            assert classes[i] == classes[j]
            assert not by_group or groups[i] == groups[j]
        assert len(pairs) == (4 if by_group else 5)
    assert len(pair_halves(of, by_group=False, most=4)) == 4
    assert pair_halves(side("a", "abcdefgh"), by_group=False) is None
    assert pair_halves(side("a", "abcdefgh", "11111111"), by_group=False) is None


@pytest.mark.parametrize(
    ("left", "right", "pair", "message"),
    [
        (("abcdef", "112233"), ("uvwxyz", "112233"), pair_by_id, "share 0 of 6 and 6 ids"),
        (("abcdef", "112233"), ("abcdef", "112234"), pair_by_id, "other classes for 1 of 6 ids"),
        (("abcdef", "112233"), ("uvwxyz", None), pair_by_class, "side 'b' has no classes"),
        (("abcdef", "112233"), ("uvwxyz", "445566"), pair_by_class, "0 in common"),
        (("abcdef", "111111"), ("uvwxyz", "111111"), pair_by_class, "1 in common"),
        (("abcdef", "112333"), ("uvwxyz", "122333"), pair_by_class, "3 classes of 1 are 3 pairs"),
    ],
)
def test_rows_that_make_no_pairs_are_one_line(left, right, pair, message):
    with pytest.raises(ValueError, match=message) as caught:
        pair(side("a", *left), side("b", *right))
    assert "\n" not in str(caught.value)


def test_more_of_a_class_than_there_are():
    of = side("a", "abcdef", "111222"), side("b", "uvwxyz", "111122")
    with pytest.raises(
        ValueError, match="per_class=3: class '2' has 2 rows on side b; give 1 to 2"
    ):
        pair_by_class(*of, per_class=3)


def test_groups_in_ids():
    assert found_in(["3_ann_1", "4_bob_2"], "_([a-z]+)_", "group_of") == ("ann", "bob")
    assert found_in(["3", "4"], "_([a-z]+)_", "group_of") is None
    for expression, message in (("(", "no regular expression"), ("a", "put brackets around")):
        with pytest.raises(ValueError, match=message):
            found_in(["a"], expression, "group_of")
    with pytest.raises(ValueError, match="finds nothing in 1 of 2 ids, such as 'b'"):
        found_in(["a1", "b"], "([0-9])", "class_of")


def test_orders_keep_what_they_should():
    classes = np.array([0, 1, 2] * 3)  # three of each, not in blocks
    pairs = Pairs(np.arange(9), np.arange(9), classes, ("a", "b", "c"))
    orders = sample_orders(pairs, 200, seed=3)
    assert list(orders) == ["rows", "within", "classes"]
    for of in orders.values():
        assert (np.sort(of, axis=1) == np.arange(9)).all()
    assert (classes[orders["within"]] == classes).all()
    moved = classes[orders["classes"]]
    assert (moved[:, :3] == moved[:, 3:6]).all()
    assert (moved[:, :3] == moved[:, 6:]).all()
    assert len({tuple(row) for row in moved[:, :3]}) == 6
    assert len({tuple(row) for row in orders["classes"]}) > 100  # rows change places too
    assert (classes[orders["rows"]] != classes).any(axis=1).mean() > 0.9


def test_nulls_that_classes_do_not_allow_are_left_out():
    rows = np.arange(6)
    uneven = Pairs(rows, rows, np.array([0, 0, 0, 0, 1, 1]), ("a", "b"))
    assert list(sample_orders(uneven, 20)) == ["rows", "within"]
    single = Pairs(rows, rows, rows, tuple("abcdef"))
    assert list(sample_orders(single, 20)) == ["rows"]
    assert list(sample_orders(Pairs(rows, rows, None), 20)) == ["rows"]
