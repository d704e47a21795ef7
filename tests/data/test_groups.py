"""Rows that are never parted: by patterns of their ids, in halves, deals and episodes."""

import numpy as np
import pytest

from substrate_jax.analyses.crossmodal.sides import found_in
from substrate_jax.analyses.detector.parts import deal
from substrate_jax.analyses.probe.episodes import draw_episodes
from substrate_jax.analyses.probe.targets import LabeledSet
from substrate_jax.analyses.transferability.truth import halve
from substrate_jax.data.groups import joined, row_groups, stacked_groups

RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(30), 4)
LABELS = RNG.integers(0, 3, len(GROUPS))


def together(groups, part):
    """Whether no group is in both parts."""
    return not set(groups[part]) & set(groups[~part])


@pytest.mark.parametrize(
    ("pattern", "groups", "matched"),
    [
        ("^[^#]+", [0, 0, 1, 2], 4),
        ("^(.*)#", [0, 0, 1, 2], 3),
        ("#(.)", [0, 1, 0, 2], 3),
        ("z", [0, 1, 2, 3], 0),
        ("", [0, 0, 0, 0], 4),
        ("(z)|#", [0, 1, 2, 3], 0),  # its group took no part in the match
    ],
)
def test_ids_with_one_match_are_one_group(pattern, groups, matched):
    found, count = row_groups(["a#1", "a#2", "b#1", "c"], pattern)
    assert found.tolist() == groups
    assert count == matched


def test_an_id_is_no_group_of_its_match():
    """A row whose whole id is what others match stays apart where it does not match itself."""
    assert row_groups(["a", "a#1", "a#2"], "^(.*)#")[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("pattern", ["(", "*", "[a", "(?P<x", "a{99999999999}"])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match=r"^group_by='.*' is no regular expression: .*\^\[\^#\]\+"):
        row_groups(["a"], pattern)


@pytest.mark.parametrize("pattern", ["(", "(a{99999999999})"])
def test_sides_of_two_modalities_refuse_the_same(pattern):
    with pytest.raises(ValueError, match=r"^class_of='.*' is no regular expression"):
        found_in(["a"], pattern, "class_of")


def test_stacked_groups_are_of_one_set_each():
    assert stacked_groups([np.array([0, 1]), np.zeros(0, int), np.array([0])]).tolist() == [0, 1, 2]


def test_joined_groups_are_the_connected_ones():
    """Against the transitive closure of both relations."""
    a, b = RNG.integers(0, 12, (2, 20))
    tied = (a[:, None] == a) | (b[:, None] == b)
    for _ in range(20):
        tied = tied @ tied
    found = joined(a, b)
    np.testing.assert_array_equal(found[:, None] == found, tied)
    assert len(joined(np.zeros(0, int), np.zeros(0, int))) == 0


@pytest.mark.parametrize("seed", range(5))
def test_halves_of_groups_are_about_equal_and_part_none(seed):
    halves = halve(LABELS, groups=GROUPS, seed=seed)
    assert together(GROUPS, halves.fit)
    assert halves.fit.sum() in (60, 64, 68)
    counts = [np.bincount(LABELS[part], minlength=3) for part in (halves.fit, ~halves.fit)]
    assert np.abs(counts[0] - counts[1]).max() <= 10
    np.testing.assert_array_equal(halves.labels, LABELS)


def test_halves_differ_by_seed_and_repeat():
    found = [halve(LABELS, groups=GROUPS, seed=seed).fit for seed in (0, 1, 0)]
    np.testing.assert_array_equal(found[0], found[2])
    assert (found[0] != found[1]).any()


def test_groups_of_one_row_halve_every_class():
    halves = halve(LABELS, groups=np.arange(len(LABELS)))
    for label in range(3):
        count = (label == LABELS).sum()
        assert abs(halves.fit[label == LABELS].sum() - count / 2) <= 1


def test_too_few_groups_are_refused_by_name():
    with pytest.raises(ValueError, match="all rows are of one group"):
        halve(LABELS, groups=np.zeros_like(LABELS))
    with pytest.raises(ValueError, match=r"^class 1 has rows of 1 group, 0 rows in one of"):
        halve(np.repeat([0, 0, 0, 1], 4), groups=np.repeat([0, 1, 2, 3], 4))


@pytest.mark.parametrize("seed", range(3))
def test_a_deal_parts_no_group_and_no_copies(seed):
    x = RNG.normal(size=(120, 2))
    x[5] = x[100]  # a copy in another group
    ids = [f"{group}#{row}" for row, group in enumerate(GROUPS)]
    blocks = {"a": [x], "b": [x + 100]}
    parts = deal(blocks, {"a": ids, "b": ids}, seed=seed, groups={"a": GROUPS, "b": GROUPS})
    part = np.select([parts.fit, parts.calibrate, parts.held_out], [0, 1, 2])
    for domain in (part[:120], part[120:]):
        for group in range(30):
            assert len(set(domain[group == GROUPS])) == 1
        assert domain[5] == domain[100]
        assert (domain == 0).sum() == pytest.approx(60, abs=8)


def test_episodes_draw_from_groups_that_are_not_held_out():
    drawn = draw_episodes(LABELS, shots=(1, 5), groups=GROUPS)
    assert not set(GROUPS[drawn.pool]) & set(GROUPS[drawn.test])
    for episode in drawn.each:
        assert set(episode.train) <= set(drawn.pool)


def test_numbers_that_groups_cannot_supply_are_left_out():
    labels = np.repeat([0, 0, 0, 1, 1, 1], 4)
    groups = np.array([0] * 10 + [1, 2] + [3] * 10 + [4, 5])
    images = LabeledSet(("a",), False, labels, {"e": np.zeros((24, 2))}, None, groups)
    drawn, left_out = images.episodes((2, 10, 12))
    few = np.bincount(labels[drawn.pool]).min()
    assert left_out == [number for number in (2, 10, 12) if number > few]
    with pytest.raises(ValueError, match=r"class 0 has \d+ rows to draw from where groups stay"):
        draw_episodes(labels, shots=(6,), groups=np.array([0] * 2 + [1] * 10 + [2] * 10 + [3] * 2))
