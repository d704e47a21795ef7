"""Compares encoders of sounds at full size, and with trained weights, by hand.

    pip install -e . torch==2.13.0 transformers==5.23.0 ai-edge-litert==2.3.0
    python -m tests.golden.check_sounds clap
    python -m tests.golden.check_sounds speech FOLDER

`clap`: models of the published sizes, unfused and fused, with random weights, saved as transformers
does and read back by `load_encoder`, on three sounds of 4, 10 and 25 seconds; transformers runs in
float64. `speech`: FOLDER holds melspectrogram.tflite and embedding_model.tflite, whose outputs on
two seconds are compared with those of our spectrogram and network. Both print the largest
differences and fail above `LIMIT` of transformers, `LITE_LIMIT` of LiteRT.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from substrate_jax.data.sounds import Sound
from substrate_jax.encoders import load_encoder
from substrate_jax.encoders.tflite import main as convert
from tests.golden import sounds
from tests.golden.make_sound_golden import extracted, run

LIMIT, LITE_LIMIT = 1e-5, 1e-4
SECONDS = (4, 10, 25)
EXTRACTOR = {"feature_extractor_type": "ClapFeatureExtractor", "frequency_min": 50}
CASES = {
    "clap": ({}, {"truncation": "rand_trunc"}),
    "clap_fused": ({"enable_fusion": True, "fusion_type": "aff_2d"}, {"truncation": "fusion"}),
}


def check_clap(name: str) -> bool:
    import torch
    import transformers

    options, truncation = CASES[name]
    settings = EXTRACTOR | truncation
    torch.manual_seed(0)
    kind = transformers.ClapAudioModelWithProjection
    model = kind(transformers.ClapAudioConfig(**options)).eval()
    for module in model.modules():  # statistics, as training leaves them
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    tower = model.audio_model.audio_encoder
    tower.batch_norm.running_mean.fill_(-40.0)
    tower.batch_norm.running_var.fill_(400.0)
    waves = [sounds.sound(s, 48_000, i) for i, s in enumerate(SECONDS)]
    spectrograms, longer = extracted(settings, waves, 48_000)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings))
        encoder = load_encoder(f"hf:{folder}")
    with torch.inference_mode():
        model = model.double()
        levels, flags = torch.from_numpy(spectrograms).double(), torch.from_numpy(longer)
        want = model.audio_model(levels, is_longer=flags).pooler_output
        projected = model.audio_projection(want)
    found = encoder.preprocess([Sound(wave, 48_000) for wave in waves])
    ours = np.asarray(found)[:, :4] if "fused" in name else np.asarray(found)[:, None]
    print(f"{name}: spectrogram within {np.abs(ours - spectrograms).max():.1e} dB")
    taps = encoder.taps(found, ("features", "projection"))
    good = True
    for tap, reference in (("features", want.numpy()), ("projection", projected.numpy())):
        spread = reference.std(0).mean() / reference.std()
        error = np.linalg.norm(taps[tap] - reference) / np.linalg.norm(reference)
        print(f"{name}: {tap} within {error:.1e} of transformers; spread over sounds {spread:.2f}")
        good &= bool(error <= LIMIT)
    return good


def check_speech(folder: Path) -> bool:
    wave = sounds.sound(2, 16_000)
    levels = run((folder / "melspectrogram.tflite").read_bytes(), (wave * np.float32(2**15))[None])
    levels = levels[0, 0]
    windows = np.stack([levels[start : start + 76] for start in range(0, len(levels) - 75, 8)])
    model = folder / "embedding_model.tflite"
    want = run(model.read_bytes(), (windows / 10 + 2)[..., None])[:, 0, 0]
    with tempfile.TemporaryDirectory() as out:
        file = Path(out) / "speech_embedding.safetensors"
        convert([str(model), str(file)])
        encoder = load_encoder("speech_embedding", file)
    found = encoder.preprocess([Sound(wave, 16_000)])
    got = encoder.taps(found, ("windows",))["windows"][0]
    differences = {
        "spectrogram, dB": np.abs(np.asarray(found)[0] - levels).max(),
        "features": np.abs(got - want).max(),
    }
    for what, value in differences.items():
        print(f"speech_embedding: {what} within {value:.1e} of LiteRT")
    print(f"speech_embedding: features up to {np.abs(want).max():.1f}, {want.shape}")
    return max(differences.values()) <= LITE_LIMIT


def main(what: str, *arguments: str) -> int:
    good = check_speech(Path(*arguments)) if what == "speech" else all(map(check_clap, CASES))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
