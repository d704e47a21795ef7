"""Labeled images to train on and to judge by, at one size.

A class's rows are put in the order of a hash of the seed and their ids. The first quarter of every
class is held out where no test images are given; a limit takes rows of all classes in turn, each
class in that order, so that a smaller set is part of a larger one and as balanced as there are
images. Labels are numbered from 0 in the order of the source's own.

Cost: every image is read once; 3 s^2 bytes each, of s x s pixels.

Not guaranteed: that held-out images are new where rows are not independent, such as frames of one
film. Images whose pixels occur in both sets are counted, and that is all that is known of them.
"""

import dataclasses

import numpy as np
from jaxtyping import Int, UInt8

from substrate_jax.data.decode import UnreadableImage
from substrate_jax.data.preprocess import Preprocess, resize_crop
from substrate_jax.data.sources import Source, digest

HELD_OUT = 4  # one image in so many, where no test images are given


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images of one set, row by row those of a source.

    Attributes:
        images: uint8 [n, s, s, 3].
        labels: int32 [n], class from 0.
        source: the same rows in the same order: their ids, and what features are extracted from.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    labels: Int[np.ndarray, " n"]
    source: Source

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def ids(self) -> tuple[str, ...]:
        """One per row."""
        return self.source.ids


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """What networks are trained on and judged by.

    Attributes:
        train: images that weights are fitted to.
        test: images that accuracies are of.
        label_names: name of each class.
        repeated: test images whose pixels are those of a training image.
        unreadable: images left out because they could not be read.
    """

    train: LabeledImages
    test: LabeledImages
    label_names: tuple[str, ...]
    repeated: int
    unreadable: int

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.label_names)


def split_sources(
    train: Source, test: Source | None = None, *, n: int | None = None, seed: int = 0
) -> tuple[Source, Source]:
    """The rows to train on and those to judge by, before any image is read.

    Args:
        train: with labels.
        test: with labels; by default a quarter of `train`, class by class.
        n: the most rows to train on, all classes in turn; all by default.
        seed: of the choice.

    Returns:
        Two sources without a row in common where `test` is not given.

    Raises:
        ValueError: no labels, fewer than two classes, a class that is too small to be in both, a
            test label that is not in `train`, or `n` below the number of classes.

    Example:
        >>> from substrate_jax.data import open_source
        >>> train, test = split_sources(open_source("digits"), n=100)
        >>> len(train), len(test), np.bincount(train.labels).tolist()
        (100, 445, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """
    names, counts = np.unique(_labels(train), return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"{train.name}: one class only, so there is nothing to learn; give two classes or more"
        )
    if n is not None and n < len(names):
        raise ValueError(f"n={n}: {train.name} has {len(names)} classes; give as many or more")
    ranks = _ranks(train, seed)
    rows = np.arange(len(train))
    if test is None:
        least = int(counts.argmin())
        if counts[least] < HELD_OUT:
            raise ValueError(
                f"{train.name}: class {_name(train, names[least])!r} has {counts[least]} images; "
                f"give {HELD_OUT} or more of each class, or test images of their own"
            )
        quota = counts[np.searchsorted(names, _labels(train))] // HELD_OUT
        test = train.select(rows[ranks < quota].tolist())
        rows, ranks = rows[ranks >= quota], (ranks - quota)[ranks >= quota]
    elif unknown := sorted({*_label_words(test)} - {*_label_words(train)}):
        raise ValueError(
            f"{test.name}: label {unknown[0]!r} is none of {train.name}; give test images of the "
            "same classes"
        )
    if n is not None and n < len(rows):
        # Labels break ties, so that all classes take turns.
        rows = np.sort(rows[np.lexsort((_labels(train)[rows], ranks))[:n]])
    return train.select(rows.tolist()), test


def read_training_data(
    train: Source, test: Source, preprocess: Preprocess, *, skip_bad: bool = False
) -> TrainingData:
    """All images of both sets.

    Args:
        train: as `split_sources` gives it.
        test: likewise.
        preprocess: how they are resized and cropped.
        skip_bad: leave out images that cannot be read.

    Raises:
        ValueError: an image that cannot be read, or a class of `train` without a readable one.
    """
    words = dict(zip(_label_words(train), _labels(train).tolist(), strict=True))
    names = sorted(words, key=lambda word: words[word])
    sets = [_read(source, names, preprocess, skip_bad) for source in (train, test)]
    missing = np.flatnonzero(np.bincount(sets[0].labels, minlength=len(names)) == 0)
    if len(missing):
        raise ValueError(
            f"{train.name}: no image of class {names[missing[0]]!r} can be read; repair them"
        )
    seen = {image.tobytes() for image in sets[0].images}
    return TrainingData(
        *sets,
        label_names=tuple(names),
        repeated=sum(image.tobytes() in seen for image in sets[1].images),
        unreadable=len(train) + len(test) - len(sets[0]) - len(sets[1]),
    )


def read_images(source: Source, preprocess: Preprocess, *, skip_bad: bool = False) -> LabeledImages:
    """All images of one set; without labels they are of one class, 0.

    Args:
        source: with labels or without.
        preprocess: how they are resized and cropped.
        skip_bad: leave out images that cannot be read.

    Raises:
        ValueError: an image that cannot be read, or none that can.
    """
    given = source
    if source.labels is None:
        given = dataclasses.replace(source, labels=np.zeros(len(source), np.int64))
    words = dict(zip(_label_words(given), _labels(given).tolist(), strict=True))
    names = sorted(words, key=lambda word: words[word])
    found = _read(given, names, preprocess, skip_bad)
    own = dataclasses.replace(found.source, labels=None) if source.labels is None else found.source
    return dataclasses.replace(found, source=own)


def _read(
    source: Source, names: list[str], preprocess: Preprocess, skip_bad: bool
) -> LabeledImages:
    images, rows = [], []
    for row in range(len(source)):
        try:
            images.append(resize_crop(source.read(row), preprocess))
            rows.append(row)
        except UnreadableImage:
            if not skip_bad:
                raise
    if not rows:
        raise ValueError(f"{source.name}: none of its images can be read; repair them")
    kept = source if len(rows) == len(source) else source.select(rows)
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[word] for word in _label_words(kept)], np.int32)
    return LabeledImages(np.stack(images), labels, kept)


def _labels(source: Source) -> Int[np.ndarray, " n"]:
    if source.labels is None:
        raise ValueError(f"{source.name}: no labels; training and its measures need them")
    return source.labels


def _name(source: Source, label: int) -> str:
    known = 0 <= label < len(source.label_names)
    return source.label_names[label] if known else str(label)


def _label_words(source: Source) -> list[str]:
    """The class of every row by its name, which two sources share where numbers may differ."""
    return [_name(source, label) for label in _labels(source).tolist()]


def _ranks(source: Source, seed: int) -> Int[np.ndarray, " n"]:
    """Place of every row among those of its class, in the order of their hashes."""
    hashes = [digest(str(seed), row_id) for row_id in source.ids]
    order = np.array(sorted(range(len(source)), key=hashes.__getitem__))
    labels = _labels(source)
    ranks = np.empty(len(source), np.int64)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        ranks[rows] = np.arange(len(rows))
    return ranks
