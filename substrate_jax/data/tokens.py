"""Texts to the numbers of their tokens: what a text goes through before its network.

A tokenizer cuts a text into words and pieces of them, puts marks at its ends, and gives each token
the number of its row in the network's table. Texts of all lengths become int32 [t] of one constant
length t, so that one program serves all batches: a longer text is cut at its end, its marks kept,
and after a shorter one follow `PADDING`s, -1, which no token has and the networks leave out.

A folder of transformers' format holds a tokenizer as

    tokenizer.json               as it is
    vocab.json and merges.txt    CLIP's, or vocab.txt, BERT's: by transformers' classes

Cost: some 20,000 sentences a second on one core, in any number of threads.

Not guaranteed: what transformers' classes of a later version make of a `tokenizer.json`: here it is
taken as it is, whatever stands in the files beside it.

References: R. Sennrich et al., arXiv:1508.07909; Y. Wu et al., arXiv:1609.08144.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Array, Int32

from substrate_jax.data.paths import one_line, read_file, readable
from substrate_jax.data.sources import Modality

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PADDING = -1
TOKENIZER = "tokenizer.json"
# Kind of a tokenizer -> files in place of `TOKENIZER`, and the class of transformers that reads
# them.
WORDS = {
    "clip": (("vocab.json", "merges.txt"), "CLIPTokenizer"),
    "bert": (("vocab.txt",), "BertTokenizer"),
}
# What such a class reads besides.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclasses.dataclass(frozen=True)
class TextPreprocess:
    """What a network of texts expects of its input; hashable, so it can key caches and jit.

    Args:
      length: tokens of a text, marks at its ends among them.
      tokenizer: hash of the tokenizer's files, `tokenizer_sha256`.
      kind: one of `WORDS`.
      folder: holds the files; another place of the same tokenizer is no other preprocessing.

    Raises:
      ValueError: a value out of its range.

    Example:
      >>> TextPreprocess(77, "0").label
      '77 tokens'
    """

    modality: ClassVar[Modality] = "text"
    dtype: ClassVar[np.dtype] = np.dtype(np.int32)  # of what the host prepares

    length: int
    tokenizer: str
    kind: str = "bert"
    folder: str = dataclasses.field(default="", compare=False, repr=False)

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"length={self.length}: give at least 1 token")
        if self.kind not in WORDS:
            raise ValueError(f"kind={self.kind!r}: give {' or '.join(WORDS)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the host prepares of one text."""
        return (self.length,)

    @property
    def pixels(self) -> tuple:
        """The part that `prepare` depends on: networks that share it share what it gives."""
        return ("text", self.tokenizer, self.kind, self.length)

    @property
    def label(self) -> str:
        """The input in a word, for a table."""
        return f"{self.length} tokens"

    def prepare(self, text: str) -> Int32[np.ndarray, " t"]:
        """The part for the host: numbers of tokens, then `PADDING`."""
        return padded(self.encode(text)[0], self.length)

    def finish(self, prepared: Int32[Array, "n t"]) -> Int32[Array, "n t"]:
        """The part for the devices: nothing is left to do."""
        return prepared

    def encode(self, text: str) -> tuple[list[int], bool]:
        """Numbers of the tokens of a text, and whether it was cut."""
        tokenizer = read_tokenizer(self.folder, self.kind, self.tokenizer, self.length)
        encoded = tokenizer.encode(text)
        return encoded.ids, bool(encoded.overflowing)


def padded(tokens: list[int], length: int) -> Int32[np.ndarray, " t"]:
    """Numbers of tokens and `PADDING` behind them.

    Example:
      >>> padded([5, 6], 4).tolist()
      [5, 6, -1, -1]
    """
    row = np.full(length, PADDING, np.int32)
    row[: len(tokens)] = tokens
    return row


def tokenizer_files(folder: Path, kind: str) -> list[Path]:
    """The files that decide a tokenizer; none where it has none.

    Args:
      folder: of a checkpoint in transformers' format.
      kind: one of `WORDS`.
    """
    if (folder / TOKENIZER).is_file():
        return [folder / TOKENIZER]
    words = [folder / name for name in WORDS[kind][0]]
    if not all(file.is_file() for file in words):
        return []
    return words + [folder / name for name in _SETTINGS if (folder / name).is_file()]


def tokenizer_sha256(folder: Path, kind: str) -> str:
    """Hexadecimal SHA-256 over the files that decide a tokenizer.

    Raises:
      ValueError: they are missing; the message says what to place where.
    """
    files = tokenizer_files(folder, kind)
    if not files:
        raise ValueError(
            f"no tokenizer in {readable(str(folder))!r}; place {TOKENIZER} of the checkpoint "
            f"there, or its {' and '.join(WORDS[kind][0])}"
        )
    state = hashlib.sha256()
    for file in files:
        state.update(f"{file.name} {hashlib.sha256(read_file(file)).hexdigest()}\n".encode())
    return state.hexdigest()


@functools.lru_cache(maxsize=32)
def read_tokenizer(folder: str, kind: str, sha256: str, length: int) -> "Tokenizer":
    """The tokenizer of a folder, which cuts texts to a length and does not pad.

    It is read once, and then only asked, which many threads may do at once.

    Args:
      folder: holds its files.
      kind: one of `WORDS`.
      sha256: hash of its files.
      length: tokens, marks at the ends of a text among them.

    Raises:
      ValueError: files that are damaged, or a length that the marks alone fill.
    """
    whole = tokenizer_of(folder, kind, sha256)
    marks = len(whole.encode("").ids)
    if length <= marks:
        raise ValueError(
            f"length={length}: {marks} tokens are at the ends of every text; give {marks + 1} or "
            "more"
        )
    # A copy: the settings belong to a tokenizer, and its other lengths have others.
    tokenizer = type(whole).from_str(whole.to_str())
    tokenizer.enable_truncation(length)
    return tokenizer


@functools.lru_cache(maxsize=32)
def tokenizer_of(folder: str, kind: str, sha256: str) -> "Tokenizer":
    """The tokenizer of a folder as its files have it, but that it does not pad.

    Raises:
      ValueError: its files are damaged, or it puts no marks at the ends of a text.
    """
    from tokenizers import Tokenizer

    del sha256  # of another tokenizer in the same place
    names = " and ".join(file.name for file in tokenizer_files(Path(folder), kind))
    try:
        if (Path(folder) / TOKENIZER).is_file():
            found = Tokenizer.from_file(str(Path(folder) / TOKENIZER))
        else:
            found = _of_words(folder, kind)
        found.no_padding()
        marks = found.encode("").ids
    except Exception as error:  # of the library, which raises it as such
        raise ValueError(
            f"{names or TOKENIZER} in {readable(folder)!r} is no tokenizer ({one_line(error, 200)}"
            "); fetch it again"
        ) from error
    if not marks:
        raise ValueError(
            f"{names} in {readable(folder)!r} puts no marks at the ends of a text, such as [CLS]; "
            "fetch the checkpoint's own"
        )
    return found


def _of_words(folder: str, kind: str) -> "Tokenizer":
    import transformers

    reader = getattr(transformers, WORDS[kind][1])
    return reader.from_pretrained(folder, local_files_only=True).backend_tokenizer
