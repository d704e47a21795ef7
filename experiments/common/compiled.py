"""Compiled programs, kept in the user's cache folder from run to run.

jax writes them in place, so that a kill or a full disk leaves a damaged one; it is never used, but
jax warns of it in every later run and never writes it again. Here the first warning removes it, and
the program that is then compiled takes its place. Where nothing can be kept one line says so, and
the run goes on.
"""

import contextlib
import glob
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

_TROUBLE = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.+?)': ")


def keep_programs() -> Path | None:
    """Have jax keep what takes it long to compile; where, or None without a home folder."""
    import jax

    from substrate_jax.data.download import cache_folder

    try:
        folder = cache_folder() / "xla"
    except (RuntimeError, ValueError) as error:
        _say_not_kept(str(error))
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder


@contextlib.contextmanager
def repaired(folder: Path | None) -> Iterator[None]:
    """Remove programs that jax cannot read or write in the block, in place of its warnings.

    Args:
        folder: from `keep_programs`; None leaves everything as it is.
    """
    if folder is None:
        yield
        return
    said = False

    def show(message, category, filename, lineno, file=None, line=None):
        nonlocal said
        trouble = _TROUBLE.match(str(message))
        if trouble is None:
            return before(message, category, filename, lineno, file, line)
        action, program = trouble.groups()
        removed = _remove(folder, program)
        if not said and (action == "writing" or not removed):
            said = True
            _say_not_kept(str(message)[trouble.end() :])

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _remove(folder: Path, program: str) -> bool:
    """Remove all that is kept under the name of a program; whether there was any."""
    removed = False
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{glob.escape(program)}-*-cache"):
            path.unlink(missing_ok=True)
            removed = True
    return removed


def _say_not_kept(reason: str) -> None:
    reason = " ".join(reason.split())
    print(
        f"note: compiled programs are not kept ({reason}); set XDG_CACHE_HOME to a folder with "
        "room, or give --nocompilation_cache",
        file=sys.stderr,
    )
