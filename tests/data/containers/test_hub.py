"""Data sets of the Hugging Face hub, from a cache laid out as huggingface_hub lays it out."""

import pathlib
import shutil

import huggingface_hub
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from substrate_jax.data import open_source
from substrate_jax.data.containers import hub
from substrate_jax.data.domains import bytes_to_download
from tests.data.containers.files import table_of
from tests.data.test_sources import png
from tests.data.test_wild_folders import one_line

NAME = "someone/pets"
COMMIT = {None: "a" * 40, hub.CONVERTED: "b" * 40}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache and no network."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def lay_out(cache: pathlib.Path, files: dict[str, int], revision: str | None = None) -> None:
    """A set of two images per file, of the level given and the next."""
    root = cache / f"datasets--{NAME.replace('/', '--')}"
    ref = root / "refs" / (revision or "main")
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(COMMIT[revision])
    (root / "blobs").mkdir(exist_ok=True)
    for name, value in files.items():
        blob = root / "blobs" / f"{value:064x}"
        pq.write_table(table_of([png(value), png(value + 1)], [0, 1]), blob)
        link = root / "snapshots" / COMMIT[revision] / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


def levels(spec: str) -> list[int]:
    source = open_source(spec)
    return [int(source[row].image[0, 0, 0]) for row in range(len(source))]


def test_its_own_files(cache):
    names = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
    lay_out(cache, dict(zip(names, (1, 3), strict=True)) | {"data/test-00000-of-00001.parquet": 5})
    source = open_source(f"hfds:{NAME}")
    assert source.ids == tuple(f"train/{row:06d}" for row in range(4))
    assert (source.labels.tolist(), source.label_names) == ([0, 1, 0, 1], ("cat", "dog"))
    assert levels(f"hfds:{NAME}") == [1, 2, 3, 4]
    assert levels(f"hfds:{NAME}:test?label=none") == [5, 6]
    assert bytes_to_download(f"hfds:{NAME}") == 0
    said = one_line(f"hfds:{NAME}:val", "not in the hub's cache")
    assert "snapshot_download('someone/pets', repo_type='dataset')" in said
    assert "parquet:FOLDER" in said


def test_the_fingerprint_is_that_of_the_contents_on_every_machine(cache, tmp_path, monkeypatch):
    lay_out(cache, {"data/train-00000-of-00001.parquet": 1})
    first = open_source(f"hfds:{NAME}").fingerprint
    shutil.copytree(cache, tmp_path / "elsewhere", symlinks=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert open_source(f"hfds:{NAME}").fingerprint == first


def test_a_set_that_is_not_whole_is_not_taken(cache):
    lay_out(cache, {"data/train-00000-of-00002.parquet": 1})
    one_line(f"hfds:{NAME}", "not in the hub's cache")
    lay_out(cache, {"small/train/0000.parquet": 3, "small/train/0002.parquet": 5}, hub.CONVERTED)
    one_line(f"hfds:{NAME}", "not in the hub's cache")
    lay_out(cache, {"small/train/0001.parquet": 7}, hub.CONVERTED)
    assert levels(f"hfds:{NAME}") == [3, 4, 7, 8, 5, 6]


def test_what_the_hub_converted_in_part_is_not_taken_for_the_whole(cache):
    lay_out(cache, {"default/partial-train/0000.parquet": 1}, hub.CONVERTED)
    one_line(f"hfds:{NAME}", "not in the hub's cache")


def test_configs(cache):
    lay_out(cache, {"big/train/0000.parquet": 1, "small/train/0000.parquet": 3}, hub.CONVERTED)
    assert levels(f"hfds:{NAME}?config=small") == [3, 4]
    source = open_source(f"hfds:{NAME}?config=small")
    assert source.name == f"hfds:{NAME}:train?config=small"
    with pytest.raises(ValueError, match=r"several configs; choose with \?config=big, small"):
        hub.Chosen(["big/train/0000.parquet", "small/train/0000.parquet"], None, None, "x")
    with pytest.raises(ValueError, match=r"no config 'tiny'"):
        hub.Chosen(["big/train/0000.parquet"], None, "tiny", "x")
    with pytest.raises(ValueError, match=r"Parquet of a known layout"):
        hub.Chosen(["data/train.csv"], None, None, "x")


def test_names_of_files():
    for name, want in {
        "a/train/0000.parquet": ("a", "train"),
        "a/partial-train/0000.parquet": ("a", "partial-train"),
        "data/train-00000-of-00001-0123abcd.parquet": ("default", "train"),
        "a/test-00003-of-00010.parquet": ("a", "test"),
        "train.parquet": ("default", "train"),
        "data/val/0000.parquet": ("default", "val"),
        "0000.parquet": None,
        ".parquet": None,
        "train.csv": None,
    }.items():
        assert hub.place_of(name) == want, name


def test_it_is_fetched_where_the_cache_lacks_it(cache, monkeypatch):
    """As the hub answers, which no test asks: a converted part only, so its own files."""
    names = ["default/partial-train/0000.parquet", "data/train-00000-of-00001.parquet", "README.md"]
    asked = []

    def listed(self, repository, *, repo_type, revision):
        return names[:1] if revision == hub.CONVERTED else names[1:]

    def fetched(repository, *, local_files_only=False, **options):
        if not local_files_only:
            asked.append((options["revision"], options["allow_patterns"]))
            lay_out(cache, {names[1]: 1})
        return real(repository, local_files_only=True, **options)

    real = huggingface_hub.snapshot_download
    about = type("File", (), {"size": 1000})()
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
    monkeypatch.setattr(huggingface_hub.HfApi, "get_paths_info", lambda *_, **__: [about])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    assert bytes_to_download(f"hfds:{NAME}") == 1000
    assert open_source(f"hfds:{NAME}", quiet=True).ids == ("train/000000", "train/000001")
    assert asked == [(None, [names[1]])]
    assert bytes_to_download(f"hfds:{NAME}") == 0


@pytest.mark.parametrize("name", ["a/b/c", "..", "a..b", "a b", "/etc", "./x", "~x/y", "a\0b"])
def test_a_path_is_no_name(name):
    one_line(f"hfds:{name}", "no name of a data set|no data set saved there|no such path")
