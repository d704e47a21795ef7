"""One process of test_launcher_processes.py: launchers in turn, on files of features and images."""

import importlib
import pathlib

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.processes import initialize_distributed
from tests.multiprocess import processes
from tests.training.tiny import TINY, tiny_student

ROWS, CLASSES, WIDTH = 45, 3, 8
DOMAINS, NAMES = ("texture", "astronomy"), ("one", "two", "three")
QUIET = {"quiet": True, "n": ROWS, "batch_size": 8, "chunk_rows": 8}
NETWORKS = QUIET | {
    "encoders": ["mini_mae_base", "mini_clip_base"],
    "domains": ",".join(DOMAINS),
    "components": 4,
}
SCORES = {"bootstrap": 20, "scores": ["logme"]}
MATCHED = {"components": 4, "sweep": ["2"], "pair": "class", "permutations": 39, "planted": 2}
SHOTS = {"labels": ["2", "5"], "episodes": 2}
# Of a student that compiles in seconds, on the images of the domain of digits.
TRAINED = QUIET | {
    "encoders": ["mini_mae_base", "mini_dinov2_base"],
    "student": TINY,
    "n": 80,
    "train_batch": 32,
    "components": 4,
}
TAUGHT = {"fractions": ["0.5"], "epochs": 2, "teacher": "mini_mae_base", "teacher_epochs": 1}
TAUGHT |= {"targets": ["substrate"]}
PRETRAINED = {"epochs": 1, "label_counts": ["4"], "tune_steps": 2}
# Name -> launcher, its flags, items of --features: (domain:)name of a file. Rows of the files are
# those of the images, so that a file may stand beside networks.
RUNS = {
    "layers, files": ("layers", QUIET | {"domain": DOMAINS[0]}, ("one@a", "one@b", "two@c")),
    "layers, networks and a file": (
        "layers",
        QUIET | {"domain": DOMAINS[0], "encoders": ["mini_mae_base"]},
        ("one@a", "one@b"),
    ),
    "transferability, networks and a file": ("transferability", NETWORKS | SCORES, NAMES[:1]),
    "detector, files": ("detector", QUIET | {"components": 4, "alpha": 0.2}, NAMES),
    "detector, networks and a file": ("detector", NETWORKS | {"alpha": 0.2}, NAMES[:1]),
    "crossmodal, files": ("crossmodal", QUIET | MATCHED, NAMES[:1]),
    "probe, files": ("probe", QUIET | {"components": 4} | SHOTS, NAMES),
    "probe, networks and a file": ("probe", NETWORKS | SHOTS, NAMES[:1]),
    "distill": ("distill", TRAINED | TAUGHT, ()),
    "unlabeled": ("unlabeled", TRAINED | PRETRAINED, ()),
}
# The others are the same ways through the code, mostly: --long runs them.
FEW = ("detector, files",)
TRAININGS = ("distill", "unlabeled")


def write_features(folder: pathlib.Path) -> None:
    """A file of labeled rows for every name and domain, each in an order of its own."""
    for seed, domain in enumerate(DOMAINS):
        rng = np.random.default_rng(seed)
        ids = np.array(take(open_source(domain), ROWS, 0).ids)
        labels = np.arange(ROWS) % CLASSES
        for strength, name in enumerate(NAMES, 1):
            x = rng.normal(size=(ROWS, WIDTH)) + strength * np.eye(CLASSES, WIDTH)[labels]
            order = rng.permutation(ROWS)
            arrays = {"ids": ids[order], "labels": labels[order]}
            np.savez(folder / f"{domain}_{name}.npz", x=x[order].astype(np.float32), **arrays)


def run(name: str, folder: pathlib.Path, out: pathlib.Path, **options) -> None:
    """One of `RUNS`, in this process."""
    module, own, encoders = RUNS[name]
    layers = module == "layers"
    items = [
        f"{'' if layers else domain + ':'}{one}={folder}/{domain}_{one.partition('@')[0]}.npz"
        for domain in DOMAINS[: 1 if layers else None]
        for one in encoders
    ]
    launcher = importlib.import_module(f"experiments.{module}")
    files = {"features": items} if items else {}
    with (
        pytest.MonkeyPatch.context() as patch,
        flagsaver.flagsaver(**own | files | {"out": str(out)} | options),
    ):
        tiny_student(patch)
        launcher.run()


def main():
    given = processes.arguments()
    flags.FLAGS(["worker"])
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    initialize_distributed(given.coordinator, given.num_processes, given.process_id)
    for name in given.only:
        run(name, given.folder, given.folder / name, store=str(given.folder / "store"))


if __name__ == "__main__":
    main()
