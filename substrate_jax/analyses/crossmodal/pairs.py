"""Which row of one side goes with which of the other: by id, by class, and halves of one side.

By id a pair is one thing seen by both modalities. By class it is any row of a class with any other
of it, k of each class, both chosen by a hash of the ids and the seed: what the pairing within a
class says is nothing, and the nulls keep that apart (`orders`).

Halves deal the rows of one side, within a class or a class and a group, to two sets that share no
row: what pairing by class leaves of the agreement of an encoder with itself.

Cost: a hash per row.

Not guaranteed: that rows of two classes are independent, nor those of one speaker.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from substrate_jax.analyses.crossmodal.sides import Side
from substrate_jax.data.paths import first_of
from substrate_jax.data.sources import digest

LEAST = 4  # rows that any null needs


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Rows that belong together.

    Attributes:
        left: [n] rows of one side.
        right: [n] rows of the other.
        classes: [n] number of each pair's class; None without.
        names: of the classes.
        arbitrary: whether rows of one class are paired at will.
        notes: what befell rows, a sentence each.
    """

    left: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]
    classes: Int[np.ndarray, " n"] | None
    names: tuple[str, ...] = ()
    arbitrary: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.left)

    @property
    def counts(self) -> Int[np.ndarray, " c"]:
        """Pairs of each class."""
        if self.classes is None:
            return np.zeros(0, int)
        return np.bincount(self.classes, minlength=len(self.names))

    @property
    def even(self) -> bool:
        """Whether classes can change places: two or more, all of as many pairs."""
        return len(self.names) > 1 and len(set(self.counts.tolist())) == 1


def pair_by_id(left: Side, right: Side) -> Pairs:
    """Rows with the same id; without its suffix (.png, .wav) where no id is on both sides.

    Args:
        left: a side.
        right: the other; rows that only one of them has are left out.

    Raises:
        ValueError: fewer than 4 ids are on both sides, or the sides have other classes for one.

    Example:
        >>> x = {"one": np.zeros((5, 2))}
        >>> pairs = pair_by_id(Side("a", tuple("abcde"), x), Side("b", tuple("edcbx"), x))
        >>> pairs.left.tolist(), pairs.right.tolist(), len(pairs.notes)
        ([1, 2, 3, 4], [3, 2, 1, 0], 2)
    """
    notes, names = [], (left.ids, right.ids)
    if not set(left.ids) & set(right.ids):
        stems = [[os.path.splitext(one)[0] for one in side] for side in names]
        if all(len(set(side)) == len(side) for side in stems) and set(stems[0]) & set(stems[1]):
            names = tuple(map(tuple, stems))
            notes.append("Ids are matched without their suffix.")
    place = {one: row for row, one in enumerate(names[1])}
    rows = [(row, place[one]) for row, one in enumerate(names[0]) if one in place]
    if len(rows) < LEAST:
        examples = first_of(repr(side.ids[0]) for side in (left, right))
        raise ValueError(
            f"{left.name} and {right.name} share {len(rows)} of {len(left.ids)} and "
            f"{len(right.ids)} ids ({examples}): {LEAST} or more are needed; give rows of the "
            "same things, or --pair=class"
        )
    for side in (left, right):
        if alone := len(side.ids) - len(rows):
            notes.append(f"{alone} of {len(side.ids)} rows of {side.name} have no partner.")
    first, second = (np.array(column) for column in zip(*rows, strict=True))
    words = _one_class_each(left, right, first, second)
    if words is None:
        return Pairs(first, second, None, notes=tuple(notes))
    classes, numbers = np.unique(words, return_inverse=True)
    if len(classes) < 2:
        return Pairs(first, second, None, notes=(*notes, "All rows are of one class."))
    return Pairs(first, second, numbers, tuple(map(str, classes)), notes=tuple(notes))


def _one_class_each(left: Side, right: Side, first, second) -> Sequence[str] | None:
    known = [
        [side.classes[row] for row in rows]
        for side, rows in ((left, first), (right, second))
        if side.classes is not None
    ]
    if len(known) == 2 and known[0] != known[1]:
        wrong = [row for row, (a, b) in enumerate(zip(*known, strict=True)) if a != b]
        row = wrong[0]
        raise ValueError(
            f"{left.name} and {right.name} have other classes for {len(wrong)} of {len(first)} "
            f"ids, such as {left.ids[first[row]]!r}: {known[0][row]!r} and {known[1][row]!r}; "
            "correct one, or leave the labels out"
        )
    return known[0] if known else None


def pair_by_class(left: Side, right: Side, per_class: int | None = None, seed: int = 0) -> Pairs:
    """k rows of every class that both sides have, paired at will.

    Args:
        left: a side with classes.
        right: the other.
        per_class: k; by default as many as both sides have of every common class.
        seed: of the choice of rows and of who is paired with whom.

    Raises:
        ValueError: a side without classes, fewer than two in common, a class with less than k rows
            on a side, or fewer than 4 pairs in all.

    Example:
        >>> x = {"one": np.zeros((6, 2))}
        >>> side = Side("a", tuple("abcdef"), x, classes=tuple("001122"))
        >>> other = Side("b", tuple("uvwxyz"), x, classes=tuple("110000"))
        >>> pairs = pair_by_class(side, other)
        >>> pairs.names, pairs.counts.tolist(), sorted(pairs.right[pairs.classes == 1].tolist())
        (('0', '1'), [2, 2], [0, 1])
    """
    rows = [_rows_of_classes(side, seed) for side in (left, right)]
    names = sorted(rows[0].keys() & rows[1].keys())
    if len(names) < 2:
        raise ValueError(
            f"{left.name} has the classes {first_of(map(repr, sorted(rows[0])))}, {right.name} "
            f"{first_of(map(repr, sorted(rows[1])))}: {len(names)} in common; give sides with two "
            "or more in common"
        )
    few, name, side = min(
        (len(of[name]), name, side.name)
        for side, of in zip((left, right), rows, strict=True)
        for name in names
    )
    k = few if per_class is None else per_class
    if not 1 <= k <= few:
        raise ValueError(
            f"per_class={per_class}: class {name!r} has {few} rows on side {side}; give 1 to {few}"
        )
    if k * len(names) < LEAST:
        raise ValueError(
            f"{len(names)} classes of {k} are {k * len(names)} pairs: {LEAST} or more are needed; "
            "give more rows"
        )
    first, second = ([row for name in names for row in of[name][:k]] for of in rows)
    notes = [
        f"{of.name} has {len(more)} classes that {other.name} lacks, left out: "
        f"{first_of(map(repr, more))}."
        for of, other, mine, theirs in ((left, right, *rows), (right, left, *rows[::-1]))
        if (more := sorted(mine.keys() - theirs.keys()))
    ]
    numbers = np.repeat(np.arange(len(names)), k)
    return Pairs(np.array(first), np.array(second), numbers, tuple(names), True, tuple(notes))


def _rows_of_classes(side: Side, seed: int) -> dict[str, list[int]]:
    """Rows by class, in an order that the seed and the ids alone decide."""
    if side.classes is None:
        raise ValueError(
            f"side {side.name!r} has no classes: give labels, or pair by id (--pair=id)"
        )
    rows: dict[str, list[int]] = {}
    for row in _by_hash(side, seed):
        rows.setdefault(side.classes[row], []).append(row)
    return rows


def _by_hash(side: Side, seed: int) -> list[int]:
    return sorted(range(len(side.ids)), key=lambda row: digest(side.name, str(seed), side.ids[row]))


def pair_halves(
    side: Side, *, by_group: bool, most: int | None = None, seed: int = 0
) -> Pairs | None:
    """Rows of one side paired with others of it, of one class, or of one class and group.

    Args:
        side: with classes.
        by_group: whether pairs are of one group too, such as takes of one speaker.
        most: pairs.
        seed: of the halves.

    Returns:
        The pairs, no row in two of them; None without classes (or groups), or with fewer than 4
        pairs or two classes.

    Example:
        >>> x = {"one": np.zeros((8, 2))}
        >>> side = Side("a", tuple("abcdefgh"), x, classes=tuple("00001111"))
        >>> pairs = pair_halves(side, by_group=False)
        >>> len(pairs), set(pairs.left) & set(pairs.right), pairs.classes.tolist()
        (4, set(), [0, 0, 1, 1])
    """
    if side.classes is None or (by_group and side.groups is None):
        return None
    keys = list(side.classes)
    if by_group:
        groups = side.groups or ()
        keys = [f"{word}\0{group}" for word, group in zip(side.classes, groups, strict=True)]
    found = sorted(_dealt(_by_hash(side, seed), keys), key=lambda pair: side.classes[pair[0]])  # pyright: ignore[reportOptionalSubscript]
    if most is not None and len(found) > most:
        keep = np.linspace(0, len(found) - 1, most).round().astype(int)
        found = [found[row] for row in keep]
    words = [side.classes[row] for row, _ in found]
    names, numbers = np.unique(words, return_inverse=True)
    if len(found) < LEAST or len(names) < 2:
        return None
    first, second = (np.array(column) for column in zip(*found, strict=True))
    return Pairs(first, second, numbers, tuple(map(str, names)), True)


def _dealt(order: Sequence[int], keys: Sequence[str]) -> Iterator[tuple[int, int]]:
    waiting: dict[str, int] = {}
    for row in order:
        if (partner := waiting.pop(keys[row], None)) is None:
            waiting[keys[row]] = row
        else:
            yield partner, row
