"""Which rows a detector is fitted to, which calibrate it, and which it is measured on.

Rows of every domain are dealt by a seeded permutation: half are fitted to, a quarter calibrates the
p-values, a quarter is held out. Copies, rows that are equal in every number, go to one part
together, or a detector would be measured on what it was fitted to. A row with copies in two domains
has no right answer and is refused.

Cost: a hash per row.

Not guaranteed: that rows of two parts are independent. Frames of one film or crops of one picture
are no copies.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from substrate_jax.data.groups import joined

SHARES = (0.5, 0.25)  # fitted to, and calibrating; the rest is held out


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """Rows of all domains, one domain after another.

    Attributes:
        codes: [n] number of the domain of each row.
        fit: [n] rows that are fitted to.
        calibrate: [n] rows that p-values are counted in.
        held_out: [n] rows that are measured on.
        copies: rows that equal an earlier row of their domain, by domain.
    """

    codes: Int[np.ndarray, " n"]
    fit: Bool[np.ndarray, " n"]
    calibrate: Bool[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    copies: tuple[int, ...]

    def without(self, code: int) -> "Parts":
        """The same with one domain's rows in no part; codes above it move down."""
        rest = self.codes != code
        return dataclasses.replace(
            self,
            codes=self.codes - (self.codes > code),
            fit=self.fit & rest,
            calibrate=self.calibrate & rest,
            held_out=self.held_out & rest,
        )


def deal(
    blocks: Mapping[str, Sequence[Float[np.ndarray, "n _"]]],
    ids: Mapping[str, Sequence[str]],
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    groups: Mapping[str, Int[np.ndarray, " n"]] | None = None,
) -> Parts:
    """Deal the rows of every domain.

    Args:
        blocks: domain -> what makes rows equal: their features, or their pixels.
        ids: domain -> name of each row, for messages.
        shares: fitted to and calibrating, of each domain.
        seed: of the permutations.
        groups: domain -> group of each row; those of a group, as equal rows, go together.

    Raises:
        ValueError: fewer than two domains, or equal rows in two domains, with their number.

    Example:
        >>> x = np.arange(16.0).reshape(8, 2)
        >>> ids = {"a": list("abcd"), "b": list("efgh")}
        >>> parts = deal({"a": [x[:4]], "b": [x[4:]]}, ids)
        >>> parts.codes.tolist(), [int(part.sum()) for part in (parts.fit, parts.held_out)]
        ([0, 0, 0, 0, 1, 1, 1, 1], [4, 2])
        >>> deal({"a": [x[:4]], "b": [x[3:7]]}, ids)
        Traceback (most recent call last):
            ...
        ValueError: 1 row of domain 'b' is in domain 'a' too, such as 'e' and 'd': keep it in one
    """
    if len(blocks) < 2:
        raise ValueError(f"domains: {', '.join(blocks) or 'none'}; give two or more to tell apart")
    rng = np.random.default_rng(seed)
    seen: dict[bytes, tuple[str, str]] = {}
    codes, where, copies = [], [], []
    for code, (name, of) in enumerate(blocks.items()):
        found = [_digest(of, row) for row in range(len(of[0]))]
        both = [row for row, one in enumerate(found) if seen.get(one, (name,))[0] != name]
        if both:
            other, first = seen[found[both[0]]]
            count = f"{len(both)} rows" if len(both) > 1 else "1 row"
            raise ValueError(
                f"{count} of domain {name!r} {'are' if len(both) > 1 else 'is'} in domain "
                f"{other!r} too, such as {ids[name][both[0]]!r} and {first!r}: keep "
                f"{'them' if len(both) > 1 else 'it'} in one"
            )
        seen |= {one: (name, ids[name][row]) for row, one in enumerate(found)}
        together = _numbered(found)
        if groups is not None:
            together = joined(together, groups[name])
        part = _deal_groups(together, shares, rng)
        codes.append(np.full(len(part), code))
        where.append(part)
        copies.append(len(found) - len(set(found)))
    part = np.concatenate(where)
    return Parts(np.concatenate(codes), part == 0, part == 1, part == 2, tuple(copies))


def _digest(blocks: Sequence[np.ndarray], row: int) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    for block in blocks:
        state.update(np.ascontiguousarray(block[row] + 0.0).tobytes())  # -0 is 0
    return state.digest()


def _numbered(keys: Sequence[bytes]) -> Int[np.ndarray, " n"]:
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _deal_groups(
    group: Int[np.ndarray, " n"], shares: Sequence[float], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Part of each row, 0, 1 or 2; rows of one group are together."""
    n = len(group)
    size = np.bincount(group)
    order = rng.permutation(len(size))
    before = np.cumsum(size[order]) - size[order]
    ends = np.round(np.cumsum(shares) * n)
    part = np.empty(len(size), int)
    part[order] = np.searchsorted(ends, before, side="right")
    return part[group]
