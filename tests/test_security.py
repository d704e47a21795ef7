"""Each claim of docs/security.md: what a hostile file or name can not do, and no secret is told.

A payload that must never run is `Payload`: unpickling it makes a folder.
"""

import ast
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from safetensors.numpy import save_file

from experiments import cka
from experiments.common import domains as several_domains
from experiments.common import launch
from experiments.common.file_panel import FilePanel
from substrate_jax.data import archives
from substrate_jax.data.decode import UnreadableImage, decode_image
from substrate_jax.data.domains import open_source
from substrate_jax.encoders import load_encoder
from substrate_jax.encoders.weights import read_safetensors
from substrate_jax.features import FeatureStore
from substrate_jax.features import store as stores
from substrate_jax.mesh import make_mesh
from substrate_jax.report.files import write_report
from substrate_jax.report.page import Figures, Page, Picture, Section, provenance
from substrate_jax.report.text import slugs
from tests.report.document import Document
from tests.report.tiny import tiny_result

ROOT = Path(__file__).parents[1]
MODULES = [
    path
    for folder in ("substrate_jax", "kernels", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not any(f"substrate_jax/{linked}/" in str(path) for linked in ("kernels", "experiments"))
]
MIB = 2**20


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


class Payload:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def payload(tmp_path):
    """Bytes of a pickle that must never be read; that it works is tested too."""
    folder = tmp_path / "it ran"
    pickle.loads(pickle.dumps(Payload(folder)))
    assert folder.is_dir()
    folder.rmdir()
    yield Payload(folder)
    assert not folder.exists()


def refused(call, *arguments, most=8 * MIB, error=ValueError) -> str:
    """The one line that a call is refused with; it must not allocate more than `most` bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            call(*arguments)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Checkpoints.


def tensor(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def safetensors(header, body=b"", length=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


ONE, OTHER = (f'"a":{json.dumps(tensor([1], start, start + 4))}' for start in (0, 4))
TWICE = f"{{{ONE},{OTHER}}}".encode()
LIES = {
    "a header of 2^64 bytes": safetensors({}, length=2**64 - 1),
    "a header of 1 TB": safetensors({}, length=10**12),
    "a header that ends beyond the file": safetensors({}, length=3),
    "data beyond the file": safetensors({"a": tensor([2], 0, 8)}, bytes(4)),
    "data before the file": safetensors({"a": tensor([1], -4, 0)}, bytes(4)),
    "data from behind": safetensors({"a": tensor([1], 8, 4)}, bytes(8)),
    "data that overlap": safetensors({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, bytes(8)),
    "data with a gap": safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, bytes(12)),
    "data after the last": safetensors({"a": tensor([1], 0, 4)}, bytes(5)),
    "a shape of 2^64 numbers": safetensors({"a": tensor([2**62, 4], 0, 4)}, bytes(4)),
    "a shape whose product overflows": safetensors({"a": tensor([2**63, 2], 0, 0)}),
    "a shape below zero": safetensors({"a": tensor([-1], 0, 4)}, bytes(4)),
    "a dtype that nobody knows": safetensors({"a": tensor([1], 0, 4, "F99")}, bytes(4)),
    "a key twice": safetensors(TWICE, bytes(8)),
    "a header as deep as long": safetensors(b'{"a":' * 100_000),
    "a header that is not text": safetensors(b'{"\xff":0}'),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_checkpoint_that_lies_is_refused_before_anything_is_allocated(lie, tmp_path):
    path = tmp_path / "lies.safetensors"
    path.write_bytes(LIES[lie])
    said = refused(read_safetensors, path)
    assert str(path) in said
    assert len(said) < 500


def test_a_key_twice_over_the_same_bytes_is_what_its_last_entry_says(tmp_path):
    one, other = (f'"a":{json.dumps(tensor(shape, 0, 8))}' for shape in ([2, 1], [1, 2]))
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(f"{{{one},{other}}}".encode(), bytes(8)))
    assert read_safetensors(path)["a"].shape == (1, 2)


def test_names_in_a_checkpoint_are_never_paths(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"../../x": np.zeros(1), "/etc/x": np.zeros(1)}, path)
    before = set(tmp_path.rglob("*"))
    assert "../../x" in refused(load_encoder, "mini_vit_base", path, most=64 * MIB)
    assert set(tmp_path.rglob("*")) == before


# Nothing is unpickled, and no code is read from data.


@pytest.mark.parametrize("name", ["m.safetensors", "m.bin", "m.pt", "m.pkl"])
def test_a_pickle_is_no_checkpoint(name, payload, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(payload))
    refused(load_encoder, "mini_vit_base", tmp_path / name, most=64 * MIB)
    with zipfile.ZipFile(tmp_path / name, "w") as file:  # as torch saves
        file.writestr("archive/data.pkl", pickle.dumps(payload))
    refused(load_encoder, "mini_vit_base", tmp_path / name, most=64 * MIB)


def test_a_folder_that_holds_only_a_pickle_has_no_weights(payload, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "preprocessor_config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(payload))
    assert "never a pickle" in refused(load_encoder, f"hf:{tmp_path}", most=64 * MIB)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_objects_in_an_npz_are_refused(part, payload, tmp_path):
    arrays = {"train_images": np.zeros((1, 4, 4), np.uint8), "train_labels": np.zeros(1, int)}
    arrays[f"train_{part}"] = np.array([payload], dtype=object)
    np.savez(tmp_path / "m.npz", **arrays)
    assert "Python objects" in refused(open_source, f"npz:{tmp_path}/m.npz")


def test_objects_in_a_store_are_refused(payload, tmp_path):
    store = FeatureStore(tmp_path / "store")
    store.write("key", 0, np.zeros((2, 3), np.float32))
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], dtype=object), allow_pickle=True)
    body = buffer.getvalue()
    (chunk,) = (tmp_path / "store").glob("*/*.npy")
    for digest in (b"", stores._digest("key", 0, body)):
        chunk.write_bytes(body + digest)
        assert store.read("key", 0, 2, 3) is None


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
FORBIDDEN_OPTIONS = {("shell", True), ("trust_remote_code", True), ("allow_pickle", True)}
LOADERS = {"np.load", "numpy.load", "jnp.load", "np.lib.format.read_array"}


def violations(node: ast.AST) -> set:
    """What of a syntax tree's node unpickles, or runs what is not in the source."""
    if isinstance(node, ast.Import):
        return {name.name.split(".")[0] for name in node.names} & FORBIDDEN_MODULES
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]} & FORBIDDEN_MODULES
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        options = {
            (k.arg, k.value.value) for k in node.keywords if isinstance(k.value, ast.Constant)
        }
        unsafe = {name} if name in LOADERS and ("allow_pickle", False) not in options else set()
        return unsafe | {name} & FORBIDDEN_CALLS | options & FORBIDDEN_OPTIONS
    return set()


def test_no_module_can_unpickle_or_run_text():
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}": violations(node)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if violations(node)
    }
    assert found == {}
    assert len(MODULES) > 100
    bad = "import pickle; np.load(p); np.load(p, allow_pickle=True); f(shell=True); eval(s)"
    assert sum(bool(violations(node)) for node in ast.walk(ast.parse(bad))) == 5


# Sizes.


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, and that holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_an_image_of_absurd_size_is_refused_before_it_is_decoded(side):
    refused(decode_image, png_of(side, side), error=UnreadableImage)


def npz_of(path: Path, shape, body: bytes, dtype="|u1", **options) -> Path:
    """An npz whose only array claims a shape."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("train_images.npy", npy)
    return path


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    for shape in ((10**6, 1_000, 1_000), (2**62, 2, 2), (-1, 2, 2)):
        path = npz_of(tmp_path / "m.npz", shape, bytes(100))
        assert "train_images" in refused(open_source, f"npz:{path}")


def test_a_member_that_claims_more_than_can_be_packed_is_refused(tmp_path):
    path = npz_of(tmp_path / "m.npz", (100, 10, 10), bytes(10_000))
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    for place in (directory + 24, data.index(b"PK\x03\x04") + 22):
        data[place : place + 4] = struct.pack("<I", 2**32 - 2)  # what it unpacks to, it says
    path.write_bytes(data)
    refused(open_source, f"npz:{path}")


# Names.

NASTY = [
    "../../x",
    "/etc/x",
    "..",
    ".",
    "",
    "a/../../b",
    "a\\..\\b",
    "a\0b",
    "a\nb",
    "con:",
    "~/x",
    "x" * 1000,
    "<script>alert(1)</script>",
    "\u202egnp.exe",
]


def test_names_become_plain_parts_of_file_names():
    found = slugs(NASTY)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,70}", slug) for slug in found.values())
    assert len({slug.lower() for slug in found.values()}) == len(NASTY)


@pytest.mark.parametrize("key", NASTY)
def test_no_picture_is_written_outside_its_folder(key, tmp_path):
    page = Page("T", "", [], [Section("S", [Figures([Picture(key, "", "", "", b"png", 1)])])])
    with pytest.raises(ValueError, match="picture"):
        write_report(tiny_result(), page, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spec",
    [
        "archive:../../x",
        "medmnist:../x:28",
        "sample:../x",
        "quickdraw:../x",
        "dir:a\0b",
        "npz:a\0b",
        "tfds:a\0b",
        "file:///etc/passwd",
    ],
)
def test_no_source_is_made_of_a_path_where_a_name_belongs(spec):
    refused(open_source, spec)


@pytest.mark.parametrize("name", ["hf:../../x", "hf:org/../x", "hf:a\0b", "../x", "hf:org/a@../.."])
def test_no_encoder_is_made_of_a_path_where_a_name_belongs(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(load_encoder, name, most=64 * MIB)


def hostile_members() -> dict[str, bytes]:
    return {"../outside": b"x", "/tmp/substrate outside": b"x", "root/a/b.png": b"x"}


def packed(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as zipped:
            for name, data in hostile_members().items():
                zipped.writestr(name, data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tarred:
        link = tarfile.TarInfo("root/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../.."
        tarred.addfile(link)
        for name, data in {**hostile_members(), "root/link/outside": b"x"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tarred.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_archive_is_unpacked_into_its_folder_alone(kind, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"a.{kind}").write_bytes(packed(kind))
    try:
        archives._unpack(tmp_path / "data" / f"a.{kind}", tmp_path / "data" / "a")
    except tarfile.FilterError:
        assert kind == "tgz"  # refused as a whole
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name.removesuffix(".part") for path in (tmp_path / "data").glob("[!.]*")} <= {
        f"a.{kind}",
        "a",
    }
    assert not Path("/tmp/substrate outside").exists()


# A run with hostile names, and with secrets in its flags.

SCRIPT = "<script>alert(1)<:script>"
HOSTILE = "<img src=x onerror=alert(2)>"
SECRETS = {
    "command": "hf_" + 34 * "c",
    "flag": "s3cr3t-of-the-store",
    "variable": "open-sesame-of-the-hub",
}


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory):
    """The folder around --out of a run whose domains, classes and files bear hostile names."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for row in range(24):
        picture = folder / "images" / [HOSTILE, "a"][row % 2] / f"{SCRIPT}{row}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(picture)
    domains = f"../../x=sample:texture:24,/etc/x=sample:writing:24,{HOSTILE}=dir:{folder}/images"
    with (
        pytest.MonkeyPatch.context() as patch,
        flagsaver.flagsaver(
            encoders=["mini_vit_base", "mini_mae_base"],
            domains=domains.replace(HOSTILE, HOSTILE.replace("=", "")),
            n=24,
            k=["5"],
            components=4,
            quiet=True,
            out=str(folder / "runs" / "out"),
            store=str(folder / f"features?token={SECRETS['flag']}"),
        ),
    ):
        patch.setattr(sys, "argv", ["experiments.cka", SECRETS["command"]])
        patch.setenv("HF_TOKEN", SECRETS["variable"])
        cka.run()
    return folder


def test_a_run_writes_to_its_folders_alone(hostile_run):
    assert {path.name.split("?")[0] for path in hostile_run.iterdir()} == {
        "features",
        "images",
        "runs",
    }
    assert [path.name for path in (hostile_run / "runs").iterdir()] == ["out"]
    for path in (hostile_run / "runs" / "out").rglob("*"):
        assert re.fullmatch(r"[\w.-]+", path.name)


def test_names_are_text_in_the_report(hostile_run):
    document = Document((hostile_run / "runs" / "out" / "report.html").read_text())
    assert len(document.all("script")) == 1
    assert document.unbalanced == []
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert any("<img srcx" in text for text in document.texts)


def test_no_secret_is_in_what_a_run_writes(hostile_run):
    out = hostile_run / "runs" / "out"
    result = json.loads((out / "result.json").read_text())
    assert result["command"].endswith("***'") or result["command"].endswith("***")
    assert result["arguments"]["store"].endswith("features?token=***")
    for path in out.rglob("*"):
        if path.is_file():
            for secret in SECRETS.values():
                assert secret.encode() not in path.read_bytes(), path


def test_no_secret_of_a_run_is_in_its_page(tmp_path, monkeypatch):
    url = f"--out=https://me:{SECRETS['flag']}@host/"
    monkeypatch.setattr(sys, "argv", ["experiments.cka", url])
    monkeypatch.setenv("HF_TOKEN", SECRETS["variable"])
    notes = [f"A note of {SECRETS['variable']} and {SECRETS['command']}."]
    run = launch.describe_run("cka", make_mesh(), notes=notes)
    page = Page("T", "", [], [Section("S", provenance(run))])
    write_report(tiny_result(run=run), page, tmp_path)
    for name in ("report.html", "result.json"):
        text = (tmp_path / name).read_text()
        assert "https://***@host/" in text
        assert not [secret for secret in SECRETS.values() if secret in text]


def test_no_secret_is_in_a_plan():
    spec = f"tfds:absent?token={SECRETS['flag']}@{SECRETS['command']}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("substrate_jax.data.domains.bytes_to_download", lambda spec: 1)
        files = FilePanel(True, {"a": spec}, {}, None)
        out = f"x://me:{SECRETS['flag']}@host/"
        said = several_domains.plan([], files, make_mesh(), out, take=lambda name, source: source)
    assert "x://***@host/" in said
    assert "?token=***" in said
    assert not [secret for secret in SECRETS.values() if secret in said]


def test_no_secret_is_in_what_a_run_says(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.cka", "--encoders=mini_vit_base", "--n=40"),
            *("--domains=texture", f"--out={tmp_path}", "--k=5"),
            f"--store=nowhere://me:{SECRETS['flag']}@host/{SECRETS['command']}",
        ],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: store 'nowhere://***@host/***'")
    assert not [s for s in SECRETS.values() if s in done.stdout + done.stderr]


# A cache that leads elsewhere.


def test_what_links_of_a_cache_lead_to_is_never_told(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    secret = SECRETS["flag"]
    (tmp_path / "private.json").write_text(json.dumps({"model_type": "vit", "key": secret}))
    (tmp_path / "private.txt").write_text(secret)
    snapshot = tmp_path / "cache" / "models--org--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").symlink_to(tmp_path / "private.json")
    (snapshot / "preprocessor_config.json").symlink_to(tmp_path / "private.txt")
    (snapshot / "model.safetensors").symlink_to(tmp_path / "private.txt")
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert secret not in refused(load_encoder, "hf:org/name", most=64 * MIB)
    (snapshot / "preprocessor_config.json").unlink()
    (snapshot / "preprocessor_config.json").symlink_to(tmp_path / "private.json")
    assert secret not in refused(load_encoder, "hf:org/name", most=64 * MIB)
    assert (tmp_path / "private.txt").read_text() == secret
    assert len(list(tmp_path.rglob("*"))) == len(before)
