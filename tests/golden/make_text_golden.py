"""Makes the reference outputs that the tests of encoders of texts compare with.

    pip install torch==2.13.0 transformers==5.23.0
    python -m tests.golden.make_text_golden

For each case transformers saves a model as it would for the hub; its checkpoint is replaced by the
synthetic one of transformers_weights.py, read back by transformers, and run in float64 on the
tokens of texts.py with their mask. Stored in texts/NAME.npz: config, names and shapes of the
checkpoint, and features: of CLIP the pooled output and what the projection makes of it, of BERT the
mean over the tokens as sentence-transformers takes it, and the first token. Two cases have the
shape of published ones: all-MiniLM-L6 and the tower of CLIP ViT-B.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.golden import texts, transformers_weights

HERE = Path(__file__).parent / "texts"
ROWS = 5
TEXT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 43,  # which is no multiple of 24
    "vocab_size": 70,
    "max_position_embeddings": 16,
}
VISION = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "image_size": 16,
    "patch_size": 8,
}
# As the tokenizer of tests/encoders/texts.py ends texts; in the old way, the highest number.
END, HIGHEST = {"eos_token_id": 60}, {"eos_token_id": 2}
BASE = {"vocab_size": 1000}  # the width of the table changes nothing
# name -> (class that saves, its config)
CASES = {
    "clip": (
        "CLIPModel",
        {"text_config": TEXT | END, "vision_config": VISION, "projection_dim": 6},
    ),
    "clip_text_model": (
        "CLIPTextModelWithProjection",
        TEXT | HIGHEST | {"projection_dim": 6, "hidden_act": "gelu", "layer_norm_eps": 1e-3},
    ),
    "clip_text_plain": ("CLIPTextModel", TEXT | END),
    "clip_text_base": ("CLIPTextModelWithProjection", BASE | END),
    "bert": ("BertModel", TEXT),
    "bert_mlm": ("BertForMaskedLM", TEXT | {"hidden_act": "gelu_new", "type_vocab_size": 3}),
    "bert_minilm": (
        "BertModel",
        BASE | {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    ),
}
LENGTHS = {"bert_minilm": 96}  # tokens, where they are fewer than there are positions


def make(name: str) -> None:
    import torch
    import transformers
    from safetensors.numpy import load_file, save_file

    kind, options = CASES[name]
    model_class = getattr(transformers, kind)
    with tempfile.TemporaryDirectory() as folder:
        model_class(model_class.config_class(**options)).save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        checkpoint = Path(folder) / "model.safetensors"
        saved = load_file(checkpoint)
        inventory = {key: list(value.shape) for key, value in sorted(saved.items())}
        save_file(transformers_weights.arrays(inventory), checkpoint, {"format": "pt"})
        model, report = model_class.from_pretrained(
            folder, dtype=torch.float64, output_loading_info=True
        )
    if set(report["missing_keys"]) - {"cls.predictions.decoder.bias"} or report["mismatched_keys"]:
        raise ValueError(f"{name}: transformers did not read {report}")
    own = getattr(model.config, "text_config", model.config)
    end = getattr(own, "eos_token_id", None)
    end = own.vocab_size - 1 if end == 2 else end
    length = LENGTHS.get(name, own.max_position_embeddings)
    tokens = texts.tokens(ROWS, length, own.vocab_size, end)
    ids = torch.from_numpy(np.where(tokens < 0, own.pad_token_id, tokens)).long()
    mask = torch.from_numpy((tokens >= 0).astype(np.int64))
    tower = getattr(model.eval(), "text_model", getattr(model, "bert", model))
    with torch.inference_mode():
        output = tower(input_ids=ids, attention_mask=mask)
        if kind.startswith("Bert"):
            states, there = output.last_hidden_state, mask[:, :, None].double()
            features = (states * there).sum(1) / there.sum(1)
            other = states[:, 0]
        else:
            features = output.pooler_output
            other = features[:, :0]
            if hasattr(model, "text_projection"):
                other = model.text_projection(features)
    features = features.numpy()
    contrast = float(features.std(0).mean() / features.std())
    print(f"{name:16s} {tokens.shape} {features.shape} contrast {contrast:.3f}", flush=True)
    if contrast < 0.05:
        raise ValueError(f"{name}: a weak golden")
    about = {"config": config, "inventory": inventory}
    about |= {"torch": torch.__version__, "transformers": transformers.__version__}
    np.savez_compressed(
        HERE / f"{name}.npz",
        about=json.dumps(about),
        tokens=tokens,
        features=features,
        other=other.numpy(),
    )


def main() -> None:
    HERE.mkdir(exist_ok=True)
    for name in CASES:
        make(name)


if __name__ == "__main__":
    main()
