"""Images, sounds or texts by row number, whatever holds them.

A `Source` is n rows, each with an image (uint8 [h, w, 3]), a label or None and an id; in a source
of sounds each has a `sounds.Sound` in place of the image, and in one of texts a string. Ids are
unique and stable: rows of two runs, two encoders or two machines are matched by id and never by
position. The fingerprint is a hash of what determines the rows at the price of a directory
listing: two sources with one fingerprint hold the same images under the same ids.

Every image becomes RGB by the rules of `decode.decode_image`, every sound one channel by those of
`sounds.decode_sound`. One that cannot be read raises `UnreadableImage`, `UnreadableSound` or
`UnreadableText`, so that whoever reads rows can count and name them. Other files are counted in
`left_out`.

Cost: reading a row is one file read and one decode, safe from many threads.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np
from jaxtyping import Int64, UInt8

from substrate_jax.data.decode import Orientation
from substrate_jax.data.labels import whole_labels
from substrate_jax.data.paths import first_of
from substrate_jax.data.sounds import Sound
from substrate_jax.data.unreadable import Unreadable, UnreadableImage

Modality = Literal["image", "sound", "text"]


class Example(NamedTuple):
    """One row of a source: the image, its label (None where there are none) and its id."""

    image: UInt8[np.ndarray, "h w 3"]
    label: int | None
    id: str


class SoundExample(NamedTuple):
    """One row of a source of sounds."""

    sound: Sound
    label: int | None
    id: str

    @property
    def image(self) -> NoReturn:
        """What asks for pixels is told that there are none."""
        raise ValueError(f"{self.id} is a sound and has no pixels; give a source of images here")


class TextExample(NamedTuple):
    """One row of a source of texts."""

    text: str
    label: int | None
    id: str

    @property
    def image(self) -> NoReturn:
        """What asks for pixels is told that there are none."""
        raise ValueError(f"{self.id} is a text and has no pixels; give a source of images here")


_EXAMPLES = {"image": Example, "sound": SoundExample, "text": TextExample}


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Rows of images, of sounds or of texts, under unique ids; `source[i]` decodes row i.

    Args:
      name: what to call it in messages and reports.
      ids: one string per row, unique.
      labels: int64 [n], or None; whole numbers of other types become int64.
      fingerprint: hash of what determines the rows.
      read: row number -> uint8 [h, w, 3], a `Sound` or a string; called from several threads.
      label_names: name of each label, where known.
      left_out: suffix -> number of files beside the images that were not taken for images.
      modality: "image", "sound" or "text".
      rates: samples a second that occur among sounds, where that is known before they are decoded.

    Raises:
      ValueError: no rows, a repeated id, labels of another length, or such that are no whole
        numbers.

    Example:
      >>> pixels = np.zeros((2, 8, 8, 3), np.uint8)
      >>> source = Source("black", ("a", "b"), None, "0", lambda row: pixels[row])
      >>> len(source), source[1].id, source[1].image.shape
      (2, 'b', (8, 8, 3))
    """

    name: str
    ids: tuple[str, ...]
    labels: Int64[np.ndarray, " n"] | None
    fingerprint: str
    read: Callable[[int], Any]
    label_names: tuple[str, ...] = ()
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    modality: Modality = "image"
    rates: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "ids", tuple(self.ids))
        if not self.ids:
            raise ValueError(f"{self.name}: no {self.modality}s; give a source with at least one")
        if len(set(self.ids)) < len(self.ids):
            seen = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))
            raise ValueError(f"{self.name}: id {twice!r} appears twice; give every row its own id")
        if self.labels is not None:
            object.__setattr__(self, "labels", whole_labels(self.labels, self.name))
            if self.labels.shape != (len(self.ids),):
                raise ValueError(
                    f"{self.name}: labels have shape {self.labels.shape}; "
                    f"give one for each of the {len(self.ids)} ids"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> Any:
        """An `Example`, a `SoundExample` or a `TextExample`."""
        label = None if self.labels is None else int(self.labels[row])
        return _EXAMPLES[self.modality](self.read(range(len(self))[row]), label, self.ids[row])

    @property
    def left_out_note(self) -> str:
        """How many files were not taken for images, by suffix; empty if none was.

        Example:
          >>> pixels = np.zeros((1, 1, 3), np.uint8)
          >>> Source("a", "a", None, "0", lambda row: pixels, (), {".txt": 2}).left_out_note
          'a: left out 2 files that are no images by their suffix: 2 .txt'
        """
        if not self.left_out:
            return ""
        total, kind = sum(self.left_out.values()), self.modality
        what = (
            f"files that are no {kind}s by their" if total > 1 else f"file that is no {kind} by its"
        )
        return f"{self.name}: left out {total} {what} suffix: {by_count(self.left_out)}"

    def select(self, rows: Sequence[int]) -> "Source":
        """The given rows, in the given order, under their old ids."""
        rows = [range(len(self))[row] for row in rows]
        ids = tuple(self.ids[row] for row in rows)
        return dataclasses.replace(
            self,
            ids=ids,
            labels=None if self.labels is None else self.labels[rows],
            fingerprint=digest(self.fingerprint, *ids),
            read=lambda row: self.read(rows[row]),
        )


def digest(*parts: str | bytes) -> str:
    """Hash of a sequence of strings that no other sequence shares (each is length-prefixed)."""
    state = hashlib.sha256()
    for part in parts:
        # Paths hold bytes that are not UTF-8 as halves of surrogate pairs.
        part = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


def take(source: Source, n: int, seed: int = 0) -> Source:
    """A subsample of n rows that depends on the seed and the ids alone.

    Rows are ordered by sha256(seed, id) and the first n are kept: reordering the source changes
    nothing, a larger n extends a smaller one, and adding images replaces only as many rows as
    hash before the last one kept.

    Args:
      source: any source.
      n: rows to keep, 1 to len(source).
      seed: another seed is another, independent subsample.

    Returns:
      A source of n rows, in hash order.

    Raises:
      ValueError: n is outside 1 to len(source).

    Example:
      >>> black = Source("black", "abcd", None, "0", lambda row: np.zeros((8, 8, 3), np.uint8))
      >>> set(take(black, 2).ids) <= set(take(black, 3).ids)
      True
    """
    if not 1 <= n <= len(source):
        raise ValueError(
            f"n={n}: {source.name} has {len(source)} {source.modality}s; give 1 to {len(source)}"
        )
    order = sorted(range(len(source)), key=lambda row: digest(str(seed), source.ids[row]))
    return source.select(order[:n])


def read_named(
    row_id: str, read: Callable[[], Any], unreadable: type[Unreadable] = UnreadableImage
) -> Any:
    """What `read` returns; if it is `unreadable`, the error names the row."""
    try:
        return read()
    except (Unreadable, OSError) as error:
        # Of an OSError the reason alone: its own text repeats the path, in Python's notation.
        reason = getattr(error, "strerror", None) or str(error)
        raise unreadable(f"{row_id}: {reason}") from error


def oriented(fingerprint: str, orientation: Orientation) -> str:
    """The fingerprint of a source whose images are turned; as it is where they are not."""
    if orientation not in get_args(Orientation):
        raise ValueError(f"orientation={orientation!r}: give {' or '.join(get_args(Orientation))}")
    return fingerprint if orientation == "ignore" else digest(fingerprint, "orientation")


def by_count(counts: Mapping[str, int]) -> str:
    """Counts and what they count, the most frequent first.

    Example:
      >>> by_count({".csv": 1, ".txt": 2})
      '2 .txt, 1 .csv'
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return first_of(f"{count} {what}" for what, count in ordered)
