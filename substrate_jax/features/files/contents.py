"""What a reader of a format finds, and ids and labels as text, whatever they came as."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from substrate_jax.data.labels import numbered, text_of, whole_labels
from substrate_jax.data.paths import first_of, one_line, readable, special_kind

# Names of arrays, datasets and columns, the first that is there.
IDS = ("ids", "id", "file_names", "file_name")
LABELS = ("labels", "label")
LABEL_NAMES = "label_names"
BESIDE = {"ids": ("ids.txt", "file_names.txt"), "labels": ("labels.txt",)}  # in the same folder


@dataclasses.dataclass(frozen=True)
class Contents:
    """Arrays of a file, and what it says of their rows.

    Attributes:
        blocks: key -> [n, ...] values, numbers or not.
        ids: of the rows; None where the file has none.
        labels: words or numbers; None likewise.
        label_names: words that the numbers stand for; None likewise.
    """

    blocks: Mapping[str, Shaped[np.ndarray, "n ..."]]
    ids: Any = None
    labels: Any = None
    label_names: Any = None

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Contents":
        """Arrays by name: ids and labels by theirs, blocks by having two dimensions or more."""
        ids, labels = (next((key for key in keys if key in arrays), None) for keys in (IDS, LABELS))
        taken = {ids, labels, LABEL_NAMES}
        return cls(
            {k: block for k, block in arrays.items() if k not in taken and block.ndim > 1},
            arrays.get(ids or ""),
            arrays.get(labels or ""),
            arrays.get(LABEL_NAMES),
        )


def damaged(path: Path, error: BaseException, what: str = "") -> ValueError:
    """The one line that a file which cannot be read as its suffix says ends in."""
    suffix = what or path.suffix
    return ValueError(
        f"{readable(str(path))} is no whole {suffix} file ({one_line(error)[:200]}); "
        "write or fetch it again"
    )


def texts(values: Any, where: str, what: str) -> list[str]:
    """Ids or words as a list of strings.

    Raises:
        ValueError: fractions, or anything else that is no text and no whole number.
    """
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    whole = values.dtype.kind in "iu"
    if values.ndim != 1 or not (whole or values.dtype.kind in "USO" or not values.size):
        raise ValueError(
            f"{where}: {what} are {values.dtype} {list(values.shape)}; give one text or whole "
            "number for each row"
        )
    listed = values.tolist()
    if whole:
        return [str(one) for one in listed]
    if odd := [one for one in listed if not isinstance(one, (str, bytes))]:
        raise ValueError(f"{where}: {what} hold {odd[0]!r:.40}, which is no text; give texts")
    return [_text(one) for one in listed]


def numbered_labels(
    values: Any, names: Any, ids: Sequence[str], where: str
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Labels as numbers, and their words: those given, or those that they were themselves.

    Raises:
        ValueError: an empty label, a number without its name, or no whole number.
    """
    array = np.asarray(values)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.shape != (len(ids),):
        raise ValueError(
            f"{where}: labels are {list(array.shape)} for {len(ids)} rows; give one per row"
        )
    if array.dtype.kind not in "biuf":
        words = texts(array, where, "labels")
        if empty := [ids[row] for row, word in enumerate(words) if not word.strip()]:
            raise ValueError(
                f"{where}: {len(empty)} of {len(ids)} rows have no label: {first_of(empty)}; give "
                "every row one, or none"
            )
        return numbered(words)
    labels = whole_labels(array, where)
    named = () if names is None else tuple(texts(names, where, LABEL_NAMES))
    if named and not ((labels >= 0) & (labels < len(named))).all():
        raise ValueError(f"{where}: labels up to {labels.max()} for {len(named)} {LABEL_NAMES}")
    return labels, named


def beside(path: Path, what: str, folders: Sequence[Path] = ()) -> tuple[Path, list[str]] | None:
    """The text file beside `path` that says what its ids or labels are, and its lines.

    Args:
        path: the file of features.
        what: "ids" or "labels".
        folders: to look in besides that of `path`.

    Returns:
        The file and its lines; None where there is none.

    Raises:
        ValueError: a line is empty.
    """
    own = [path.with_suffix(f".{what}.txt"), path.with_name(f"{path.name}.{what}.txt")]
    shared = [folder / name for folder in (path.parent, *folders) for name in BESIDE[what]]
    for file in (*own, *shared):
        # os.path: with its ending a name may be longer than names of files can be.
        if os.path.isfile(file):
            return file, lines_of(file)
        if kind := special_kind(file):
            raise ValueError(f"{readable(str(file))} is {kind}; give a text file with a line a row")
    return None


def lines_of(file: Path) -> list[str]:
    """The lines of a text file, without a byte order mark and what ends a line."""
    data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
    lines = [_text(line.removesuffix(b"\r")) for line in data.split(b"\n")]
    if lines[-1] == "":
        lines.pop()
    if "" in lines:
        raise ValueError(
            f"{readable(str(file))}: line {lines.index('') + 1} is empty; give a line for each row"
        )
    return lines


def numbers_or_words(words: Sequence[str]) -> Any:
    """Labels of a text file: whole numbers where all are."""
    try:
        return np.array([int(word) for word in words], np.int64)
    except (ValueError, OverflowError):
        return np.array(words, object)


def _text(word: str | bytes) -> str:
    """Text as it is, also where it holds an escape of a source's ids; other bytes are escaped."""
    try:
        return word if isinstance(word, str) else word.decode()
    except UnicodeDecodeError:
        return text_of(word)
