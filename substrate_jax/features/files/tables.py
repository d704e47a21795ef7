"""Readers of files that hold a table: .csv and .parquet, a row of the table for each row.

In a CSV the first line is a header if it names the column of ids or labels, begins with an empty
field (as pandas writes an index), or holds no number. The ids are the column that bears one of
their names, else the first column if its name is empty or its first value is no number. Without
either they must lie beside the file. All other columns are features.

Cost: of a CSV 4 n d bytes, twice for a moment at the end.
"""

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from substrate_jax.data.paths import first_of, readable
from substrate_jax.features.files.arrays import needed
from substrate_jax.features.files.contents import (
    IDS,
    LABEL_NAMES,
    LABELS,
    Contents,
    damaged,
    numbers_or_words,
)

_ROWS = 4096  # of a CSV, turned into numbers at a time


def read_csv(path: Path) -> Contents:
    """Numbers, and the columns of ids and labels if there are such."""
    ids: list[str] = []
    labels: list[str] = []
    parts: list[np.ndarray] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = _lines(path, file)
            header, first = _header(next(lines, []), lines)
            id_at, label_at = _special_columns(header, first)
            kept = [i for i in range(len(first)) if i not in (id_at, label_at)]
            rows = itertools.chain([first] if first else [], lines)
            while some := list(itertools.islice(rows, _ROWS)):
                ids += [row[id_at] for row in some] if id_at is not None else []
                labels += [row[label_at] for row in some] if label_at is not None else []
                parts.append(_numbers(path, some, kept, header, sum(map(len, parts))))
    except (csv.Error, UnicodeDecodeError) as error:
        raise damaged(path, error) from error
    if not parts:
        raise ValueError(f"{readable(str(path))} has no rows; give a line for each row")
    return Contents(
        {path.stem: np.concatenate(parts)},
        np.array(ids, object) if id_at is not None else None,
        numbers_or_words(labels) if label_at is not None else None,
    )


def read_parquet(path: Path) -> Contents:
    """Columns of lists as a block each; without any, all columns of numbers as one.

    Raises:
        ValueError: pyarrow is not installed, the file is damaged, or a column is of another kind.
    """
    parquet = needed("pyarrow.parquet", path)
    types = needed("pyarrow.types", path)
    try:
        table = parquet.read_table(path, memory_map=True)
    except Exception as error:  # whatever Arrow says of a damaged file
        raise damaged(path, error) from error
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    ids, labels = (next((key for key in keys if key in columns), None) for keys in (IDS, LABELS))
    rest = {k: v for k, v in columns.items() if k not in (ids, labels, LABEL_NAMES)}
    lists = {
        name: column
        for name, column in rest.items()
        if types.is_list(column.type)
        or types.is_large_list(column.type)
        or types.is_fixed_size_list(column.type)
    }
    numbers = (types.is_integer, types.is_floating, types.is_boolean)
    odd = [name for name, of in rest.items() if not any(test(of.type) for test in numbers)]
    if odd and not lists:
        raise ValueError(
            f"{readable(str(path))}: columns that hold no numbers: {first_of(odd)}; leave them "
            f"out, or call the one of ids {IDS[0]} and the one of labels {LABELS[0]}"
        )
    for name, column in (lists or rest).items():
        if column.null_count or (lists and column.flatten().null_count):
            raise ValueError(f"{readable(str(path))}: column {name} has empty cells; fill them")
    if lists:
        blocks = {name: _of_lists(path, name, column) for name, column in lists.items()}
    else:
        block = np.empty((table.num_rows, len(rest)), np.float32)
        with np.errstate(over="ignore"):
            for i, column in enumerate(rest.values()):
                block[:, i] = column.to_numpy(zero_copy_only=False)
        blocks = {path.stem: block}
    values = (columns[key].to_pylist() if key else None for key in (ids, labels))
    found_ids, found_labels = (None if v is None else _typed(v) for v in values)
    return Contents(blocks, found_ids, found_labels)


def _typed(values: list[Any]) -> np.ndarray:
    """Numbers as numbers, and all else as objects."""
    numbers = all(isinstance(value, (int, float)) for value in values)
    return np.array(values, None if numbers else object)


def _of_lists(path: Path, name: str, column: Any) -> np.ndarray:
    widths = column.value_lengths().unique().to_pylist()
    if len(widths) != 1:
        raise ValueError(
            f"{readable(str(path))}: column {name} holds lists of {first_of(map(str, widths))} "
            "numbers; give lists of one length"
        )
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), widths[0])


def _lines(path: Path, file: Any) -> Iterator[list[str]]:
    """The lines that are not empty, all of one length."""
    width = None
    reader = csv.reader(file, strict=True)
    for row in reader:
        if not row:
            continue
        width = len(row) if width is None else width
        if len(row) != width:
            raise ValueError(
                f"{readable(str(path))}: line {reader.line_num} has {len(row)} fields, the first "
                f"{width}; give all lines the same"
            )
        yield row


def _header(first: list[str], lines: Iterator[list[str]]) -> tuple[list[str], list[str]]:
    """The names of the columns, [] without any, and the first line of data."""
    names = [field.strip() for field in first]
    named = any(name in (*IDS, *LABELS) for name in names)
    if first and (named or names[0] == "" or not any(map(_is_number, names))):
        return names, next(lines, [])
    return [], first


def _special_columns(header: list[str], first: list[str]) -> tuple[int | None, int | None]:
    """Where the ids and the labels are."""
    id_at, label_at = (
        next((header.index(key) for key in keys if key in header), None) for keys in (IDS, LABELS)
    )
    if id_at is None and first and label_at != 0:
        unnamed = bool(header) and header[0] == ""
        id_at = 0 if unnamed or not _is_number(first[0]) else None
    return id_at, label_at


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(
    path: Path, rows: Sequence[list[str]], kept: list[int], header: list[str], before: int
) -> np.ndarray:
    block = np.empty((len(rows), len(kept)), np.float32)
    with np.errstate(over="ignore"):
        for i, row in enumerate(rows):
            try:
                block[i] = [float(row[at]) for at in kept]
            except ValueError:
                at = next(at for at in kept if not _is_number(row[at]))
                column = header[at] if header else f"{at + 1}"
                raise ValueError(
                    f"{readable(str(path))}: {row[at]!r:.40} in column {column} of row "
                    f"{before + i + 1} is no number; fill it, or leave the column out"
                ) from None
    return block
