"""What `substrate-jax list` prints: names that flags take, a line for each."""

from collections.abc import Callable, Iterable, Sequence

from ..common import presets


def encoders(commands: Iterable[str]) -> str:
    """The registered encoders, as --list_encoders prints them."""
    from substrate_jax.encoders.table import text_table

    return text_table()


def domains(commands: Iterable[str]) -> str:
    """The named domains, with their groups."""
    from substrate_jax.data.domains import list_domains

    return _aligned(
        [("name", "groups", "source", "what it is")]
        + [(d.name, ",".join(d.groups), d.spec, d.description) for d in list_domains()]
    )


def measures(commands: Iterable[str]) -> str:
    """The similarity measures of --measure."""
    from substrate_jax.kernels import MEASURES

    rows = [(name, each.title, each.meaning_of_one) for name, each in MEASURES.items()]
    return _aligned([("name", "measure", "1 means"), *rows])


def all_presets(commands: Iterable[str]) -> str:
    """The presets of --flagfile, command by command."""
    rows = [
        (command, name, presets.summary(path))
        for command in commands
        for name, path in presets.presets(command).items()
    ]
    return _aligned([("command", "--flagfile", "what it is"), *rows])


LISTS: dict[str, Callable[[Iterable[str]], str]] = {
    "encoders": encoders,
    "domains": domains,
    "measures": measures,
    "presets": all_presets,
}


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
