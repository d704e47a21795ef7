"""Two processes of two devices, over loopback, give the features of one process."""

import json
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from substrate_jax.features import FeatureStore, extract
from substrate_jax.mesh import make_mesh
from tests.features.fakes import LinearEncoder, noise_source
from tests.helpers import relative_error, tolerance

ROOT = pathlib.Path(__file__).parents[2]
ENCODERS = (("a", False), ("b", True))

WORKER = """
import json, pathlib, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
from substrate_jax import mesh as meshes
rank, port, folder = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
meshes.initialize_distributed(f"127.0.0.1:{port}", 2, rank)
import numpy as np
from substrate_jax.features import FeatureStore, extract
from tests.features.fakes import LinearEncoder, noise_source
from tests.multiprocess.test_extract_processes import ENCODERS

encoders = [LinearEncoder(name, conv=conv) for name, conv in ENCODERS]
mesh = meshes.make_mesh()
report = {"devices": len(jax.devices()), "rows": meshes.local_rows(mesh, 8).tolist()}
runs = {"plain": {}, "bad": {"skip_bad": True}, "stored": {}, "again": {}}
# Each process has a folder of its own: only the first one's may be read.
store = FeatureStore(folder / f"store{rank}", chunk_rows=16)
for name, options in runs.items():
    source = noise_source(37, bad={3, 30} if name == "bad" else ())
    if name in ("stored", "again"):
        options = {"store": store}
        if name == "again" and rank == 0:
            next((folder / "store0").glob("*/000001.npy")).unlink()
    features = extract(encoders, source, mesh=mesh, batch_size=8, **options)
    np.savez(folder / f"{name}{rank}.npz", ids=features.ids, labels=features.labels, **features)
    report[name] = sorted(source.reads)
try:
    extract(encoders, noise_source(37, bad={3, 30}), mesh=mesh, batch_size=8)
except ValueError as error:
    report["error"] = str(error)
leaf = np.array([-0.0, np.nan, 1.0], np.float32) if rank == 0 else np.zeros(3, np.float32)
report["broadcast"] = np.signbit(meshes.broadcast(leaf)).tolist()
try:
    meshes.make_mesh("data=2")
except ValueError as error:
    report["mesh"] = str(error)
(folder / f"report{rank}.json").write_text(json.dumps(report))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), port, str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        output = [worker.communicate(timeout=150)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0, 0], "\n\n".join(output)
    return path


def reports(folder):
    return [json.loads((folder / f"report{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ["plain", "bad", "stored", "again"])
def test_both_processes_have_all_the_features(folder, name):
    encoders = [LinearEncoder(e, conv=conv) for e, conv in ENCODERS]
    source = noise_source(37, bad={3, 30} if name == "bad" else ())
    want = extract(encoders, source, mesh=make_mesh("data=4"), batch_size=8, skip_bad=True)
    for rank in range(2):
        with np.load(folder / f"{name}{rank}.npz") as got:
            assert tuple(got["ids"]) == want.ids
            np.testing.assert_array_equal(got["labels"], want.labels)
            for encoder in want:
                assert relative_error(got[encoder], want[encoder]) <= tolerance(27 + 192)


def test_processes_agree_to_the_bit(folder):
    for name in ("plain", "bad", "stored", "again"):
        with np.load(folder / f"{name}0.npz") as one, np.load(folder / f"{name}1.npz") as two:
            assert all(one[key].tobytes() == two[key].tobytes() for key in one)
    with np.load(folder / "stored0.npz") as one, np.load(folder / "again1.npz") as two:
        assert all(one[key].tobytes() == two[key].tobytes() for key in one)


def test_each_process_decodes_its_own_rows(folder):
    first, second = reports(folder)
    assert first["devices"] == second["devices"] == 4
    assert (first["rows"], second["rows"]) == ([0, 1, 2, 3], [4, 5, 6, 7])
    for name in ("plain", "bad", "stored"):
        assert sorted(first[name] + second[name]) == list(range(37))
    # One chunk, rows 16 to 31, was lost; batches start at 16 and 24.
    assert first["again"] == [16, 17, 18, 19, 24, 25, 26, 27]
    assert second["again"] == [20, 21, 22, 23, 28, 29, 30, 31]


def test_only_the_first_process_writes(folder):
    assert len(list((folder / "store0").glob("*/*.npy"))) == 2 * 3
    assert not (folder / "store1").exists()


def test_both_processes_fail_alike(folder):
    for report in reports(folder):
        assert report["error"].startswith("2 of 37 images of noise cannot be read, first r003")
        assert "leaves processes [1] without a device" in report["mesh"]


def test_broadcast_keeps_bits(folder):
    first, second = reports(folder)
    assert first["broadcast"] == second["broadcast"] == [True, False, False]


def test_store_of_two_processes_serves_one(folder):
    encoders = [LinearEncoder(e, conv=conv) for e, conv in ENCODERS]
    store = FeatureStore(folder / "store0", chunk_rows=16)
    source = noise_source(37)
    features = extract(encoders, source, mesh=make_mesh("data=1"), batch_size=8, store=store)
    assert not source.reads
    with np.load(folder / "stored0.npz") as stored:
        assert all(features[name].tobytes() == stored[name].tobytes() for name in features)
