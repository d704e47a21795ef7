"""Options of configs: transformers' defaults, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from substrate_jax.encoders.transformers.format import from_transformers
from substrate_jax.encoders.transformers.model_types import MODEL_TYPES
from tests.encoders.transformers.goldens import GOLDENS

OPTIONS = {
    "vit": {
        "hidden_act": "relu",
        "qkv_bias": False,
        "num_channels": 1,
        "head_dim": 5,
        "patch_size": [8, 16],
    },
    "dinov2": {"hidden_act": "silu"},
    "siglip_vision_model": {"vision_use_head": False},
    "beit": {
        "use_relative_position_bias": False,
        "use_shared_relative_position_bias": True,
        "use_absolute_position_embeddings": True,
        "use_mean_pooling": False,
        "layer_scale_init_value": 0,
        "hidden_act": "quick_gelu",
    },
    "data2vec": {"use_relative_position_bias": False, "use_mean_pooling": False},
    "dinov3_vit": {"hidden_act": "silu", "num_attention_heads": 4, "mlp_bias": False},
    "dinov3_vit_gated": {"hidden_act": "gelu", "proj_bias": False},
    "dinov3_convnext": {"hidden_act": "relu"},
    "convnext": {"hidden_act": "relu", "num_stages": 4, "hidden_sizes": [8, 8, 24]},
    "resnet": {
        "downsample_in_bottleneck": True,
        "downsample_in_first_stage": True,
        "layer_type": "other",
        "hidden_sizes": [8, 12, 22],
    },
    "regnet": {"downsample_in_first_stage": False, "hidden_act": "silu"},
    "swin": {
        "use_absolute_embeddings": True,
        "layer_norm_eps": 1e-6,
        "qkv_bias": False,
        "num_heads": [2, 2],
    },
    "efficientnet": {
        "depthwise_padding": [],
        "hidden_dim": 1280,
        "pooling_type": "max",
        "strides": [1, 2, 2, 2, 1, 2, 2],
        "squeeze_expansion_ratio": 0.5,
        "width_coefficient": 0.25,
    },
    "mobilevitv2": {"width_multiplier": 0.3, "output_stride": 16, "n_attn_blocks": [1, 2, 1]},
}


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, values in OPTIONS.items() for option in values]
)
def test_options_that_change_the_output_are_refused(name, option):
    golden = GOLDENS[name]
    changed = golden["config"] | {option: OPTIONS[name][option]}
    if option == "width_coefficient":
        changed["hidden_dim"] = 320
    with pytest.raises(ValueError, match=rf"config.json: {option}=.* is not supported; "):
        from_transformers(changed, golden["preprocessor"])


def test_other_configs_are_refused():
    preprocessor = GOLDENS["vit"]["preprocessor"]
    for model_type in ("gpt2", None, "swinv2", "siglip2_vision_model"):
        with pytest.raises(ValueError, match=r"model_type=.* is not supported; give one of vit, "):
            from_transformers({"model_type": model_type}, preprocessor)
    with pytest.raises(
        ValueError, match=r"model_type='siglip2' .*SigLIP 2 of one size has type sig"
    ):
        from_transformers({"model_type": "siglip2"}, {})
    with pytest.raises(ValueError, match=r"image_size=48 but .* makes images of 32 pixels"):
        from_transformers(GOLDENS["vit"]["config"] | {"image_size": 48}, preprocessor)
    for name, side in (("efficientnet", 41), ("mobilevitv2", 160)):
        golden = GOLDENS[name]
        resized = {
            "size": side,
            "crop_size": side,
            "feature_extractor_type": "CLIPFeatureExtractor",
        }
        changed = {"image_processor_type": None, "do_flip_channel_order": False}
        with pytest.raises(ValueError, match=f"{name} at {side} pixels"):
            from_transformers(golden["config"], golden["preprocessor"] | resized | changed)


# What a file that gives nothing else describes, as the papers have it: options of ours, and what of
# transformers' defaults we do not compute.
PUBLISHED = {
    "vit": ({"width": 768, "depth": 12, "heads": 12, "patch_size": 16, "eps": 1e-12}, {}),
    "vit_mae": ({"width": 768, "depth": 12, "mlp_ratio": 4.0}, {}),
    "dinov2": ({"width": 768, "patch_size": 14, "layer_scale": 1.0, "ffn": "mlp"}, {}),
    "dinov2_with_registers": ({"width": 768, "registers": 4, "patch_size": 16}, {}),
    "deit": ({"width": 768, "registers": 1, "prefix_positions": True}, {}),
    "vit_msn": ({"width": 768, "depth": 12, "eps": 1e-6}, {}),
    "ijepa": ({"width": 768, "class_token": False, "pool": "mean"}, {}),
    "data2vec-vision": ({"width": 768, "depth": 12}, {"use_relative_position_bias": True}),
    "dinov3_vit": ({"width": 384, "heads": 6, "rotary": 100.0, "ffn": "mlp", "eps": 1e-5}, {}),
    "dinov3_convnext": ({"depths": (3, 3, 9, 3), "layer_scale": 1e-6, "head_eps": None}, {}),
    "clip": ({"patch_size": 32, "activation": "quick_gelu", "eps": 1e-5}, {}),
    "siglip": ({"patch_size": 16, "activation": "gelu_tanh", "pool": "map"}, {}),
    "beit": ({"width": 768, "depth": 12}, {"use_relative_position_bias": True}),
    "convnext": ({"depths": (3, 3, 9, 3), "channels": (96, 192, 384, 768), "grn": False}, {}),
    "convnextv2": ({"depths": (3, 3, 9, 3), "layer_scale": None, "grn": True}, {}),
    "resnet": ({"depths": (3, 4, 6, 3), "bottleneck": True, "stem_channels": 64}, {}),
    "regnet": ({"group_width": 64, "se_ratio": 0.25, "depth": 22}, {}),
    "swin": ({"depths": (2, 2, 6, 2), "channels": (96, 192, 384, 768), "head_width": 32}, {}),
    "efficientnet": ({"width_multiplier": 2.0, "depth_multiplier": 3.1}, {}),
    "mobilevitv2": ({"multiplier": 1.0}, {}),
}


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_what_a_file_leaves_out_is_transformers_default(name):
    want, given = PUBLISHED[name]
    size = {"size": 256, "crop_size": 256}
    processor = {"image_processor_type": "BitImageProcessor"} | (size if "mob" in name else {})
    config = from_transformers({"model_type": name} | given, processor)[0]
    assert want == {option: getattr(config, option) for option in want}


def test_options_of_other_architectures_change_nothing():
    """Files hold some that were saved along; transformers does not read them."""
    for name, stray in (
        ("dinov2", {"intermediate_size": 8}),
        ("convnextv2", {"layer_scale_init_value": 1e-6}),
        ("vit", {"mlp_ratio": 2.0, "out_features": ["x"], "num_labels": 10**12}),
    ):
        golden = GOLDENS[name]
        want = from_transformers(golden["config"], golden["preprocessor"])
        assert from_transformers(golden["config"] | stray, golden["preprocessor"]) == want


def test_sizes_that_no_network_has_are_refused_before_transformers_makes_a_config():
    for name, option, value in (
        ("dinov2", "num_hidden_layers", 10**9),
        ("swin", "depths", [1] * 1_000),
        ("vit", "layer_norm_eps", float("nan")),
        ("convnext", "num_hidden_layers", 10**9),
    ):
        golden = GOLDENS[name]
        with pytest.raises(ValueError, match=rf"config.json: {option}=.*no network has that"):
            from_transformers(golden["config"] | {option: value}, golden["preprocessor"])


QUIET = """
import json, sys
from substrate_jax.encoders.transformers.format import from_transformers
assert "transformers" not in sys.modules
from_transformers({"model_type": "vit"}, {})
try:
    from_transformers({"model_type": "vit", "use_return_dict": 1}, {})
except ValueError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_transformers_is_imported_when_asked_for_and_says_nothing(tmp_path):
    script = tmp_path / "quiet.py"
    script.write_text(QUIET)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path.cwd(),
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert done.stderr == ""
    assert done.stdout.startswith("config.json holds what transformers does not write")
    assert done.stdout.count("\n") == 1


def test_towers_take_their_defaults_and_older_keys():
    """Tower configs on the hub list little more than what differs from the default."""
    config, preprocess = from_transformers({"model_type": "clip", "vision_config": {}}, {})
    assert (config.width, config.patch_size, config.activation) == (768, 32, "quick_gelu")
    assert (config.eps, config.pre_norm) == (1e-5, True)
    assert (preprocess.size, preprocess.resized, preprocess.crop_mode) == (224, 224, "center")
    older = {"vision_config": {"patch_size": 16}, "vision_config_dict": {"patch_size": 14}}
    assert from_transformers({"model_type": "clip", **older}, {})[0].patch_size == 14


def test_siglip_2_of_one_size_is_a_siglip():
    """As google/siglip2-base-patch16-256 has it: the tower gives little, the processor all."""
    vision = {"model_type": "siglip_vision_model", "image_size": 256, "projection_size": 768}
    whole = {"architectures": ["SiglipModel"], "model_type": "siglip", "vision_config": vision}
    size = {"height": 256, "width": 256}
    processor = {"image_processor_type": "SiglipImageProcessor", "resample": 2, "size": size}
    config, preprocess = from_transformers(whole, processor)
    assert (config.image_size, config.pool, config.patch_size) == (256, "map", 16)
    assert (preprocess.size, preprocess.crop_mode) == (256, "squash")


WRONG = {
    "a word": ("vit", "config", {"hidden_size": "768"}, "hidden_size='768' is not supported"),
    "a list": ("vit", "config", {"hidden_size": [768]}, r"hidden_size=\[768\] is not supported"),
    "a fraction": ("vit", "config", {"num_hidden_layers": 1.5}, "num_hidden_layers=1.5"),
    "a truth value": ("vit", "config", {"num_hidden_layers": True}, "num_hidden_layers=True"),
    "a number": ("convnext", "config", {"depths": 3}, "depths=3 is not supported"),
    "words": ("convnext", "config", {"depths": ["3", "3"]}, "depths=.'3', '3'. is not supported"),
    "an object": ("vit", "config", {"patch_size": {"height": 8}}, "patch_size=.* is not supported"),
    "no heads": ("vit", "config", {"num_attention_heads": 0}, "num_attention_heads=0 is not"),
    "a tower": ("clip", "config", {"vision_config": [1]}, r"vision_config=\[1\] is not supported"),
    "a size": (
        "dinov2",
        "preprocessor",
        {"size": {"shortest_edge": "8"}},
        "size={'shortest_edge': '8'} is not",
    ),
    "a share": (
        "convnext",
        "preprocessor",
        {"size": 8, "crop_pct": "1"},
        "holds what .*unsupported",
    ),
    "a filter": ("vit", "preprocessor", {"resample": [3]}, "holds what .*unhashable"),
    "a processor": ("vit", "preprocessor", {"image_processor_type": 3}, "holds what .*string"),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_of_a_wrong_type_are_refused_in_one_line(case):
    name, file, changes, message = WRONG[case]
    golden = GOLDENS[name]
    files = {
        key: golden[key] | (changes if key == file else {}) for key in ("config", "preprocessor")
    }
    with pytest.raises(ValueError, match=message) as caught:
        from_transformers(**files)
    assert "\n" not in str(caught.value)
