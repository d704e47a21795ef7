"""Two processes of two devices, over loopback, give the features of one process of four."""

import json

import numpy as np
import pytest

from substrate_jax.features import FeatureStore, extract
from substrate_jax.mesh import make_mesh
from tests.multiprocess import processes
from tests.multiprocess.extract_worker import BATCH, CHUNK, DIFFERENT, ROWS, RUNS, encoders, source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    processes.run("tests.multiprocess.extract_worker", path)
    return path


@pytest.fixture(scope="module")
def reports(folder):
    return [json.loads((folder / f"report{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", RUNS)
def test_both_processes_have_the_bits_of_one(folder, reports, name):
    want = extract(
        encoders(), source(name), mesh=make_mesh("data=4"), batch_size=BATCH, skip_bad=True
    )
    kind = "StoredRows" if name == "on_demand" else "ndarray"
    for rank, report in enumerate(reports):
        assert report[name]["kinds"] == [kind] * 2
        with np.load(folder / f"{name}{rank}.npz") as got:
            assert tuple(got["ids"]) == want.ids
            np.testing.assert_array_equal(got["labels"], want.labels)
            assert all(got[key].tobytes() == want[key].tobytes() for key in want)


def test_each_process_decodes_its_own_chunks(reports):
    first, second = reports
    assert first["devices"] == second["devices"] == 4
    # Without a store a chunk is a process's batch of 4 rows: 10 chunks, 5 each.
    for name in ("plain", "bad"):
        assert (first[name]["reads"], second[name]["reads"]) == (
            list(range(20)),
            list(range(20, ROWS)),
        )
    # Chunks of 10, 10, 10 and 7 rows; the last is lost before "again", nothing before "on_demand".
    assert first["stored"]["reads"] == list(range(2 * CHUNK))
    assert second["stored"]["reads"] == list(range(2 * CHUNK, ROWS))
    assert first["again"]["reads"] == []
    assert second["again"]["reads"] == list(range(3 * CHUNK, ROWS))
    assert first["on_demand"]["reads"] == second["on_demand"]["reads"] == []


def test_the_store_of_two_processes_serves_one(folder):
    images = source("stored")
    store = FeatureStore(folder / "store", chunk_rows=CHUNK)
    features = extract(encoders(), images, mesh=make_mesh("data=1"), batch_size=BATCH, store=store)
    assert not images.reads
    with np.load(folder / "stored0.npz") as stored:
        assert all(features[name].tobytes() == stored[name].tobytes() for name in features)


def test_both_processes_fail_alike(reports):
    first, second = reports
    assert first["errors"] == second["errors"]
    unreadable, not_finite = first["errors"]
    assert unreadable.startswith("2 of 37 images of noise cannot be read, first r003")
    assert "encoder b gives NaN or infinity in 4 of rows 20 to 23" in not_finite
    assert not_finite.endswith("(process 1)")
    assert "leaves processes [1] without a device" in first["mesh"]


DIFFER = {
    "weights": "process 1 has other encoder b than process 0; give all the same images, weights",
    "encoders": "process 1 has other encoder b than process 0",
    "ids": "process 1 has other image ids, labels than process 0",
    "labels": "process 1 has other labels than process 0",
    "rows": "process 1 has other image ids, labels than process 0",
    "pixels": "process 1 has other image r000, image r018, image r036 than process 0",
    "batch": "process 1 has other batch size and options than process 0",
    "nothing": "encoders=[]: give at least one, and none twice (process 1)",
    "store": "store '/dev/null/a': ",
    "crash": "RuntimeError('disk on fire') (process 1)",
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_processes_that_were_given_different_things_say_so_alike(reports, case):
    first, second = (report["different"][case] for report in reports)
    assert first == second
    assert first.startswith(DIFFER[case])
    assert "\n" not in first


def test_a_folder_may_lie_elsewhere_on_another_host(reports, folder):
    """Then three images are read to compare, and the rows stay under the key of process 0."""
    first, second = reports
    assert first["moved"] == second["moved"]
    assert first["moved"]["reads"] == [0, ROWS // 2, ROWS - 1]
    with np.load(folder / "stored0.npz") as stored:
        for name, rows in first["moved"]["kept"].items():
            np.testing.assert_array_equal(np.array(rows, np.float32), stored[name])


def test_values_are_exchanged_whole(reports):
    assert all(
        report["exchange"] == [{"rank": 0, "text": ""}, {"rank": 1, "text": "ä"}]
        for report in reports
    )
