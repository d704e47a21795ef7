r"""Comparisons of which one knows the answer: what the statistic says where there is agreement.

All are of K-component scores, as the finding is, and on as many rows where there are so many:

    two encoders     of one side on the same rows
    its picture      an encoder of sounds and one that sees the picture of the same sounds
    halves           a side's substrate on rows, and on other rows of the same class; those of the
                     same class and group (speaker): what pairing by class leaves of full agreement
    shuffled         the two sides, one of them in a random order: nothing is to be found

Not guaranteed: that what two modalities could share is as strong as any of these.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.crossmodal.pairs import Pairs, pair_halves
from substrate_jax.analyses.crossmodal.sampled import filled_up
from substrate_jax.analyses.crossmodal.sides import Side
from substrate_jax.kernels.arithmetic import matmul
from substrate_jax.substrate import components


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A control before it is measured.

    Attributes:
        name: what is compared.
        positive: whether there is something to find.
        left: name of the first block.
        right: of the second.
        blocks: [n, K] each.
        pairs: the rows.
        same_rows: whether these are the rows of the finding, in its order.
    """

    name: str
    positive: bool
    left: str
    right: str
    blocks: tuple[Float[np.ndarray, "n K"], Float[np.ndarray, "n K"]]
    pairs: Pairs
    same_rows: bool = False


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores of panels on the components of their own rows, all by one program.

    Attributes:
        rows: that any panel has at most.
        width: features likewise.
        k: components.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
        >>> Scorer(9, 4, 3)({"one": x}, 2).shape
        (9, 2)
    """

    rows: int
    width: int
    k: int

    def __call__(self, features: Mapping[str, np.ndarray], k: int) -> Float[np.ndarray, "n k"]:
        """The scores on the first k components; 0 on those that have no variance."""
        block = np.concatenate(list(features.values()), axis=1)
        (filled,) = filled_up([block], self.rows, self.width)
        found = _scores(filled, np.arange(self.rows) < len(block), self.k)
        return np.asarray(found)[: len(block), :k]


@functools.partial(jax.jit, static_argnums=2)
def _scores(block, mask, k: int):
    found = components.fit(block, k, mask)
    return matmul(found.x, found.components)


def control_cases(
    left: Side, right: Side, pairs: Pairs, k: int, scores: Scorer, seed: int
) -> Iterator[Case]:
    """The controls that two sides allow.

    Args:
        left: a side.
        right: the other.
        pairs: their rows.
        k: components; halves of a side need more rows than that.
        scores: of panels.
        seed: of halves and of the shuffled rows.
    """
    for side, rows in ((left, pairs.left), (right, pairs.right)):
        paired = dataclasses.replace(pairs, left=rows, right=rows, arbitrary=False)
        for name, first, second in _two_encoders(side):
            x, y = (scores({one: side.blocks[one][rows]}, k) for one in (first, second))
            yield Case(f"{side.name}: {name}", True, first, second, (x, y), paired, True)
    for side in (left, right):
        for by_group in (False, True):
            halves = pair_halves(side, by_group=by_group, most=len(pairs), seed=seed)
            if halves is None or len(halves) <= k:
                continue
            x, y = (scores(side.rows(rows), k) for rows in (halves.left, halves.right))
            of = "class and group" if by_group else "class"
            name = f"{side.name}: itself, other rows of the {of}"
            yield Case(name, True, side.name, side.name, (x, y), halves)
    order = np.random.default_rng(seed).permutation(len(pairs))
    shuffled = dataclasses.replace(pairs, right=pairs.right[order], classes=None, names=())
    blocks = scores(left.rows(pairs.left), k), scores(right.rows(shuffled.right), k)
    yield Case("the two sides, shuffled", False, left.name, right.name, blocks, shuffled)


def _two_encoders(side: Side) -> Iterator[tuple[str, str, str]]:
    """The first two encoders of a kind, and the first of each of two kinds."""
    by_kind: dict[str, list[str]] = {}
    for name in side.blocks:
        if side.blocks[name].shape[1] > 1:
            by_kind.setdefault(side.kinds.get(name, ""), []).append(name)
    for names in by_kind.values():
        if len(names) > 1:
            yield "two encoders", names[0], names[1]
            break
    if len(by_kind) > 1:
        first, second, *_ = (names[0] for names in by_kind.values())
        yield "a sound and its picture", first, second
