"""Encoders of texts against transformers, their tokenizers, and what is refused.

The checkpoints are synthetic (tests/golden/transformers_weights.py), the references transformers'
in float64 (tests/golden/make_text_golden.py).
"""

import concurrent.futures
import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.data.modality import check_modality, image_preprocess, settings_of
from substrate_jax.data.sources import Source
from substrate_jax.data.tokens import PADDING, TextPreprocess
from substrate_jax.encoders import encoder_spec, find_spec, load_encoder, untrained
from substrate_jax.encoders.find import is_at_hand
from substrate_jax.encoders.hub import TEXT_MODEL_TYPES
from substrate_jax.encoders.networks.text import BertConfig, CLIPTextConfig
from substrate_jax.encoders.transformers import format as F
from substrate_jax.encoders.transformers.model_types import TEXT_TYPES
from substrate_jax.encoders.weights import abstract_module, fill
from substrate_jax.features import extract
from substrate_jax.mesh import make_mesh
from tests.encoders import texts
from tests.encoders.networks.modules import check_round_trip, filled, quick_jit
from tests.encoders.texts import NAMES, golden, write_folder
from tests.golden import transformers_weights
from tests.helpers import long, relative_error, tolerance

LIMIT = 1e-5
TEXTS = [
    "a red dog",
    "",
    "the cat, over there.",
    "Two Dogs run over the hill",
    "a red " * 9,
    "dög 猫 🐕",
]


def name_of(folder, found, **options) -> str:
    """The name of a golden's encoder; of a whole CLIP its tower of texts."""
    if found["config"]["model_type"] == "clip":
        options = {"tower": "text"} | options
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"hf:{folder}{'?' if query else ''}{query}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each small golden."""
    root = tmp_path_factory.mktemp("texts")
    for name in NAMES:
        write_folder(root / name, golden(name))
    return root


@pytest.fixture(scope="module")
def loaded(folders):
    """CLIP's tower and BERT."""
    return {n: load_encoder(name_of(folders / n, golden(n))) for n in ("clip", "bert")}


def compare(encoder, found, names) -> None:
    """Features within LIMIT of transformers', by tap."""
    inputs = found["tokens"]
    assert inputs.shape[1:] == encoder.spec.preprocess.shape
    for tap, want in names.items():
        got = np.asarray(encoder.taps(inputs, [tap])[tap], np.float64)
        error = np.linalg.norm(got - want) / np.linalg.norm(want)
        report = f"{encoder.name}: {tap} {error:.1e} from transformers {found['transformers']}"
        print(report)
        assert error <= LIMIT, report


@pytest.mark.parametrize("name", [*NAMES, *map(long, texts.LARGE)])
def test_features_are_those_of_transformers(name, tmp_path):
    found = golden(name)
    write_folder(tmp_path, found)
    whole = found["tokens"].shape[1] == find_spec(name_of(tmp_path, found)).preprocess.length
    options = {} if whole else {"length": found["tokens"].shape[1]}
    encoder = load_encoder(name_of(tmp_path, found, **options))
    wanted = {"features": found["features"]}
    if found["other"].size and encoder.spec.family == "clip_text":
        wanted["projection"] = found["other"]
    assert ("projection" in encoder.tap_names()) == ("projection" in wanted)
    compare(encoder, found, wanted)
    if encoder.spec.family == "bert":
        first = load_encoder(name_of(tmp_path, found, pool="cls", **options))
        compare(first, found, {"features": found["other"]})
        assert first.fingerprint != encoder.fingerprint


def test_a_golden_depends_on_the_text():
    for name in (*NAMES, *texts.LARGE):
        features = golden(name)["features"]
        assert np.linalg.norm(features[0] - features[1]) > 0.05 * np.linalg.norm(features[0])


def test_the_tables_of_types_agree():
    assert set(TEXT_MODEL_TYPES) == set(TEXT_TYPES)
    assert {golden(n)["config"]["model_type"] for n in NAMES} == {*TEXT_TYPES, "clip"}


# Names in a checkpoint that are no part of the features, by their beginnings.
DROPPED = {
    "clip": ("vision_model.", "visual_projection.", "logit_scale"),
    "clip_text_model": (),
    "clip_text_plain": (),
    "bert": ("pooler.",),
    "bert_mlm": ("cls.",),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_key_of_a_checkpoint_is_used_or_dropped_by_name(name, folders):
    found, tower = golden(name), "text" if name == "clip" else None
    arrays = transformers_weights.arrays(found["inventory"])
    spec = find_spec(name_of(folders / name, found))

    def read(arrays):
        renamed = F.to_timm(found["config"], arrays, tower=tower)
        return fill(abstract_module(spec.config), renamed, source="g")

    assert [key for key in arrays if key.startswith(DROPPED[name])] or not DROPPED[name]
    for key in arrays:
        less = {k: v for k, v in arrays.items() if k != key}
        if key.startswith(DROPPED[name]) and DROPPED[name]:
            read(less)
        else:
            with pytest.raises(ValueError, match=r"missing|lacks the"):
                read(less)
    stray = {"encoder.extra.weight": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=r"1 unknown keys: encoder\.extra\.weight"):
        read(arrays | stray)


def test_old_and_bare_names_are_read_alike(folders):
    """As bert-base has them (gamma, beta), and as sentence encoders do, without `bert.`."""
    found = golden("bert_mlm")
    arrays = transformers_weights.arrays(found["inventory"])
    want = F.to_timm(found["config"], arrays)
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): value
        for key, value in arrays.items()
    }
    bare = {key.removeprefix("bert."): value for key, value in arrays.items()}
    bare["embeddings.position_ids"] = np.arange(16)[None]
    for other in (old, bare):
        assert other.keys() != arrays.keys()
        got = F.to_timm(found["config"], other)
        assert got.keys() == want.keys()
        for key, value in want.items():
            np.testing.assert_array_equal(got[key], value)
    found = golden("clip_text_plain")
    arrays = transformers_weights.arrays(found["inventory"])
    other = {f"text_model.{key.removeprefix('text_model.')}": v for key, v in arrays.items()}
    bare = {key.removeprefix("text_model."): v for key, v in arrays.items()}
    assert F.to_timm(found["config"], other).keys() == F.to_timm(found["config"], bare).keys()


def test_the_picture_tower_of_the_same_files_is_another_encoder(folders):
    """`hf:` of a whole CLIP stays its tower of pictures, which needs a preprocessor."""
    found, folder = golden("clip"), folders / "clip"
    with pytest.raises(ValueError, match=r"preprocessor_config.json' cannot be read"):
        find_spec(f"hf:{folder}")
    with pytest.raises(ValueError, match=r"lacks preprocessor_config.json; fetch"):
        load_encoder(f"hf:{folder}")
    config, _ = F.from_transformers(found["config"], {"crop_size": 16, "size": 16})
    assert config.family == "vit"
    text = find_spec(name_of(folder, found))
    assert (text.modality, text.paradigm, text.family) == ("text", "image_text", "clip_text")
    assert find_spec(f"hf:{folders}/bert").paradigm == "text"


# Tokenizers.


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", ["clip", "bert"])
def test_tokens_are_those_of_transformers(name, words, tmp_path):
    write_folder(tmp_path, golden(name), words=words)
    assert (tmp_path / "tokenizer.json").exists() != words
    reference = texts.tokenizer(tmp_path, name)
    for length in (5, 16):
        spec = find_spec(name_of(tmp_path, golden(name), length=length)).preprocess
        want = reference(TEXTS, truncation=True, max_length=length, padding="max_length")
        there = np.array(want["attention_mask"], bool)
        want = np.where(there, want["input_ids"], PADDING)
        assert want.shape == (len(TEXTS), length)
        got = np.stack([spec.prepare(text) for text in TEXTS])
        np.testing.assert_array_equal(got, want)
        full = [len(ids) > length for ids in reference(TEXTS)["input_ids"]]
        assert [spec.encode(text)[1] for text in TEXTS] == full
        assert any(full)
        assert not all(full)


def test_settings_of_a_tokenizer_file_on_length_are_left_aside(tmp_path):
    """As sentence encoders are published: padded to 128 tokens, and cut there."""
    write_folder(tmp_path, golden("bert"))
    spec = find_spec(f"hf:{tmp_path}").preprocess
    want = [spec.prepare(text) for text in TEXTS]
    file = tmp_path / "tokenizer.json"
    about = json.loads(file.read_text())
    about["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    about["padding"] = {
        "strategy": {"Fixed": 12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    file.write_text(json.dumps(about))
    other = find_spec(f"hf:{tmp_path}").preprocess
    assert other.tokenizer != spec.tokenizer
    for text, row in zip(TEXTS, want, strict=True):
        np.testing.assert_array_equal(other.prepare(text), row)


def test_many_threads_and_other_processes_get_the_same_tokens(loaded):
    spec = loaded["bert"].spec.preprocess
    want = [spec.prepare(text).tolist() for text in TEXTS]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: spec.prepare(TEXTS[i % len(TEXTS)]).tolist(), range(600)))
    assert found == want * 100
    sent = pickle.loads(pickle.dumps(spec))
    assert [sent.prepare(text).tolist() for text in TEXTS] == want


def test_where_a_tokenizer_lies_does_not_matter(tmp_path):
    specs = []
    for place in ("here", "there"):
        write_folder(tmp_path / place, golden("bert"))
        specs.append(find_spec(f"hf:{tmp_path / place}").preprocess)
    assert specs[0] == specs[1]
    assert settings_of(specs[0]) == settings_of(specs[1])
    assert str(tmp_path) not in str(settings_of(specs[0]))


LENGTHS = [
    ({}, 16),
    ({"tokenizer_config.json": {"model_max_length": 10**30}}, 16),
    ({"tokenizer_config.json": {"model_max_length": 9}}, 9),
    (
        {
            "tokenizer_config.json": {"model_max_length": 12},
            "sentence_bert_config.json": {"max_seq_length": 7, "do_lower_case": False},
        },
        7,
    ),
    ({"sentence_bert_config.json": {"max_seq_length": None}}, 16),
]


@pytest.mark.parametrize(("files", "length"), LENGTHS)
def test_the_longest_text_is_what_the_files_say(files, length, tmp_path):
    write_folder(tmp_path, golden("bert"))
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    spec = find_spec(f"hf:{tmp_path}")
    assert (spec.preprocess.length, spec.config.length) == (length, length)
    assert spec.preprocess.label == f"{length} tokens"
    assert find_spec(f"hf:{tmp_path}?length=5").config.length == 5


def test_pooling_is_what_the_files_say(tmp_path):
    write_folder(tmp_path, golden("bert"))
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.parent.mkdir()
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    for key, pool in (("pooling_mode_cls_token", "cls"), ("pooling_mode_mean_tokens", "mean")):
        pooling.write_text(json.dumps({"word_embedding_dimension": 24} | modes | {key: True}))
        assert find_spec(f"hf:{tmp_path}").config.pool == pool
    pooling.write_text(json.dumps({"pooling_mode": "cls"}))
    assert find_spec(f"hf:{tmp_path}").config.pool == "cls"
    pooling.write_text(json.dumps(modes | {"pooling_mode_max_tokens": True}))
    with pytest.raises(ValueError, match=r"pooling_mode_max_tokens is not supported; give \?pool="):
        find_spec(f"hf:{tmp_path}")
    assert find_spec(f"hf:{tmp_path}?pool=mean").config.pool == "mean"


def test_a_folder_of_weights_holds_towers_of_texts(tmp_path):
    """As launchers' --weights_dir has them, ORG/NAME below it."""
    (tmp_path / "org").mkdir()
    for name in ("clip", "bert"):
        write_folder(tmp_path / "org" / name, golden(name))
        spec = find_spec(name_of(f"org/{name}", golden(name)), tmp_path)
        assert is_at_hand(spec, tmp_path)
        assert load_encoder(spec.name, tmp_path).spec == spec
        (tmp_path / "org" / name / "tokenizer.json").unlink()
        assert not is_at_hand(spec, tmp_path)


# What is refused, each in a line.


def test_a_missing_tokenizer_says_what_to_place_where(tmp_path):
    for name, words in (("bert", "vocab.txt"), ("clip", "vocab.json and merges.txt")):
        folder = tmp_path / name
        write_folder(folder, golden(name))
        assert is_at_hand(find_spec(name_of(folder, golden(name))))
        (folder / "tokenizer.json").unlink()
        message = rf"no tokenizer in '{folder}'; place tokenizer.json of .* there, or its {words}"
        with pytest.raises(ValueError, match=message) as caught:
            find_spec(name_of(folder, golden(name)))
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"lacks tokenizer.json or vocab.json with merges.txt"):
            load_encoder(name_of(folder, golden(name)))


DAMAGED = {
    "cut": ("{", "tokenizer.json in .* is no tokenizer"),
    "empty": ("", "tokenizer.json in .* is no tokenizer"),
    "other": ('{"a": 1}', "tokenizer.json in .* is no tokenizer"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_tokenizer_is_named(case, tmp_path):
    content, message = DAMAGED[case]
    write_folder(tmp_path, golden("bert"))
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        find_spec(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_network_is_refused(tmp_path):
    write_folder(tmp_path, golden("bert"))
    config = golden("bert")["config"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(ValueError, match=r"vocab_size=20 .* tokenizer has number 43; give both"):
        find_spec(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps(config))
    about = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(about | {"post_processor": None}))
    with pytest.raises(ValueError, match=r"puts no marks at the ends of a text, such as \[CLS\]"):
        find_spec(f"hf:{tmp_path}")
    other = tmp_path / "clip"
    write_folder(other, golden("clip_text_plain"))
    config = golden("clip_text_plain")["config"]
    (other / "config.json").write_text(json.dumps(config | {"eos_token_id": 3}))
    with pytest.raises(ValueError, match=r"eos_token_id=3 .*does not end texts so"):
        find_spec(f"hf:{other}")


# folder of a golden, options of its name, message
NAMES_REFUSED = [
    (
        "bert",
        "tower=text",
        r"tower='text' of model_type='bert' .*give tower=text of clip, or leave",
    ),
    ("clip", "tower=image", r"tower='image' of model_type='clip' is not supported"),
    ("bert", "pool=max", r"pool='max': give mean or cls"),
    ("clip", "tower=text&pool=cls", r"pool= is an option of bert"),
    ("bert", "length=17", r"length='17': give tokens of a text, at most 16"),
    ("bert", "length=2", r"length=2: 2 tokens are at the ends of every text; give 3 or more"),
    ("bert", "length=x", r"length='x': give tokens"),
    ("bert", "depth=3", r"'depth=3' is unknown; give \?tower=TOWER&pool=POOL&length=LENGTH"),
]


@pytest.mark.parametrize(("name", "query", "message"), NAMES_REFUSED)
def test_options_of_names_are_refused(name, query, message, folders):
    with pytest.raises(ValueError, match=message) as caught:
        find_spec(f"hf:{folders / name}?{query}")
    assert "\n" not in str(caught.value)


def test_options_of_texts_are_none_of_pictures(tmp_path):
    vit = {"model_type": "vit"}
    (tmp_path / "config.json").write_text(json.dumps(vit))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"pool= is an option of bert, clip_text_model"):
        find_spec(f"hf:{tmp_path}?pool=cls")
    for other in ("siglip", "clap"):
        with pytest.raises(ValueError, match=rf"tower='text' of model_type='{other}'"):
            F.model_options({"model_type": other}, "text")
    with pytest.raises(ValueError, match=r"bert takes texts, which need the tokenizer"):
        F.from_transformers({"model_type": "bert"}, {})


# option -> a value that is refused, by golden
OPTIONS = [
    ("bert", "hidden_act", "relu"),
    ("bert", "position_embedding_type", "relative_key"),
    ("bert", "is_decoder", True),
    ("bert", "add_cross_attention", True),
    ("bert", "num_attention_heads", 5),
    ("bert", "max_position_embeddings", 10**6),
    ("bert", "vocab_size", 0),
    ("clip_text_plain", "hidden_act", "relu"),
    ("clip_text_plain", "architectures", ["CLIPTextModelForFun"]),
    ("clip_text_plain", "eos_token_id", None),
    ("clip_text_plain", "eos_token_id", [60, 2]),
    ("clip_text_plain", "eos_token_id", 70),
]


@pytest.mark.parametrize(("name", "option", "value"), OPTIONS)
def test_options_that_change_the_output_are_refused(name, option, value, tmp_path):
    texts.write_tokenizer(tmp_path, name.partition("_")[0])
    config = golden(name)["config"] | {option: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config.json: {option}=.* is not supported; ") as caught:
        find_spec(f"hf:{tmp_path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "mpnet", "gpt2"])
def test_other_models_of_texts_are_refused_and_ours_named(kind):
    message = rf"model_type='{kind}' is not supported; .* or of texts bert, clip_text_model"
    with pytest.raises(ValueError, match=message):
        F.model_options({"model_type": kind})


# Features of sources.


def source_of(found, name="text:a") -> Source:
    ids = tuple(map(str, range(len(found))))
    return Source(name, ids, None, "f", found.__getitem__, modality="text")


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_a_row_depends_on_its_text_alone(name, folders, loaded):
    encoder = loaded[name]
    short = ["a dog", "", "a red cat runs"]
    want = np.stack([np.asarray(encoder(encoder.preprocess([text])))[0] for text in short])
    assert np.ptp(want, axis=0).max() > 0.01
    limit = tolerance(24, condition=8)
    together = np.asarray(encoder(encoder.preprocess([*short, *TEXTS])))
    assert relative_error(together[:3], want) <= limit
    shorter = load_encoder(name_of(folders / name, golden(name), length=9))
    less = shorter.preprocess(short)
    assert less.shape == (3, 9)
    assert np.isin(less[:, -1], [PADDING, 60]).all()
    assert relative_error(shorter(less), want) <= limit
    # Whatever stands in the place of padding is not looked at: padding is what is below 0.
    other = np.where((tokens := np.asarray(encoder.preprocess(short))) < 0, -7, tokens)
    np.testing.assert_array_equal(encoder(other), encoder(tokens))


@pytest.mark.parametrize("batch", [3, 16])
def test_extraction_is_that_of_the_network_on_any_devices(batch, loaded, tmp_path):
    rows = [f"{text} {i}" for i, text in enumerate(TEXTS * 3)]
    encoders = list(loaded.values())
    source = source_of(rows)
    eight = extract(encoders, source, batch_size=batch, store=tmp_path)
    one = extract(encoders, source, batch_size=batch, mesh=make_mesh("data=1"))
    for encoder in encoders:
        want = np.asarray(encoder(encoder.preprocess(rows)))
        for found in (eight, one):
            assert relative_error(found[encoder.name], want) <= tolerance(24, condition=8)
    read = []
    again = dataclasses.replace(source, read=lambda row: read.append(row) or rows[row])
    stored = extract(encoders, again, batch_size=batch, store=tmp_path)
    assert not read
    for encoder in encoders:
        np.testing.assert_array_equal(stored[encoder.name], eight[encoder.name])


def test_encoders_of_texts_take_texts_alone(loaded):
    source = source_of(TEXTS)
    check_modality(loaded["bert"].spec, source)
    with pytest.raises(ValueError, match=r"resnet50 takes images and text:a holds texts; give"):
        check_modality(encoder_spec("resnet50"), source)
    images = dataclasses.replace(source, modality="image", name="dir:a")
    with pytest.raises(
        ValueError, match=r"takes texts and dir:a holds images; .* as text:FILE, or"
    ):
        check_modality(loaded["clip"].spec, images)
    with pytest.raises(ValueError, match=r"takes texts; give one of images here"):
        image_preprocess(loaded["clip"].spec)
    with pytest.raises(ValueError, match=r"^texts of shape \(2, 3\): .* takes \[n, 16\]; see"):
        loaded["bert"](np.zeros((2, 3), np.int32))


# What every family owes.
SHAPE = {"width": 8, "depth": 2, "heads": 2, "hidden": 11, "vocabulary": 9, "positions": 7}
FAMILIES = {
    "clip_text": (CLIPTextConfig(**SHAPE, length=6, end=8, projection=3), "projection"),
    "bert": (BertConfig(**SHAPE, length=6, eps=1e-12), ""),
}
TOKENS = np.array([[1, 2, 3, 8, -1, -1], [4, 5, 0, 6, 7, 8]], np.int32)


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_gradients_and_bfloat16(name):
    config, last = FAMILIES[name]
    module = filled(lambda: config.build(nnx.Rngs(0)))
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)

    def loss(parameters, rest):
        found = {}
        network = nnx.merge(graph, parameters, rest)
        found["features"] = network.features(jnp.asarray(TOKENS), found.__setitem__)
        return sum(jnp.square(value).sum() for value in found.values()), found

    gradients, taps = quick_jit(jax.grad(loss, has_aux=True))(parameters, rest)
    assert taps.keys() == {"embed", "blocks.0", "blocks.1", *last.split(), "features"}
    for tap, value in taps.items():
        assert value.ndim == 2, tap
        assert np.isfinite(value).all(), tap
        assert not np.array_equal(value[0], value[1]), tap
    slopes = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(gradients)}
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert not [key for key, slope in slopes.items() if not np.any(slope)]

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (parameters, rest))
    got = quick_jit(lambda state: nnx.merge(graph, *state).features(jnp.asarray(TOKENS)))(half)
    assert got.dtype == jnp.bfloat16
    # Some 24 roundings in a row.
    assert relative_error(got, taps["features"]) <= 24 * float(jnp.finfo(jnp.bfloat16).eps)


@pytest.mark.parametrize("name", FAMILIES)
def test_arrays_survive_the_round_trip(name):
    check_round_trip(FAMILIES[name][0])


def test_untrained_encoders_of_texts_are_drawn_anew_by_seed(folders):
    spec = find_spec(f"hf:{folders}/bert")
    one, two = (untrained(spec, seed) for seed in (0, 1))
    inputs = one.preprocess(TEXTS)
    assert one.fingerprint != two.fingerprint
    assert relative_error(one(inputs), two(inputs)) > 0.1


REFUSED = [
    (FAMILIES["bert"][0], {"heads": 3}, "heads=3: choose a divisor of width=8"),
    (FAMILIES["bert"][0], {"length": 8}, "length=8: give 1 to 7 tokens"),
    (FAMILIES["clip_text"][0], {"length": 0}, "length=0: give 1 to 7 tokens"),
    (TextPreprocess(4, "0"), {"length": 0}, "length=0: give at least 1 token"),
    (TextPreprocess(4, "0"), {"kind": "gpt"}, "kind='gpt': give clip or bert"),
]


@pytest.mark.parametrize(("config", "changes", "message"), REFUSED)
def test_impossible_shapes_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dataclasses.replace(config, **changes)
