"""With which kind of encoders each encoder agrees: with discriminative or with masked ones.

Of one encoder x, on one domain, over the other encoders y of a kind,

    difference = mean over discriminative y of s(x, y) - mean over masked y of s(x, y),

s the calibrated CKA. Its mean over domains has Student's t interval with domains as the unit.

Not guaranteed: that domains are a sample of anything, or that other members of a kind would agree
as those of this panel do. An encoder that is said to lean is to be read beside its control, the
same network without training.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.cka.pairs import KINDS
from substrate_jax.analyses.intervals import t_interval


@dataclasses.dataclass(frozen=True)
class Leaning:
    """How one encoder agrees with the others of either kind, mean over the domains.

    Attributes:
        encoder: its name.
        discriminative: mean calibrated CKA with discriminative encoders.
        mim: with masked ones.
        difference: of the two.
        low: lower end of its interval over domains; NaN of a single domain.
        high: upper end.
    """

    encoder: str
    discriminative: float
    mim: float
    difference: float
    low: float
    high: float


def leanings(
    names: Sequence[str],
    groups: Sequence[frozenset[str]],
    scores: Float[np.ndarray, "m E E"],
    level: float = 0.95,
) -> list[Leaning]:
    """The encoders that have others of both kinds, in their order.

    Args:
        names: of the encoders.
        groups: of each, as `paradigm_groups` gives them.
        scores: [m, E, E] calibrated CKA on every domain.
        level: of the intervals, in (0, 1).

    Example:
        >>> groups = [frozenset({kind}) for kind in ("discriminative", "mim", "image_text")]
        >>> scores = np.array([[[1, 0.2, 0.5], [0.2, 1, 0.1], [0.5, 0.1, 1]]])
        >>> [(of.encoder, round(of.difference, 3)) for of in leanings("abc", groups, scores)]
        [('c', 0.4)]
    """
    found = []
    for x, name in enumerate(names):
        others = {
            kind: [y for y, of in enumerate(groups) if kind in of and y != x] for kind in KINDS
        }
        if all(others.values()):
            means = {kind: scores[:, x, of].mean(axis=1) for kind, of in others.items()}
            difference = means["discriminative"] - means["mim"]
            low, high = t_interval(difference, level)
            found.append(
                Leaning(
                    name,
                    discriminative=float(means["discriminative"].mean()),
                    mim=float(means["mim"].mean()),
                    difference=float(difference.mean()),
                    low=float(low),
                    high=float(high),
                )
            )
    return found
