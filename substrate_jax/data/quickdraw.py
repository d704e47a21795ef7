"""QuickDraw, lightly: the first drawings of each of its 345 words, a few megabytes of 40 GB.

    quickdraw:COUNT    the first COUNT drawings of each word: white ink on black, 28 x 28 pixels

The bitmaps of a word are one npy file of some 100,000 rows. An HTTP range fetches the header and
the first rows, which are kept as DATA/quickdraw/WORD.npy; what is at hand is not fetched again, and
whole published files placed there serve as well. A row is called word/row, so that a larger COUNT
extends a smaller one.

Cost: COUNT x 345 x 784 bytes, 4.3 MB for 16 of each, in 345 requests, eight at once.

Not guaranteed: checksums. None are published for the beginning of a file; what is checked is that
a word still has as many drawings as quickdraw.tsv says, which was made from the sizes of the files
that TFDS names by their checksums.

References: D. Ha, D. Eck, "A Neural Representation of Sketch Drawings", ICLR 2018.
"""

import concurrent.futures
import functools
import io
import os
import urllib.parse
from importlib import resources
from pathlib import Path

import numpy as np

from substrate_jax.data.download import data_folder, fetch_head, locked, unreachable
from substrate_jax.data.npz import HEADER_ERRORS
from substrate_jax.data.paths import one_line
from substrate_jax.data.sources import Source, digest
from substrate_jax.progress import progress_bar

_URL = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap"
_PIXELS = 28 * 28
_HEADER = 80


@functools.cache
def quickdraw_words() -> dict[str, int]:
    """The 345 words of QuickDraw and how many drawings of each are published.

    Example:
      >>> words = quickdraw_words()
      >>> len(words), sum(words.values()), words["zebra"] > 100_000
      (345, 50426266, True)
    """
    table = (resources.files("substrate_jax") / "data" / "quickdraw.tsv").read_text()
    return {word: int(count) for word, count in (row.split("\t") for row in table.splitlines())}


def quickdraw_missing(count: int) -> list[str]:
    """Words of which fewer than `count` drawings are at hand.

    Raises:
      ValueError: no word or not every word has so many, or a file at hand is damaged.
    """
    most = min(quickdraw_words().values())
    if not 1 <= count <= most:
        raise ValueError(f"quickdraw:{count}: give 1 to {most} drawings of each word")
    return [word for word in quickdraw_words() if len(_drawings(word, count)) < count]


def quickdraw_bytes(count: int) -> int:
    """Bytes still to fetch for `open_quickdraw`."""
    return len(quickdraw_missing(count)) * (_HEADER + count * _PIXELS)


def open_quickdraw(count: int = 16, *, quiet: bool = False) -> Source:
    """The first drawings of every word of QuickDraw.

    Args:
      count: drawings of each word; more of them extend fewer.
      quiet: neither a progress bar nor lines.

    Returns:
      A source with ids "word/row", labeled by word.

    Raises:
      ValueError: they cannot be fetched, or are not those that the table counts.
    """
    if quickdraw_missing(count):
        folder = data_folder() / "quickdraw"
        with locked(folder):
            folder.mkdir(exist_ok=True)
            _fetch_drawings(quickdraw_missing(count), count, quiet)
    words = tuple(quickdraw_words())
    images = np.concatenate([_drawings(word, count) for word in words]).reshape(-1, 28, 28)
    return Source(
        name=f"quickdraw:{count}",
        ids=tuple(f"{word}/{row:06d}" for word in words for row in range(count)),
        labels=np.arange(len(words)).repeat(count),
        fingerprint=digest("quickdraw", images.tobytes()),
        read=lambda row: np.repeat(images[row][:, :, None], 3, axis=2),
        label_names=words,
    )


def _drawings_file(word: str) -> Path:
    return data_folder() / "quickdraw" / f"{word}.npy"


def _drawings(word: str, count: int) -> np.ndarray:
    """At most `count` drawings from the file at hand, [n, 784]; a whole published file will do."""
    path = _drawings_file(word)
    if not path.is_file():
        return np.zeros((0, _PIXELS), np.uint8)
    try:
        drawings = np.lib.format.open_memmap(path, mode="r")
        if drawings.dtype == np.uint8 and drawings.shape[1:] == (_PIXELS,):
            return drawings[:count]
        what = f"it holds {drawings.dtype} {list(drawings.shape)}"
    except HEADER_ERRORS as error:
        what = f"{type(error).__name__}: {one_line(error)}"
    raise ValueError(f"{path}: not a QuickDraw bitmap file ({what}); delete it and open it again")


def _fetch_drawings(words: list[str], count: int, quiet: bool) -> None:
    bar = progress_bar(None if quiet else "quickdraw", len(words), "word")
    with bar, concurrent.futures.ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(_fetch_word, word, count) for word in words]
        try:
            for task in concurrent.futures.as_completed(tasks):
                task.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch_word(word: str, count: int) -> None:
    path = _drawings_file(word)
    url = f"{_URL}/{urllib.parse.quote(word)}.npy"
    try:
        data = io.BytesIO(fetch_head(url, _HEADER + count * _PIXELS))
        np.lib.format.read_magic(data)
        shape, _, dtype = np.lib.format.read_array_header_1_0(data)
        pixels = data.read()
    except OSError as error:
        raise unreachable(f"quickdraw's {word}.npy", url, path, error) from error
    except HEADER_ERRORS as error:
        raise ValueError(f"{url} is no npy file ({error}); place {word}.npy at {path}") from error
    published = (quickdraw_words()[word], _PIXELS)
    if shape != published or dtype != np.uint8 or len(pixels) != count * _PIXELS:
        raise ValueError(
            f"{url} holds {dtype} {list(shape)}, of which {len(pixels)} bytes came, expected uint8 "
            f"{list(published)} and {count * _PIXELS}; try again, or place {word}.npy at {path}"
        )
    half = path.with_suffix(".part")
    with half.open("wb") as out:
        np.save(out, np.frombuffer(pixels, np.uint8).reshape(count, _PIXELS))
    os.replace(half, path)
