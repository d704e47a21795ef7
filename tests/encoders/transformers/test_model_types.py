"""Options of configs: transformers' defaults, and what is refused."""

import pytest

from substrate_jax.encoders.transformers.format import from_transformers
from substrate_jax.encoders.transformers.model_types import MODEL_TYPES
from tests.encoders.transformers.goldens import DEFAULTS, GOLDENS

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
    for model_type in ("bert", None, "siglip2_vision_model"):
        with pytest.raises(ValueError, match=r"model_type=.* is not supported; give one of vit, "):
            from_transformers({"model_type": model_type}, preprocessor)
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


@pytest.mark.parametrize("model_type", DEFAULTS["configs"])
def test_default_options_are_those_of_transformers(model_type):
    want = DEFAULTS["configs"][model_type]
    want = want.get("vision_config", want)
    kind = MODEL_TYPES[model_type.removesuffix("_vision_model")]
    for option, value in kind.defaults.items():
        if value is not None:
            got = list(value) if isinstance(value, tuple) else value
            assert got == want[option], option
        else:
            assert want.get(option) is None, option


def test_towers_take_their_defaults_and_older_keys():
    """Tower configs on the hub list little more than what differs from the default."""
    config, preprocess = from_transformers({"model_type": "clip", "vision_config": {}}, {})
    assert (config.width, config.patch_size, config.activation) == (768, 32, "quick_gelu")
    assert (config.eps, config.pre_norm) == (1e-5, True)
    assert (preprocess.size, preprocess.resized, preprocess.crop_mode) == (224, 224, "center")
    older = {"vision_config": {"patch_size": 16}, "vision_config_dict": {"patch_size": 14}}
    assert from_transformers({"model_type": "clip", **older}, {})[0].patch_size == 14


WRONG = {
    "a word": ("vit", "config", {"hidden_size": "768"}, "hidden_size='768' is not supported"),
    "a list": ("vit", "config", {"hidden_size": [768]}, "hidden_size=.768,. is not supported"),
    "a fraction": ("vit", "config", {"num_hidden_layers": 1.5}, "num_hidden_layers=1.5"),
    "a truth value": ("vit", "config", {"num_hidden_layers": True}, "num_hidden_layers=True"),
    "a number": ("convnext", "config", {"depths": 3}, "depths=3 is not supported"),
    "words": ("convnext", "config", {"depths": ["3", "3"]}, "depths=.'3', '3'. is not supported"),
    "an object": ("vit", "config", {"patch_size": {"height": 8}}, "patch_size=.* is not supported"),
    "no heads": ("vit", "config", {"num_attention_heads": 0}, "num_attention_heads=0 is not"),
    "a tower": ("clip", "config", {"vision_config": [1]}, r"vision_config=\[1\] is not supported"),
    "a size": ("dinov2", "preprocessor", {"size": {"shortest_edge": "8"}}, "holds what .*'str'"),
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
