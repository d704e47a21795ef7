"""The two sides of a comparison: rows of each modality, with their classes and groups."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from substrate_jax.data.groups import check_pattern, parts_of
from substrate_jax.data.sources import Source
from substrate_jax.features import Features


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """Features of the rows of one modality.

    Attributes:
        name: of the side, such as "picture".
        ids: one per row, unique.
        blocks: encoder -> [n, d].
        classes: word of each row's class; None without labels.
        groups: of each row, such as its speaker; None where nothing is known.
        kinds: encoder -> what it takes, such as "image"; those without are of one kind.
    """

    name: str
    ids: tuple[str, ...]
    blocks: Mapping[str, Float[np.ndarray, "n _"]]
    classes: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        rows: Features | Source,
        *,
        class_of: str | None = None,
        group_of: str | None = None,
        kinds: Mapping[str, str] | None = None,
    ) -> "Side":
        """A side of extracted features; of a source, one without features.

        Args:
            name: of the side.
            rows: its ids, labels and features; labels become words.
            class_of: regular expression whose first bracket is the class in an id; labels stay
                where it finds none.
            group_of: the same for the group.
            kinds: see `kinds`.

        Raises:
            ValueError: what `found_in` raises.

        Example:
            >>> x = np.zeros((2, 3), np.float32)
            >>> features = Features(("3_ann.wav", "4_bob.wav"), None, {"one": x})
            >>> side = Side.of("sound", features, class_of="^([0-9])", group_of="_([a-z]+)")
            >>> side.classes, side.groups
            (('3', '4'), ('ann', 'bob'))
        """
        blocks = rows if isinstance(rows, Features) else {}
        blocks = {encoder: np.asarray(block) for encoder, block in blocks.items()}
        found = [
            None if expression is None else found_in(rows.ids, expression, flag)
            for flag, expression in (("class_of", class_of), ("group_of", group_of))
        ]
        return cls(name, tuple(rows.ids), blocks, found[0] or _words(rows), found[1], kinds or {})

    def rows(self, rows: np.ndarray) -> "dict[str, Float[np.ndarray, 'm _']]":
        """The features of some rows, by encoder."""
        return {name: block[rows] for name, block in self.blocks.items()}


def found_in(ids: Sequence[str], expression: str, name: str) -> tuple[str, ...] | None:
    """What an expression finds in every id; None where it finds nothing in any.

    Args:
        ids: of rows.
        expression: a regular expression with a bracket.
        name: of the argument, for messages.

    Raises:
        ValueError: it is no regular expression, has no bracket, or finds something in some ids
            only.

    Example:
        >>> found_in(["3_ann", "4_bob"], "_(.*)", "group_of")
        ('ann', 'bob')
    """
    pattern = check_pattern(expression, name)
    if pattern.groups < 1:
        raise ValueError(
            f"{name}={expression!r}: put brackets around what is meant, as '_([a-z]+)_'"
        )
    found = parts_of(ids, pattern)
    missing = [one for one, part in zip(ids, found, strict=True) if part is None]
    if len(missing) == len(ids):
        return None
    if missing:
        raise ValueError(
            f"{name}={expression!r} finds nothing in {len(missing)} of {len(ids)} ids, such as "
            f"{missing[0]!r}; give an expression that fits all"
        )
    return tuple(part for part in found if part is not None)


def _words(rows: Features | Source) -> tuple[str, ...] | None:
    if rows.labels is None:
        return None
    names = rows.label_names
    labels = rows.labels.tolist()
    return tuple(names[label] if names else str(label) for label in labels)
