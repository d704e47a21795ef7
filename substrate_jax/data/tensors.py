"""Safetensors whose bytes are decided by what they hold.

The library keeps the metadata in a table whose order is drawn at random, so that the same arrays
and metadata give other bytes, and another hash, each time. Here its keys are in order.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save, save_file

_LENGTH = 8  # bytes that say how long the header is


def tensor_bytes(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> bytes:
    """The file as bytes.

    Example:
        >>> about = {"format": "timm", "encoder": "mine", "seed": "0"}
        >>> len({tensor_bytes({"x": np.zeros(2)}, about) for _ in range(20)})
        1
    """
    content = save(dict(arrays), dict(metadata or {}) or None)
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    return content[:_LENGTH] + _ordered(content[_LENGTH:end]) + content[end:]


def write_tensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the file, without a second copy of the arrays.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    save_file(dict(arrays), path, dict(metadata or {}) or None)
    with path.open("r+b") as file:
        header = file.read(int.from_bytes(file.read(_LENGTH), "little"))
        file.seek(_LENGTH)
        file.write(_ordered(header))


def _ordered(header: bytes) -> bytes:
    """A header with its metadata in order, as long as it was."""
    content = json.loads(header)
    if "__metadata__" in content:
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= len(header)
    return text.ljust(len(header))
