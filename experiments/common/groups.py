"""--group_by: rows that lie in one part of a split, by what their ids say they belong to."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:
    import numpy as np

    from substrate_jax.features import Features

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "group_by",
    None,
    "Regular expression; rows whose ids have the same match (its first group, if it has any) are "
    "fitted to together or held out together, such as crops of one picture: '^[^#]+'.",
)


def check_group_by() -> None:
    """Refuse what is no regular expression, before anything runs."""
    from substrate_jax.data.groups import check_pattern

    if FLAGS.group_by is not None:
        check_pattern(FLAGS.group_by)


def groups_of(
    features: "Mapping[str, Features]",
) -> "tuple[dict[str, np.ndarray] | None, list[str]]":
    """Domain -> group of each row, None without the flag; and a sentence for the report.

    Raises:
        ValueError: a pattern that no id has a match of.
    """
    from substrate_jax.data.groups import row_groups
    from substrate_jax.report.text import counted

    if FLAGS.group_by is None:
        return None, []
    found, said, total = {}, [], 0
    for name, of in features.items():
        found[name], matched = row_groups(of.ids, FLAGS.group_by)
        total += matched
        if matched:
            groups = counted(int(found[name].max()) + 1, "group")
            said.append(f"{name} has {groups} for {counted(len(of.ids), 'row')}")
    if not total:
        name, of = next(iter(features.items()))
        raise ValueError(
            f"group_by={FLAGS.group_by!r} has no match in any id, such as {of.ids[0]!r} of {name}; "
            "give what rows of one group share, or leave it out"
        )
    return found, [f"Rows of one group are never parted: {', '.join(said)}."]
