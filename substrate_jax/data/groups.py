"""Rows that must not be parted: crops of one picture, frames of one scan, takes of one speaker.

Where such rows lie on both sides of a split, what is held out has been seen. The ids of rows often
say what they belong to; a pattern takes that part of them.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def check_pattern(pattern: str, name: str = "group_by") -> re.Pattern[str]:
    """The pattern, compiled.

    Args:
        pattern: to search in ids.
        name: what errors call it.

    Raises:
        ValueError: it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{name}={pattern!r} is no regular expression: {error}; to take what stands before a "
            "'#', give ^[^#]+"
        ) from None


def parts_of(ids: Sequence[str], pattern: re.Pattern[str]) -> list[str | None]:
    """What a pattern finds in each id: its first group, if it has any, else the match.

    Example:
        >>> parts_of(["3_ann", "x"], re.compile("_(.*)"))
        ['ann', None]
    """
    matches = [pattern.search(row_id) for row_id in ids]
    first = min(pattern.groups, 1)
    return [None if match is None else match.group(first) for match in matches]


def row_groups(ids: Sequence[str], pattern: str) -> tuple[Int[np.ndarray, " n"], int]:
    """The group of each row: rows whose ids have the same match are one.

    Args:
        ids: of the rows.
        pattern: a regular expression, searched in each id; of one with groups, the first is taken.
            An id without a match is a group of its own.

    Returns:
        Number of each row's group from 0 up, and how many ids have a match.

    Raises:
        ValueError: a pattern that is no regular expression.

    Example:
        >>> row_groups(["a#1", "b#1", "a#2", "c"], "^(.*)#")
        (array([0, 1, 0, 2]), 3)
    """
    parts = parts_of(ids, check_pattern(pattern))
    keys = [
        (part is not None, row_id if part is None else part)
        for row_id, part in zip(ids, parts, strict=True)
    ]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    matched = sum(found for found, _ in keys)
    return np.array([number[key] for key in keys], np.int64), matched


def stacked_groups(parts: Sequence[Int[np.ndarray, " _"]]) -> Int[np.ndarray, " n"]:
    """Groups of several sets, one below the other; none is of two sets.

    Example:
        >>> stacked_groups([np.array([0, 1, 1]), np.array([0, 0])])
        array([0, 1, 1, 2, 2])
    """
    sizes = [int(each.max(initial=-1)) + 1 for each in parts]
    offsets = np.cumsum([0, *sizes])
    return np.concatenate([each + at for each, at in zip(parts, offsets, strict=False)])


def joined(*groupings: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The least grouping in which rows that any of some groupings holds together are together.

    Example:
        >>> joined(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
        array([0, 0, 0, 1])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(groupings[0])
    rows = np.tile(np.arange(n), len(groupings))
    groups = n + stacked_groups(groupings)  # rows are tied to the groups they are in
    size = int(groups.max(initial=n - 1)) + 1
    ties = coo_array((np.ones(len(rows)), (rows, groups)), shape=(size, size))
    return connected_components(ties, directed=False)[1][:n].astype(np.int64)
