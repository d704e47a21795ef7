"""The table of programs for a terminal, and numbers as both it and the page write them."""

from substrate_jax.report.text import text_table

from .results import CompiledProgram, PodsResult

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size(count: float | None) -> str:
    """Bytes in the largest unit that leaves a number above 1.

    Example:
        >>> size(3 * 2**20), size(12), size(None)
        ('3.0 MiB', '12.0 B', '–')
    """
    if count is None:
        return "–"
    name = next(name for name in reversed(UNITS) if count >= UNITS[name] or name == "B")
    return f"{count / UNITS[name]:.1f} {name}"


def seconds(value: float | None) -> str:
    """Seconds with their unit.

    Example:
        >>> seconds(0.0123), seconds(2e-6), seconds(3.5), seconds(None)
        ('12.3 ms', '2.0 µs', '3.5 s', '–')
    """
    if value is None:
        return "–"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.1f} {unit}"
    return f"{value * 1e6:.1f} µs"


def bound(row: CompiledProgram) -> str:
    """What a call spends its least time on; what XLA said where it refused."""
    return row.error or max(row.bounds, key=lambda name: row.bounds[name])


def line(row: CompiledProgram) -> str:
    """A program as soon as it is compiled."""
    if row.error:
        return f"{row.program} on {row.topology}: {row.error}"
    return (
        f"{row.program} on {row.topology}: {seconds(row.compile_seconds)} to compile, "
        f"{size(row.temporary_bytes)} of temporaries, at least {seconds(row.least_seconds)} a call"
    )


def text(result: PodsResult) -> str:
    """A line for each program and pod."""
    rows = [("program", "pod", "lower", "compile", "HBM", "", "collectives", "least", "by")]
    for row in result.programs:
        held = [row.argument_bytes, row.temporary_bytes, row.output_bytes]
        known = [part for part in held if part is not None]
        share = "" if row.memory_share is None else f"{row.memory_share:.0%}"
        rows.append(
            (
                row.program,
                row.topology,
                f"{row.lower_seconds:.1f} s",
                seconds(row.compile_seconds),
                size(sum(known) if known else None),
                share,
                size(row.collective_bytes),
                seconds(row.least_seconds),
                bound(row),
            )
        )
    notes = [f"note: {note}" for note in result.run.notes]
    return "\n".join([*text_table(rows), *notes])
