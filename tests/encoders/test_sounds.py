"""Encoders of sounds against transformers and LiteRT, and what is refused.

The checkpoints are synthetic (tests/golden/transformers_weights.py, tests/golden/sounds.py), the
references those of tests/golden/make_sound_golden.py; trained weights and full sizes are compared
by tests/golden/check_sounds.py, by hand.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.encoders import encoder_spec, find_spec, load_encoder, untrained
from substrate_jax.encoders.encoder import Encoder
from substrate_jax.encoders.networks.htsat import HTSATConfig, fold
from substrate_jax.encoders.networks.interpolation import cubic_weights
from substrate_jax.encoders.networks.network import input_shape
from substrate_jax.encoders.networks.speech_embedding import SpeechEmbeddingConfig
from substrate_jax.encoders.transformers import format as F
from substrate_jax.encoders.weights import abstract_module, fill
from tests.encoders.networks.modules import check_round_trip, filled, quick_jit
from tests.encoders.sounds import CLAP, FOLDER, golden
from tests.golden import sounds, transformers_weights
from tests.golden.transformers_weights import write_folder
from tests.helpers import long, relative_error

LIMIT = 1e-5


def network_input(found: dict) -> np.ndarray:
    """The levels that transformers ran on, as our networks take them."""
    levels = sounds.levels(tuple(found["shape"]))
    if levels.shape[1] == 1:
        return levels[:, 0]
    longer = np.broadcast_to(found["longer"][:, :, None, None], (len(levels), 1, *levels.shape[2:]))
    return np.concatenate([levels, longer.astype(np.float32)], axis=1)


@pytest.mark.parametrize("name", CLAP)
def test_features_are_those_of_transformers(name, tmp_path):
    found = golden(name)
    write_folder(tmp_path, found, shards=2 if name == "clap" else 1)
    encoder = load_encoder(f"hf:{tmp_path}")
    assert encoder.spec.modality == "sound"
    assert encoder.spec.paradigm == "sound_text"
    inputs = network_input(found)
    assert inputs.shape[1:] == input_shape(encoder.spec.config)
    names = encoder.tap_names()
    assert ("projection" in names) == bool(found["projection"].size)
    taps = encoder.taps(inputs, [n for n in names if n in ("features", "projection")])
    for tap, value in taps.items():
        error = np.linalg.norm(value - found[tap]) / np.linalg.norm(found[tap])
        report = f"{name}: {tap} {error:.1e} from transformers {found['transformers']}"
        print(report)
        assert error <= LIMIT, report
    if name == "clap_fused":  # of a shorter sound the parts are not looked at
        assert found["longer"].ravel().tolist() == [False, False, True]
        other = inputs.copy()
        other[:2, 1:4] = 7.0
        np.testing.assert_array_equal(encoder(other)[:2], taps["features"][:2])
        other[2, 1:4] = 7.0
        assert relative_error(encoder(other)[2], taps["features"][2]) > 0.01


@pytest.mark.parametrize("name", CLAP)
def test_every_key_of_a_checkpoint_is_used_or_dropped_by_name(name):
    found = golden(name)
    arrays = transformers_weights.arrays(found["inventory"])
    config, _ = F.from_transformers(found["config"], found["preprocessor"])
    dropped = ("text_model.", "text_projection.", "logit_scale")
    for key in arrays:
        less = {k: v for k, v in arrays.items() if k != key}
        if key.startswith(dropped) or key.endswith(("_index", "num_batches_tracked")):
            fill(abstract_module(config), F.to_timm(found["config"], less), source="g")
        else:
            with pytest.raises(ValueError, match=r"missing|lacks the"):
                fill(abstract_module(config), F.to_timm(found["config"], less), source="g")
    stray = {"audio_model.audio_encoder.extra.weight": np.zeros(2, np.float32)}
    with pytest.raises(ValueError, match=r"1 unknown keys: audio_model.audio_encoder.extra.weight"):
        F.to_timm(found["config"], arrays | stray)


def test_a_projection_that_the_class_has_not_is_refused():
    found = golden("clap_audio_model")
    config, _ = F.from_transformers(found["config"], found["preprocessor"])
    arrays = transformers_weights.arrays(found["inventory"])
    arrays["audio_projection.linear1.weight"] = np.zeros((6, 16), np.float32)
    with pytest.raises(ValueError, match=r"1 unused: projection\.linear1\.weight"):
        fill(abstract_module(config), F.to_timm(found["config"], arrays), source="g")


# option of the tower -> a value that is refused
OPTIONS = {
    "hidden_act": "relu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": False,
    "enable_patch_layer_norm": False,
    "flatten_patch_embeds": False,
    "patch_embed_input_channels": 2,
    "fusion_type": "channel_map",
    "num_attention_heads": [2, 2],
    "hidden_size": 17,
    "patch_stride": [2, 2],
    "num_mel_bins": 16,
    "enable_fusion": True,
    "patch_size": [4, 8],
    "depths": [0, 2],
    "architectures": ["ClapTextModel"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_change_the_output_are_refused(option):
    found = golden("clap_audio_model")
    changed = found["config"] | {option: OPTIONS[option]}
    with pytest.raises(ValueError, match=rf"config.json: {option}=.* is not supported; ") as caught:
        F.from_transformers(changed, found["preprocessor"])
    assert "\n" not in str(caught.value)


SETTINGS = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "truncation": "pad",
    "padding": "mirror",
    "padding_value": 1.0,
    "sampling_rate": "48k",
    "hop_length": 0.5,
    "fft_window_size": -1,
    "feature_size": True,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_feature_extractors_are_refused(setting):
    found = golden("clap_audio_model")
    changed = found["preprocessor"] | {setting: SETTINGS[setting]}
    with pytest.raises(ValueError, match=rf"{setting}=.* is not supported; give") as caught:
        F.from_transformers(found["config"], changed)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"preprocessor_config.json is missing"):
        F.from_transformers(found["config"], None)


def test_other_models_of_sounds_are_refused_and_ours_named():
    for kind in ("wav2vec2", "whisper", "audio-spectrogram-transformer"):
        with pytest.raises(
            ValueError, match=r"not supported; give one of .*, of sounds clap, or of texts"
        ):
            F.from_transformers({"model_type": kind}, {})


def test_the_feature_extractor_may_be_part_of_a_processor(tmp_path):
    found = golden("clap")
    write_folder(tmp_path, found)
    want = find_spec(f"hf:{tmp_path}")
    (tmp_path / "preprocessor_config.json").unlink()
    nested = json.dumps({"feature_extractor": found["preprocessor"]})
    (tmp_path / "processor_config.json").write_text(nested)
    assert find_spec(f"hf:{tmp_path}") == want


def test_registered_names_read_the_published_files(tmp_path):
    """As the hub has them: the settings that the files of both checkpoints give."""
    published = {
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "projection_dim": 512,
        "audio_config": {"depths": [2, 2, 6, 2], "model_type": "clap_audio_model"},
    }
    extractor = {
        "feature_extractor_type": "ClapFeatureExtractor",
        "frequency_min": 50,
        "truncation": "rand_trunc",
    }
    for name, tower, settings in (
        ("clap", {}, {}),
        ("clap_fused", {"enable_fusion": True, "fusion_type": "aff_2d"}, {"truncation": "fusion"}),
    ):
        config = published | {"audio_config": published["audio_config"] | tower}
        spec = encoder_spec(name)
        found = F.from_transformers(config, extractor | settings)
        assert found == (spec.config, spec.preprocess)
    folder = tmp_path / "laion" / "clap-htsat-unfused"
    folder.mkdir(parents=True)
    write_folder(folder, golden("clap"))
    with pytest.raises(ValueError, match=r"clap: its files describe another config .*hf:FOLDER"):
        load_encoder("clap", tmp_path)


# The small speech encoder.


@pytest.fixture(scope="module")
def speech():
    """The network of the narrowed graph, with its weights."""
    channels = tuple(golden("speech_embedding")["windows"].shape[-1:])
    config = SpeechEmbeddingConfig((2, 3, 4, 5, *channels), frames=147)
    arrays = {}
    for index, (weight, bias) in enumerate(sounds.speech_arrays(config.kernels)):
        arrays[f"convs.{index}.weight"] = weight.transpose(3, 2, 0, 1)
        arrays[f"convs.{index}.bias"] = bias
    return fill(abstract_module(config), arrays, source="synthetic")


def test_windows_are_those_of_the_runtime(speech):
    """In one pass over the spectrogram, where the runtime takes each window by itself."""
    found, taps = golden("speech_embedding"), {}
    levels = found["levels"][None]
    with jax.default_matmul_precision("highest"):
        features = speech.features(jnp.asarray(levels), taps.__setitem__)
    assert taps["windows"].shape == (1, speech.config.windows, speech.config.width)
    error = np.abs(np.asarray(taps["windows"][0]) - found["windows"]).max()
    print(f"windows {error:.1e} from LiteRT")
    assert error <= LIMIT * np.abs(found["windows"]).max()
    np.testing.assert_allclose(features[0], found["windows"].mean(0), rtol=1e-4, atol=1e-6)


def test_weights_of_the_speech_encoder_are_asked_for(tmp_path):
    message = r"weights for speech_embedding: .*python -m substrate_jax.encoders.tflite"
    for weights in (None, tmp_path):
        with pytest.raises(ValueError, match=message) as caught:
            load_encoder("speech_embedding", weights)
        assert "\n" not in str(caught.value)


# What every family owes.
HTSAT = HTSATConfig((1, 1), (4, 8), 2, 2, 16, 2, bands=4, frames=60, projection=3)
FAMILIES = {
    "htsat": (
        HTSAT,
        "patch_embed layers.0.blocks.0 layers.0 layers.1.blocks.0 layers.1 norm projection",
    ),
    "htsat_fused": (
        dataclasses.replace(HTSAT, reduction=2, projection=0, side=24, window=3),
        "patch_embed layers.0.blocks.0 layers.0 layers.1.blocks.0 layers.1 norm",
    ),
    "speech_embedding": (
        SpeechEmbeddingConfig((2, 2, 2, 2, 4), frames=84),
        "stages.0 stages.1 stages.2 stages.3 stages.4 windows",
    ),
}


def test_every_family_is_here():
    assert {config.family for config, _ in FAMILIES.values()} == {
        encoder_spec(name).family for name in ("clap", "clap_fused", "speech_embedding")
    }


@pytest.mark.parametrize("name", [n if n == "htsat" else long(n) for n in FAMILIES])
def test_taps_gradients_and_bfloat16(name):
    config, names = FAMILIES[name]
    module = filled(lambda: config.build(nnx.Rngs(0)))
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    inputs = 20 * np.random.default_rng(0).normal(size=(2, *config.input_shape)).astype(np.float32)
    inputs[:, -1] = np.abs(inputs[:, -1])  # where there are planes of parts, both sounds are longer

    def loss(parameters, rest, inputs):
        found = {}
        network = nnx.merge(graph, parameters, rest)
        found["features"] = network.features(inputs, found.__setitem__)
        return sum(jnp.square(value).sum() for value in found.values()), found

    gradients, taps = quick_jit(jax.grad(loss, has_aux=True))(parameters, rest, inputs)
    assert taps.keys() == {*names.split(), "features"}
    for tap, value in taps.items():
        assert np.isfinite(value).all(), tap
        assert not np.array_equal(value[0], value[1]), tap
    assert taps["features"].shape == (2, config.width)
    slopes = {".".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(gradients)}
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert not [key for key, slope in slopes.items() if not np.any(slope)]

    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (parameters, rest))
    features = quick_jit(lambda state, inputs: nnx.merge(graph, *state).features(inputs))
    got = features(half, inputs.astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    # Some 24 roundings in a row.
    assert relative_error(got, taps["features"]) <= 24 * float(jnp.finfo(jnp.bfloat16).eps)


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_come_in_order_and_other_shapes_are_refused(name):
    config, names = FAMILIES[name]
    spec = dataclasses.replace(encoder_spec("clap"), name=name, config=config)
    encoder = Encoder(spec, abstract_module(config), source="none", sha256="none")
    assert encoder.tap_names() == (*names.split(), "features")
    shape = ", ".join(map(str, config.input_shape))
    with pytest.raises(ValueError, match=rf"^sounds of shape .*{name} takes \[n, {shape}\]; see"):
        encoder(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match=r"num_classes=0: this .* has no classifier"):
        abstract_module(config).classify(np.zeros((1, config.width), np.float32))


@pytest.mark.parametrize("name", FAMILIES)
def test_arrays_survive_the_round_trip(name):
    check_round_trip(FAMILIES[name][0])


def test_untrained_sound_encoders_are_drawn_anew_by_seed():
    spec = dataclasses.replace(
        encoder_spec("clap"),
        config=HTSAT,
        preprocess=SoundPreprocess(samples=28_320, bands=4),
    )
    assert spec.preprocess.frames == HTSAT.frames
    one, two = (untrained(spec, seed) for seed in (0, 1))
    inputs = np.random.default_rng(0).normal(size=(3, *HTSAT.input_shape)).astype(np.float32)
    assert one.name == "clap-untrained-0"
    assert one.fingerprint != two.fingerprint
    assert relative_error(one(inputs), two(inputs)) > 0.1
    assert np.ptp(one(inputs), axis=0).max() > 0.01


REFUSED = [
    (HTSAT, {"bands": 3}, "bands=3: give a divisor of side=16"),
    (HTSAT, {"frames": 65}, "frames=65: a square of side=16 holds 64 frames of 4 bands"),
    (HTSAT, {"activation": "tanh"}, "activation='tanh': give relu or gelu"),
    (HTSAT, {"head_width": 3}, "head_width=3 .*give a divisor"),
    (SpeechEmbeddingConfig(), {"frames": 75}, "frames=75: give a window of 76 or more"),
    (SpeechEmbeddingConfig(), {"channels": (1, 2)}, r"channels=\(1, 2\): give one for each of 5"),
]


@pytest.mark.parametrize(("config", "changes", "message"), REFUSED)
def test_impossible_shapes_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        dataclasses.replace(config, **changes)
    assert "\n" not in str(caught.value)


def test_folding_puts_quarters_of_the_time_under_each_other():
    config = HTSATConfig((1,), (4,), 2, 2, 8, 2, bands=2, frames=32)
    times, bands = np.meshgrid(np.arange(32.0), np.arange(2.0), indexing="ij")
    folded = np.asarray(fold(jnp.asarray((10 * times + bands)[None, None], jnp.float32), config))
    assert folded.shape == (1, 8, 8, 1)
    for row in range(8):
        quarter, band = divmod(row, 2)
        np.testing.assert_array_equal(
            folded[0, row, :, 0], 10 * (8 * quarter + np.arange(8)) + band
        )


def test_cubic_weights_keep_constants_and_the_values_themselves():
    places = np.linspace(0, 6, 25)
    weights = cubic_weights(places, 7)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-14)
    np.testing.assert_allclose(weights[::4], np.eye(7), atol=1e-15)
    assert FOLDER.is_dir()
