"""Weights from folders and from a hub cache laid out as huggingface_hub lays it out, offline."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from substrate_jax.encoders import (
    encoder_spec,
    find_spec,
    is_at_hand,
    load_encoder,
    register_encoder,
    registry,
    select_encoders,
)
from substrate_jax.encoders.find import find_weights
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.weights import file_sha256
from tests.encoders.networks.modules import arrays_of
from tests.golden.transformers_weights import write_folder

CONFIG = ViTConfig(8, 1, 2, patch_size=4, image_size=8, num_classes=3)
TINY, REPOSITORY = "tiny_vit", "timm/tiny_vit.none"
GOLDENS = Path(__file__).parents[1] / "golden" / "transformers"
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty hub cache, no network, and a registry with a record of a tiny network."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    record(sha256=None)
    return folder


def record(**changes):
    registry._registry.pop(TINY, None)
    spec = encoder_spec("mini_vit_base")
    spec = dataclasses.replace(spec, name=TINY, config=CONFIG, panel=None, checkpoint=REPOSITORY)
    return register_encoder(dataclasses.replace(spec, **changes))


@pytest.fixture
def file(tmp_path):
    save_file(arrays_of(CONFIG), tmp_path / "weights")
    return tmp_path / "weights"


def lay_out(cache: Path, repository: str, commit: str, files: list[Path], main: bool = True):
    """A repository in a cache: blobs by hash, a snapshot of links, and a ref."""
    root = cache / ("models--" + repository.replace("/", "--"))
    for folder in ("blobs", f"snapshots/{commit}", "refs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        blob = root / "blobs" / file_sha256(file)
        shutil.copyfile(file, blob)
        (root / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / blob.name)
    if main:
        (root / "refs" / "main").write_text(commit)
    return root / "snapshots" / commit


def cached(cache, file, commit=NEW, **options):
    named = file.parent / commit / "model.safetensors"
    named.parent.mkdir()
    shutil.copyfile(file, named)
    return lay_out(cache, REPOSITORY, commit, [named], **options) / "model.safetensors"


def test_without_network_and_cache_the_error_says_what_to_do():
    assert not is_at_hand(encoder_spec("resnet50"))
    with pytest.raises(ValueError, match=r"give weights=FOLDER.*of the mini panel") as caught:
        load_encoder("resnet50")
    message = str(caught.value)
    assert "\n" not in message
    assert "resnet50.safetensors" in message
    assert encoder_spec("resnet50").checkpoint in message


LAYOUTS = {
    "by name": lambda folder, file: shutil.copyfile(file, folder / f"{TINY}.safetensors"),
    "as downloaded": lambda folder, file: shutil.copytree(
        cached(folder.parent / "other", file).parent, folder / REPOSITORY
    ),
    "hub cache": cached,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_weights(layout, file, tmp_path):
    folder = tmp_path / "chosen"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"place there tiny_vit\.safetensors, timm/tiny_vit") as e:
        load_encoder(TINY, folder)
    assert "\n" not in str(e.value)
    assert not is_at_hand(encoder_spec(TINY), folder)
    LAYOUTS[layout](folder, file)
    assert is_at_hand(encoder_spec(TINY), folder)
    encoder = load_encoder(TINY, folder)
    assert encoder.sha256 == file_sha256(file)
    assert encoder.revision == (NEW if layout == "hub cache" else None)


def test_the_hub_cache_is_read_without_network(cache, file):
    path = cached(cache, file)
    assert is_at_hand(encoder_spec(TINY))
    assert find_weights(encoder_spec(TINY)).samefile(path)
    encoder = load_encoder(TINY)
    assert (encoder.sha256, encoder.revision) == (file_sha256(file), NEW)


def test_a_pinned_revision_is_the_one_read(cache, file, tmp_path):
    cached(cache, file, OLD, main=False)
    save_file(arrays_of(CONFIG, seed=1), tmp_path / "other")
    cached(cache, tmp_path / "other", NEW)
    assert load_encoder(TINY).revision == NEW
    record(revision=OLD)
    encoder = load_encoder(TINY)
    assert (encoder.sha256, encoder.revision) == (file_sha256(file), OLD)
    record(revision="c" * 40)
    with pytest.raises(ValueError, match="not cached and cannot be fetched"):
        load_encoder(TINY)


def test_a_pinned_hash_is_checked(cache, file):
    cached(cache, file)
    record(sha256=file_sha256(file))
    assert load_encoder(TINY).sha256 == file_sha256(file)
    record(sha256="0" * 64)
    with pytest.raises(ValueError, match=f"sha256 is {file_sha256(file)}, expected {'0' * 64}"):
        load_encoder(TINY)


DAMAGE = {
    "cut short": lambda data: data[:-100],
    "tampered": lambda data: data[:-4] + b"\0\0\0?",
    "emptied": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_is_refused_by_its_hash(damage, cache, file):
    blob = cached(cache, file).resolve()
    blob.write_bytes(DAMAGE[damage](blob.read_bytes()))
    message = f"sha256 is {file_sha256(blob)}, expected {file_sha256(file)}"
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(TINY)
    assert "\n" not in str(caught.value)


@pytest.fixture
def transformers_folder(tmp_path):
    folder = tmp_path / "vit"
    folder.mkdir()
    write_folder(folder, json.loads((GOLDENS / "vit.json").read_text()), shards=2)
    return folder


def places(folder, cache, tmp_path):
    """Where a checkpoint in transformers' format may lie -> arguments, revision."""
    lay_out(cache, "org/cached", OLD, sorted(folder.iterdir()), main=False)
    lay_out(cache, "org/cached", NEW, sorted(folder.iterdir()))
    shutil.copytree(folder, tmp_path / "all" / "org" / "plain")
    lay_out(tmp_path / "all", "org/snapshot", OLD, sorted(folder.iterdir()))
    return {
        "folder": ((f"hf:{folder}",), None),
        "cache": (("hf:org/cached",), NEW),
        "revision": ((f"hf:org/cached@{OLD}",), OLD),
        "weights": (("hf:org/plain", tmp_path / "all"), None),
        "weights that are a cache": (("hf:org/snapshot", tmp_path / "all"), OLD),
    }


def test_transformers_checkpoints_are_found_and_agree(transformers_folder, cache, tmp_path):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 48, 48, 3)), jnp.float32)
    hashes, outputs = set(), []
    for place, (arguments, revision) in places(transformers_folder, cache, tmp_path).items():
        spec = find_spec(*arguments)
        encoder = load_encoder(*arguments)
        assert encoder.spec == spec, place
        assert (encoder.name, encoder.revision) == (arguments[0], revision), place
        assert is_at_hand(spec, *arguments[1:]), place
        hashes.add(encoder.sha256)
        size = spec.config.image_size
        outputs.append(np.asarray(encoder(images[:, :size, :size])))
        assert outputs[-1].shape == (1, spec.width)
    assert len(hashes) == 1
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
    assert select_encoders(["mim", "hf:org/cached"], "mini")[-1] == "hf:org/cached"


def test_transformers_checkpoints_that_are_nowhere(tmp_path):
    with pytest.raises(ValueError, match="'hf:org/none' is not cached and cannot"):
        load_encoder("hf:org/none")
    with pytest.raises(ValueError, match=re.escape("place there org/none/config.json and its")):
        load_encoder("hf:org/none", tmp_path)
    with pytest.raises(ValueError, match="not cached and cannot be fetched"):
        load_encoder("hf:not a name!")


def partial(folder, cache, names):
    """A cache that holds only some of a checkpoint's files, as after a download that stopped."""
    files = [file for file in sorted(folder.iterdir()) if file.name in names]
    return lay_out(cache, "org/part", NEW, files)


INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "preprocessor_config.json")
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
PARTIAL = {
    "configs alone": (CONFIGS, "has neither model.safetensors nor"),
    "no index": ((*CONFIGS, *SHARDS), "has neither model.safetensors nor"),
    "no shard": ((*CONFIGS, INDEX), f"lacks {', '.join(SHARDS)}"),
    "one shard": ((*CONFIGS, INDEX, SHARDS[0]), f"lacks {SHARDS[1]}"),
    "no config": ((INDEX, *SHARDS), "lacks config.json, preprocessor_config.json"),
}


@pytest.mark.parametrize("case", PARTIAL)
def test_a_cache_that_holds_a_part_is_completed(case, transformers_folder, cache, monkeypatch):
    names, message = PARTIAL[case]
    snapshot = partial(transformers_folder, cache, names)
    spec = dataclasses.replace(encoder_spec(TINY), name="hf:org/part", checkpoint="hf:org/part")
    assert not is_at_hand(spec)
    with pytest.raises(ValueError, match=re.escape(message)):  # without network
        load_encoder("hf:org/part")

    asked = []

    def download(repository, *, allow_patterns, local_files_only=False, **options):
        if not local_files_only:
            asked.append(allow_patterns)
            for file in transformers_folder.iterdir():
                shutil.copyfile(file, snapshot / file.name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_encoder("hf:org/part").revision == NEW
    assert is_at_hand(spec)
    assert len(asked) == 1
    assert {*CONFIGS, INDEX, "processor_config.json"} <= set(asked[0])
    load_encoder("hf:org/part")
    assert len(asked) == 1


def test_why_a_download_failed_is_said(monkeypatch):
    from huggingface_hub.errors import HfHubHTTPError

    client = HfHubHTTPError.__bases__[0]  # of the HTTP client's errors, which no OSError is
    for error, name in (
        (client("read timed out\n at x"), client.__name__),
        (OSError("disk"), "OSError"),
    ):

        def fail(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
        monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
        said = f"({name}: {str(error).splitlines()[0]}); put it in a folder"
        for wanted in ("resnet50", "hf:org/none"):
            with pytest.raises(ValueError, match=re.escape(said)) as caught:
                load_encoder(wanted)
            assert "\n" not in str(caught.value)


def test_pickles_are_never_read(transformers_folder):
    for shard in transformers_folder.glob("model*"):
        shard.unlink()
    (transformers_folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="safetensors"):
        load_encoder(f"hf:{transformers_folder}")


def test_a_damaged_shard_is_refused(transformers_folder, cache):
    snapshot = lay_out(cache, "org/vit", NEW, sorted(transformers_folder.iterdir()))
    blob = next(snapshot.glob("model-00002*")).resolve()
    blob.write_bytes(blob.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"(sha256 is \w{64}, expected \w{64}|not a whole)"):
        load_encoder("hf:org/vit")
