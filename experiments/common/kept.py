"""Records in a CSV that grows as they come, so that an interrupted run goes on where it stopped."""

import csv
import dataclasses
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from . import launch


class Record(Protocol):
    """A frozen dataclass of texts, numbers, and such dataclasses."""

    @property
    def key(self) -> Hashable:
        """What tells it from the others."""
        ...


RecordType = TypeVar("RecordType", bound=Record)


class Kept(Generic[RecordType]):
    """Records of one kind in a CSV that is written anew, whole, with each that comes.

    A column for each field, those of dataclasses within it side by side.

    Args:
        path: of the file; what it holds is known.
        kind: the dataclass.

    Raises:
        ValueError: a file that holds something else.
    """

    def __init__(self, path: Path, kind: type[RecordType]):
        self.path = path
        self.known: dict[Any, RecordType] = {}
        self._columns = _columns(kind)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    try:
                        record = _record(kind, row)
                    except (KeyError, ValueError, TypeError):
                        raise ValueError(
                            f"{str(path)!r} is not what this command writes; delete it, or give "
                            "another --out"
                        ) from None
                    self.known[record.key] = record

    def keep(self, record: RecordType) -> None:
        """Add one, in place of one that has its key."""
        from substrate_jax.report.text import csv_text
        from substrate_jax.report.writing import write_file

        self.known[record.key] = record
        if launch.is_first_process():
            rows = [_values(one) for one in self.known.values()]
            write_file(self.path, csv_text(self._columns, rows))


def _columns(kind: Any) -> list[str]:
    found = []
    for field in dataclasses.fields(kind):
        nested = dataclasses.is_dataclass(field.type)
        found += _columns(field.type) if nested else [field.name]
    return found


def _values(record: Any) -> list[Any]:
    found = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        found += _values(value) if dataclasses.is_dataclass(value) else [value]
    return found


def _record(kind: Any, row: dict[str, str]) -> Any:
    values = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            values[field.name] = _record(field.type, row)
        else:
            # NaN has no letters in a CSV.
            text = row[field.name] or ("nan" if field.type is float else "")
            values[field.name] = field.type(text)  # type: ignore[operator]
    return kind(**values)
