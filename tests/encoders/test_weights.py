"""Checkpoints to encoders and back: every key accounted for, every broken file refused."""

import dataclasses
import json
import pickle

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from substrate_jax.encoders import load_encoder, registry
from substrate_jax.encoders.find import find_weights, is_at_hand
from substrate_jax.encoders.networks.convnext import ConvNeXtConfig
from substrate_jax.encoders.networks.interpolation import resample_positions
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.weights import (
    abstract_module,
    checkpoint_arrays,
    file_sha256,
    fill,
    fingerprint,
    inventory,
    read_safetensors,
    serialize,
)
from tests.encoders.networks.modules import arrays_of
from tests.encoders.tiny import TINY, VIT

CONVNEXT = ConvNeXtConfig((1,), (8,), kernel_size=3, layer_scale=None, grn=True, image_size=8)

pytestmark = pytest.mark.usefixtures("tiny")


def test_layouts_are_those_of_torch():
    shapes = inventory(abstract_module(CONVNEXT))
    assert shapes["stem.0.weight"] == (8, 3, 4, 4)
    assert shapes["stages.0.blocks.0.conv_dw.weight"] == (8, 1, 3, 3)
    assert shapes["stages.0.blocks.0.mlp.fc1.weight"] == (32, 8)
    arrays = arrays_of(CONVNEXT)
    module = fill(abstract_module(CONVNEXT), arrays, source="a")
    kernel = np.asarray(module.stem[0].weight[...])
    assert kernel[1, 2, 0, 5] == arrays["stem.0.weight"][5, 0, 1, 2]
    assert module.head.fc.weight[...][3, 7] == arrays["head.fc.weight"][7, 3]


def test_half_precision_round_trip():
    arrays = arrays_of(CONVNEXT)
    path_bytes = serialize(arrays, {"note": "x"})
    header = json.loads(path_bytes[8 : 8 + int.from_bytes(path_bytes[:8], "little")])
    assert header.pop("__metadata__") == {"note": "x"}
    assert header.keys() == arrays.keys()
    assert {entry["dtype"] for entry in header.values()} == {"F16"}


@pytest.mark.parametrize("stored", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_checkpoints_of_any_floating_dtype_are_read(stored, tmp_path):
    arrays = {key: value.astype(stored) for key, value in arrays_of(VIT).items()}
    save_file(arrays, tmp_path / "a.safetensors")
    read = read_safetensors(tmp_path / "a.safetensors")
    got = checkpoint_arrays(fill(abstract_module(VIT), read, source="a"))
    for key, want in arrays.items():
        np.testing.assert_array_equal(got[key], want.astype(np.float32), err_msg=key)


def edited(**changes):
    """The checkpoint with keys dropped (None) or set."""
    arrays = arrays_of(VIT) | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in arrays.items() if value is not None}


STRAY = np.zeros(2, np.float32)
PROBLEMS = {
    "unused": ({"stray__weight": STRAY}, "1 unused: stray.weight"),
    "two unused": ({"stray__b": STRAY, "stray__a": STRAY}, "2 unused: stray.a, stray.b"),
    "missing": ({"norm__weight": None}, "1 missing: norm.weight"),
    "misshapen": ({"norm__bias": STRAY}, r"1 misshapen: norm.bias \(2,\) instead of \(8,\)"),
    "transposed": (
        {"blocks__0__mlp__fc1__weight": np.zeros((8, 32), np.float32)},
        r"1 misshapen: blocks.0.mlp.fc1.weight \(8, 32\) instead of \(32, 8\)",
    ),
    "all at once": (
        {"stray__weight": STRAY, "cls_token": None, "head__bias": None, "norm__bias": STRAY},
        "1 unused: stray.weight; 1 missing: cls_token; 1 misshapen: norm.bias",
    ),
    "table not square": (
        {"pos_embed": np.zeros((1, 8, 8), np.float32)},
        "pos_embed has 7 patch positions, which is not a square",
    ),
    "table of another rank": ({"pos_embed": STRAY}, "1 misshapen: pos_embed"),
    "table of another width": (
        {"pos_embed": np.zeros((1, 10, 4), np.float32)},
        r"misshapen: pos_embed \(1, 5, 4\) instead of \(1, 5, 8\)",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_keys_that_do_not_fit_are_listed(problem, tmp_path):
    changes, message = PROBLEMS[problem]
    path = tmp_path / "broken.safetensors"
    save_file(edited(**changes), path)
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(TINY, weights=path)
    assert "\n" not in str(caught.value)


def test_batch_counters_are_passed_over():
    config = encoder_spec("mini_resnet50").config
    arrays = arrays_of(config) | {"bn1.num_batches_tracked": np.array(7)}
    module = fill(abstract_module(config), arrays, source="a")
    assert "bn1.num_batches_tracked" not in checkpoint_arrays(module)


def test_optional_keys_keep_their_initial_value():
    arrays = arrays_of(CONVNEXT)
    given = arrays.pop("head.norm.weight"), arrays.pop("head.norm.bias")
    optional = encoder_spec("fcmae_base").optional_keys
    module = fill(abstract_module(CONVNEXT), arrays, source="a", optional_keys=optional)
    np.testing.assert_array_equal(module.head.norm.weight[...], np.ones(8, np.float32))
    np.testing.assert_array_equal(module.head.norm.bias[...], np.zeros(8, np.float32))
    with pytest.raises(ValueError, match=r"2 missing: head.norm.bias, head.norm.weight"):
        fill(abstract_module(CONVNEXT), arrays, source="a")
    arrays["head.norm.weight"], arrays["head.norm.bias"] = given
    module = fill(abstract_module(CONVNEXT), arrays, source="a", optional_keys=optional)
    np.testing.assert_array_equal(module.head.norm.weight[...], given[0])


def truncated(file):
    file.write_bytes(file.read_bytes()[:-1])


def header_only(file):
    file.write_bytes(file.read_bytes()[:40])


def lengthened(file):
    file.write_bytes(file.read_bytes() + b"\0")


def pickled(file):
    file.write_bytes(pickle.dumps({"weight": np.zeros(3)}))


BROKEN = {
    "truncated": truncated,
    "header only": header_only,
    "lengthened": lengthened,
    "empty": lambda file: file.write_bytes(b""),
    "text": lambda file: file.write_text("<html>not found</html>"),
    "pickle": pickled,
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_refused(fault, file):
    BROKEN[fault](file)
    with pytest.raises(ValueError, match="is not a whole safetensors file") as caught:
        load_encoder(TINY, weights=file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_are_found_by_file_and_by_folder(file, tiny):
    for weights in (file, str(file), file.parent, str(file.parent)):
        assert find_weights(tiny, weights) == file
    for absent in (file.parent / "none.safetensors", file.parent / "none"):
        with pytest.raises(ValueError, match=f"weights '{absent}' for tiny_vit: no such file"):
            load_encoder(TINY, weights=absent)
    with pytest.raises(ValueError, match="no such file"):
        read_safetensors(file.parent)


@pytest.mark.parametrize("name", registry.list_encoders(panel="mini"))
def test_bundled_weights_fit(name):
    """Filling checks every key and shape; nothing is compiled."""
    spec = encoder_spec(name)
    path = find_weights(spec)
    module = fill(abstract_module(spec.config), read_safetensors(path), source=path.name)
    assert all(np.isfinite(value).all() for value in checkpoint_arrays(module).values())
    assert is_at_hand(spec)


def test_positions_of_equal_size_are_untouched():
    table = arrays_of(VIT)["pos_embed"]
    module = abstract_module(VIT)
    assert module.adapt_checkpoint({"pos_embed": table})["pos_embed"] is table
    again = resample_positions(table, 2)
    np.testing.assert_allclose(again, table, rtol=0, atol=4 * np.finfo(np.float32).eps)


def test_resampled_positions_keep_the_token_and_constants():
    rng = np.random.default_rng(0)
    table = np.ones((1, 26, 1), np.float32) * rng.normal(size=4).astype(np.float32)
    table[:, 0] = rng.normal(size=4)
    got = resample_positions(table, 3)
    assert got.shape == (1, 10, 4)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0], table[:, 0])
    want = np.broadcast_to(table[:, 1:2], (1, 9, 4))
    np.testing.assert_allclose(got[:, 1:], want, rtol=16 * np.finfo(np.float32).eps)


def test_resampled_positions_keep_rows_and_columns_apart():
    rows, columns = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    table = np.zeros((1, 37, 2), np.float32)
    table[0, 1:] = np.stack([rows.ravel(), columns.ravel()], 1)
    got = resample_positions(table, 3)[0, 1:].reshape(3, 3, 2)
    np.testing.assert_allclose(got[..., 0], got[..., 1].T, atol=1e-5)
    assert np.all(np.diff(got[..., 0], axis=0) > 1)
    # Halving a ramp keeps its center where the kernel does not reach an edge.
    np.testing.assert_allclose(got[1, 1], [2.5, 2.5], atol=1e-5)


def test_a_table_of_another_size_is_resampled_on_loading(tmp_path):
    arrays = arrays_of(VIT) | {"pos_embed": np.ones((1, 17, 8), np.float32)}
    module = fill(abstract_module(VIT), arrays, source="a")
    np.testing.assert_allclose(module.pos_embed[...], np.ones((1, 5, 8)), rtol=1e-6)


def test_fingerprints_tell_apart_what_decides_the_output():
    wider = dataclasses.replace(VIT, mlp_ratio=3.0)
    records = [
        (config, sha, dtype)
        for config in (VIT, wider, CONVNEXT)
        for sha in ("a", "b")
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    prints = [fingerprint(*record) for record in records]
    assert len(set(prints)) == len(records)
    assert prints == [fingerprint(*record) for record in records]


def test_fingerprints_of_encoders(file, tmp_path):
    encoder = load_encoder(TINY, weights=file)
    assert encoder.sha256 == file_sha256(file)
    assert encoder.source == file.name
    assert encoder.fingerprint == fingerprint(VIT, file_sha256(file), jnp.float32)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())
    assert load_encoder(TINY, weights=copy).fingerprint == encoder.fingerprint
    arrays = arrays_of(VIT)
    arrays["cls_token"][0, 0, 0] += 1
    save_file(arrays, copy)
    assert load_encoder(TINY, weights=copy).fingerprint != encoder.fingerprint


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float64, jnp.int8])
def test_other_dtypes_are_refused(dtype, file):
    with pytest.raises(ValueError, match="choose float32 or bfloat16"):
        load_encoder(TINY, weights=file, dtype=dtype)
