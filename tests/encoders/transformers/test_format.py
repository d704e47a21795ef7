"""Checkpoints in transformers' format against transformers itself, and what is refused.

The checkpoints are synthetic (tests/golden/transformers_weights.py), the references transformers'
in float64 (tests/golden/make_transformers_golden.py).
"""

import functools
import json

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from substrate_jax.data.preprocess import preprocess
from substrate_jax.encoders import find_spec
from substrate_jax.encoders.transformers import format as F
from substrate_jax.encoders.transformers.model_types import MODEL_TYPES
from substrate_jax.encoders.weights import abstract_module, fill
from tests.encoders.transformers.goldens import GOLDENS
from tests.golden import transformers_weights, weights
from tests.golden.transformers_weights import write_folder
from tests.helpers import long

LIMIT = 1e-5
SHARDED = "vit"  # written as two shards and an index
EMPTY = '{"weight_map": {}}'


@pytest.fixture
def folder(tmp_path):
    """The sharded case's folder."""
    write_folder(tmp_path, GOLDENS[SHARDED], shards=2)
    return tmp_path


@functools.partial(jax.jit, static_argnums=0)
def features(graph, state, images):
    """Compiled once for the cases that share a network."""
    with jax.default_matmul_precision("highest"):
        return nnx.merge(graph, state).features(images)


@pytest.mark.parametrize("name", [long(n) if i % 2 else n for i, n in enumerate(GOLDENS)])
def test_features_are_those_of_transformers(name, tmp_path):
    golden = GOLDENS[name]
    write_folder(tmp_path, golden, shards=2 if name == SHARDED else 1)
    spec, arrays = F.transformers_encoder(tmp_path, f"hf:tiny/{name}")
    assert spec.checkpoint == spec.name == f"hf:tiny/{name}"
    assert spec.preprocess.size == spec.config.image_size == golden["side"]
    assert spec.config.num_classes == 0
    graph, state = nnx.split(fill(abstract_module(spec.config), arrays, source=name))
    got = np.asarray(features(graph, state, weights.images(golden["side"])), np.float64)
    want = np.array(golden["features"])
    assert got.shape == want.shape == (2, spec.width)
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    report = f"{name}: features {error:.1e} from transformers {golden['transformers']}"
    print(report)
    assert error <= LIMIT, report


@pytest.mark.parametrize("name", GOLDENS)
def test_pixels_are_those_of_transformers(name):
    golden = GOLDENS[name]
    spec = F.from_transformers(golden["config"], golden["preprocessor"])[1]
    got = preprocess([transformers_weights.photograph()], spec)[0]
    blocks = transformers_weights.block_means(np.asarray(got, np.float64))
    # Both resample with Pillow; float32 rounds the scale, mean and deviation. DINOv3's does not
    # round to levels, which Pillow does twice, by half a level at most.
    level = 1 / 255 / min(spec.std)
    dinov3 = "DINOv3" in str(golden["preprocessor"].get("image_processor_type"))
    np.testing.assert_allclose(blocks, golden["pixels"], rtol=0, atol=level if dinov3 else 3e-6)


def test_every_model_type_is_compared():
    types = {golden["config"]["model_type"] for golden in GOLDENS.values()}
    assert {kind.removesuffix("_vision_model") for kind in types} == set(MODEL_TYPES)


@pytest.mark.parametrize("name", GOLDENS)
def test_a_golden_depends_on_the_picture(name):
    first, second = np.array(GOLDENS[name]["features"])
    assert np.linalg.norm(first - second) > 0.05 * np.linalg.norm(first)


@pytest.mark.parametrize("name", ["vit", "beit", "swin", "convnext", "resnet", "regnet"])
def test_the_base_models_prefix_may_be_absent(name):
    golden = GOLDENS[name]
    arrays = transformers_weights.arrays(golden["inventory"])
    bare = {key.removeprefix(f"{name}."): value for key, value in arrays.items()}
    assert bare.keys() != arrays.keys()
    got, want = F.to_timm(golden["config"], bare), F.to_timm(golden["config"], arrays)
    assert got.keys() == want.keys()
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value)


# What older versions of transformers wrote besides parameters.
INDICES = {
    "clip": ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
    "siglip": ("vision_model.embeddings.position_ids",),
    "swin": ("swin.encoder.layers.0.blocks.1.attention.self.relative_position_index",),
    "beit": (
        "beit.encoder.layer.0.attention.attention.relative_position_bias.relative_position_index",
    ),
}


@pytest.mark.parametrize("name", INDICES)
def test_stored_index_tables_are_dropped(name):
    golden = GOLDENS[name]
    arrays = transformers_weights.arrays(golden["inventory"])
    indices = {key: transformers_weights.tensor(key, (3, 3)) for key in INDICES[name]}
    want = F.to_timm(golden["config"], arrays)
    assert F.to_timm(golden["config"], arrays | indices).keys() == want.keys()


STRAY = np.zeros(2, np.float32)


@pytest.mark.parametrize("name", GOLDENS)
def test_unknown_keys_are_named(name):
    golden = GOLDENS[name]
    arrays = transformers_weights.arrays(golden["inventory"])
    for stray in ("neck.0.weight", "encoder.layer.0.extra.weight"):
        with pytest.raises(ValueError, match=f"1 unknown keys: {stray}"):
            F.to_timm(golden["config"], arrays | {stray: STRAY})


def test_every_key_is_used_or_dropped_by_name():
    """A parameter that is absent shows in the fill, or already where it is one part of three."""
    golden = GOLDENS["dinov2"]
    arrays = transformers_weights.arrays(golden["inventory"])
    spec = F.from_transformers(golden["config"], golden["preprocessor"])[0]
    dropped = ("dinov2.embeddings.mask_token", "classifier.weight", "classifier.bias")
    for key in arrays:
        less = {k: v for k, v in arrays.items() if k != key}
        if key in dropped:
            fill(abstract_module(spec), F.to_timm(golden["config"], less), source="g")
        else:
            with pytest.raises(ValueError, match=r"missing|lacks the"):
                fill(abstract_module(spec), F.to_timm(golden["config"], less), source="g")


def test_a_parameter_given_twice_is_refused():
    golden = GOLDENS["vit"]
    arrays = transformers_weights.arrays(golden["inventory"])
    arrays["embeddings.cls_token"] = arrays["vit.embeddings.cls_token"]
    with pytest.raises(ValueError, match="gives cls_token a second time"):
        F.to_timm(golden["config"], arrays)


def test_a_folder_must_be_whole(folder):
    assert len(F.transformers_files(folder)) == 5
    before = F.transformers_sha256(folder)
    F.read_transformers_arrays(folder)
    shard = sorted(folder.glob("model-*"))[0]
    stored = shard.read_bytes()

    save_file({"other": STRAY}, shard)
    assert F.transformers_sha256(folder) != before
    with pytest.raises(ValueError, match=r"differ in .*other.*; fetch both again"):
        F.read_transformers_arrays(folder)
    shard.write_bytes(stored[: len(stored) // 2])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        F.read_transformers_arrays(folder)
    index = folder / "model.safetensors.index.json"
    listed = index.read_text()
    for outside in (listed.replace("model-00001", "../model-00001"), "{}", EMPTY):
        index.write_text(outside)
        with pytest.raises(ValueError, match="lists no shards of its folder"):
            F.transformers_encoder(folder, "hf:tiny")
    index.write_text(listed)
    shard.unlink()
    with pytest.raises(ValueError, match=f"lacks {shard.name}; fetch"):
        F.transformers_encoder(folder, "hf:tiny")
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"never a pickle; .*hf:ORG/NAME@refs/pr/N.*hf:FOLDER"):
        F.transformers_encoder(folder, "hf:tiny")
    (folder / "config.json").unlink()
    (folder / "preprocessor_config.json").unlink()
    (folder / "model.safetensors").write_bytes(stored)
    with pytest.raises(ValueError, match=r"lacks config.json, preprocessor_config.json; fetch"):
        F.transformers_encoder(folder, "hf:tiny")
    with pytest.raises(ValueError, match=r"preprocessor_config.json is missing"):
        F.from_transformers(GOLDENS["vit"]["config"], None)


# What a file may hold in place of its object.
BROKEN = {
    "cut": (b"{", "is not JSON"),
    "list": (b"[1, 2]", "holds a list and no object"),
    "number": (b"3", "holds a int and no object"),
    "bytes": (b"\xff\xfe{", "is not JSON"),
    "absent": (None, "cannot be read .No such file or directory.; fetch it"),
}


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_json_is_named(case, name, tmp_path):
    content, message = BROKEN[case]
    write_folder(tmp_path, GOLDENS["vit"])
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}' {message}") as caught:
        find_spec(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_an_error_of_a_file_names_the_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^hf:\.: 'config.json' cannot be read"):
        find_spec("hf:.")
    with pytest.raises(ValueError, match=r"^encoder 'hf:a/b@': give a revision after @"):
        find_spec("hf:a/b@")


def test_the_image_processor_may_be_part_of_a_processor(tmp_path):
    """Since version 5 transformers writes it there, and reads it there first."""
    golden = GOLDENS["vit"]
    write_folder(tmp_path, golden)
    alone, plain = F.transformers_spec(tmp_path, "hf:tiny"), tmp_path / "preprocessor_config.json"
    nested = tmp_path / "processor_config.json"
    nested.write_text(json.dumps({"processor_class": "P"}))  # as older versions wrote it
    assert F.transformers_files(tmp_path)[1] == plain
    other = golden["preprocessor"] | {"image_mean": [0.25] * 3}
    nested.write_text(json.dumps({"image_processor": other}))
    assert F.transformers_spec(tmp_path, "hf:tiny").preprocess.mean == (0.25,) * 3
    assert F.transformers_files(tmp_path)[1] == nested
    plain.unlink()
    nested.write_text(json.dumps({"image_processor": golden["preprocessor"]}))
    assert F.transformers_spec(tmp_path, "hf:tiny") == alone
    F.transformers_encoder(tmp_path, "hf:tiny")
    nested.write_text(json.dumps({"image_processor": None}))
    with pytest.raises(ValueError, match=r"preprocessor_config.json' cannot be read"):
        F.transformers_spec(tmp_path, "hf:tiny")


def test_resampled_positions_follow_a_cubic():
    """The kernel reproduces what varies linearly; edges are repeated, so away from them."""
    side, grid = 16, 11
    row, column = np.indices((side, side), float)
    square = np.stack([2 * row - column + 1, np.full_like(row, 3.0)], axis=-1)
    table = np.concatenate([np.full((1, 1, 2), 7.0), square.reshape(1, -1, 2)], axis=1)
    got = F.resample_bicubic(table, grid)
    np.testing.assert_array_equal(got[0, 0], [7, 7])
    center = (np.arange(grid) + 0.5) * side / grid - 0.5
    want = 2 * center[:, None] - center[None] + 1
    got = got[0, 1:].reshape(grid, grid, 2)
    np.testing.assert_allclose(got[..., 1], 3.0, rtol=1e-14)
    # a = -0.75 is exact for constants only; for a line it is off by at most 0.06 per position.
    inner = np.abs(got[2:-2, 2:-2, 0] - want[2:-2, 2:-2])
    assert inner.max() <= 0.06 * 3
    np.testing.assert_array_equal(F.resample_bicubic(table, side), table)
    with pytest.raises(ValueError, match="257 patch positions, which is not"):
        F.resample_bicubic(np.concatenate([table, table[:, :1]], axis=1), grid)
