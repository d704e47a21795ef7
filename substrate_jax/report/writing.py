"""Files that appear whole or not at all; computations use it too, so it draws nothing."""

import os
from pathlib import Path

_UNFINISHED = ".unfinished"  # how temporary names end


def write_file(path: Path, content: bytes | str) -> Path:
    """Write to a temporary name beside `path` and rename, so that readers see all of it or none.

    A process that is killed meanwhile leaves that name behind, see `remove_unfinished`.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_UNFINISHED}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left behind in `write_file`, in a folder and those in it.

    Args:
        folder: one that no other process writes to.
    """
    for pattern in (f".*{_UNFINISHED}", f"*/.*{_UNFINISHED}"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
