"""Rows by their ids: which row of a file is which row of another, or of a source of images."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from substrate_jax.data.paths import first_of


def match_rows(
    ids: Sequence[str], wanted: Sequence[str], here: str, there: str
) -> Int64[np.ndarray, " n"]:
    """For each wanted id the number of the row that bears it.

    Args:
        ids: unique.
        wanted: the ids to find, in the order to have them.
        here: whose `ids` are, for the message.
        there: whose `wanted` are.

    Raises:
        ValueError: ids that are missing; ten of them, and how many more.

    Example:
        >>> match_rows(["a", "b", "c"], ["c", "a"], "x.npy", "y.npy")
        array([2, 0])
        >>> match_rows(["a"], ["b", "a"], "x.npy", "y.npy")
        Traceback (most recent call last):
            ...
        ValueError: x.npy lacks 1 of the 2 rows of y.npy: b; it has ids such as a
    """
    place = {one: row for row, one in enumerate(ids)}
    if missing := [one for one in wanted if one not in place]:
        raise ValueError(
            f"{here} lacks {len(missing)} of the {len(wanted)} rows of {there}: "
            f"{first_of(missing)}; it has ids such as {first_of(ids[:1])}"
        )
    return np.array([place[one] for one in wanted], np.int64)


def relative_to(ids: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Paths without the folders that all begin with, if only so they are the ids that are wanted.

    Args:
        ids: such as paths from the root of a machine.
        wanted: such as paths below a folder of images.

    Returns:
        The ids, and the folder that was taken off; the ids as they are and "" where one of them is
        wanted already, or none is wanted either way.

    Example:
        >>> relative_to(["/data/cat/1.png", "/data/dog/2.png"], ["dog/2.png", "cat/1.png"])
        (('cat/1.png', 'dog/2.png'), '/data/')
        >>> relative_to(["cat/1.png", "cat/2.png"], ["cat/1.png"])
        (('cat/1.png', 'cat/2.png'), '')
    """
    known = set(wanted)
    if not known.isdisjoint(ids):
        return tuple(ids), ""
    split = [one.split("/") for one in ids]
    levels = zip(*(parts[:-1] for parts in split), strict=False)
    shared = len(list(itertools.takewhile(lambda level: len(set(level)) == 1, levels)))
    found = {
        depth: sum("/".join(parts[depth:]) in known for parts in split)
        for depth in range(1, shared + 1)
    }
    best = max(found, key=lambda depth: found[depth], default=0)
    if not best or not found[best]:
        return tuple(ids), ""
    taken = "/".join(split[0][:best]) + "/"
    return tuple("/".join(parts[best:]) for parts in split), taken
