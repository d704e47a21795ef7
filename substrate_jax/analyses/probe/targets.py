"""Labeled images that heads are tried on: every labeled domain, and which domain an image is from.

A domain whose images have labels of two classes or more is a target. Several domains together are
one more, whether they have labels or not: the label is the domain, the features are those of all
their images. arXiv:2606.07882 gives one figure for "4 domains x 3 seeds", which may be read either
way.

Cost: that of `compare`; features of all domains are held twice, once together.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from substrate_jax.analyses.probe.episodes import SHOTS, Episodes, draw_episodes
from substrate_jax.analyses.probe.inputs import Input, standard_inputs
from substrate_jax.analyses.transferability.truth import halve
from substrate_jax.data.groups import stacked_groups
from substrate_jax.features import Features
from substrate_jax.substrate import COMPONENTS

WHICH_DOMAIN = "which domain"


@dataclasses.dataclass(frozen=True, eq=False)
class LabeledSet:
    """Images with labels.

    Attributes:
        domains: that they are of.
        by_domain: whether the label is the domain itself.
        labels: [n] integers or words.
        features: encoder -> [n, d].
        pixels: [n, p] of small images; None where there are none.
        groups: of rows that are held out together or not at all.
    """

    domains: tuple[str, ...]
    by_domain: bool
    labels: np.ndarray
    features: Mapping[str, Float[np.ndarray, "n _"]]
    pixels: Float[np.ndarray, "n p"] | None
    groups: Int[np.ndarray, " n"] | None = None

    def episodes(
        self, shots: Sequence[int] = SHOTS, *, episodes: int = 5, seed: int = 0
    ) -> tuple[Episodes, list[int]]:
        """Draws of labeled rows, and the numbers of labels that the smallest class cannot supply.

        Raises:
            ValueError: as `draw_episodes`, and where no number of labels is left.
        """
        most = -(-int(np.unique(self.labels, return_counts=True)[1].min()) // 2)
        if self.groups is not None:
            halves = halve(self.labels, least=1, seed=seed, groups=self.groups)
            most = int(np.bincount(halves.labels[halves.fit]).min())
        supplied = [number for number in shots if number <= most]
        drawn = draw_episodes(
            self.labels,
            shots=supplied or [min(shots)],
            episodes=episodes,
            seed=seed,
            groups=self.groups,
        )
        return drawn, [number for number in shots if number not in supplied]

    def inputs(self, drawn: Episodes, *, k: int = COMPONENTS, seed: int = 0) -> Sequence[Input]:
        """What heads are given; arguments and errors as in `standard_inputs`."""
        return standard_inputs(self.features, drawn.pool, pixels=self.pixels, k=k, seed=seed)

    def repeated(self, drawn: Episodes) -> int:
        """Held-out rows that the pool has too: equal pixels, or without pixels equal features."""
        blocks = self.features.values() if self.pixels is None else [self.pixels]
        rows = np.concatenate([np.asarray(block, np.float32) for block in blocks], axis=1)
        pool = {rows[row].tobytes() for row in drawn.pool}
        return sum(rows[row].tobytes() in pool for row in drawn.test)


def labeled_sets(
    features: Mapping[str, Features],
    pixels: Mapping[str, Float[np.ndarray, "n p"]] | None = None,
    groups: Mapping[str, Int[np.ndarray, " n"]] | None = None,
) -> tuple[dict[str, LabeledSet], list[str]]:
    """The targets of some domains, and why a domain is none.

    Args:
        features: domain -> features of the same encoders.
        pixels: domain -> pixels of small images, flattened.
        groups: domain -> group of each row, none of which is parted.

    Returns:
        Target -> images, domains in their order and `WHICH_DOMAIN` last where there are several;
        and a sentence per domain without labels or with one class.

    Raises:
        ValueError: one domain, and it is no target; or a domain called as the last target.

    Example:
        >>> rows = {"e": np.zeros((4, 2), np.float32)}
        >>> plain = Features(tuple("abcd"), None, rows)
        >>> labeled = Features(tuple("efgh"), np.array([0, 0, 1, 1]), rows, ("cat", "dog"))
        >>> found, out = labeled_sets({"sky": plain, "pets": labeled})
        >>> list(found), found["pets"].labels.tolist(), out
        (['pets', 'which domain'], ['cat', 'cat', 'dog', 'dog'], \
['sky is no target of its own: its images have no labels.'])
    """
    found, left_out = {}, []
    for name, of in features.items():
        if name == WHICH_DOMAIN:
            raise ValueError(f"a domain is called {name!r}, as the target of all: rename it")
        if of.labels is None:
            left_out.append(f"{name} is no target of its own: its images have no labels.")
        elif len(np.unique(of.labels)) < 2:
            left_out.append(f"{name} is no target of its own: its images are of one class.")
        else:
            labels = of.labels
            if of.label_names and labels.min() >= 0:
                labels = np.array(of.label_names)[labels]
            own = None if pixels is None else pixels[name]
            together = None if groups is None else groups[name]
            found[name] = LabeledSet((name,), False, labels, _stacked([of]), own, together)
    if len(features) > 1:
        labels = np.repeat(list(features), [len(of.ids) for of in features.values()])
        stacked = _stacked(list(features.values()))
        own = None if pixels is None else np.concatenate([pixels[name] for name in features])
        together = None if groups is None else stacked_groups([groups[name] for name in features])
        found[WHICH_DOMAIN] = LabeledSet(tuple(features), True, labels, stacked, own, together)
    if not found:
        raise ValueError(
            f"nothing to tell apart: {' '.join(left_out)} Give labels of two classes or more, or "
            "several domains"
        )
    return found, left_out


def _stacked(parts: Sequence[Features]) -> dict[str, Float[np.ndarray, "n _"]]:
    """Features of all encoders, one domain below the other."""
    return {
        name: np.concatenate([np.asarray(of[name], np.float32) for of in parts])
        for name in parts[0]
    }
