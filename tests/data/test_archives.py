"""MedMNIST, archives and QuickDraw, as small stand-ins on a local server."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile

import numpy as np
import pytest

from substrate_jax.data import archives, bytes_to_download, open_source, quickdraw, take
from substrate_jax.data.download import RemoteFile
from tests.data.server import dead_address, serve
from tests.data.test_sources import medmnist, png


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "data"


def test_medmnist_is_one_set_at_every_size(tmp_path, monkeypatch):
    shapes = {28: (6, 6), 64: (8, 8)}
    files = {}
    for size, shape in shapes.items():
        images = {
            f"{split}_images": np.full((n, *shape), size, np.uint8)
            for split, n in (("train", 5), ("val", 2), ("test", 3))
        }
        files[size] = medmnist(tmp_path / f"{size}.npz", **images).read_bytes()
    checksums = {size: hashlib.md5(data).hexdigest() for size, data in files.items()}
    names = ("dark", "bright")
    monkeypatch.setitem(archives.MEDMNIST, "bloodmnist", archives.MedMnist(10, 1, checksums, names))
    served = {"/bloodmnist.npz": files[28], "/bloodmnist_64.npz": files[64]}
    with serve(served) as (address, seen):
        monkeypatch.setattr(archives, "_MEDMNIST_URL", address)
        assert bytes_to_download("medmnist:bloodmnist") == 10 * 28 * 28
        small, large = open_source("medmnist:bloodmnist"), open_source("medmnist:bloodmnist:64")
        again = open_source("medmnist:bloodmnist:28")
    assert len(seen) == 2
    assert small.ids == large.ids
    assert take(small, 4).ids == take(large, 4).ids
    assert small.ids[:1] + small.ids[-1:] == ("train/000000", "test/000002")
    assert (small[9].image[0, 0, 0], large[9].image[0, 0, 0]) == (28, 64)
    assert small.label_names == names
    assert small.fingerprint == again.fingerprint != large.fingerprint
    assert bytes_to_download("medmnist:bloodmnist") == 0


PICTURES = {
    "root/train/n2/b.JPEG": png(2),
    "root/train/n1/a.JPEG": png(1),
    "root/val/n2/c.JPEG": png(3),
    "root/notes.csv": b"x",
}


def packed(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as files:
            for name, data in PICTURES.items():
                files.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as files:
            for name, data in PICTURES.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                files.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_archive_is_unpacked_once_and_labeled_by_folder(folder, tmp_path, monkeypatch, kind):
    data = packed(kind)
    checksum = f"md5:{hashlib.md5(data).hexdigest()}"
    with serve({f"/set.{kind}": data}) as (address, seen):
        file = RemoteFile(f"set.{kind}", f"{address}/set.{kind}", checksum, len(data))
        archive = archives.Archive(file, "root", {"n1": "cat"})
        monkeypatch.setitem(archives.ARCHIVES, "eurosat", archive)
        assert bytes_to_download("eurosat") == len(data)
        (folder / "eurosat.part").mkdir(parents=True)  # of a run that was killed
        (folder / "eurosat.part" / "old.JPEG").write_bytes(b"half")
        source, again = open_source("eurosat"), open_source("archive:eurosat")
    assert len(seen) == 1
    assert source.ids == ("train/n1/a.JPEG", "train/n2/b.JPEG", "val/n2/c.JPEG")
    assert source.labels.tolist() == [0, 1, 1]
    assert source.label_names == ("cat", "n2")
    assert [int(source[row].image[0, 0, 0]) for row in range(3)] == [1, 2, 3]
    assert {path.name for path in folder.glob("[!.]*")} == {"eurosat", f"set.{kind}"}
    assert bytes_to_download("eurosat") == 0
    # The same archive, placed by hand on another machine without a network.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"set.{kind}").write_bytes(data)
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path / "other"))
    assert bytes_to_download("eurosat") == 0
    elsewhere = open_source("eurosat")
    assert elsewhere.fingerprint == source.fingerprint == again.fingerprint
    assert elsewhere.ids == source.ids


COUNTS = {"hot dog": 9, "zebra": 7}
DRAWINGS = {
    word: np.random.default_rng(count).integers(0, 256, (count, 784), np.uint8)
    for word, count in COUNTS.items()
}


def published_npy(drawings: np.ndarray) -> bytes:
    """As the published files are: version 1.0, a header of 80 bytes."""
    shape = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {drawings.shape}, }}"
    return b"\x93NUMPY\x01\x00\x46\x00" + shape.ljust(69).encode() + b"\n" + drawings.tobytes()


@pytest.fixture
def words(monkeypatch):
    monkeypatch.setattr(quickdraw, "quickdraw_words", lambda: COUNTS)
    return {
        f"/{word.replace(' ', '%20')}.npy": published_npy(drawings)
        for word, drawings in DRAWINGS.items()
    }


@pytest.mark.parametrize("ranges", [True, False])
def test_quickdraw_fetches_beginnings(words, folder, monkeypatch, ranges):
    with serve(words, ranges=ranges) as (address, seen):
        monkeypatch.setattr(quickdraw, "_URL", address)
        assert bytes_to_download("quickdraw:2") == 2 * (80 + 2 * 784)
        two = open_source("quickdraw:2")
        assert seen == ["bytes=0-1647"] * 2
        assert bytes_to_download("quickdraw:2") == 0
        again, three = open_source("quickdraw:2"), open_source("quickdraw:3")
        assert seen[2:] == ["bytes=0-2431"] * 2
    assert two.ids == ("hot dog/000000", "hot dog/000001", "zebra/000000", "zebra/000001")
    assert set(two.ids) < set(three.ids)
    assert two.labels.tolist() == [0, 0, 1, 1]
    assert two.label_names == ("hot dog", "zebra")
    np.testing.assert_array_equal(two[3].image[..., 1], DRAWINGS["zebra"][1].reshape(28, 28))
    assert two.fingerprint == again.fingerprint != three.fingerprint
    assert not list(folder.glob("quickdraw/*.part"))
    # Whole files, placed by hand, hold the same drawings.
    for word, drawings in DRAWINGS.items():
        np.save(folder / "quickdraw" / f"{word}.npy", drawings)
    assert open_source("quickdraw:2").fingerprint == two.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"/zebra.npy": published_npy(DRAWINGS["zebra"][:6])},
            r"\[6, 784\].* expected uint8 \[7, ",
        ),
        ({"/zebra.npy": published_npy(DRAWINGS["zebra"])[:900]}, "820 bytes came"),
        ({"/zebra.npy": b"<html>" * 20}, "is no npy file"),
        ({"/zebra.npy": None}, "zebra.npy cannot be fetched"),
    ],
)
def test_quickdraw_refuses(words, folder, monkeypatch, change, message):
    served = {name: data for name, data in (words | change).items() if data}
    with serve(served) as (address, _):
        monkeypatch.setattr(quickdraw, "_URL", address)
        with pytest.raises(ValueError, match=message) as error:
            open_source("quickdraw:2")
    assert f"{address}/zebra.npy" in str(error.value)
    assert f"{folder}/quickdraw/zebra.npy" in str(error.value)
    assert not (folder / "quickdraw" / "zebra.npy").exists()


def test_quickdraw_names_a_damaged_file(words, folder):
    (folder / "quickdraw").mkdir(parents=True)
    for content, message in ((b"text", "ValueError"), (None, "it holds float64")):
        if content is None:
            np.save(folder / "quickdraw" / "zebra.npy", np.zeros((3, 784)))
        else:
            (folder / "quickdraw" / "zebra.npy").write_bytes(content)
        with pytest.raises(ValueError, match=rf"zebra\.npy: not a QuickDraw .*{message}"):
            open_source("quickdraw:2")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("medmnist:bloodmnist:32", "give organamnist or bloodmnist and a size of 28, 64, 128, 224"),
        ("medmnist:pathmnist", "no such set"),
        ("medmnist:bloodmnist:big", "'big' is no count"),
        ("archive:imagewoof", "give imagenette or eurosat"),
        ("quickdraw:many", "'many' is no count"),
        ("quickdraw:0", "give 1 to 113613"),
        ("quickdraw:113614", "give 1 to 113613"),
    ],
)
def test_malformed_specs(spec, message):
    for function in (open_source, bytes_to_download):
        with pytest.raises(ValueError, match=message):
            function(spec)


def test_published_records_are_well_formed():
    files = [archive.file for archive in archives.ARCHIVES.values()]
    files += [
        archives.medmnist_file(name, size)
        for name in archives.MEDMNIST
        for size in archives.MEDMNIST_SIZES
    ]
    for file in files:
        kind, digits = file.checksum.split(":")
        assert len(bytes.fromhex(digits)) == hashlib.new(kind).digest_size
        assert file.url.startswith("https://")
        assert file.url.endswith(file.name)
    assert len({dataclasses.astuple(file)[2] for file in files}) == len(files)


def test_offline_ends_in_one_line(folder, monkeypatch):
    monkeypatch.setattr(quickdraw, "_URL", dead_address())
    with pytest.raises(ValueError, match="cannot be fetched") as error:
        open_source("quickdraw:1")
    assert f"place it at {folder}/quickdraw/" in str(error.value)
    assert "\n" not in str(error.value)
