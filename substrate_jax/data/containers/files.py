"""Files of many images: which ones a pattern means, and handles that each process opens anew."""

import glob
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from substrate_jax.data.paths import first_of, readable, resolved, special_kind, user_path
from substrate_jax.data.spec_options import exists

Handle = TypeVar("Handle")
_MOST_FILES = 100_000  # that braces may stand for
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class Shards(NamedTuple):
    """Files of a source in order, and each without its suffix, below what was typed."""

    files: list[Path]
    names: list[str]


def find_shards(pattern: str, suffixes: Sequence[str], what: str) -> Shards:
    """The files that a path, a folder or a pattern means, in the order of their names.

    Args:
      pattern: a file; a folder, of which every file with one of the suffixes below it is taken;
        or a pattern with `*`, `?`, `[...]`, `**` and braces, `{000..012}` and `{train,val}`.
      suffixes: of the files in a folder, with their dot.
      what: the spec, for messages.

    Raises:
      ValueError: nothing is there, a file of a brace is missing, or one is no regular file.
    """
    what = readable(what)
    whole = user_path(pattern, what)
    if whole.is_dir():
        root = whole
        files = [Path(at, name) for at, _, names in os.walk(whole) for name in names]
        files = [file for file in files if file.suffix in suffixes and not _hidden(file, root)]
        if not files:
            raise ValueError(
                f"{what}: no file in {readable(str(whole))} ends in {' or '.join(suffixes)}; give "
                "the folder that holds them"
            )
    elif exists(pattern):
        root, files = whole.parent, [whole]
    else:
        root = user_path(_fixed(pattern), what)
        files = [file for one in _expand(pattern, what) for file in _glob(one, what)]
    files = sorted(set(files))
    for file in files:
        if kind := special_kind(file):
            raise ValueError(f"{what}: {readable(str(file))} is {kind}; give regular files")
    names = [readable(file.relative_to(root).with_suffix("").as_posix()) for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{what}: two files are called {twice}; give those of one suffix")
    return Shards([resolved(file, what) for file in files], names)


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _fixed(pattern: str) -> str:
    """The folder before the first part of a pattern that is no plain name."""
    parts = pattern.split("/")
    plain = list(itertools.takewhile(lambda part: not re.search(r"[*?\[{]", part), parts[:-1]))
    return "/".join(plain) or ("/" if pattern.startswith("/") else ".")


def _glob(pattern: str, what: str) -> list[Path]:
    path = str(user_path(pattern, what))
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise ValueError(
            f"{what}: no file {readable(path)}; give a file, a folder, or a pattern such as "
            "DIR/*.tar or DIR/part-{000..012}.tar"
        )
    return [Path(name) for name in found]


def _expand(pattern: str, what: str) -> Iterator[str]:
    """What a pattern with braces stands for."""
    pieces, at, count = [], 0, 1
    for found in _BRACES.finditer(pattern):
        first, last, words = found.groups()
        if words is None and not 0 <= int(last) - int(first) < _MOST_FILES:
            raise ValueError(
                f"{what}: {found[0]} is no range of files; give the lower number first"
            )
        options = (
            words.split(",")
            if words is not None
            else [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        )
        count *= len(options)
        if count > _MOST_FILES:
            raise ValueError(f"{what}: braces stand for more than {_MOST_FILES} files; use *")
        pieces += [[pattern[at : found.start()]], options]
        at = found.end()
    return map("".join, itertools.product(*pieces, [pattern[at:]]))


class Opened(Generic[Handle]):
    """A handle that is opened when first used, once in every process, and never sent to another.

    Args:
      open_: makes the handle; must be picklable.

    Example:
      >>> Opened(list)()
      []
    """

    def __init__(self, open_: Callable[[], Handle]):
        self._open = open_
        self._lock = threading.Lock()
        self._held: tuple[int, Handle] | None = None

    def __call__(self) -> Handle:
        """The handle of this process."""
        with self._lock:
            if self._held is None or self._held[0] != os.getpid():
                self._held = os.getpid(), self._open()
            return self._held[1]

    def __getstate__(self) -> Any:
        return self._open

    def __setstate__(self, state: Any) -> None:
        self.__init__(state)


def versions(files: Sequence[Path]) -> list[str]:
    """Path, size and time of every file, for a fingerprint."""
    stats = [file.stat() for file in files]
    return [f"{f} {s.st_size} {s.st_mtime_ns}" for f, s in zip(files, stats, strict=True)]


def only_images(found: Sequence[str], what: str, noun: str) -> str:
    """The one place that holds images.

    Raises:
      ValueError: there are several, or none.
    """
    if not found:
        raise ValueError(f"{what}: no {noun} holds images; choose one with ?image=NAME")
    if len(found) > 1:
        raise ValueError(f"{what}: {first_of(found)} hold images; choose with ?image={found[0]}")
    return found[0]
