"""What differs between two results: flags, weights, versions, images, numbers.

Both are read as result.json has them. Lists of entries with a `name` are matched by it, others by
their place. A list of numbers, of any depth, is one value, of which the largest change is told.

Cost: one pass over both files.

Not guaranteed: that a difference in numbers means anything; the intervals of the reports say that.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Key at the top of a result -> kind of difference; what is not here is of the results.
KINDS = {
    "experiment": "Flags",
    "arguments": "Flags",
    "versions": "Versions and devices",
    "devices": "Versions and devices",
    "encoders": "Encoders and files",
    "files": "Encoders and files",
    "images": "Images",
    "notes": "Notes",
    "seconds": "Seconds",
}
RESULTS = "Results"
ORDER = (*dict.fromkeys(KINDS.values()), RESULTS)
SKIPPED = ("command",)  # it says again what the flags say
MISSING = "–"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One value that two results do not share.

    Attributes:
        kind: one of `ORDER`.
        place: where it is, such as domains.texture.cka[0][3]; of an array, its largest change.
        before: in the first; "–" where there is none.
        after: in the second.
        change: after - before where both are numbers, else None.
        relative: |change| over the larger size of the two, else None.
        count: numbers that differ; 1 but for arrays.
        of: numbers there are.
    """

    kind: str
    place: str
    before: Any
    after: Any
    change: float | None = None
    relative: float | None = None
    count: int = 1
    of: int = 1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two results side by side.

    Attributes:
        differences: by kind in the order of `ORDER`; results by their relative change, what has
            none first.
        same: values of the results that are equal, each number of an array counted.
    """

    differences: Sequence[Difference]
    same: int

    def of(self, kind: str) -> list[Difference]:
        """The differences of a kind."""
        return [found for found in self.differences if found.kind == kind]


def read_result(path: str | Path) -> dict[str, Any]:
    """The content of a result.json, given by its path or by the folder of its run.

    Raises:
        ValueError: no such file, or one that is no result.
    """
    path = Path(path)
    file = path / "result.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{path}: no result.json there; give the --out folder of a run") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file}: no JSON; give the --out folder of a run") from None
    if not isinstance(content, dict) or "experiment" not in content:
        raise ValueError(f"{file}: no result of a run; give its --out folder")
    return content


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """All that differs between two results.

    Args:
        before: as `read_result` gives it.
        after: likewise.

    Raises:
        ValueError: results of different launchers, which share no numbers.

    Example:
        >>> run = {"experiment": "cka", "arguments": {"n": 512}, "cka": [[1.0, 0.5], [0.5, 1.0]]}
        >>> found = compare(run, run | {"arguments": {"n": 64}, "cka": [[1.0, 0.6], [0.6, 1.0]]})
        >>> [(each.place, each.before, each.after, each.count) for each in found.differences]
        [('n', 512, 64, 1), ('cka[0][1]', 0.5, 0.6, 2)]
        >>> found.same
        2
    """
    kinds = [content.get("experiment") for content in (before, after)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"results of {kinds[0]} and of {kinds[1]}: give two of one launcher")
    found, same = [], 0
    for key in dict.fromkeys([*before, *after]):
        if key in SKIPPED:
            continue
        kind = KINDS.get(key, RESULTS)
        # Flags and versions are known by their own names.
        prefix = "" if kind in ORDER[:2] and isinstance(before.get(key), dict) else key
        for difference, equal in _walk(prefix, before.get(key, ...), after.get(key, ...)):
            if difference is not None:
                found.append(dataclasses.replace(difference, kind=kind))
            same += equal if kind == RESULTS else 0
    rank = {kind: i for i, kind in enumerate(ORDER)}
    found.sort(key=lambda each: (rank[each.kind], -_size(each)))
    return Comparison(found, same)


def _size(difference: Difference) -> float:
    if difference.kind != RESULTS:
        return 0.0
    return np.inf if difference.relative is None else difference.relative


def _walk(place: str, a: Any, b: Any):
    """Differences below two values, and how many numbers or words are equal; `...` is none."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            inner = f"{place}.{key}" if place else str(key)
            yield from _walk(inner, a.get(key, ...), b.get(key, ...))
    elif isinstance(a, list) and isinstance(b, list):
        by_name = _by_name(a), _by_name(b)
        x, y = _array(a), _array(b)
        if all(each is not None for each in by_name):
            yield from _walk(place, *by_name)
        elif x is not None and y is not None and x.shape == y.shape:
            yield _of_arrays(place, x, y)
        elif len(a) == len(b) and _deep(a):
            for i, (x, y) in enumerate(zip(a, b, strict=True)):
                yield from _walk(f"{place}[{i}]", x, y)
        else:
            yield _of_values(place, _said(a), _said(b), a == b, max(len(a), len(b)))
    else:
        yield _of_values(place, _said(a), _said(b), a == b, 1)


def _by_name(values: list) -> dict[str, Any] | None:
    """Entries by their names, where all have one of their own."""
    if not values or not all(isinstance(each, dict) and "name" in each for each in values):
        return None
    found = {str(each["name"]): each for each in values}
    return found if len(found) == len(values) else None


def _deep(values: list) -> bool:
    return any(isinstance(each, (dict, list)) for each in values)


def _array(values: list) -> np.ndarray | None:
    """Numbers of any depth, None as NaN; None for a list that holds anything else."""
    flat = values
    while flat and all(isinstance(each, list) for each in flat):
        flat = [item for each in flat for item in each]
    if not flat or not all(each is None or type(each) in (int, float) for each in flat):
        return None
    try:
        return np.array(values, np.float64)
    except ValueError:  # rows of different lengths
        return None


def _of_arrays(place: str, a: np.ndarray, b: np.ndarray) -> tuple[Difference | None, int]:
    differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    count = int(differ.sum())
    if not count:
        return None, a.size
    change = np.where(differ, np.nan_to_num(np.abs(b - a), nan=np.inf), -1)
    at = np.unravel_index(int(change.argmax()), a.shape)
    where = place + "".join(f"[{i}]" for i in at)
    x, y = (None if np.isnan(each[at]) else float(each[at]) for each in (a, b))
    found, _ = _of_values(where, x, y, False, 1)
    assert found is not None
    return dataclasses.replace(found, count=count, of=a.size), a.size - count


def _of_values(place: str, a: Any, b: Any, equal: bool, size: int) -> tuple[Difference | None, int]:
    if equal:
        return None, size
    change = relative = None
    if all(type(each) in (int, float) for each in (a, b)):
        change = b - a
        relative = abs(change) / max(abs(a), abs(b))
    return Difference("", place, a, b, change, relative), 0


def _said(value: Any) -> Any:
    """A value as a table shows it."""
    if value is ...:
        return MISSING
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
