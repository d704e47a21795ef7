"""Pairs of encoders by kind, the mean scores of a kind, and ratios of two means, with intervals.

A pair is of a kind of `KINDS` if both encoders are. Means over draws of the images are arrays, the
observed one first; an interval lies between quantiles of the draws, rounded outwards.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.cka.results import MeanScore, Ratio

KINDS = ("discriminative", "mim")


def pair_kind(groups_a: frozenset[str], groups_b: frozenset[str]) -> str:
    """What both encoders of a pair are, of `KINDS`; "other" if that is none.

    Args:
        groups_a: of one encoder, as `EncoderSpec.groups` or `paradigm_groups` gives them.
        groups_b: of the other.

    Example:
        >>> pair_kind(frozenset({"mim"}), frozenset({"mim", "shared"}))
        'mim'
        >>> pair_kind(frozenset({"mim"}), frozenset({"discriminative"}))
        'other'
    """
    return next((kind for kind in KINDS if kind in groups_a & groups_b), "other")


def pair_kinds(groups: Sequence[frozenset[str]]) -> dict[tuple[int, int], str]:
    """Pair (i, j) of encoders with i < j -> its kind.

    Args:
        groups: of each encoder, as for `pair_kind`.
    """
    pairs = itertools.combinations(range(len(groups)), 2)
    return {(i, j): pair_kind(groups[i], groups[j]) for i, j in pairs}


def mean_of_kind(
    scores: Float[np.ndarray, "b E E"],
    kinds: Mapping[tuple[int, int], str],
    kind: str,
    without: Sequence[int] = (),
) -> Float[np.ndarray, " b"] | None:
    """Mean score of the pairs of one kind, None if there is no such pair.

    Args:
        scores: of b draws, [E, E] each.
        kinds: of all pairs, from `pair_kinds`.
        kind: of the pairs to average.
        without: encoders whose pairs are left out.
    """
    chosen = [pair for pair, of in kinds.items() if of == kind and not {*pair} & {*without}]
    if not chosen:
        return None
    rows, columns = np.transpose(chosen)
    return scores[:, rows, columns].mean(axis=1)


def mean_interval(values: Float[np.ndarray, " b"] | None, pairs: int, level: float) -> MeanScore:
    """A mean score and its interval.

    Args:
        values: the observed mean, followed by those of the draws; None if there is none.
        pairs: how many it is a mean of.
        level: of the interval, of which there is none without draws.
    """
    if values is None:
        return MeanScore(None, None, None, pairs)
    return MeanScore(float(values[0]), *_ends(values[1:], values[1:], level), pairs)


def ratio_interval(
    high: Float[np.ndarray, " b"] | None, low: Float[np.ndarray, " b"] | None, level: float = 0.95
) -> Ratio:
    """The ratio of two means and its interval; an end that is not finite is None.

    Args:
        high: the observed numerator, followed by those of the draws; None if there is none.
        low: the denominators, likewise.
        level: of the interval, of which there is none without draws.

    Example:
        >>> ratio_interval(np.array([6.0, 5, 7, 6]), np.array([2.0, 2, 2, 0]), 0.9)
        Ratio(value=3.0, low=2.5, high=None)
    """
    if high is None or low is None:
        return Ratio(None, None, None)
    room = low > 0
    above = np.divide(high, low, out=np.full_like(high, np.inf), where=room)
    below = np.where(room | (high > 0), above, 0)  # 0 / 0 may be anything
    return Ratio(float(above[0]) if room[0] else None, *_ends(below[1:], above[1:], level))


def _ends(below, above, level: float) -> tuple[float | None, float | None]:
    """Interval of draws that lie between two bounds: their quantiles, rounded outwards."""
    if not len(below):
        return None, None
    place = math.floor((1 - level) / 2 * (len(below) - 1))
    low, high = (float(end) for end in (np.sort(below)[place], np.sort(above)[-1 - place]))
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None
