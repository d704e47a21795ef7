"""What the kernels are put to: features that are hard to be right about, and what is no block."""

import collections
import importlib.util
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

ROWS, WIDTH = 24, 8
EPS = float(np.finfo(np.float32).eps)


def plain() -> tuple[np.ndarray, np.ndarray]:
    """Two encoders [24, 8] that share three directions, in float64."""
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(ROWS, 3))
    return tuple(
        shared @ rng.normal(size=(3, WIDTH)) + 0.5 * rng.normal(size=(ROWS, WIDTH)) for _ in "xy"
    )


def outlying(x, factor):
    x = x.copy()
    x[7] = x[7] / np.linalg.norm(x[7]) * factor * x.std()
    return x


def column(x, factor):
    x = x.copy()
    x[:, 2] *= factor
    return x


def sparse(x):
    """One or two features a row, and rows of none."""
    kept = np.zeros(x.shape, bool)
    for i in range(len(x)):
        kept[i, [i % WIDTH, (3 * i) % WIDTH]] = i % 6 != 5
    return np.where(kept, x, 0)


def entry(x, value):
    x = x.copy()
    x[7, 2] = value
    return x


# Of the first encoder; the second stays as it is.
VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "generic": lambda x: x,
    "constant": lambda x: np.full_like(x, 0.7),
    "zero": np.zeros_like,
    "duplicates": lambda x: x[np.arange(len(x)) % 8],
    "rank one": lambda x: x[:, :1] * x[:1],
    "sparse": sparse,
    "scale 1e-25": lambda x: 1e-25 * x,
    "scale 1e-10": lambda x: 1e-10 * x,
    "scale 1e10": lambda x: 1e10 * x,
    "scale 1e20": lambda x: 1e20 * x,
    "offset 1": lambda x: x + x.std(),
    "offset 100": lambda x: x + 100 * x.std(),
    "offset 1e4": lambda x: x + 1e4 * x.std(),
    "outlier 1e2": lambda x: outlying(x, 1e2),
    "outlier 1e3": lambda x: outlying(x, 1e3),
    "outlier 1e4": lambda x: outlying(x, 1e4),
    "column 1e3": lambda x: column(x, 1e3),
    "nan": lambda x: entry(x, np.nan),
    "inf": lambda x: entry(x, np.inf),
    "-inf": lambda x: entry(x, -np.inf),
}
HALVES = {"float16": np.float16, "bfloat16": jnp.bfloat16}
COUNTS = range(6)

Frame = collections.namedtuple("Frame", "values")
# What stands for one block and is none.
NO_BLOCKS: dict[str, Callable[[np.ndarray], Any]] = {
    "big-endian": lambda x: x.astype(">f4"),
    "int": lambda x: x.astype(np.int32),
    "bool": lambda x: x > 0,
    "object": lambda x: x.astype(object),
    "complex": lambda x: x.astype(np.complex64),
    "1-D": lambda x: x[:, 0],
    "3-D": lambda x: x[None],
    "nested lists": lambda x: x.tolist(),
    "dict": lambda x: dict(enumerate(x)),
    "generator": lambda x: (row for row in x),
    "masked": lambda x: np.ma.masked_greater(x, 1),
    "None": lambda x: None,
}
# What stands for the sequence of blocks and is none.
NO_SEQUENCES: dict[str, Callable[[list], Any]] = {
    "dict of blocks": lambda blocks: dict(enumerate(blocks)),
    "generator of blocks": lambda blocks: (x for x in blocks),
    "stacked blocks": np.stack,
    "no blocks": lambda blocks: [],
}
ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "jax": jnp.asarray}
if importlib.util.find_spec("torch"):
    import torch  # pyright: ignore[reportMissingImports]

    NO_BLOCKS["torch"] = torch.tensor


def blocks(cell: str) -> list[np.ndarray]:
    """The two encoders of a cell, as float32 or as the half that it names."""
    x, y = plain()
    if cell in HALVES:
        return [z.astype(HALVES[cell]) for z in (x, y)]
    return [VALUES[cell](x).astype(np.float32), y.astype(np.float32)]


def nearby(x: np.ndarray, about: str, rng: np.random.Generator, share: float) -> np.ndarray:
    """`x` moved by a share of what the kernel measures from; equal rows are moved alike."""
    _, same = np.unique(x, axis=0, return_inverse=True)
    with np.errstate(invalid="ignore"):
        size = {
            "mean": lambda: np.abs(x - x.mean(0)).max(initial=0),
            "column": lambda: np.abs(x - x.mean(0)).max(0, keepdims=True, initial=0),
            "origin": lambda: np.abs(x).max(initial=0),
            "columns": lambda: np.abs(x).max(0, keepdims=True, initial=0),
            "entry": lambda: np.abs(x),
        }[about]()
    return x + share * size * rng.normal(size=x.shape)[same.ravel()]
