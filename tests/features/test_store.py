"""The store: kill it, cut it, change what it depends on; the features stay the same bits."""

import concurrent.futures
import dataclasses
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.parse
from typing import ClassVar

import numpy as np
import pytest

from substrate_jax.data import Preprocess
from substrate_jax.features import FeatureStore, extract
from substrate_jax.mesh import make_mesh
from tests.features.fakes import LinearEncoder, noise_source

CHUNK = 10
ROOT = pathlib.Path(__file__).parents[2]


def run(path, encoders=None, source=None, batch_size=4, **options):
    encoders = encoders or [LinearEncoder("a"), LinearEncoder("b", seed=1, conv=True)]
    source = source or noise_source(37)
    store = FeatureStore(path, chunk_rows=CHUNK)
    mesh = make_mesh("data=1")
    return extract(encoders, source, mesh=mesh, store=store, batch_size=batch_size, **options)


def same_bits(one, two):
    assert one.ids == two.ids
    assert list(one) == list(two)
    return all(one[name].tobytes() == two[name].tobytes() for name in one)


def chunks(path):
    return sorted(path.glob("*/*.npy"))


def test_second_run_reads_and_neither_decodes_nor_compiles(tmp_path):
    first = run(tmp_path)
    encoders = [LinearEncoder("a"), LinearEncoder("b", seed=1, conv=True)]
    source = noise_source(37)
    assert same_bits(run(tmp_path, encoders, source), first)
    assert not source.reads
    assert [encoder.traces for encoder in encoders] == [0, 0]


def test_store_changes_no_bit_where_batches_are_the_same(tmp_path):
    encoders, source = [LinearEncoder("a", conv=True)], noise_source(37)
    plain = extract(encoders, source, mesh=make_mesh("data=1"), batch_size=5)
    assert same_bits(run(tmp_path, encoders, source, batch_size=5), plain)


def test_two_runs_share_one_store(tmp_path):
    alone = run(tmp_path / "alone")
    both = threading.Barrier(2)

    def at_once(_):
        both.wait()
        return run(tmp_path / "shared")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(at_once, range(2)))
    assert all(same_bits(one, alone) for one in found)
    assert same_bits(run(tmp_path / "shared"), alone)
    assert len(chunks(tmp_path / "shared")) == len(chunks(tmp_path / "alone"))


def test_a_new_encoder_computes_alone(tmp_path):
    run(tmp_path, [LinearEncoder("a")])
    old, new = LinearEncoder("a"), LinearEncoder("b", seed=1, conv=True)
    features = run(tmp_path, [old, new])
    assert (old.traces, new.traces) == (0, 1)
    assert same_bits(features, run(tmp_path / "other", [old, new]))


KILLED = """
import os, pathlib, signal
import jax
jax.config.update("jax_platforms", "cpu")
from substrate_jax.features import FeatureStore
from tests.features import test_store

class Killed(FeatureStore):
    written = 0
    def write(self, key, chunk, values):
        if Killed.written == {after}:
            if {torn}:
                path = pathlib.Path(self.path, key, f"{{chunk:06d}}.npy.__lock")
                path.write_bytes(values.tobytes()[:50])
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(key, chunk, values)
        Killed.written += 1

test_store.FeatureStore = Killed
test_store.run({path!r})
"""


@pytest.mark.parametrize(("after", "torn"), [(0, False), (1, True), (5, False)])
def test_killed_run_resumes_to_the_same_bits(tmp_path, after, torn):
    code = KILLED.format(after=after, torn=torn, path=str(tmp_path / "killed"))
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(chunks(tmp_path / "killed")) == after
    source = noise_source(37)
    resumed = run(tmp_path / "killed", source=source)
    # Chunks of 10, 10, 10 and 7 rows, two encoders in turn: what both have is not read again.
    assert sum(source.reads.values()) == 37 - CHUNK * (after // 2)
    assert same_bits(resumed, run(tmp_path / "whole"))
    assert same_bits(run(tmp_path / "killed"), resumed)


DAMAGE = {
    "truncated": lambda data, other: data[: len(data) // 2],
    "emptied": lambda data, other: b"",
    "flipped": lambda data, other: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
    "digest": lambda data, other: data[:-1] + bytes([data[-1] ^ 1]),
    "another": lambda data, other: other,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_chunk_is_computed_again(tmp_path, damage):
    whole = run(tmp_path)
    first, second, *_ = chunks(tmp_path)  # equal shapes, each with a good digest for its place
    data = DAMAGE[damage](first.read_bytes(), second.read_bytes())
    first.write_bytes(data)
    source = noise_source(37)
    assert same_bits(run(tmp_path, source=source), whole)
    assert set(source.reads) == set(range(CHUNK))
    assert first.read_bytes() != data


ENCODER = LinearEncoder("a")


def changed_preprocess():
    encoder = LinearEncoder("a")
    preprocess = dataclasses.replace(encoder.spec.preprocess, mean=(0.5, 0.5, 0.5))
    encoder.spec = dataclasses.replace(encoder.spec, preprocess=preprocess)
    return encoder


def changed_dtype():
    encoder = LinearEncoder("a")
    encoder.dtype = np.dtype(np.float16)
    return encoder


CHANGES = {
    "weights": lambda: (LinearEncoder("a", seed=9), noise_source(37)),
    "preprocess": lambda: (changed_preprocess(), noise_source(37)),
    "resize": lambda: (LinearEncoder("a", preprocess=Preprocess(8, 0.5)), noise_source(37)),
    "dtype": lambda: (changed_dtype(), noise_source(37)),
    "images": lambda: (ENCODER, noise_source(37, seed=5)),
    "order": lambda: (ENCODER, reordered(noise_source(37))),
    "rows": lambda: (ENCODER, noise_source(37).select(range(30))),
    "width": lambda: (LinearEncoder("a", width=6), noise_source(37)),
}


def reordered(source):
    rows = [1, 0, *range(2, 37)]
    return dataclasses.replace(source.select(rows), fingerprint=source.fingerprint)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_determinant_never_reads_stale_rows(tmp_path, change):
    run(tmp_path, [ENCODER])
    before = chunks(tmp_path)
    encoder, source = CHANGES[change]()
    got = run(tmp_path, [encoder], source)
    assert len(chunks(tmp_path)) == len(before) + -(-len(source) // CHUNK)
    assert same_bits(got, run(tmp_path / "fresh", [encoder], source))
    assert len(list(tmp_path.glob("*/manifest.json"))) == 2


def test_another_chunk_length_is_another_key(tmp_path):
    first = run(tmp_path, [ENCODER])
    store = FeatureStore(tmp_path, chunk_rows=8)
    mesh = make_mesh("data=1")
    second = extract([ENCODER], noise_source(37), mesh=mesh, store=store, batch_size=4)
    assert len(chunks(tmp_path)) == 4 + 5
    assert same_bits(first, second)


def test_bad_rows_are_remembered_and_still_fatal_without_skip(tmp_path):
    bad = {3, 25}
    skipped = run(tmp_path, source=noise_source(37, bad=bad), skip_bad=True)
    source = noise_source(37, bad=bad)
    assert same_bits(run(tmp_path, source=source, skip_bad=True), skipped)
    assert not source.reads
    with pytest.raises(ValueError, match="2 of 37 images of noise cannot be read, first r003"):
        run(tmp_path, source=source)
    assert len(skipped.ids) == 35


def test_fatal_bad_image_keeps_the_chunks_before_it(tmp_path):
    with pytest.raises(ValueError, match="1 of 37 images"):
        run(tmp_path, [ENCODER], noise_source(37, bad={25}))
    assert [path.name for path in chunks(tmp_path)] == ["000000.npy", "000001.npy"]
    source = noise_source(37, bad={25})
    assert len(run(tmp_path, [ENCODER], source, skip_bad=True).ids) == 36
    assert min(source.reads) == 20


def test_chunk_is_a_plain_npy_file(tmp_path):
    features = run(tmp_path, [ENCODER])
    loaded = [np.load(path, allow_pickle=False) for path in chunks(tmp_path)]
    np.testing.assert_array_equal(np.concatenate(loaded), features["a"])
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "manifest.json",
        *(path.name for path in chunks(tmp_path)),
    }


def test_batch_larger_than_a_chunk_is_cut_to_it(tmp_path):
    features = run(tmp_path, [ENCODER], batch_size=64)
    assert len(features.ids) == 37
    assert len(chunks(tmp_path)) == 4


class SlowStore(FeatureStore):
    """Its first chunk is written when `go` is set, or after ten seconds."""

    def __init__(self, path):
        super().__init__(path, chunk_rows=CHUNK)
        self.go, self.waited = threading.Event(), []

    def write(self, key, chunk, values):
        if chunk == 0:
            self.waited.append(self.go.wait(10))
        super().write(key, chunk, values)


def test_chunks_are_written_while_the_next_are_computed(tmp_path):
    store = SlowStore(tmp_path / "slow")
    options = {"mesh": make_mesh("data=1"), "batch_size": 5}

    def progress(done, total):
        if done > 2 * CHUNK:
            store.go.set()

    got = extract([ENCODER], noise_source(37), store=store, progress=progress, **options)
    assert store.waited == [True]
    assert len(chunks(tmp_path / "slow")) == 4
    assert same_bits(got, extract([ENCODER], noise_source(37), **options))


def test_a_write_that_fails_behind_ends_the_run(tmp_path):
    class Full(FeatureStore):
        def write(self, key, chunk, values):
            if chunk == 3:  # the last: nothing is written after it
                raise ValueError("store 'x': No space left; make room")
            super().write(key, chunk, values)

    store = Full(tmp_path, chunk_rows=CHUNK)
    with pytest.raises(ValueError, match="No space left"):
        extract([ENCODER], noise_source(37), mesh=make_mesh("data=1"), store=store, batch_size=5)
    assert len(chunks(tmp_path)) == 3


def test_refuses():
    with pytest.raises(ValueError, match="chunk_rows=0"):
        FeatureStore("x", chunk_rows=0)


class Objects(http.server.BaseHTTPRequestHandler):
    """As much of Google Cloud Storage as writing and reading whole objects takes."""

    held: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *arguments):
        """Say nothing."""

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("x-goog-generation", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path.split("/o/")[1])
        found = name in self.held
        self.answer(200 if found else 404, self.held.get(name, b""))

    def do_POST(self):
        (name,) = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["name"]
        self.held[name] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, json.dumps({"name": name, "generation": "1"}).encode())


def test_a_bucket_is_a_folder_like_any_other(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = """
import numpy as np
from tests.features import test_store as t
first = t.run("gs://bucket/features", [t.ENCODER])
source = t.noise_source(37)
assert t.same_bits(t.run("gs://bucket/features", [t.ENCODER], source), first)
assert not source.reads
np.save({path!r}, first["a"])
"""
    path = tmp_path / "features.npy"
    environment = {
        "TENSORSTORE_GCS_HTTP_URL": f"http://127.0.0.1:{server.server_port}",
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "JAX_PLATFORMS": "cpu",
    }
    try:
        subprocess.run(
            [sys.executable, "-c", code.format(path=str(path))],
            cwd=ROOT,
            env=os.environ | environment,
            timeout=120,
            check=True,
        )
    finally:
        server.shutdown()
        server.server_close()
    local = run(tmp_path / "local", [ENCODER])
    assert np.load(path).tobytes() == local["a"].tobytes()
    names = {str(p.relative_to(tmp_path / "local")) for p in (tmp_path / "local").rglob("*.*")}
    assert {name.removeprefix("features/") for name in Objects.held} == names


def test_a_full_disk_is_said_in_one_line_and_costs_no_chunk(tmp_path):
    code = """
import resource, signal
import numpy as np
from substrate_jax.features import FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a limit on file size stands in for a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
store = FeatureStore({path!r})
store.write("k", 0, np.ones((10, 10), np.float32))
try:
    store.write("k", 1, np.ones((100, 10), np.float32))
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code.format(path=str(tmp_path))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "File too large; make room or correct the path, and run again" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    store = FeatureStore(tmp_path)
    assert store.read("k", 0, 10, 10).sum() == 100
    assert store.read("k", 1, 100, 10) is None
