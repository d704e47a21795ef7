"""Paths as users type them, and names and files as file systems hold them.

A name on disk is bytes. Where they are UTF-8 the name is that text; where they are not, `readable`
writes each odd byte as \\xNN and doubles the backslashes around it, so that the name can be
printed, hashed and stored, and `readable_inverse` gives the bytes back.

Only regular files are ever opened: a named pipe would wait for a writer forever, and a device may
do anything.
"""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

# More than any image that Pillow agrees to decode takes uncompressed: 2^28 pixels of 8 bytes.
MOST_BYTES = 2**31

_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def user_path(text: str | os.PathLike, what: str) -> Path:
    """The path that a user typed, with ~ expanded.

    Args:
      text: the path.
      what: what to call it in an error, such as "dir:~/pictures".

    Raises:
      ValueError: the home folder of that user is not known, or the text cannot be a path.
    """
    try:
        path = Path(text).expanduser()
        os.fsencode(path)
        if "\0" in str(path):
            raise ValueError("it holds a null character")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{readable(what)}: no such path ({one_line(error)})") from error
    return path


def resolved(path: Path, what: str) -> Path:
    """The path without links, whether or not it exists.

    Raises:
      ValueError: links that lead to themselves, or a path that may not be followed.
    """
    try:
        found = path.resolve()
        found.exists()  # refuses a name that is too long, or below a folder without permission
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{readable(what)}: {one_line(error)}; give another path") from error
    return found


def readable(name: str) -> str:
    r"""A file's name as text that can be printed, hashed and stored.

    Names that are UTF-8 stay as they are, but for those that hold a literal \xNN of an odd byte.

    Example:
      >>> print(readable(os.fsdecode(b"caf\xe9.png")))
      caf\xe9.png
      >>> readable("café.png")
      'café.png'
    """
    odd = any("\ud800" <= letter <= "\udfff" for letter in name)
    if not odd and not _ESCAPED.search(name):
        return name
    name = name.replace("\\", "\\\\")
    return "".join(
        f"\\x{ord(letter) - 0xDC00:02x}"
        if "\udc80" <= letter <= "\udcff"
        else f"\\u{ord(letter):04x}"  # half of a pair, which no file system gives
        if "\ud800" <= letter <= "\udfff"
        else letter
        for letter in name
    )


def readable_inverse(text: str) -> bytes:
    r"""The bytes of a file's name that `readable` wrote.

    Example:
      >>> readable_inverse(r"caf\xe9.png")
      b'caf\xe9.png'
    """
    if not _ESCAPED.search(text):
        return text.encode("utf-8", "surrogateescape")
    pieces = re.split(r"(\\\\|\\x[89a-f][0-9a-f])", text)
    return b"".join(
        b"\\"
        if piece == "\\\\"
        else bytes([int(piece[2:], 16)])
        if _ESCAPED.fullmatch(piece)
        else piece.encode("utf-8", "surrogateescape")
        for piece in pieces
    )


def read_file(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """The contents of a regular file.

    Args:
      path: of the file.
      offset, size: of the part to read, in bytes; less is returned where the file ends before.

    Raises:
      OSError: it is none, is too large for an image, or cannot be read; the message says which and
        not where.
    """
    # Without O_NONBLOCK a pipe that took the file's place in the meantime would be waited for.
    if kind := special_kind(path):
        raise OSError(f"{kind}, not a file")
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no longer a regular file")
        wanted = status.st_size if size is None else size
        if wanted > MOST_BYTES:
            raise OSError(f"{wanted / 2**30:.1f} GiB; no image is as large")
        file.seek(offset)
        return file.read() if size is None else file.read(size)


def special_kind(path: Path) -> str | None:
    """What a path leads to in words; None for a regular file, and for what cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a link that leads nowhere" if os.path.islink(path) else None
    return next((words for test, words in _KINDS if test(mode)), None)


def first_of(names: Iterable[str], most: int = 10) -> str:
    """The first few names and how many more there are, for a message.

    Example:
      >>> first_of("abcd", 2)
      'a, b and 2 more'
      >>> first_of("ab", 2)
      'a, b'
    """
    names = list(names)
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def one_line(error: BaseException, most: int = 400) -> str:
    r"""What an exception says, on one line that can be printed; its type where it says nothing.

    Args:
      error: the exception.
      most: letters to keep; a decoder may repeat a whole file.

    Example:
      >>> one_line(OSError("no\n  room")), one_line(EOFError())
      ('no room', 'EOFError')
    """
    return shown(readable(str(error)), most) or type(error).__name__


def shown(text: str, most: int) -> str:
    r"""A text on one line that can be printed; of a long one the beginning and the end.

    Args:
      text: any.
      most: letters to keep, 10 or more.

    Example:
      >>> print(shown("bad key '\x1b[2J'\n give another", 40))
      bad key '\x1b[2J' give another
      >>> print(shown("no folder 'a  b'", 40))
      no folder 'a  b'
      >>> print(shown("a" * 20 + "z" * 20, 21))
      aaaaaaaaaaa ... zzzzz
    """
    text = " ".join(part.strip() for part in text.strip().splitlines())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(line) <= most:
        return line
    end = most // 4
    return f"{line[: most - end - 5]} ... {line[-end:]}"
