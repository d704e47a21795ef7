"""Episodes: which rows a head is given labels of, the same for every method.

The rows of every class are halved once. One half, the pool, is where labeled rows are drawn from
and where bases are fitted, without labels; the other, held out, is what every episode is judged on.
Episode number e has its own random order of the pool, and its s labels per class are the first s
rows of each class in that order: fewer labels are a subset of more, so a learning curve compares
like with like, and every method sees the same rows, so methods can be compared in pairs.

Not guaranteed: that episodes are independent. They share the held-out half and, where labels per
class come close to the size of the pool, most of their rows. Intervals over episodes are about the
draw of labels, not about other held-out images.

Cost: n log n per episode.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from substrate_jax.analyses.transferability.truth import halve

SHOTS = (1, 2, 5, 10, 25, 50, 100, 200, 500)


@dataclasses.dataclass(frozen=True, eq=False)
class Episode:
    """One draw of labeled rows.

    Attributes:
        shots: labels per class.
        number: of the episode, from 0; its order of the pool is the same for all numbers of labels.
        train: [C * shots] rows whose labels a head is given, class by class.
        test: [m] rows that it is judged on, the same in all episodes.
    """

    shots: int
    number: int
    train: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """All draws from one labeled set.

    Attributes:
        names: [C] labels of the classes, in order.
        codes: [n] class of each row, from 0.
        pool: [p] rows that labeled ones are drawn from, ascending; bases may see these images.
        test: [m] rows held out, ascending.
        shots: numbers of labels per class, ascending.
        each: the episodes, by number of labels, then by number.
    """

    names: np.ndarray
    codes: Int[np.ndarray, " n"]
    pool: Int[np.ndarray, " p"]
    test: Int[np.ndarray, " m"]
    shots: tuple[int, ...]
    each: tuple[Episode, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @property
    def number(self) -> int:
        """Episodes for each number of labels."""
        return len(self.each) // len(self.shots)

    def train(self, shots: int) -> Int[np.ndarray, "episodes n"]:
        """Labeled rows of all episodes with so many labels per class.

        Raises:
            ValueError: a number of labels that was not drawn.
        """
        if shots not in self.shots:
            raise ValueError(f"no episodes of {shots} labels per class: drawn are {self.shots}")
        return np.stack([one.train for one in self.each if one.shots == shots])


def draw_episodes(
    labels: ArrayLike,
    *,
    shots: Sequence[int] = SHOTS,
    episodes: int = 5,
    seed: int = 0,
    groups: Int[np.ndarray, " n"] | None = None,
) -> Episodes:
    """Halve the rows of a labeled set and draw labeled rows from one half.

    Args:
        labels: [n] integers or strings.
        shots: labels per class, any order.
        episodes: draws for each number of labels.
        seed: of the split and of the draws.
        groups: of rows that are in one half together, as `halve` takes them.

    Raises:
        ValueError: labels that are no vector of integers or strings; one class only; a class with
            fewer rows in the pool than the most labels asked, which is named; no or repeated
            numbers of labels, or one below 1; fewer than one episode.

    Example:
        >>> found = draw_episodes(["cat"] * 6 + ["dog"] * 8, shots=(1, 3), episodes=2)
        >>> found.names.tolist(), found.pool.size, found.test.size, found.train(3).shape
        (['cat', 'dog'], 7, 7, (2, 6))
        >>> draw_episodes(["cat"] * 6 + ["dog"] * 8, shots=(4,))
        Traceback (most recent call last):
            ...
        ValueError: class cat has 6 rows, 3 of them to draw from, and 4 labels per class need 7: \
give more rows, ask for fewer labels, or leave the class out
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise ValueError(
            f"labels must be a vector of integers or strings, got {array.dtype} of shape "
            f"{array.shape}: give one label for each row"
        )
    numbers = tuple(sorted(int(number) for number in shots))
    if not numbers or numbers[0] < 1 or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"shots must be different numbers of labels from 1 up, got {tuple(shots)}: "
            "use (1, 5, 50), say"
        )
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}: use 5, say")
    names, counts = np.unique(array, return_counts=True)
    if len(names) > 1:  # what `halve` says of one class is right
        few, most = int(counts.argmin()), numbers[-1]
        if (held := -(-counts[few] // 2)) < most or counts[few] < 2:
            raise ValueError(
                f"class {names[few]} has {counts[few]} rows, {held} of them to draw from, and "
                f"{most} labels per class need {max(2 * most - 1, 2)}: give more rows, ask for "
                "fewer labels, or leave the class out"
            )
    halves = halve(array, least=1, seed=seed, groups=groups)
    pool, test = np.flatnonzero(halves.fit), np.flatnonzero(~halves.fit)
    drawn_from = np.bincount(halves.labels[pool])
    if drawn_from.min() < numbers[-1]:
        few = int(drawn_from.argmin())
        raise ValueError(
            f"class {names[few]} has {drawn_from[few]} rows to draw from where groups stay "
            f"together, fewer than {numbers[-1]}: ask for fewer labels, or give more groups"
        )
    each = []
    orders = [np.random.default_rng((seed, number)).permutation(pool) for number in range(episodes)]
    members = [
        [order[halves.labels[order] == code] for code in range(halves.classes)] for order in orders
    ]
    for most in numbers:
        for number in range(episodes):
            train = np.concatenate([rows[:most] for rows in members[number]])
            each.append(Episode(most, number, train, test))
    return Episodes(names, halves.labels, pool, test, numbers, tuple(each))
