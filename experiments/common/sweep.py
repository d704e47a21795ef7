"""The flag of launchers that sweep the number of components."""

from absl import flags

flags.DEFINE_list("sweep", ["4", "8", "12", "16", "24", "32", "64"], "Components to sweep.")


def sweep(words: list[str]) -> tuple[int, ...]:
    """The values of --sweep.

    Raises:
        ValueError: one that is no whole number above 0.

    Example:
        >>> sweep(["16", "4", "16"])
        (4, 16)
    """
    if not all(word.isdecimal() and len(word) < 10 and int(word) for word in words):
        raise ValueError(f"sweep={','.join(words)!r}: give whole numbers, such as 4,8,16")
    return tuple(sorted({int(word) for word in words}))
