"""Encoders whose features are the same for every image are found, and no others."""

import numpy as np
import pytest

from substrate_jax.features import FeatureStore, StoredRows
from substrate_jax.features.constant import constant_blocks

ROW = np.array([0.0, -3.0, 1e-25, 1e20], np.float32)
CASES = {
    "zeros": (np.zeros((600, 4), np.float32), True),
    "one row repeated": (np.tile(ROW, (600, 1)), True),
    "integers": (np.full((5, 2), 7), True),
    "rounding": (
        np.ones((9, 2), np.float32) + np.float32(1.2e-7) * (np.arange(9) % 2)[:, None],
        True,
    ),
    "one entry differs, late": (np.where(np.arange(2400) == 2399, 1, 0).reshape(600, 4), False),
    "a column varies at 1e-25": (ROW * (1 + np.arange(600)[:, None] * [0, 0, 1, 0]), False),
    "a spread of 1e-5 of the mean": (1e4 + np.arange(3.0)[:, None], False),
    "NaN": (np.full((600, 4), np.nan), False),
    "no rows": (np.zeros((0, 4)), False),
    "one row": (np.zeros((1, 4)), False),
}


@pytest.mark.parametrize("case", CASES)
def test_constant_blocks(case):
    block, constant = CASES[case]
    assert constant_blocks({"other": np.eye(4), "block": block}) == ["block"] * constant


def test_rows_in_a_store_are_read_only_as_far_as_needed(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path, chunk_rows=600)
    for chunk in range(3):
        store.write("dead", chunk, np.ones((600, 2), np.float32))
        store.write("alive", chunk, np.eye(600, 2, dtype=np.float32))
    blocks = {
        key: StoredRows(store, key, 1800, 2, np.arange(1800, dtype=np.int64))
        for key in ("dead", "alive")
    }
    read, chunks = store.read, []

    def note(key, chunk, *shape):
        chunks.append((key, chunk))
        return read(key, chunk, *shape)

    monkeypatch.setattr(store, "read", note)
    assert constant_blocks(blocks) == ["dead"]
    assert {chunk for key, chunk in chunks if key == "alive"} == {0}
    assert {chunk for key, chunk in chunks if key == "dead"} == {0, 1, 2}
