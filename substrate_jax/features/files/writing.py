"""Features to one file, .safetensors or .npz, that `open_features` reads back to the same bits."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from safetensors import SafetensorError

from substrate_jax.data.paths import one_line, readable, user_path
from substrate_jax.data.tensors import write_tensors
from substrate_jax.features.files.contents import IDS, LABEL_NAMES, LABELS

SUFFIXES = (".safetensors", ".npz")


def write_features(
    path: str | os.PathLike,
    ids: Sequence[str],
    labels: Int64[np.ndarray, " n"] | None,
    label_names: Sequence[str],
    blocks: Mapping[str, Any],
) -> None:
    """Write blocks, ids and labels; the file appears whole or not at all.

    Args:
        path: ends in .safetensors or .npz.
        ids: one per row.
        labels: or None.
        label_names: word of each label, or none.
        blocks: name -> [n, d], float32 arrays or what gives them.

    Raises:
        ValueError: another suffix, no block, a name that stands for ids or labels, an id that the
            format cannot hold, or a file that cannot be written.
    """
    given = readable(os.fspath(path))
    file = user_path(path, given)
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{given}: give a path that ends in {' or '.join(SUFFIXES)}")
    if taken := [name for name in blocks if name in (*IDS, *LABELS, LABEL_NAMES)]:
        raise ValueError(
            f"{given}: an encoder is called {taken[0]!r}, as other keys are; rename it"
        )
    if not blocks:
        raise ValueError(f"{given}: there is no encoder to write; give at least one")
    arrays = {name: np.ascontiguousarray(block, np.float32) for name, block in blocks.items()}
    rows: dict[str, Any] = {"ids": list(ids)}
    if labels is not None:
        rows |= {"labels": labels.tolist()}
        rows |= {LABEL_NAMES: list(label_names)} if label_names else {}
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        if file.suffix == ".npz":
            _write_npz(partial, arrays, rows, given)
        else:
            write_tensors(partial, arrays, {key: json.dumps(value) for key, value in rows.items()})
        os.replace(partial, file)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{given} cannot be written ({one_line(error)}); make room or give another path"
        ) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _write_npz(partial: Path, arrays: dict[str, Any], rows: dict[str, Any], given: str) -> None:
    as_arrays = {key: np.array(value) for key, value in rows.items()}
    for key, value in as_arrays.items():  # NumPy cuts zero bytes off the ends of texts
        if value.tolist() != rows[key]:
            raise ValueError(f"{given}: {key} end in null characters; write .safetensors")
    with partial.open("wb") as out:
        np.savez(out, allow_pickle=False, **arrays, **as_arrays)
