"""Labels of images: whole numbers, or words that are numbered.

A label is the number of a class. Numbers that are whole are taken in any type, words are numbered
in their sorted order; fractions, NaN and numbers beyond 64 bits are refused, as rounding them would
make two classes one.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from substrate_jax.data.paths import readable


def whole_labels(values: Shaped[np.ndarray, " n"], where: str) -> Int64[np.ndarray, " n"]:
    """Labels as int64, whatever numeric type they came in.

    Args:
      values: whole numbers, of any shape.
      where: whose they are, for the message.

    Raises:
      ValueError: a label that is no whole number, or none of 64 bits.

    Example:
      >>> whole_labels(np.array([0.0, 2.0]), "a.npz")
      array([0, 2])
    """
    values = np.asarray(values)
    if values.dtype.kind in "bi" or not values.size:
        return values.astype(np.int64)
    if values.dtype.kind not in "uf":
        raise ValueError(f"{where}: labels of dtype {values.dtype}; give whole numbers or words")
    if values.dtype.kind == "u":
        whole = values <= np.iinfo(np.int64).max
    else:  # 2^63 is a float exactly, and the least that int64 does not hold
        values = values.astype(np.float64)
        whole = (values >= -(2.0**63)) & (values < 2.0**63) & (values == np.floor(values))
    if not whole.all():
        first = int(np.flatnonzero(~whole)[0])
        raise ValueError(
            f"{where}: label {values.ravel()[first]} of row {first} is no whole number of 64 bits; "
            "give every row the number of its class, or no labels"
        )
    return values.astype(np.int64)


def numbered(words: Iterable[str | bytes]) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Numbers of words in their sorted order, and the words.

    Example:
      >>> numbered(["dog", "cat", "dog"])
      (array([1, 0, 1]), ('cat', 'dog'))
    """
    texts = [text_of(word) for word in words]
    names = tuple(sorted(set(texts)))
    number = {name: label for label, name in enumerate(names)}
    return np.array([number[text] for text in texts], np.int64), names


def text_of(word: str | bytes) -> str:
    r"""A word that may be bytes, as text; bytes that are not UTF-8 are written \xNN.

    Example:
      >>> text_of(b"cat")
      'cat'
    """
    return readable(word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word)


def labels_of_cells(
    cells: Sequence[object], where: str
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Labels of a column: words are numbered in sorted order, numbers stay.

    Args:
      cells: words or numbers, one for each row.
      where: whose they are, for the message.

    Returns:
      Labels, and the words that they stand for (none for numbers).

    Raises:
      ValueError: an empty cell, words beside numbers, or a number that is not whole.

    Example:
      >>> labels_of_cells(["dog", "cat"], "a.csv")
      (array([1, 0]), ('cat', 'dog'))
      >>> labels_of_cells([3.0, 1.0], "a.csv")
      (array([3, 1]), ())
    """
    empty = next((row for row, cell in enumerate(cells) if cell is None), None)
    if empty is not None:
        raise ValueError(f"{where}: row {empty} has no label; fill it, or give ?label=none")
    words = [cell for cell in cells if isinstance(cell, (str, bytes))]
    if not words:
        return whole_labels(np.array(cells), where), ()
    if len(words) < len(cells):
        raise ValueError(
            f"{where}: labels are words in some rows and numbers in others; give one of them"
        )
    return numbered(words)


def labels_of_texts(
    texts: Sequence[str], where: str
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Labels of a file of text: numbers where every one is a number, else words.

    Raises:
      ValueError: as `labels_of_cells`; a text of nothing but spaces counts as empty.

    Example:
      >>> labels_of_texts(["7", " 3"], "a.csv")
      (array([7, 3]), ())
    """
    cells = [text.strip() or None for text in texts]
    try:
        return labels_of_cells([None if cell is None else _number(cell) for cell in cells], where)
    except _NoNumber:
        return labels_of_cells(cells, where)


class _NoNumber(Exception):
    """A text that is none."""


def _number(text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise _NoNumber
