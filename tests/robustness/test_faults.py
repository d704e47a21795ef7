"""Killed, interrupted, without room, without rights, in company: a run loses nothing by it.

The faults are those of `tests.robustness.faults`, a few times each; its long form does more.
"""

import io

import numpy as np
import pytest

from substrate_jax.features import FeatureStore, extract, processes, store
from substrate_jax.mesh import make_mesh
from tests.features.fakes import LinearEncoder, noise_source
from tests.helpers import long
from tests.robustness import faults

CHUNK = 8


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.Laboratory(tmp_path_factory.mktemp("laboratory"))


# Of which others are the same in another place; those take as long.
SELDOM = {"limited_report", "no_home", "other_clock", "sharing_an_out"}
SELDOM |= {"sharing_a_store"}


@pytest.mark.parametrize(
    "fault", [long(fault) if fault in SELDOM else fault for fault in faults.plan(long=False)]
)
def test_nothing_is_lost(fault, lab):
    tally = faults.plan(long=False)[fault](lab)
    assert tally.lost == []
    assert tally.runs >= 1


def run(path, seed=0):
    return extract(
        [LinearEncoder("a", seed=seed)],
        noise_source(20),
        mesh=make_mesh("data=1"),
        store=FeatureStore(path, chunk_rows=CHUNK),
        batch_size=4,
    )["a"]


def without_digest(path):
    return path.read_bytes()[:-32]


def other_numbers(path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((CHUNK, 5), np.float32))
    return buffer.getvalue() + bytes(32)


def with_objects(path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("written", [without_digest, other_numbers, with_objects])
def test_chunks_of_another_form_are_computed_again(written, tmp_path):
    want = run(tmp_path)
    for path in tmp_path.glob("*/*.npy"):
        path.write_bytes(written(path))
    np.testing.assert_array_equal(run(tmp_path), want)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [(store, "FORMAT", store.FORMAT - 1), (processes, "__version__", "0.0.1")],
)
def test_features_of_another_version_are_never_read(module, name, value, tmp_path, monkeypatch):
    want = run(tmp_path / "alone")
    with monkeypatch.context() as older:
        older.setattr(module, name, value)
        run(tmp_path / "shared")
    old = {path: path.read_bytes() for path in (tmp_path / "shared").rglob("*.npy")}
    assert len(old) == 3
    np.testing.assert_array_equal(run(tmp_path / "shared"), want)
    assert len(list((tmp_path / "shared").glob("*/*.npy"))) == 6
    assert {path: path.read_bytes() for path in old} == old
