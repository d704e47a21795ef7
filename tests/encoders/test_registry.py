"""The registry: selection by name and group, and records against published tables."""

import dataclasses

import pytest

from substrate_jax.encoders import registry
from substrate_jax.encoders.records.timm import timm_model
from substrate_jax.encoders.registry import (
    GROUPS,
    encoder_spec,
    list_encoders,
    register_encoder,
    select_encoders,
)
from substrate_jax.encoders.weights import abstract_module, inventory, parameter_count

# The panel of arXiv:2606.07882: features, paradigm, and parameters as published, in millions.
PAPER = {
    "resnet50": (2048, "supervised", 25.56),
    "resnet101": (2048, "supervised", 44.55),
    "convnext_base": (1024, "supervised", 88.59),
    "vit_base": (768, "supervised", 86.57),
    "vit_large": (1024, "supervised", 304.33),
    "efficientnet_b0": (1280, "supervised", 5.29),
    "swin_tiny": (768, "supervised", 28.29),
    "mobilevitv2_175": (896, "supervised", 14.25),
    "maxvit_base": (768, "supervised", 119.47),
    "regnety_032": (1512, "supervised", 19.44),
    "beitv2_base": (768, "supervised", 86.53),
    "dinov2_base": (768, "self_supervised", 86.58 - (1370 - 257) * 768 / 1e6),  # at 224 pixels
    "mae_base": (768, "masked_reconstruction", 85.80),
    "fcmae_base": (1024, "masked_reconstruction", 87.69),
    "clip_base": (768, "image_text", 86.19),
}
PARADIGMS = {"supervised", "self_supervised", "masked_reconstruction", "image_text"}
MINI = list_encoders(panel="mini")
IMAGES = [name for name in list_encoders() if encoder_spec(name).modality == "image"]


@pytest.fixture
def own_registry(monkeypatch):
    """A copy of the registry that the test may change."""
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))


def test_the_paper_panel_is_the_papers():
    assert set(list_encoders(panel="paper")) == PAPER.keys()
    for name, (width, paradigm, millions) in PAPER.items():
        spec = encoder_spec(name)
        assert (spec.width, spec.paradigm) == (width, paradigm), name
        assert parameter_count(spec.config) / 1e6 == pytest.approx(millions, abs=0.006), name


def test_there_are_eighty_published_checkpoints_and_more():
    published = [encoder_spec(name) for name in IMAGES if name not in MINI]
    assert len(published) >= 80
    assert {spec.family for spec in published} == {
        *("resnet", "regnet", "efficientnet", "convnext", "mobilevit", "maxvit"),
        *("vit", "swin", "beit"),
    }


def test_width_is_that_of_the_last_norm():
    for name, key in {
        "mini_vit_base": "fc_norm.weight",
        "mini_fcmae_base": "head.norm.weight",
    }.items():
        spec = encoder_spec(name)
        assert inventory(abstract_module(spec.config))[key] == (spec.width,)


def test_the_mini_panel_mirrors_the_paper_panel():
    assert {name.removeprefix("mini_") for name in MINI} == PAPER.keys()
    assert {encoder_spec(name).paradigm for name in MINI} == PARADIGMS
    for name in MINI:
        spec, model = encoder_spec(name), encoder_spec(name.removeprefix("mini_"))
        assert 0.3e6 <= parameter_count(spec.config) <= 1.5e6
        assert spec.bundled
        assert not model.bundled
        assert (spec.family, spec.paradigm, spec.groups) == (
            model.family,
            model.paradigm,
            model.groups,
        )
        assert spec.checkpoint == f"{name}.safetensors"
        assert spec.preprocess.size == spec.config.image_size


def test_records_are_consistent():
    for name in IMAGES:
        spec = encoder_spec(name)
        assert spec.name == name
        assert spec.paradigm in PARADIGMS
        assert spec.groups <= set(GROUPS)
        assert spec.preprocess.size == spec.config.image_size
        assert spec.license
        assert spec.paper
        assert spec.bundled or spec.checkpoint.startswith("timm/")
    # One checkpoint may be run two ways: CLIP's with exact and with quick GELU.
    ways = [(encoder_spec(name).checkpoint, encoder_spec(name).config) for name in list_encoders()]
    assert len(set(ways)) == len(ways)


def test_records_of_sounds_are_consistent():
    sounds = [encoder_spec(name) for name in list_encoders() if name not in IMAGES]
    assert {spec.name for spec in sounds} == {"clap", "clap_fused", "speech_embedding"}
    for spec in sounds:
        assert spec.modality == "sound"
        assert spec.panel is None
        assert spec.config.input_shape[-2:] == (spec.preprocess.frames, spec.preprocess.bands)
        assert spec.license
        assert spec.paper
    assert not encoder_spec("clap").groups


@pytest.mark.parametrize(
    ("name", "model", "activation"),
    [
        ("clip_base", "vit_base_patch16_clip_224.openai", "gelu"),
        ("clip_base_quickgelu", "vit_base_patch16_clip_quickgelu_224.openai", "quick_gelu"),
        ("dfn_large", "vit_large_patch14_clip_quickgelu_224.dfn2b", "quick_gelu"),
        ("metaclip_base", "vit_base_patch16_clip_quickgelu_224.metaclip_2pt5b", "quick_gelu"),
        ("openclip_base", "vit_base_patch16_clip_224.laion2b", "gelu"),
        ("resnet18", "resnet18.a1_in1k", None),
    ],
)
def test_timm_computes_the_activation_of_a_record_under_this_name(name, model, activation):
    """timm's quickgelu variants, which are natively trained so, have their twins' repository."""
    spec = encoder_spec(name)
    assert timm_model(spec) == model
    assert getattr(spec.config, "activation", None) == activation
    assert spec.checkpoint == f"timm/{model.replace('_quickgelu', '')}"


@pytest.mark.parametrize("panel", [None, "mini", "paper"])
def test_groups_are_their_definitions(panel):
    members = {group: set(list_encoders(panel, group)) for group in GROUPS}
    everything = {
        name for name in list_encoders(panel) if encoder_spec(name).paradigm != "sound_text"
    }
    assert all(members.values())
    assert members["discriminative"] == members["supervised"] | members["self_supervised"]
    by_paradigm = ("supervised", "self_supervised", "mim", "image_text")
    assert set().union(*(members[group] for group in by_paradigm)) == everything
    assert sum(len(members[group]) for group in by_paradigm) == len(everything)
    assert not members["image_text"] & (members["discriminative"] | members["mim"])
    assert members["shared"] < members["discriminative"]


def test_a_name_is_registered_once(own_registry):
    with pytest.raises(ValueError, match="'resnet50' is registered already"):
        register_encoder(encoder_spec("resnet50"))
    renamed = dataclasses.replace(encoder_spec("resnet50"), name="resnet50_again", panel=None)
    assert register_encoder(renamed) is renamed
    assert encoder_spec("resnet50_again") is renamed
    assert list_encoders()[-1] == "resnet50_again"
    with pytest.raises(ValueError, match="registered already"):
        register_encoder(renamed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "did you mean .*resnet50"),
        ("vit-base", "did you mean .*vit_base"),
        ("Resnet50", "did you mean .*resnet50"),
        ("qqqq", "see list_encoders"),
        ("", "see list_encoders"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(name, message):
    for call in (encoder_spec, lambda name: select_encoders([name], "mini")):
        with pytest.raises(ValueError, match=f"unknown encoder '{name}': {message}") as caught:
            call(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"panel": "minis"}, {"group": "cnn"}])
def test_unknown_panels_and_groups_are_refused(arguments):
    ((kind, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"unknown {kind} '{value}': choose one of"):
        list_encoders(**arguments)


MIM = ["mini_mae_base", "mini_fcmae_base"]
SELECTIONS = {
    ("all",): MINI,
    ("mim",): MIM,
    ("mini_vit_base", "mini_resnet50"): ["mini_vit_base", "mini_resnet50"],
    ("image_text", "mim"): ["mini_clip_base", *MIM],
    ("mini_fcmae_base", "mim"): ["mini_fcmae_base", "mini_mae_base"],
    ("mim", "mim", "mini_mae_base"): MIM,
    ("mini_vit_base", "all"): ["mini_vit_base", *(n for n in MINI if n != "mini_vit_base")],
    ("mim", "resnet18"): [*MIM, "resnet18"],
    ("discriminative",): [n for n in MINI if n not in (*MIM, "mini_clip_base")],
}


@pytest.mark.parametrize("words", SELECTIONS)
def test_selection(words):
    assert select_encoders(words, "mini") == SELECTIONS[words]
    assert select_encoders(iter(words), "mini") == SELECTIONS[words]


@pytest.mark.parametrize("words", [[], iter([])])
def test_selecting_nothing_is_refused(words):
    with pytest.raises(ValueError, match="selects nothing of panel 'mini'"):
        select_encoders(words, "mini")


def test_selection_knows_the_panels():
    with pytest.raises(ValueError, match="unknown panel"):
        select_encoders(["all"], "minis")
