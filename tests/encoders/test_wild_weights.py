"""Checkpoints from the wild: damaged values, odd dtypes, wrappers, copies, heads, no network."""

import json
import logging
import os
import socket
import struct
import threading
import time

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from substrate_jax.data import route
from substrate_jax.encoders import load_encoder, untrained
from substrate_jax.encoders.find import find_transformers, is_at_hand
from substrate_jax.encoders.networks.resnet import ResNetConfig
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.registry import encoder_spec
from substrate_jax.encoders.transformers import format as transformers
from substrate_jax.encoders.weights import abstract_module, fill, read_safetensors
from tests.encoders.networks.modules import arrays_of
from tests.encoders.tiny import TINY, VIT
from tests.encoders.transformers.goldens import GOLDENS
from tests.golden.transformers_weights import write_folder

RESNET = ResNetConfig((1, 1, 1, 1), False, channels=(4, 4, 8, 8), num_classes=3, image_size=32)


def refused(config, arrays, dtype=jnp.float32) -> str:
    """What `fill` says of arrays that it does not take: one line."""
    with pytest.raises(ValueError, match="weights 'w'") as caught:
        fill(abstract_module(config), arrays, source="w", dtype=dtype)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def spoiled(arrays, key, value, at=0):
    """The arrays with one number changed."""
    changed = arrays[key].copy()
    changed.reshape(-1)[at] = value
    return arrays | {key: changed}


def listed(message: str) -> list[str]:
    """The keys that a message lists."""
    return message.split(": ", 2)[-1].split("; ")[0].split(", ")


# Case 1: corrupt values.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "key", ["layer3.0.conv2.weight", "bn1.bias", "layer2.0.bn1.running_mean", "bn1.running_var"]
)
def test_numbers_that_are_not_finite_are_refused_with_their_key(key, value):
    message = refused(RESNET, spoiled(arrays_of(RESNET), key, value, at=1))
    assert key in message
    assert "1 of " in message
    assert "1 arrays" in message


def test_one_nan_in_the_mini_panels_resnet_is_refused(tmp_path):
    """XLA on CPU turns such a NaN into features that are all 0."""
    spec = encoder_spec("mini_resnet50")
    arrays = spoiled(arrays_of(spec.config), "layer3.0.conv2.weight", np.nan)
    save_file(arrays, tmp_path / "mini_resnet50.safetensors")
    with pytest.raises(ValueError, match=r"layer3\.0\.conv2\.weight \(1 of \d+ not finite"):
        load_encoder("mini_resnet50", tmp_path / "mini_resnet50.safetensors")


def test_variances_below_zero_are_refused_and_zero_is_not():
    arrays = arrays_of(RESNET)
    message = refused(RESNET, spoiled(arrays, "layer1.0.bn2.running_var", -1e-3))
    assert "layer1.0.bn2.running_var (a variance of -0.001)" in message
    fill(abstract_module(RESNET), spoiled(arrays, "bn1.running_var", 0.0), source="w")


def test_numbers_beyond_the_dtype_they_are_loaded_in_are_refused():
    wide = spoiled({k: v.astype(np.float64) for k, v in arrays_of(VIT).items()}, "norm.bias", 1e39)
    assert "norm.bias (1 of 8 not finite" in refused(VIT, wide)
    near = spoiled(arrays_of(VIT), "norm.bias", np.finfo(np.float32).max)
    assert "norm.bias" in refused(VIT, near, jnp.bfloat16)
    fill(abstract_module(VIT), near, source="w")


def test_many_damaged_arrays_are_counted_after_ten():
    arrays = {key: np.full_like(value, np.nan) for key, value in arrays_of(VIT).items()}
    message = refused(VIT, arrays)
    assert f"{len(arrays)} arrays" in message
    assert f"and {len(arrays) - 10} more" in message
    assert len(message) < 1_000


@pytest.fixture
def folder(tmp_path):
    """A ViT in transformers' format."""
    folder = tmp_path / "vit"
    folder.mkdir()
    write_folder(folder, GOLDENS["vit"])
    return folder


def rewrite(folder, change):
    """Change the arrays of a folder in transformers' format."""
    file = folder / "model.safetensors"
    save_file(change(read_safetensors(file)), file)
    return f"hf:{folder}"


def test_transformers_checkpoints_are_refused_by_their_own_keys(folder):
    key = "vit.encoder.layer.0.attention.attention.query.weight"
    name = rewrite(folder, lambda arrays: spoiled(arrays, key, np.nan))
    with pytest.raises(ValueError, match=rf"{key} \(1 of"):
        load_encoder(name)


# Case 2: dtypes.


@pytest.mark.parametrize("stored", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_floating_dtypes_load(stored, tmp_path, tiny):
    arrays = {key: value.astype(stored) for key, value in arrays_of(VIT).items()}
    save_file(arrays, tmp_path / "a.safetensors")
    assert load_encoder(TINY, tmp_path / "a.safetensors").dtype == jnp.float32


@pytest.mark.parametrize("stored", [np.int8, np.uint8, np.int32, np.int64, bool, np.complex64])
def test_other_dtypes_are_refused_with_key_and_dtype(stored):
    arrays = arrays_of(VIT)
    key = "blocks.1.mlp.fc1.weight"
    message = refused(VIT, arrays | {key: np.ones_like(arrays[key], stored)})
    assert f"{key} {np.dtype(stored).name}" in message
    assert "1 parameters of another dtype than float16, bfloat16" in message


def test_tables_of_integers_that_are_resampled_are_refused_too():
    """Positions of another size go through arithmetic before they are filled in."""
    table = np.ones((1, 17, 8), np.int64)
    assert "pos_embed int64" in refused(VIT, arrays_of(VIT) | {"pos_embed": table})


def write_header(path, header: dict, body: bytes = b""):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize("stored", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_eight_bit_floats_are_refused_in_one_line(stored, tmp_path, tiny):
    file = tmp_path / "a.safetensors"
    header = {"head.weight": {"dtype": stored, "shape": [4], "data_offsets": [0, 4]}}
    write_header(file, header, b"\1\2\3\4")
    with pytest.raises(ValueError, match=f"head.weight {stored}; save them as") as caught:
        load_encoder(TINY, file)
    assert "\n" not in str(caught.value)


# Case 31: heads, long lists, wrappers and copies.

HEADS = {
    "vit": (VIT, ("head.weight", "head.bias")),
    "distilled vit": (
        ViTConfig(8, 1, 2, patch_size=4, image_size=8, num_classes=3, distilled=True),
        ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias"),
    ),
    "resnet": (RESNET, ("fc.weight", "fc.bias")),
    **{
        name: (encoder_spec(f"mini_{name}").config, (f"{head}.weight", f"{head}.bias"))
        for name, head in {
            "convnext_base": "head.fc",
            "regnety_032": "head.fc",
            "efficientnet_b0": "classifier",
            "swin_tiny": "head.fc",
            "mobilevitv2_175": "head.fc",
            "maxvit_base": "head.fc",
            "beitv2_base": "head",
        }.items()
    },
}


def features_of(config, arrays):
    """State of a filled network without its classifier."""
    from substrate_jax.encoders.weights import checkpoint_arrays

    module = fill(abstract_module(config), arrays, source="w")
    return module, checkpoint_arrays(module)


@pytest.mark.parametrize("family", HEADS)
def test_heads_are_optional(family):
    config, keys = HEADS[family]
    arrays = arrays_of(config)
    assert set(keys) <= arrays.keys()
    bare = {key: value for key, value in arrays.items() if key not in keys}
    other = arrays | {key: np.ones((7, *arrays[key].shape[1:]), np.float32) for key in keys}
    half = {key: value for key, value in arrays.items() if key != keys[1]}
    for changed in (bare, other, half):
        module, found = features_of(config, changed)
        assert found.keys() == bare.keys()
        for key, value in bare.items():
            np.testing.assert_array_equal(found[key], value)
        with pytest.raises(ValueError, match=r"has no classifier|two heads"):
            module.classify(jnp.zeros((1, config.width)))
    found = features_of(config, arrays)[1]
    assert found.keys() == arrays.keys()
    missing = next(key for key in bare if key.endswith("weight"))
    assert f"1 missing: {missing}" in refused(config, {k: bare[k] for k in bare if k != missing})


def test_a_head_that_no_record_expects_is_passed_over():
    config = ViTConfig(8, 1, 2, patch_size=4, image_size=8, num_classes=0)
    head = {"head.weight": np.ones((5, 8), np.float32), "head.bias": np.ones(5, np.float32)}
    _, found = features_of(config, arrays_of(config) | head)
    assert "head.weight" not in found


@pytest.mark.parametrize("head", ["classifier.weight", "decoder.0.weight", "lm_head.bias"])
def test_heads_of_transformers_are_dropped(head, folder):
    name = rewrite(folder, lambda arrays: arrays | {head: np.ones(3, np.float32)})
    assert load_encoder(name).spec.family == "vit"


def test_a_refusal_lists_ten_keys_and_counts_the_rest():
    deep = ViTConfig(8, 12, 2, patch_size=4, image_size=8, num_classes=0)
    arrays = arrays_of(deep)
    message = refused(deep, {f"strange.{key}x": value for key, value in arrays.items()})
    assert f"{len(arrays)} unused: " in message
    assert f"{len(arrays)} missing: " in message
    assert message.count(f"and {len(arrays) - 10} more") == 2
    assert len(message) < 1_500


def test_unknown_keys_of_transformers_are_counted_after_ten(folder):
    stray = {f"stray.{i:02d}": np.ones(1, np.float32) for i in range(25)}
    name = rewrite(folder, lambda arrays: arrays | stray)
    with pytest.raises(ValueError, match=r"25 unknown keys: .*stray\.09 and 15 more; give"):
        load_encoder(name)


WRAPPED = ["module.", "model.", "_orig_mod.", "module._orig_mod.", "state_dict.", "model_ema."]


@pytest.mark.parametrize("prefix", WRAPPED)
def test_prefixes_of_wrappers_are_taken_off(prefix, folder):
    arrays = arrays_of(VIT)
    _, want = features_of(VIT, arrays)
    _, got = features_of(VIT, {prefix + key: value for key, value in arrays.items()})
    assert got.keys() == want.keys()
    assert all(np.array_equal(got[key], want[key]) for key in want)
    spec = load_encoder(f"hf:{folder}").spec
    name = rewrite(folder, lambda arrays: {prefix + key: arrays[key] for key in arrays})
    assert load_encoder(name).spec == spec


def test_averaging_leaves_counters_that_are_passed_over():
    arrays = {f"module.{key}": value for key, value in arrays_of(VIT).items()}
    features_of(VIT, arrays | {"n_averaged": np.array(7)})
    assert "1 unused: criterion.weight" in refused(
        VIT, arrays | {"criterion.weight": np.ones(2, np.float32)}
    )


@pytest.mark.parametrize(
    ("first", "second"), [("model.", "model_ema."), ("", "ema."), ("module.", "")]
)
def test_two_copies_of_the_weights_are_refused(first, second, folder):
    arrays = arrays_of(VIT)
    both = {p + key: value for p in (first, second) for key, value in arrays.items()}
    message = refused(VIT, both)
    for prefix in (first, second):
        assert (prefix or "no prefix") in message
    assert "save the copy that you want alone" in message
    name = rewrite(
        folder, lambda arrays: {p + k: arrays[k] for p in (first, second) for k in arrays}
    )
    with pytest.raises(ValueError, match="save the copy that you want alone"):
        load_encoder(name)


@pytest.mark.parametrize("prefix", ["backbone.", "teacher.backbone.", "module.encoder_q."])
def test_any_other_prefix_is_named(prefix):
    arrays = arrays_of(VIT)
    message = refused(VIT, {prefix + key: value for key, value in arrays.items()})
    assert f"under {prefix.removeprefix('module.')!r}: save them without it" in message


# Case 33: paths.


def test_home_is_expanded_and_folders_may_hold_an_at_sign(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_transformers("hf:~/vit") == folder
    assert is_at_hand(load_encoder("hf:~/vit").spec)
    folder.rename(tmp_path / "v@1, two")
    assert load_encoder("hf:~/v@1, two").name == "hf:~/v@1, two"
    save_file(arrays_of(encoder_spec("mini_resnet50").config), tmp_path / "m.safetensors")
    assert load_encoder("mini_resnet50", "~/m.safetensors").source == "m.safetensors"


@pytest.mark.parametrize("place", ["~/none", "/none", "./none", "~nobody-here/m"])
def test_a_path_that_leads_nowhere_is_no_repository(place):
    with pytest.raises(ValueError, match=r"no such (folder|path)") as caught:
        load_encoder(f"hf:{place}")
    assert "\n" not in str(caught.value)


# Cases 25 and 29: what is no regular file, and names that are not UTF-8.


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_pipe_is_not_waited_for(name, folder, tmp_path, tiny):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no such file"):
        load_encoder(TINY, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no such file but a named pipe"):
        read_safetensors(tmp_path / "w.safetensors")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"lacks {name}"):
        load_encoder(f"hf:{folder}")


def test_names_that_are_not_utf8(folder, tmp_path, tiny):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.safetensors")
    save_file(arrays_of(VIT), tmp_path / "a")
    os.rename(tmp_path / "a", odd)
    encoder = load_encoder(TINY, odd)
    assert encoder.source.encode()  # can be written
    assert encoder.source == r"\xff.safetensors"
    moved = os.fsdecode(os.fsencode(tmp_path) + b"/v\xe9")
    os.rename(folder, moved)
    encoder = load_encoder(f"hf:{moved}")
    assert encoder.name == rf"hf:{tmp_path}/v\xe9"
    with open(odd, "wb"), pytest.raises(ValueError, match=r"\\xff.safetensors") as caught:
        load_encoder(TINY, odd)
    assert str(caught.value).encode()


# JSON files of checkpoints.

BROKEN_JSON = {
    "NaN": b'{"model_type": "vit", "layer_norm_eps": NaN}',
    "infinity": b'{"model_type": "vit", "layer_norm_eps": 1e999}',
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"model_type": "\xff"}',
    "list": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_broken_configs_are_refused_in_one_line(case, folder):
    content = BROKEN_JSON[case]
    (folder / "config.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(ValueError, match=r"config\.json") as caught:
        load_encoder(f"hf:{folder}")
    assert "\n" not in str(caught.value)


ABSURD = {
    "num_hidden_layers": 10**9,
    "hidden_size": 10**12,
    "intermediate_size": 10**15,
    "patch_size": 10**9,
    "image_size": 10**9,
    "num_attention_heads": 0,
}


@pytest.mark.parametrize("option", ABSURD)
def test_absurd_sizes_are_refused_at_once(option, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {option: ABSURD[option]}))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r".") as caught:
        load_encoder(f"hf:{folder}")
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)


def test_preprocessors_of_no_finite_numbers_are_refused(folder):
    file = folder / "preprocessor_config.json"
    given = json.loads(file.read_text())
    for change in (
        {"rescale_factor": 0.0},
        {"image_std": [0.5, 0.0, 0.5]},
        {"image_mean": [1e999, 0.0, 0.0]},
        {"size": 10**9},
        {"size": 0},
    ):
        file.write_text(json.dumps(given | change))
        with pytest.raises(ValueError, match=r".") as caught:
            transformers.transformers_spec(folder, "v")
        assert "\n" not in str(caught.value)


# Case 36: no route.


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty cache, and a port at which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    route._connect.cache_clear()
    return port


@pytest.mark.parametrize("name", ["resnet50", "hf:org/none"])
def test_no_route_to_the_hub_is_said_at_once(name, offline, caplog, capfd):
    start = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="no route to") as caught:
        load_encoder(name)
    assert time.monotonic() - start < 2
    message = str(caught.value)
    assert "\n" not in message
    assert "give weights=FOLDER" in message
    wanted = "config.json, preprocessor_config.json and model.safetensors"
    assert ("resnet50.safetensors" if name == "resnet50" else wanted) in message
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("step", ["getaddrinfo", "create_connection"])
def test_a_server_that_never_answers_is_left_after_two_seconds(step, offline, monkeypatch):
    asked_no_more = threading.Event()

    def silent(*arguments, **options):
        asked_no_more.wait(30)
        raise OSError("never answered")

    monkeypatch.setattr(socket, step, silent)
    monkeypatch.setattr(route, "SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"no answer within 0\.2 s"):
        load_encoder("resnet50")
    assert time.monotonic() - start < 2
    asked_no_more.set()


def test_a_proxy_is_asked_in_place_of_the_hub(offline, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        route.check_route("http://hub.invalid")
        monkeypatch.setenv("no_proxy", "hub.invalid")
        with pytest.raises(OSError, match=r"no route to hub\.invalid"):
            route.check_route("http://hub.invalid")


def test_a_part_of_a_checkpoint_without_a_route_says_what_lacks(offline, folder, tmp_path):
    """What is in the cache is read; the message is about the files."""
    root = tmp_path / "cache" / "models--org--part"
    (root / "snapshots" / "a").mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a")
    (folder / "config.json").rename(root / "snapshots" / "a" / "config.json")
    with pytest.raises(ValueError, match=r"has neither model\.safetensors"):
        load_encoder("hf:org/part")


def test_untrained_encoders_pass_the_checks(tiny):
    assert untrained(tiny, 1).spec.name == "tiny_vit-untrained-1"
