"""Tables of accuracies and scores that others published, and tables in their form.

A table is a long CSV: columns `model`, `target` and `accuracy`, one more per score, and `family`
where models belong to families; one row per model and target. Four published ones come with the
package (tables/LICENSES.md names their sources).

A score's direction is not in its numbers: publishers differ, two notebooks of one publication even
use opposite signs for one score. It is an argument, and every page prints it.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float

_KEYS = ("model", "target", "accuracy")
_FOLDER = resources.files("substrate_jax.analyses.transferability") / "tables"
# Table -> score -> direction, where lower is better.
_DIRECTIONS = {"medmnist": {"fu": -1}}


@dataclasses.dataclass(frozen=True)
class AccuracyTable:
    """Accuracies of m models on t targets, and scores that should predict them.

    Attributes:
        name: of the table.
        models: names, in the order in which they come first.
        targets: names, likewise.
        families: of the models; None where the table has none.
        accuracy: [m, t] in percent, or as published.
        scores: name -> [m, t], turned so that higher is better.
        directions: name -> 1, or -1 where the score was turned.
    """

    name: str
    models: Sequence[str]
    targets: Sequence[str]
    families: Sequence[str] | None
    accuracy: Float[np.ndarray, "m t"]
    scores: Mapping[str, Float[np.ndarray, "m t"]]
    directions: Mapping[str, int]


def list_tables() -> list[str]:
    """Names of the tables that come with the package.

    Example:
        >>> list_tables()
        ['medmnist', 'model_spider', 'self_supervised', 'supervised_cnn']
    """
    names = (Path(file.name) for file in _FOLDER.iterdir())
    return sorted(name.stem for name in names if name.suffix == ".csv")


def read_table(table: str, directions: Mapping[str, int] | None = None) -> AccuracyTable:
    """A table that comes with the package, or a CSV file.

    Args:
        table: one of `list_tables()`, or a path.
        directions: score -> 1 where higher is better, -1 where lower is; 1 for those not named,
            but for the scores of published tables whose direction is known.

    Raises:
        ValueError: no such table or file; a column, cell or row that is missing; a cell that is
            no finite number; a row that is there twice; a direction other than 1 and -1, or of
            no score of the table.

    Example:
        >>> table = read_table("medmnist")
        >>> table.accuracy.shape, sorted(table.scores)[:3], table.directions["fu"]
        ((9, 11), ['fu', 'leep', 'logme'], -1)
    """
    bundled = table in list_tables()
    path = _FOLDER / f"{table}.csv" if bundled else Path(table)
    if not bundled and not Path(table).is_file():
        raise ValueError(
            f"table {table!r} is no file; give a CSV of columns model, target, accuracy and "
            f"scores, or one of {', '.join(list_tables())}"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"table {table!r} is no CSV in UTF-8: {error}") from error
    if missing := [key for key in _KEYS if key not in columns]:
        raise ValueError(f"table {table!r} has no column {missing[0]!r}; it has {columns}")
    if twice := sorted({name for name in columns if columns.count(name) > 1 or not name}):
        raise ValueError(f"table {table!r}: column {twice[0]!r} is there twice or has no name")
    names = [name for name in columns if name not in (*_KEYS, "family")]
    signs = _signs(table, names, {**_DIRECTIONS.get(table, {}), **(directions or {})})
    models = list(dict.fromkeys(row["model"] for row in rows))
    targets = list(dict.fromkeys(row["target"] for row in rows))
    values = np.full((1 + len(names), len(models), len(targets)), np.nan)
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"table {table!r}, line {line}: give {len(columns)} cells")
        place = models.index(row["model"]), targets.index(row["target"])
        if not np.isnan(values[(0, *place)]):
            raise ValueError(
                f"table {table!r}, line {line}: {row['model']} on {row['target']} is there twice"
            )
        values[:, place[0], place[1]] = [
            _number(row[name], f"table {table!r}, line {line}: {name}")
            for name in ("accuracy", *names)
        ]
    if (absent := np.isnan(values[0])).any():
        model, target = np.argwhere(absent)[0]
        raise ValueError(
            f"table {table!r} has no row of {models[model]} on {targets[target]} "
            f"({absent.sum()} of {absent.size} are absent); add it, or leave out model or target"
        )
    return AccuracyTable(
        name=table if bundled else Path(table).stem,
        models=tuple(models),
        targets=tuple(targets),
        families=_families(table, rows, models) if "family" in columns else None,
        accuracy=values[0],
        scores={
            name: sign * score for name, sign, score in zip(names, signs, values[1:], strict=True)
        },
        directions=dict(zip(names, signs, strict=True)),
    )


def accuracies_of(
    table: AccuracyTable, models: Sequence[str], targets: Sequence[str]
) -> dict[str, Float[np.ndarray, " m"]]:
    """Accuracies of some models on some targets of a table.

    Returns:
        Target -> accuracies, in the order of `models`.

    Raises:
        ValueError: a model or a target that the table does not have.

    Example:
        >>> found = accuracies_of(read_table("supervised_cnn"), ["resnet50"], ["dtd"])
        >>> found["dtd"].tolist()
        [74.72]
    """
    for kind, asked, known in (
        ("model", models, table.models),
        ("target", targets, table.targets),
    ):
        if absent := [name for name in asked if name not in known]:
            raise ValueError(
                f"table {table.name!r} has no {kind} {absent[0]!r} ({len(absent)} of {len(asked)} "
                f"are absent); it has {', '.join(known)}"
            )
    rows = [table.models.index(name) for name in models]
    return {name: table.accuracy[rows, table.targets.index(name)] for name in targets}


def _signs(table: str, names: list[str], directions: Mapping[str, int]) -> list[int]:
    if unknown := sorted(directions.keys() - set(names)):
        raise ValueError(
            f"direction of {unknown[0]!r}: table {table!r} has no such score; it has "
            f"{', '.join(names) or 'none'}"
        )
    for name, sign in directions.items():
        if sign not in (1, -1):
            raise ValueError(
                f"direction {name}={sign!r}: give 1 where higher is better, -1 where lower is"
            )
    return [int(directions.get(name, 1)) for name in names]


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where} is {text!r}; give a finite number in every cell")
    return number


def _families(table: str, rows: list[dict[str, str]], models: list[str]) -> tuple[str, ...]:
    of: dict[str, str] = {}
    for row in rows:
        if of.setdefault(row["model"], row["family"]) != row["family"]:
            raise ValueError(
                f"table {table!r}: {row['model']} is of family {of[row['model']]!r} and of "
                f"{row['family']!r}; give one"
            )
    return tuple(of[model] for model in models)
