"""Two files of a saved detector: arrays as safetensors, and the rest as JSON.

Both are read as data that anyone may have written: every array must be there with its shape and
type, every value of the JSON of its kind, and the hash of the arrays as the JSON has it.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from substrate_jax.analyses.detector.scores import SCORES
from substrate_jax.data.paths import readable, user_path
from substrate_jax.data.tensors import tensor_bytes
from substrate_jax.encoders.weights import file_sha256, read_safetensors

FORMAT = "substrate_jax domain detector 1"
NAME = "detector"  # of the files in the folder of a run
SUBSTRATE = ("origin", "offset", "scale", "basis", "explained_variance_ratio")
REFERENCE = ("rows", "means", "precision", "mean", "all_precision")
# Array -> its shape, of D features, k components, C domains, any r and q rows.
SHAPES = {
    "origin": "D",
    "offset": "D",
    "scale": "D",
    "basis": "Dk",
    "explained_variance_ratio": "k",
    "weight": "kC",
    "bias": "C",
    "rows": "rk",
    "means": "Ck",
    "precision": "kk",
    "mean": "k",
    "all_precision": "kk",
    "calibration": "q",
    "calibration_codes": "q",
}
_MOST_JSON = 2**24  # bytes


def write(path: Path, arrays: Mapping[str, Any], described: Mapping[str, Any]) -> Path:
    """Write the arrays, then what describes them.

    Args:
        path: without a suffix, or with that of either file.
        arrays: those of `SHAPES`.
        described: what JSON can hold.

    Returns:
        Path of the JSON file.
    """
    # Matplotlib comes with it, which loading and using a detector do without.
    from substrate_jax.report.writing import write_file

    base = _base(path)
    content = tensor_bytes(
        {name: np.ascontiguousarray(np.asarray(x)) for name, x in arrays.items()}
    )
    write_file(base.with_name(base.name + ".safetensors"), content)
    sha256 = file_sha256(base.with_name(base.name + ".safetensors"))
    text = json.dumps({"format": FORMAT, "sha256": sha256, **described}, indent=1) + "\n"
    return write_file(base.with_name(base.name + ".json"), text)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Both files, checked.

    Args:
        path: of either file, without a suffix, or of a folder that holds `detector.json`.

    Raises:
        ValueError: a file that is missing, damaged or of another kind, or two that do not belong
            together.
    """
    shown = readable(str(path))
    path = user_path(path, f"detector={shown}")
    base = path / NAME if path.is_dir() else _base(path)
    described = _description(base.with_name(base.name + ".json"), shown)
    file = base.with_name(base.name + ".safetensors")
    try:
        arrays = read_safetensors(file)
        matches = file_sha256(file) == described["sha256"]
    except (ValueError, OSError) as error:
        raise ValueError(f"detector={shown!r}: {error}") from error
    if not matches:
        raise ValueError(
            f"detector={shown!r}: {readable(file.name)} is not the file that the JSON beside it "
            "was written with; copy both again"
        )
    _check_arrays(arrays, described, shown)
    return arrays, described


def on_device(x: np.ndarray) -> Array:
    """An array as the substrate holds it."""
    return jnp.asarray(x, jnp.float32)


def _base(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _description(file: Path, shown: str) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(
            f"detector={shown!r}: there is no {readable(file.name)}; give the folder of a run of "
            "experiments.detector, or the path of its detector.json"
        )
    try:
        if file.stat().st_size > _MOST_JSON:
            raise ValueError("too long")
        found = json.loads(file.read_text("utf-8"))
        _check_description(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(
            f"detector={shown!r}: {readable(file.name)} describes no detector "
            f"({type(error).__name__}); fit one again"
        ) from error
    return found


def _check_description(found: dict[str, Any]) -> None:
    """Raise an error of any kind unless every value is as `write` has it."""
    widths, encoders, domains = found["widths"], found["encoders"], found["domains"]
    good = (
        found["format"] == FORMAT
        and isinstance(found["sha256"], str)
        and isinstance(domains, list)
        and len(set(domains)) == len(domains) >= 2
        and all(isinstance(name, str) for name in domains)
        and bool(widths)
        and all(type(width) is int and width > 0 for width in widths.values())
        and list(encoders) == list(widths)
        and all(value is None or isinstance(value, str) for value in encoders.values())
        and all(isinstance(value, str) for value in found["settings"].values())
        and found["score"] in SCORES
        and type(found["alpha"]) is float
        and 0 < found["alpha"] < 1
        and all(math.isfinite(found[name]) for name in ("strength", "fold_loss"))
        and type(found["unsolved"]) is int
    )
    if not good:
        raise ValueError("a value of another kind")


def _check_arrays(
    arrays: Mapping[str, np.ndarray], described: Mapping[str, Any], shown: str
) -> None:
    def refuse(why: str) -> None:
        raise ValueError(f"detector={shown!r}: {why}; fit one again")

    if differ := sorted(arrays.keys() ^ SHAPES.keys()):
        refuse(f"the arrays lack, or should not have, {', '.join(map(readable, differ))}")
    sizes = {"D": sum(described["widths"].values()), "C": len(described["domains"])}
    for name, letters in SHAPES.items():
        x = arrays[name]
        kind = np.int64 if name == "calibration_codes" else None
        wrong = x.ndim != len(letters) or (
            x.dtype != kind if kind else x.dtype not in (np.float32, np.float64)
        )
        for letter, size in zip(letters, x.shape, strict=False):
            wrong |= sizes.setdefault(letter, size) != size
        if wrong or (kind is None and not np.isfinite(x).all()):
            refuse(f"{name} is {x.dtype}{list(x.shape)}, or holds what is no number")
    codes = arrays["calibration_codes"]
    if len(codes) and not 0 <= codes.min() <= codes.max() < sizes["C"]:
        refuse("calibration_codes name domains that there are not")
