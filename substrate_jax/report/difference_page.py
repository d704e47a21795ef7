"""What differs between two results, for a terminal and as a page."""

from collections.abc import Sequence
from typing import Any

from substrate_jax.report.differences import ORDER, RESULTS, Comparison, Difference
from substrate_jax.report.page import Block, Column, Page, Prose, Section, Table
from substrate_jax.report.text import counted

SHOWN = 12  # numbers of the results in a terminal
LONGEST = 48

_COLUMNS = (Column("place", "What"), Column("before", "Before"), Column("after", "After"))
_NUMBERS = (
    Column("change", "Change"),
    Column("relative", "Relative, %"),
    Column("count", "Numbers that differ", "count"),
    Column("of", "Of", "count"),
)


def text(found: Comparison) -> str:
    """Lines for a terminal: every flag, version and file, and the largest changes of the results.

    Example:
        >>> from substrate_jax.report.differences import compare
        >>> run = {"experiment": "cka", "arguments": {"n": 512}, "tau": 0.5}
        >>> print(text(compare(run, run | {"tau": 0.25})))
        Results: 1 value differs, 0 are equal
          tau  0.5 -> 0.25  (-50%)
    """
    if not found.differences:
        return (
            f"no difference in {counted(found.same, 'value')} of the results, nor in what made them"
        )
    lines = []
    for kind in ORDER:
        differences = found.of(kind)
        if not differences:
            continue
        lines.append(_heading(kind, differences, found.same))
        shown = differences[:SHOWN] if kind == RESULTS else differences
        width = max(len(each.place) for each in shown)
        lines += [f"  {each.place:{width}s}  {_arrow(each)}" for each in shown]
        if len(differences) > len(shown):
            lines.append(f"  and {counted(len(differences) - len(shown), 'smaller change')}")
    return "\n".join(lines)


def page(found: Comparison, names: tuple[str, str], experiment: str) -> Page:
    """The same as a page, whole.

    Args:
        found: of `differences.compare`.
        names: of the two runs.
        experiment: their launcher.
    """
    sections = []
    for kind in ORDER:
        if differences := found.of(kind):
            sections.append(Section(kind, _blocks(kind, differences, found.same)))
    lede = f"{names[0]}, then {names[1]}, both of {experiment}. "
    if not found.differences:
        lede += f"They do not differ in {counted(found.same, 'value')} of the results."
    tiles = [
        (str(sum(each.count for each in found.of(kind))), kind.lower(), "that differ")
        for kind in ORDER
        if found.of(kind)
    ]
    return Page("What differs between two runs", lede, tiles, sections)


def _blocks(kind: str, differences: Sequence[Difference], same: int) -> list[Block]:
    columns = (*_COLUMNS, *(_NUMBERS if kind == RESULTS else ()))
    rows = [
        {
            "place": each.place,
            "before": _word(each.before),
            "after": _word(each.after),
            "change": _signed(each.change),
            "relative": None if each.relative is None else f"{100 * each.relative:.3g}",
            "count": each.count,
            "of": each.of,
        }
        for each in differences
    ]
    file = kind.lower().replace(" ", "_") + ".csv"
    table = Table("", _heading(kind, differences, same) + ".", columns, rows, file)
    note = "Of a list of numbers the largest change is shown. Whether it is more than noise, the \
intervals of the reports say."
    return [Prose([note]), table] if kind == RESULTS else [table]


def _heading(kind: str, differences: Sequence[Difference], same: int) -> str:
    count = sum(each.count for each in differences)
    if kind != RESULTS:
        return f"{kind}: {count} differ" + ("s" if count == 1 else "")
    verb = "differs" if count == 1 else "differ"
    return f"{kind}: {counted(count, 'value')} {verb}, {same:,} are equal"


def _arrow(each: Difference) -> str:
    said = f"{_word(each.before)} -> {_word(each.after)}"
    if each.change is not None and each.before:
        said += f"  ({100 * each.change / abs(each.before):+.3g}%)"
    if each.of > 1:
        said += f", the largest of {each.count:,} changes in {each.of:,} numbers"
    return said


def _word(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


def _signed(value: float | None) -> str | None:
    return None if value is None else f"{value:+.4g}"
