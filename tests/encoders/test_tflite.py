"""Weights out of TensorFlow Lite files: the narrowed graph, damaged ones, and the command."""

import contextlib

import numpy as np
import pytest

from substrate_jax.encoders import tflite
from substrate_jax.encoders.networks.speech_embedding import SpeechEmbeddingConfig
from substrate_jax.encoders.weights import read_safetensors
from tests.encoders.sounds import FOLDER
from tests.golden import sounds

FILE = FOLDER / "speech_embedding.tflite"
NARROW = SpeechEmbeddingConfig((2, 3, 4, 5, 6))


def test_the_weights_are_those_that_were_written():
    found = tflite.read_weights(FILE, NARROW)
    made = sounds.speech_arrays(NARROW.kernels)
    assert len(found) == 2 * len(made) == 40
    for index, (weight, bias) in enumerate(made):
        got = found[f"convs.{index}.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(got, weight)
        np.testing.assert_array_equal(found[f"convs.{index}.bias"], bias)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"20 convolutions of other shapes than .* 20; give"):
        tflite.read_weights(FILE)
    with pytest.raises(ValueError, match="absent' cannot be read: No such file"):
        tflite.read_weights(tmp_path / "absent")
    for content in (b"", b"TFL3", b"\x89PNG and so on"):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ValueError, match="is no TensorFlow Lite file; give"):
            tflite.read_weights(tmp_path / "a")


def test_damaged_files_are_refused(tmp_path):
    """Cut short anywhere, and with bytes overwritten: a ValueError, and never another."""
    whole, rng, refused = FILE.read_bytes(), np.random.default_rng(0), 0
    for _ in range(200):
        data = bytearray(whole[: rng.integers(8, len(whole))] if rng.random() < 0.5 else whole)
        for place in rng.integers(8, len(data), rng.integers(1, 40)):
            data[place] = rng.integers(256)
        (tmp_path / "a").write_bytes(bytes(data))
        with contextlib.suppress(ValueError):
            tflite.read_weights(tmp_path / "a", NARROW)
            refused -= 1
        refused += 1
    assert refused > 50


def test_the_command_writes_what_fits_the_encoder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tflite, "SpeechEmbeddingConfig", lambda: NARROW)
    out = tmp_path / "speech_embedding.safetensors"
    assert tflite.main([str(FILE), str(out)]) == 0
    assert "40 arrays of speech_embedding.tflite" in capsys.readouterr().out
    assert read_safetensors(out).keys() == tflite.read_weights(FILE, NARROW).keys()
    assert tflite.main([str(FILE)]) == 2
    assert capsys.readouterr().out.startswith("usage: python -m substrate_jax.encoders.tflite")
    assert tflite.main([str(tmp_path / "absent"), str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
