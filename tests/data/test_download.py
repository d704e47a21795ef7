"""Downloads from a server that may cut, forget ranges, lie, or be away."""

import concurrent.futures
import hashlib

import numpy as np
import pytest

from substrate_jax.data import download
from substrate_jax.data.download import RemoteFile, data_folder, fetch
from substrate_jax.progress import progress_bar
from tests.data.server import dead_address, serve

DATA = np.random.default_rng(0).bytes(50_000)
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "data"


def remote(address: str, checksum: str = SHA256) -> RemoteFile:
    return RemoteFile("set.npz", f"{address}/set.npz", checksum, len(DATA))


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_fetches_once(folder, kind):
    checksum = f"{kind}:{hashlib.new(kind, DATA).hexdigest()}"
    with serve({"/set.npz": DATA}) as (address, seen):
        file = remote(address, checksum)
        assert file.missing_bytes() == len(DATA)
        assert fetch(file) == fetch(file) == folder / "set.npz"
    assert file.path.read_bytes() == DATA
    assert seen == [None]
    assert file.missing_bytes() == 0
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(
    ("ranges", "cuts", "seen"),
    [
        (True, [1000], [None, "bytes=1000-"]),
        (True, [1000, 20_000], [None, "bytes=1000-", "bytes=21000-"]),
        (False, [1000], [None, "bytes=1000-"]),
        (False, [1000, 30_000], [None, "bytes=1000-", "bytes=30000-"]),
    ],
)
def test_a_cut_transfer_goes_on(ranges, cuts, seen):
    with serve({"/set.npz": DATA}, ranges=ranges, cuts=cuts) as (address, requests):
        assert fetch(remote(address)).read_bytes() == DATA
    assert requests == seen


def test_another_run_goes_on_where_the_last_one_stopped(folder):
    with serve({"/set.npz": DATA}, cuts=[1000, 0]) as (address, requests):
        with pytest.raises(ValueError, match="the server stopped at 1,000 of 50,000 bytes"):
            fetch(remote(address))
        assert [path.name for path in folder.glob("[!.]*")] == ["set.npz.part"]
        assert remote(address).missing_bytes() == len(DATA) - 1000
        assert fetch(remote(address)).read_bytes() == DATA
    assert requests == [None, "bytes=1000-", "bytes=1000-"]


def test_a_complete_part_is_checked_and_named(folder):
    folder.mkdir()
    (folder / "set.npz.part").write_bytes(DATA)
    with serve({"/set.npz": DATA}) as (address, requests):
        assert fetch(remote(address)).read_bytes() == DATA
    assert requests == ["bytes=50000-"]


@pytest.mark.parametrize("begun", [b"", b"not the beginning"])
def test_a_wrong_checksum_leaves_nothing(folder, begun):
    folder.mkdir()
    if begun:
        (folder / "set.npz.part").write_bytes(begun)
    sent = DATA if begun else DATA[:-1] + b"x"
    actual = hashlib.sha256(begun + sent[len(begun) :]).hexdigest()
    message = f"sha256 is {actual}, expected {SHA256[7:]}"
    with (
        serve({"/set.npz": sent}) as (address, _),
        pytest.raises(ValueError, match=message) as error,
    ):
        fetch(remote(address))
    assert "\n" not in str(error.value)
    assert not list(folder.glob("[!.]*"))


def test_a_file_placed_by_hand_is_checked_and_kept(folder):
    folder.mkdir()
    (folder / "set.npz").write_bytes(DATA)
    assert fetch(remote(dead_address())).read_bytes() == DATA
    (folder / "set.npz").write_bytes(DATA[:-1])
    with pytest.raises(ValueError, match=f"{folder}/set.npz: sha256 is .* delete it"):
        fetch(remote(dead_address()))
    assert (folder / "set.npz").exists()


def test_offline_names_the_file_its_address_and_its_place(folder):
    with serve({}) as (address, _):
        for base, reason in ((dead_address(), "refused"), (address, "Not Found")):
            with pytest.raises(ValueError, match=reason) as error:
                fetch(remote(base))
            message = str(error.value)
            assert f"from {base}/set.npz" in message
            assert f"place it at {folder}/set.npz" in message
            assert "\n" not in message


def test_two_at_once_fetch_one(folder):
    pool = concurrent.futures.ThreadPoolExecutor(2)
    with serve({"/set.npz": DATA}) as (address, requests), pool:
        paths = list(pool.map(fetch, [remote(address)] * 2))
    assert [path.read_bytes() for path in paths] == [DATA, DATA]
    assert requests == [None]


def test_a_folder_that_cannot_be_made(folder):
    folder.write_bytes(b"a file")
    with pytest.raises(ValueError, match=f"{folder} cannot be written .*SUBSTRATE_JAX_DATA"):
        fetch(remote(dead_address()))


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_counts_every_byte_unless_quiet(monkeypatch, quiet):
    bars = []

    def bar(label, total, unit, **options):
        assert label == (None if quiet else "set.npz")
        bars.append(progress_bar("set.npz", total, unit, **options))  # one that counts
        return bars[0]

    monkeypatch.setattr(download, "progress_bar", bar)
    with serve({"/set.npz": DATA}, cuts=[1000]) as (address, _):
        fetch(remote(address), quiet=quiet)
    assert (bars[0].n, bars[0].total) == (len(DATA), len(DATA))


def test_the_folder_is_the_variables_or_the_caches(monkeypatch, tmp_path):
    assert data_folder() == tmp_path / "data"
    monkeypatch.delenv("SUBSTRATE_JAX_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "substrate_jax" / "data"
