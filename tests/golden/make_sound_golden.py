"""Makes the reference outputs that the tests of encoders of sounds compare with.

    pip install torch==2.13.0 transformers==5.23.0 ai-edge-litert==2.3.0
    python -m tests.golden.make_sound_golden clap
    python -m tests.golden.make_sound_golden speech FOLDER

`clap`: for each case transformers saves a tiny model as it would for the hub; its checkpoint is
replaced by the synthetic one of transformers_weights.py, read back by transformers, and run in
float64 on the levels of sounds.py. Stored in sounds/NAME.npz: config, preprocessor, names and
shapes of the checkpoint, features and what the projection makes of them; and every tenth frame of
what the feature extractor makes of the sounds of sounds.py, with all that it draws at random set to
the middle. In sounds/clap_spectrogram.npz: every fiftieth frame of the published settings'.

`speech`: FOLDER holds melspectrogram.tflite and embedding_model.tflite. The front end is run as it
is; of the encoder the graph is kept, its channels are narrowed to `CHANNELS` and its weights are
those of sounds.py. Stored in sounds/: that graph, its features of windows of noise, and the front
end's spectrogram.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from tests.golden import sounds, transformers_weights

HERE = Path(__file__).parent / "sounds"
RATE = 8_000
SECONDS = (0.3, 1.0, 2.6)  # shorter than the network's second, as long, longer
TOWER = {
    "spec_size": 32,
    "num_mel_bins": 8,
    "window_size": 2,
    "depths": [2, 2],
    "num_attention_heads": [2, 4],
    "patch_embeds_hidden_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
}
TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 11,
    "max_position_embeddings": 4,
}
EXTRACTOR = {
    "feature_extractor_type": "ClapFeatureExtractor",
    "feature_size": 8,
    "sampling_rate": RATE,
    "hop_length": 80,
    "max_length_s": 1,
    "fft_window_size": 256,
    "frequency_min": 50,
    "frequency_max": 3_800,
    "padding": "repeatpad",
    "truncation": "rand_trunc",
}
# transformers shrinks to 64 bands, whatever they are.
FUSED = {"enable_fusion": True, "fusion_type": "aff_2d", "aff_block_r": 2}
FUSED |= {"num_mel_bins": 64, "spec_size": 64}
FUSION = {"truncation": "fusion", "padding": "repeat"}
FUSION |= {"feature_size": 64, "fft_window_size": 512, "hop_length": 160}
# name -> (class that saves, its config, preprocessor)
CASES = {
    "clap": (
        "ClapModel",
        {"audio_config": TOWER, "text_config": TEXT, "projection_dim": 6},
        EXTRACTOR,
    ),
    "clap_audio_model": ("ClapAudioModel", TOWER, EXTRACTOR | {"padding": "pad"}),
    "clap_fused": (
        "ClapAudioModelWithProjection",
        TOWER | FUSED | {"projection_dim": 6, "projection_hidden_act": "gelu"},
        EXTRACTOR | FUSION,
    ),
}
CHANNELS = (2, 3, 4, 5, 6)  # of the narrowed speech encoder
STEP, TINY_STEP = 50, 10  # frames


def in_the_middle():
    """What transformers draws at random, at the middle."""
    return mock.patch.multiple(
        np.random,
        choice=lambda values: values[len(values) // 2],
        randint=lambda low, high: (high - 1 - low) // 2,
    )


def extracted(preprocessor: dict, waves: list[np.ndarray], rate: int):
    """Spectrograms [n, 1 or 4, t, k] and whether each sound was longer."""
    import transformers

    options = {k: v for k, v in preprocessor.items() if k != "feature_extractor_type"}
    extractor = transformers.ClapFeatureExtractor(**options)
    with in_the_middle():
        found = extractor(waves, sampling_rate=rate, return_tensors="np")
    return found["input_features"], found["is_longer"]


def make_clap(name: str) -> None:
    import torch
    import transformers
    from safetensors.numpy import load_file, save_file

    kind, options, preprocessor = CASES[name]
    model_class = getattr(transformers, kind)
    waves = [sounds.sound(s, RATE, i) for i, s in enumerate(SECONDS)]
    spectrograms, longer = extracted(preprocessor, waves, RATE)
    levels = sounds.levels(spectrograms.shape)
    with tempfile.TemporaryDirectory() as folder:
        model_class(model_class.config_class(**options)).save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        checkpoint = Path(folder) / "model.safetensors"
        saved = load_file(checkpoint)
        inventory = {key: list(value.shape) for key, value in sorted(saved.items())}
        # Tables of indices are read back too, and so must hold what they mean.
        tables = {k: v for k, v in saved.items() if k.endswith(transformers_weights.INDICES)}
        save_file(transformers_weights.arrays(inventory) | tables, checkpoint, {"format": "pt"})
        model, report = model_class.from_pretrained(
            folder, dtype=torch.float64, output_loading_info=True
        )
    if report["missing_keys"] or report["mismatched_keys"]:
        raise ValueError(f"{name}: transformers did not read {report}")
    tower = getattr(model.eval(), "audio_model", model)
    with torch.inference_mode():
        output = tower(torch.from_numpy(levels).double(), is_longer=torch.from_numpy(longer))
        features = output.pooler_output
        projected = features[:, :0]
        if hasattr(model, "audio_projection"):
            projected = model.audio_projection(features)
    features = features.numpy()
    contrast = float(features.std(0).mean() / features.std())
    print(f"{name:18s} {spectrograms.shape} {features.shape} contrast {contrast:.3f}", flush=True)
    if contrast < 0.05:
        raise ValueError(f"{name}: a weak golden")
    about = {"config": config, "preprocessor": preprocessor, "inventory": inventory}
    about |= {"torch": torch.__version__, "transformers": transformers.__version__}
    np.savez_compressed(
        HERE / f"{name}.npz",
        about=json.dumps(about),
        spectrograms=spectrograms[:, :, ::TINY_STEP],
        shape=levels.shape,
        longer=longer,
        features=features,
        projection=projected.numpy(),
    )


def make_spectrograms() -> None:
    """The published settings, on a second and on twelve."""
    waves = [sounds.sound(1, 48_000), sounds.sound(12, 48_000, 1)]
    settings = {"frequency_min": 50, "truncation": "rand_trunc"}
    plain, _ = extracted(settings, waves, 48_000)
    fused, _ = extracted(settings | {"truncation": "fusion"}, waves, 48_000)
    np.savez_compressed(
        HERE / "clap_spectrogram.npz", plain=plain[:, 0, ::STEP], fused=fused[:, :, ::STEP]
    )


def run(content: bytes, value: np.ndarray) -> np.ndarray:
    """The output of a TensorFlow Lite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, value.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def narrowed(content: bytes) -> bytes:
    """The encoder's graph with `CHANNELS` and synthetic weights."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    from substrate_jax.encoders.networks.speech_embedding import SpeechEmbeddingConfig

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph, config = model.subgraphs[0], SpeechEmbeddingConfig(CHANNELS)
    arrays, outside = iter(sounds.speech_arrays(config.kernels)), 1
    model.metadata = model.signatureDefs = None

    def fill(index: int, value: np.ndarray) -> None:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(value.astype("<f4").tobytes(), np.uint8)
        graph.tensors[index].buffer = len(model.buffers) - 1
        graph.tensors[index].shape = list(value.shape)

    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.CONV_2D:
            weight, bias = next(arrays)
            outside = weight.shape[-1]
            fill(operator.inputs[1], weight.transpose(3, 0, 1, 2))
            # The last convolution's bias is shared by name with nothing else.
            graph.tensors.append(copy.deepcopy(graph.tensors[operator.inputs[2]]))
            operator.inputs = [*operator.inputs[:2], len(graph.tensors) - 1]
            fill(operator.inputs[2], bias)
        for place in operator.outputs:
            tensor = graph.tensors[place]
            if len(tensor.shape) == 4 and tensor.shape[3] > 1:
                tensor.shape = [*tensor.shape[:3], outside]
    used = {graph.tensors[i].buffer for op in graph.operators for i in op.inputs}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def make_speech(folder: Path) -> None:
    wave = sounds.sound(1.5, 16_000)
    front = (folder / "melspectrogram.tflite").read_bytes()
    levels = run(front, (wave * np.float32(2**15))[None])[0, 0]
    content = narrowed((folder / "embedding_model.tflite").read_bytes())
    windows = np.stack([levels[start : start + 76] for start in range(0, len(levels) - 75, 8)])
    features = run(content, (windows / 10 + 2)[..., None])[:, 0, 0]
    print(f"speech {levels.shape} {features.shape} {len(content)} bytes, std {features.std():.3g}")
    (HERE / "speech_embedding.tflite").write_bytes(content)
    np.savez_compressed(HERE / "speech_embedding.npz", levels=levels, windows=features)


def main(what: str, *arguments: str) -> None:
    HERE.mkdir(exist_ok=True)
    if what == "speech":
        make_speech(Path(*arguments))
        return
    for name in CASES:
        make_clap(name)
    make_spectrograms()


if __name__ == "__main__":
    main(*sys.argv[1:])
