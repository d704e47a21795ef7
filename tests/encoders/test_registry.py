"""The registry: selection by name and group, and records against published tables."""

import dataclasses

import pytest

from substrate_jax.encoders import registry
from substrate_jax.encoders.registry import (
    GROUPS,
    encoder_spec,
    list_encoders,
    register_encoder,
    select_encoders,
)
from substrate_jax.encoders.weights import abstract_module, inventory, parameter_count

# The panel of arXiv:2606.07882: features, paradigm.
PAPER = {
    "resnet50": (2048, "supervised"),
    "resnet101": (2048, "supervised"),
    "convnext_base": (1024, "supervised"),
    "vit_base": (768, "supervised"),
    "vit_large": (1024, "supervised"),
    "dinov2_base": (768, "self_supervised"),
    "mae_base": (768, "masked_reconstruction"),
    "fcmae_base": (1024, "masked_reconstruction"),
    "clip_base": (768, "image_text"),
}
# Parameters of the checkpoint's model as timm builds it, heads included.
PARAMETERS = {
    "resnet18": 11689512,
    "resnet34": 21797672,
    "resnet50": 25557032,
    "resnet101": 44549160,
    "resnet152": 60192808,
    "convnext_tiny": 28589128,
    "convnext_small": 50223688,
    "convnext_base": 88591464,
    "convnext_large": 197767336,
    "convnextv2_tiny": 28635496,
    "convnextv2_base": 88717800,
    "convnextv2_large": 197956840,
    "vit_tiny": 5717416,
    "vit_small": 22050664,
    "vit_base": 86567656,
    "vit_large": 304326632,
    # At 518 pixels; at 224 the position table has 257 rows in place of 1370.
    "dinov2_small": 22056192 - (1370 - 257) * 384,
    "dinov2_base": 86579712 - (1370 - 257) * 768,
    "dinov2_large": 304367616 - (1370 - 257) * 1024,
    "mae_base": 85798656,
    "mae_large": 303301632,
    "fcmae_tiny": 27866496,
    "fcmae_base": 87692800,
    "fcmae_large": 196419840,
    "clip_base": 86193152,
    "clip_large": 303966976,
}
PARADIGMS = {"supervised", "self_supervised", "masked_reconstruction", "image_text"}
MINI = list_encoders(panel="mini")


@pytest.fixture
def own_registry(monkeypatch):
    """A copy of the registry that the test may change."""
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))


@pytest.mark.parametrize("name", list_encoders())
def test_parameters_are_as_many_as_published(name):
    spec = encoder_spec(name)
    count = parameter_count(spec.config)
    if spec.bundled:
        assert 0.3e6 <= count <= 1.5e6
    else:
        assert count == PARAMETERS[name]


def test_every_published_count_is_checked():
    assert set(list_encoders()) == PARAMETERS.keys() | set(MINI)


def test_the_paper_panel_is_the_papers():
    assert set(list_encoders(panel="paper")) == PAPER.keys()
    for name, (width, paradigm) in PAPER.items():
        spec = encoder_spec(name)
        assert (spec.width, spec.paradigm) == (width, paradigm), name


def test_width_is_that_of_the_last_norm():
    for name, key in {
        "mini_vit_base": "fc_norm.weight",
        "mini_fcmae_base": "head.norm.weight",
    }.items():
        spec = encoder_spec(name)
        assert inventory(abstract_module(spec.config))[key] == (spec.width,)


def test_the_mini_panel_mirrors_the_paper_panel():
    assert len(MINI) >= 8
    assert {encoder_spec(name).paradigm for name in MINI} == PARADIGMS
    for name in MINI:
        spec, model = encoder_spec(name), encoder_spec(name.removeprefix("mini_"))
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
    for name in list_encoders():
        spec = encoder_spec(name)
        assert spec.name == name
        assert spec.paradigm in PARADIGMS
        assert spec.groups <= set(GROUPS)
        assert spec.preprocess.size == spec.config.image_size
        assert spec.licence
        assert spec.paper
        assert spec.bundled or spec.checkpoint.startswith("timm/")
    checkpoints = [encoder_spec(name).checkpoint for name in list_encoders()]
    assert len(set(checkpoints)) == len(checkpoints)


@pytest.mark.parametrize("panel", [None, "mini", "paper"])
def test_groups_are_their_definitions(panel):
    members = {group: set(list_encoders(panel, group)) for group in GROUPS}
    everything = set(list_encoders(panel))
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
