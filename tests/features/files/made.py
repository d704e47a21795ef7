"""One set of rows in every format that is read."""

import csv
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

IDS = ("cat/1.png", "dog/ü, 2.png", "cat/3.png", "dog/4.png", "001")
WORDS = ("cat", "dog", "cat", "dog", "ant")
VALUES = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def npy(folder: Path) -> Path:
    path = folder / "made.npy"
    np.save(path, VALUES)
    (folder / "made.ids.txt").write_text("\n".join(IDS) + "\n", encoding="utf-8")
    (folder / "made.labels.txt").write_text("\r\n".join(WORDS), encoding="utf-8")
    return path


def npz(folder: Path) -> Path:
    path = folder / "made.npz"
    np.savez(path, made=VALUES, ids=np.array(IDS), labels=np.array(WORDS), seed=np.array(3))
    return path


def safetensors(folder: Path) -> Path:
    path = folder / "made.safetensors"
    metadata = {"ids": json.dumps(IDS), "labels": json.dumps(WORDS), "format": "pt"}
    save_file({"made": VALUES}, path, metadata)
    return path


def hdf5(folder: Path) -> Path:
    import h5py

    path = folder / "made.h5"
    with h5py.File(path, "w") as file:
        file["made"], file["ids"], file["labels"] = VALUES, list(IDS), list(WORDS)
    return path


def table(folder: Path) -> Path:
    path = folder / "made.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["x", "id", "y", "label", "z"])
        for one, word, (x, y, z) in zip(IDS, WORDS, VALUES, strict=True):
            out.writerow([x, one, y, word, z])
    return path


def parquet(folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    path = folder / "made.parquet"
    columns = {"ids": list(IDS), "labels": list(WORDS)}
    columns |= {name: VALUES[:, i] for i, name in enumerate("xyz")}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def parquet_of_lists(folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    path = folder / "lists.parquet"
    columns = {"id": list(IDS), "label": list(WORDS), "made": VALUES.tolist(), "split": ["a"] * 5}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


FORMATS = (npy, npz, safetensors, hdf5, table, parquet, parquet_of_lists)
