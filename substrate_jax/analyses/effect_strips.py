"""Figures of differences that are paired by seed: a lane for each, with its interval.

Cost: about 0.1 s per figure.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from substrate_jax.analyses.effects import Effect, signed
from substrate_jax.report import page, strips
from substrate_jax.report.page import Picture
from substrate_jax.report.text import csv_text


@dataclasses.dataclass(frozen=True)
class EffectLane:
    """A difference under its name.

    Attributes:
        label: what differs.
        effect: its values.
        mark: color and shape of the dots.
        about: columns of the CSV that say what it is of, the same for all lanes of a figure.
    """

    label: str
    effect: Effect
    mark: tuple[str, str] = strips.OURS
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def effect_strip(
    key: str,
    title: str,
    lanes: Sequence[EffectLane],
    *,
    seeds: Sequence[int],
    level: float,
    finding: str,
    what: str = "learned_from",
) -> Picture:
    """Differences of test accuracy on one axis, zero in its middle.

    Args:
        key: of the picture.
        title: of the picture.
        lanes: from top to bottom, at least one.
        seeds: that the differences are of.
        level: of the intervals.
        finding: what the figure shows, for those who cannot see it.
        what: heading of the labels in the CSV.

    Returns:
        The picture with its CSV.
    """
    # Few seeds make intervals far wider than what is seen: they end at the border as arrows.
    seen = max(abs(value) for lane in lanes for value in lane.effect.differences)
    reach = max(1.0, 2.5 * float(seen))
    figure = strips.strip(
        [_lane(lane, reach) for lane in lanes],
        quantity="points of test accuracy",
        limits=(-reach, reach),
        line=0.0,
    )
    caption = (
        f"Right of the blue stroke is better. A dot per seed, the black stroke is their mean, the "
        f"line its {level:.0%} interval; an arrow says that it goes on."
    )
    header = [what, *lanes[0].about, *(f"seed_{seed}" for seed in seeds)]
    rows = [(lane.label, *lane.about.values(), *lane.effect.differences) for lane in lanes]
    return page.drawn(key, title, caption, f"{title}. {finding}", figure, csv_text(header, rows))


def _lane(lane: EffectLane, reach: float) -> strips.Lane:
    found = lane.effect
    ends = (
        found.low if found.low > -reach else -math.inf,
        found.high if found.high < reach else math.inf,
    )
    return strips.Lane(
        lane.label,
        found.differences.tolist(),
        mark=lane.mark,
        note=signed(found),
        middle=found.mean,
        interval=ends,
    )
