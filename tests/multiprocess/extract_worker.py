"""One process of test_extract_processes.py: extracts in several ways and leaves what it got."""

import json
import pathlib

import jax
import numpy as np
from absl import app, flags

from substrate_jax import mesh as meshes
from substrate_jax.features import FeatureStore, extract
from tests.features.fakes import LinearEncoder, noise_source

FLAGS = flags.FLAGS
flags.DEFINE_string("folder", None, "Where to leave results.")
flags.DEFINE_string("coordinator", None, "")
flags.DEFINE_integer("num_processes", None, "")
flags.DEFINE_integer("process_id", None, "")

ROWS, BATCH, CHUNK, BAD = 37, 8, 10, (3, 30)
# What is asked for, by name: options of extract; a store is shared by both processes.
RUNS = {
    "plain": {},
    "bad": {"skip_bad": True},
    "stored": {"store": True},
    "again": {"store": True},
    "on_demand": {"store": True, "gather": False},
}


def encoders():
    return [LinearEncoder("a"), LinearEncoder("b", width=7, seed=1, conv=True)]


def source(name):
    return noise_source(ROWS, bad=BAD if name == "bad" else ())


def main(argv):
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    meshes.initialize_distributed(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    folder, rank, mesh = pathlib.Path(FLAGS.folder), FLAGS.process_id, meshes.make_mesh()
    report = {"devices": len(jax.devices())}
    for name, options in RUNS.items():
        images = source(name)
        if "store" in options:
            options = options | {"store": FeatureStore(folder / "store", chunk_rows=CHUNK)}
        if name == "again":
            meshes.exchange(None)  # nobody reads before the chunk is lost
            if rank == 0:
                next((folder / "store").glob("*/000003.npy")).unlink()
            meshes.exchange(None)
        features = extract(encoders(), images, mesh=mesh, batch_size=BATCH, **options)
        report[name] = {
            "reads": sorted(images.reads),
            "kinds": [type(block).__name__ for block in features.values()],
        }
        arrays = {key: np.asarray(block) for key, block in features.items()}
        np.savez(folder / f"{name}{rank}.npz", ids=features.ids, labels=features.labels, **arrays)
    report["errors"] = []
    for bad, bias in ((BAD, 0.0), ((), np.nan)):
        failing = encoders()
        if rank == 1:
            failing[1].state["weights"] = failing[1].state["weights"] + np.float32(bias)
        try:
            extract(failing, noise_source(ROWS, bad=bad), mesh=mesh, batch_size=BATCH)
        except ValueError as error:
            report["errors"].append(str(error))
    report["exchange"] = meshes.exchange({"rank": rank, "text": "ä" * rank})
    try:
        meshes.make_mesh("data=2")
    except ValueError as error:
        report["mesh"] = str(error)
    (folder / f"report{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    app.run(main)
