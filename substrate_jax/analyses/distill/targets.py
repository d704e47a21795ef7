"""Targets: numbers for every training image that a student's features are compared with.

Of a panel they are the scores of its substrate on the training images, X B with X the standardized
features side by side. The controls take a part of that away: shuffled over all images, a target has
the same spectrum and says nothing of any image; shuffled within classes it says the class and
nothing more; of untrained encoders it says what architectures see without learning; of pixels, what
needs no network; random numbers say nothing. One-hot labels say the class, and nothing of images
without labels.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from substrate_jax.analyses.distill.plan import (
    ENCODER,
    FILE,
    LABELS,
    PIXELS,
    RANDOM,
    SHUFFLED,
    SUBSTRATE,
    UNTRAINED,
    WITHIN,
)
from substrate_jax.features import Features
from substrate_jax.losses.target import SubstrateTarget
from substrate_jax.substrate import Substrate

Scores = Float[np.ndarray, "n k"]


def make_target(
    name: str,
    labels: Int[np.ndarray, " n"],
    panel: Callable[[], Features],
    untrained: Callable[[], Features],
    pixels: Callable[[], Features],
    *,
    k: int,
    seed: int,
) -> SubstrateTarget:
    """One target by its name.

    Args:
        name: see `plan.TARGETS`; `encoder:NAME` and `file:PATH` besides.
        labels: of the training images.
        panel: gives the features of the training images by the panel, with their ids.
        untrained: likewise, by the panel's encoders before training.
        pixels: likewise, the pixels of small images.
        k: components.
        seed: of the shuffles and random numbers.

    Raises:
        ValueError: an encoder that the panel lacks, a file without one of the training images, or
            `k` out of range.
    """
    rng = np.random.default_rng([seed, len(name)])
    if name.startswith(FILE):
        found = SubstrateTarget.load(name.removeprefix(FILE))
        ids = panel().ids
        return SubstrateTarget.from_scores(found.scores[found.rows(ids)], ids)
    if name == UNTRAINED:
        return substrate_target(untrained(), k)
    if name == PIXELS:
        return substrate_target(pixels(), k)
    features = panel()
    if name == LABELS:
        return SubstrateTarget.from_scores(one_hot(labels), features.ids)
    if name == RANDOM:
        scores = rng.standard_normal((len(labels), k), np.float32)
        return SubstrateTarget.from_scores(scores, features.ids)
    if name.startswith(ENCODER):
        return substrate_target(_of(features, name.removeprefix(ENCODER)), k)
    target = substrate_target(features, k)
    if name == SUBSTRATE:
        return target
    rows = {
        SHUFFLED: lambda: rng.permutation(len(labels)),
        WITHIN: lambda: within_classes(labels, rng),
    }[name]()
    return SubstrateTarget.from_scores(target.scores[rows], features.ids)


def substrate_target(features: Features, k: int) -> SubstrateTarget:
    """The scores of images on the substrate that is fitted to them."""
    arrays = {name: np.asarray(block) for name, block in features.items()}
    return SubstrateTarget.from_substrate(Substrate.fit(arrays, k), features)


def one_hot(labels: Int[np.ndarray, " n"]) -> Scores:
    """A column for each class."""
    return np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]


def within_classes(
    labels: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """A permutation of all rows that leaves every row's class as it is.

    Example:
        >>> labels = np.array([0, 1, 0, 1, 0])
        >>> rows = within_classes(labels, np.random.default_rng(0))
        >>> labels[rows].tolist(), sorted(rows.tolist())
        ([0, 1, 0, 1, 0], [0, 1, 2, 3, 4])
    """
    rows = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        rows[own] = rng.permutation(own)
    return rows


def padded(targets: Mapping[str, SubstrateTarget]) -> dict[str, Scores]:
    """Scores over their scale, zeros added to the widest: CKA does not see columns of zeros.

    Args:
        targets: of the same images.

    Returns:
        name -> float32 [n, widest], of mean variance 1 over the columns that are its own.
    """
    widest = max(target.k for target in targets.values())
    return {
        name: np.pad(target.scores / np.float32(target.scale), ((0, 0), (0, widest - target.k)))
        for name, target in targets.items()
    }


def _of(features: Features, encoder: str) -> Features:
    if encoder not in features:
        raise ValueError(
            f"targets: {ENCODER}{encoder} is none of the panel: {', '.join(features)}; add it to "
            "--encoders"
        )
    return Features(features.ids, features.labels, {encoder: features[encoder]})
