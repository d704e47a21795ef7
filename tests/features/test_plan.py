"""What is to be computed: chunks, batches, shares of processes, spans of chunks."""

import jax
import numpy as np
import pytest

from substrate_jax.features import FeatureStore, extract, plan
from substrate_jax.mesh import make_mesh
from tests.features.fakes import needs, noise_source, panel, same_bits


def make(n=37, batch_size=8, chunk_rows=None, mesh="data=1", encoders=None):
    return plan.make_plan(
        encoders or panel(),
        noise_source(n),
        mesh=make_mesh(mesh),
        store=FeatureStore("unused", chunk_rows) if chunk_rows else None,
        batch_size=batch_size,
        gather=True,
        skip_bad=False,
    )


@pytest.mark.parametrize(
    ("mesh", "batch_size", "chunk_rows", "rows"),
    [
        ("data=1", 8, None, (8, 8)),
        ("data=8", 10, None, (16, 16)),  # rounded up to a multiple of the devices
        ("data=4,model=2", 10, None, (12, 12)),
        ("data=1", 64, None, (37, 37)),  # no more than there are
        ("data=1", 8, 10, (8, 10)),
        ("data=1", 64, 10, (10, 10)),  # no more than a chunk
        ("data=8", 3, 10, (8, 10)),
    ],
)
def test_batches_and_chunks_have_constant_rows(mesh, batch_size, chunk_rows, rows):
    made = make(batch_size=batch_size, chunk_rows=chunk_rows, mesh=mesh)
    assert (made.batch_rows, made.chunk_rows) == rows


@pytest.mark.parametrize(("n", "batch_size", "chunk_rows"), [(37, 4, 10), (40, 8, 8), (3, 8, None)])
def test_every_row_is_in_one_batch_of_its_chunk(n, batch_size, chunk_rows):
    made = make(n, batch_size, chunk_rows)
    missing = {chunk: set(made.encoders) for chunk in made.chunks}
    batches = list(made.batches(made.chunks, missing))
    rows = [row for batch in batches for row in range(batch.start, batch.stop)]
    assert rows == list(range(n))
    for batch in batches:
        chunk = made.rows(batch.chunk)
        assert chunk.start <= batch.start < batch.stop <= chunk.stop
        assert batch.stop - batch.start <= made.batch_rows


def test_only_what_missing_encoders_need_is_decoded():
    made = make()  # "c" alone resizes to 6 pixels
    (batch, *_) = made.batches([0], {0: {"a", "b"}})
    assert [spec.size for spec in batch.resizes] == [8]
    (batch, *_) = made.batches([0], {0: {"c"}})
    assert [spec.size for spec in batch.resizes] == [6]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_processes_share_the_chunks(monkeypatch, count):
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(plan, "local_mesh", lambda mesh: mesh)
    shares = make(chunk_rows=10).shares
    assert len(shares) == count
    assert [chunk for share in shares for chunk in share] == list(range(4))
    assert max(len(share) for share in shares) == -(-4 // count)


def test_spans_hold_as_many_pixels_as_allowed(monkeypatch):
    made = make(chunk_rows=10)
    chunk = 10 * 3 * (8**2 + 6**2)  # bytes
    assert list(made.spans([0, 2, 3], 1)) == [[0, 2, 3]]
    assert list(made.spans([], 2)) == []
    for held, spans in [
        (10 * chunk, [[0, 2, 3]]),
        (2 * chunk, [[0, 2], [3]]),
        (1, [[0], [2], [3]]),
    ]:
        monkeypatch.setattr(plan, "HOST_PIXELS", held)
        assert list(made.spans([0, 2, 3], 2)) == spans


def test_encoders_that_take_turns_over_several_spans_change_no_bit(monkeypatch):
    source, options = noise_source(37), {"mesh": make_mesh("data=1"), "batch_size": 8}
    want = extract(panel(), source, **options)
    budget = max(sum(size) for size in needs(panel(), source, **options).values())
    monkeypatch.setattr(plan, "HOST_PIXELS", 1)
    source.reads.clear()
    steps = []
    got = extract(
        panel(),
        source,
        device_memory=budget,
        progress=lambda done, total: steps.append((done, total)),
        **options,
    )
    assert same_bits(got, want)
    assert set(source.reads.values()) == {1}
    assert np.all(np.diff([done for done, _ in steps]) >= 0)
    assert steps[-1] == (37, 37)
