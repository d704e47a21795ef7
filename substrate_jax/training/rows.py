"""Which rows a training takes: epoch by epoch, or a share or a number of every class."""

import functools

import numpy as np
from jaxtyping import Int


def epoch_rows(
    rows: Int[np.ndarray, " n"], seed: int, step: int, batch_size: int
) -> Int[np.ndarray, " b"]:
    """Rows of a step: epochs follow each other without a gap, each in an order of its own.

    Args:
        rows: to take from.
        seed: of the orders.
        step: from 0.
        batch_size: rows per step; may exceed the number of rows.

    Example:
        >>> rows = np.arange(10)
        >>> taken = np.concatenate([epoch_rows(rows, 0, step, 5) for step in range(2)])
        >>> sorted(taken.tolist()) == rows.tolist()
        True
    """
    n = len(rows)
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {int(epoch): _permutation(n, seed, int(epoch)) for epoch in np.unique(places // n)}
    return rows[np.array([epochs[int(place // n)][place % n] for place in places])]


@functools.lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng([seed, epoch]).permutation(n)


def labeled_rows(
    labels: Int[np.ndarray, " n"], fraction: float, seed: int
) -> Int[np.ndarray, " m"]:
    """Rows of the same fraction of every class, rounded; a smaller fraction's are among them.

    Args:
        labels: [n] classes.
        fraction: in (0, 1].
        seed: of the draw.

    Raises:
        ValueError: a fraction out of range, or one that leaves a class without rows.

    Example:
        >>> labels = np.repeat([0, 1], 20)
        >>> rows = labeled_rows(labels, 0.1, 0)
        >>> np.bincount(labels[rows]).tolist(), set(rows) < set(labeled_rows(labels, 0.5, 0))
        ([2, 2], True)
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction:g}: give a share of the labels above 0, at most 1")
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = round(fraction * len(rows))
        if count < 1:
            raise ValueError(
                f"fraction={fraction:g} leaves class {label} without images, as it has "
                f"{len(rows)}; give {1 / len(rows):.2g} or more"
            )
        kept.append(rows[_drawn(len(rows), count, seed, int(label))])
    return np.sort(np.concatenate(kept))


def rows_per_class(labels: Int[np.ndarray, " n"], count: int, seed: int) -> Int[np.ndarray, " m"]:
    """As many rows of every class; those of a smaller count are among them.

    Args:
        labels: [n] classes.
        count: of rows, 1 or more.
        seed: of the draw.

    Raises:
        ValueError: more rows than a class has.

    Example:
        >>> labels = np.repeat([0, 1], [20, 5])
        >>> rows = rows_per_class(labels, 3, 0)
        >>> np.bincount(labels[rows]).tolist(), set(rows) < set(rows_per_class(labels, 5, 0))
        ([3, 3], True)
    """
    kept = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if not 1 <= count <= len(rows):
            raise ValueError(
                f"{count} images of each class: class {label} has {len(rows)}; give 1 to as many"
            )
        kept.append(rows[_drawn(len(rows), count, seed, int(label))])
    return np.sort(np.concatenate(kept))


def _drawn(n: int, count: int, seed: int, label: int) -> Int[np.ndarray, " m"]:
    return np.random.default_rng([seed, label]).permutation(n)[:count]
