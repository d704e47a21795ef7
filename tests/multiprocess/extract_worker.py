"""One process of test_extract_processes.py: extracts in several ways and leaves what it got."""

import dataclasses
import json

import jax
import numpy as np

from substrate_jax import mesh as meshes
from substrate_jax.features import FeatureStore, extract
from substrate_jax.processes import exchange, initialize_distributed
from tests.features.fakes import LinearEncoder, noise_source
from tests.multiprocess import processes

ROWS, BATCH, CHUNK, BAD = 37, 8, 10, (3, 30)
# What is asked for, by name: options of extract; a store is shared by both processes.
RUNS = {
    "plain": {},
    "bad": {"skip_bad": True},
    "stored": {"store": True},
    "again": {"store": True},
    "on_demand": {"store": True, "gather": False},
}


def encoders(seed=1):
    return [LinearEncoder("a"), LinearEncoder("b", width=7, seed=seed, conv=True)]


def source(name):
    return noise_source(ROWS, bad=BAD if name == "bad" else ())


def failing(row):
    raise RuntimeError("disk on fire")


def moved(images):
    """The same images from a folder elsewhere."""
    return dataclasses.replace(images, fingerprint="elsewhere")


def relabeled(images):
    return dataclasses.replace(images, labels=images.labels[::-1])


# What process 1 is given in place of what process 0 has: encoders, images, options.
DIFFERENT = {
    "weights": lambda: (encoders(seed=2), noise_source(ROWS), {}),
    "encoders": lambda: (encoders()[:1], noise_source(ROWS), {}),
    "ids": lambda: (encoders(), noise_source(ROWS).select([*range(1, ROWS), 0]), {}),
    "labels": lambda: (encoders(), relabeled(noise_source(ROWS)), {}),
    "rows": lambda: (encoders(), noise_source(ROWS - 1), {}),
    "pixels": lambda: (encoders(), noise_source(ROWS, seed=1), {}),
    "batch": lambda: (encoders(), noise_source(ROWS), {"batch_size": 2 * BATCH}),
    "nothing": lambda: ([], noise_source(ROWS), {}),
    "store": lambda: (
        encoders(),
        noise_source(ROWS),
        {"store": FeatureStore("/dev/null/a", CHUNK)},
    ),
    "crash": lambda: (encoders(), noise_source(ROWS, on_read=failing), {}),
}


def main():
    given = processes.arguments()
    folder, rank = given.folder, given.process_id
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    initialize_distributed(given.coordinator, given.num_processes, rank)
    mesh = meshes.make_mesh()
    report = {"devices": len(jax.devices())}
    for name, options in RUNS.items():
        images = source(name)
        if "store" in options:
            options = options | {"store": FeatureStore(folder / "store", chunk_rows=CHUNK)}
        if name == "again":
            exchange(None)  # nobody reads before the chunk is lost
            if rank == 0:
                next((folder / "store").glob("*/000003.npy")).unlink()
            exchange(None)
        features = extract(encoders(), images, mesh=mesh, batch_size=BATCH, **options)
        report[name] = {
            "reads": sorted(images.reads),
            "kinds": [type(block).__name__ for block in features.values()],
        }
        arrays = {key: np.asarray(block) for key, block in features.items()}
        np.savez(folder / f"{name}{rank}.npz", ids=features.ids, labels=features.labels, **arrays)
    report["errors"] = []
    for bad, bias in ((BAD, 0.0), ((), np.nan)):
        broken = encoders()
        if rank == 1:
            broken[1].state["weights"] = broken[1].state["weights"] + np.float32(bias)
        try:
            extract(broken, noise_source(ROWS, bad=bad), mesh=mesh, batch_size=BATCH)
        except ValueError as error:
            report["errors"].append(str(error))
    report["different"] = {}
    for name, make in DIFFERENT.items():
        given = make() if rank else (encoders(), noise_source(ROWS), {})
        store = FeatureStore(folder / "different", CHUNK)
        options = {"mesh": mesh, "batch_size": BATCH, "store": store} | given[2]
        try:
            extract(*given[:2], **options)
        except ValueError as error:
            report["different"][name] = str(error)
    images = source("moved")
    store = FeatureStore(folder / "store", chunk_rows=CHUNK)
    options = {"mesh": mesh, "batch_size": BATCH, "store": store, "gather": False}
    features = extract(encoders(), moved(images) if rank else images, **options)
    report["moved"] = {
        "reads": sorted(images.reads),
        "kept": {name: np.asarray(block).tolist() for name, block in features.items()},
    }
    report["exchange"] = exchange({"rank": rank, "text": "ä" * rank})
    try:
        meshes.make_mesh("data=2")
    except ValueError as error:
        report["mesh"] = str(error)
    (folder / f"report{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
