"""Published files on this machine: fetched once, resumed, checked, and one line when that fails.

    FOLDER/NAME         a whole file whose checksum is the published one
    FOLDER/NAME.part    the beginning of one that is on its way
    FOLDER              $SUBSTRATE_JAX_DATA, or data/ in the user's cache folder

Bytes are hashed as they arrive. A transfer that breaks off goes on at its last byte (HTTP Range),
in this run while every connection brings something, else in the next one; a server that knows no
ranges sends all again. A file takes its name, by an atomic rename, only with the right checksum.
Processes of one machine take turns (a lock beside the file), so the file is fetched once.

Cost: the download; and one pass over a file at hand, whose checksum is verified every time
(about 2 s per gigabyte), so that a file placed by hand is as good as a fetched one.

Not guaranteed: that the sizes are exact. They are for plans and progress; checksums decide.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from substrate_jax.data.route import check_route
from substrate_jax.progress import progress_bar
from substrate_jax.version import __version__

_BLOCK = 1 << 20
_TIMEOUT = 30


def cache_folder() -> Path:
    """The user's cache folder for this library."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "substrate_jax"


def data_folder() -> Path:
    """Where published files are kept: $SUBSTRATE_JAX_DATA, or data/ in the cache folder."""
    chosen = os.environ.get("SUBSTRATE_JAX_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder() / "data"


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A published file: its name below the data folder, and what its bytes must hash to.

    Args:
      name: of the file here.
      url: http or https.
      checksum: "md5:..." or "sha256:...", in hexadecimal digits.
      size: bytes, or an upper bound.
    """

    name: str
    url: str
    checksum: str
    size: int

    @property
    def path(self) -> Path:
        """Where the file is, or is to be."""
        return data_folder() / self.name

    def missing_bytes(self) -> int:
        """Bytes still to fetch; 0 when the file is at hand."""
        if self.path.is_file():
            return 0
        part = _part(self.path)
        return max(self.size - (part.stat().st_size if part.is_file() else 0), 0)


def fetch(file: RemoteFile, *, quiet: bool = False) -> Path:
    """The path of a published file, downloaded unless it is at hand.

    Args:
      file: what to fetch.
      quiet: neither a progress bar nor lines.

    Returns:
      Its path below the data folder.

    Raises:
      ValueError: it cannot be fetched or written, or its checksum is another.
    """
    if not file.path.is_file():
        with locked(file.path):
            if not file.path.is_file():  # another process may have been first
                _download(file, quiet)
                return file.path
    kind, expected = file.checksum.split(":")
    with file.path.open("rb") as data:
        actual = hashlib.file_digest(data, kind).hexdigest()
    if actual != expected:
        raise ValueError(
            f"{file.path}: {kind} is {actual}, expected {expected}; the file was cut short or "
            "changed: delete it and fetch it again"
        )
    return file.path


def fetch_head(url: str, count: int) -> bytes:
    """The first bytes of a published file, `count` of them or all there are.

    Raises:
      OSError: the server cannot be reached, or ends early.
    """
    with _request(url, f"bytes=0-{count - 1}") as response:
        try:
            return response.read(count)
        except http.client.HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error


def unreachable(name: str, url: str, path: Path, error: Exception) -> ValueError:
    """One line for everything that keeps a published file from us."""
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return ValueError(
        f"{name} cannot be fetched from {url} ({reason}); place it at {path}, or set "
        "SUBSTRATE_JAX_DATA to a folder that holds it"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file or folder that is to be made, waiting for another process that does.

    Raises:
      ValueError: the folder around it cannot be written.
    """
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise ValueError(
            f"{path.parent} cannot be written ({error.strerror}); set SUBSTRATE_JAX_DATA to a "
            "folder that can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _download(file: RemoteFile, quiet: bool) -> None:
    part = _part(file.path)
    kind, expected = file.checksum.split(":")
    label = None if quiet else file.path.name
    with progress_bar(label, file.size, "B", prefixes=True) as bar:
        actual = _transfer(file, part, kind, bar)
    if actual != expected:
        part.unlink()
        raise ValueError(
            f"{file.name}: {kind} is {actual}, expected {expected}, as fetched from {file.url}; "
            f"nothing was kept: try again, or place the file at {file.path}"
        )
    os.replace(part, file.path)


def _transfer(file: RemoteFile, part: Path, kind: str, bar: tqdm) -> str:
    """Bring `part` to its full length and return its checksum."""
    state = hashlib.new(kind)
    with part.open("a+b") as out:
        out.seek(0)
        while block := out.read(_BLOCK):
            state.update(block)
        done = out.tell()
        bar.update(done)
        while True:
            start = done
            try:
                with _request(file.url, f"bytes={done}-" if done else None) as response:
                    if done and response.status != http.client.PARTIAL_CONTENT:
                        out.truncate(0)
                        state, done = hashlib.new(kind), 0
                        bar.reset()
                    length = response.headers["Content-Length"]
                    total = done + int(length) if length else None
                    bar.total = total or bar.total
                    while block := response.read1(_BLOCK):
                        out.write(block)
                        state.update(block)
                        done += len(block)
                        bar.update(len(block))
                if total is None or done >= total:
                    return state.hexdigest()
                error = ConnectionError(f"the server stopped at {done:,} of {total:,} bytes")
            except (OSError, http.client.HTTPException) as caught:
                if (
                    start
                    and getattr(caught, "code", 0) == http.client.REQUESTED_RANGE_NOT_SATISFIABLE
                ):
                    return state.hexdigest()  # nothing is left to send
                error = caught
            if done <= start:
                raise unreachable(file.name, file.url, file.path, error) from error


def _request(url: str, byte_range: str | None) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"substrate-jax/{__version__}"}
    if byte_range:
        headers["Range"] = byte_range
    request = urllib.request.Request(url, headers=headers)
    check_route(url)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise
