"""Folders that flags name, and the trace of a run in that of --profile."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def writable(name: str, folder: str) -> Iterator[None]:
    """Say of which flag a folder is that the block cannot write.

    Raises:
        ValueError: in place of the block's OSError.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{name}={folder!r} cannot be written ({error.strerror})") from error


def check_profile(folder: str | None) -> None:
    """Make the folder of --profile, before a run makes others that a refusal would leave.

    Raises:
        ValueError: it cannot be made, or is a URL.
    """
    if folder is None:
        return
    with writable("profile", folder):
        if "://" in folder:
            raise OSError(errno.EINVAL, "a URL: traces are written to a local folder")
        Path(folder).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def traced(folder: str | None) -> Iterator[None]:
    """Trace the block into the folder of --profile, if there is one."""
    if folder is None:
        yield
        return
    import jax

    with jax.profiler.trace(folder):
        yield
