r"""Three ways for the rows of one side to have nothing to do with those of the other.

    rows      every order of the rows: is there any agreement?
    within    every order within each class: do the two agree on more than classes?
    classes   whole classes change places, rows within them too: are classes arranged alike, or
              only told apart?

Two modalities that both tell the classes apart beat `rows`, however the classes are named: whether
they put the same classes near each other is what `classes` asks. It needs two classes or more, all
of as many rows; c classes have c! arrangements, so that few classes can never be convincing.

One draw is one order for all pairs and measures. p is the share of draws that reach the observed
value, itself among them, and no less than 1 / (draws + 1) (`kernels.nulls.p_values`).

Reference: Winkler et al. (2015), Multi-level block permutation. NeuroImage 123.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from substrate_jax.analyses.crossmodal.pairs import Pairs
from substrate_jax.kernels.nulls.orders import row_orders

ROWS, WITHIN, CLASSES = "rows", "within", "classes"
TITLES = {
    ROWS: "all rows permuted",
    WITHIN: "rows permuted within classes",
    CLASSES: "whole classes exchanged",
}


def sample_orders(pairs: Pairs, draws: int, seed: int = 0) -> dict[str, Int[np.ndarray, "m n"]]:
    """Orders of the rows of one side under each null that the pairs allow.

    Args:
        pairs: matched rows.
        draws: orders of each null.
        seed: of them.

    Returns:
        Null -> [draws, n].

    Example:
        >>> pairs = Pairs(np.arange(4), np.arange(4), np.array([0, 0, 1, 1]), ("a", "b"))
        >>> orders = sample_orders(pairs, 50)
        >>> list(orders), np.unique(orders["within"] // 2, axis=0).tolist()
        (['rows', 'within', 'classes'], [[0, 0, 1, 1]])
        >>> len(set(map(tuple, orders["classes"])))
        8
    """
    n = len(pairs)
    keys = jax.random.split(jax.random.key(seed), 3)
    found = {ROWS: np.asarray(row_orders(keys[0], draws, n))}
    if pairs.classes is None or len(pairs.names) < 2:
        return found
    strata = jnp.asarray(pairs.classes)
    if pairs.counts.max() > 1:
        found[WITHIN] = np.asarray(row_orders(keys[1], draws, n, strata=strata))
    if pairs.even and pairs.counts[0] > 1:
        inner = np.asarray(row_orders(keys[2], draws, n, strata=strata))
        exchanged = np.asarray(row_orders(jax.random.fold_in(keys[2], 1), draws, len(pairs.names)))
        by_class = np.argsort(pairs.classes, kind="stable").reshape(len(pairs.names), -1)
        moved = np.empty_like(inner)
        moved[:, by_class.reshape(-1)] = by_class[exchanged].reshape(draws, n)
        found[CLASSES] = np.take_along_axis(inner, moved, axis=1)
    return found
