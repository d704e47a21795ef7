"""What transformers computed on texts (tests/golden/make_text_golden.py), and tiny tokenizers."""

import json
import string
from pathlib import Path

import numpy as np
import transformers
from safetensors.numpy import save_file

from tests.golden import transformers_weights

GOLDENS = Path(__file__).parents[1] / "golden" / "texts"
NAMES = ("clip", "clip_text_model", "clip_text_plain", "bert", "bert_mlm")
LARGE = ("clip_text_base", "bert_minilm")
# Pieces of words that CLIP's tokenizer joins, in this order; the last letter of a word is marked.
MERGES = ("d o", "do g</w>", "c a", "ca t</w>", "r e", "re d</w>", "t h")
WORDS = ("a", "the", "dog", "cat", "##s", "red", "blue", "runs", "over", "hill", "two", ".", ",")


def golden(name: str) -> dict:
    """The arrays of a golden, its config and its inventory."""
    arrays = dict(np.load(GOLDENS / f"{name}.npz"))
    return arrays | json.loads(str(arrays.pop("about")))


def write_words(folder: Path, kind: str) -> None:
    """The files of a tiny tokenizer of "clip" or "bert" as words, without tokenizer.json."""
    if kind == "bert":
        marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        lines = "\n".join((*marks, *WORDS, *string.ascii_lowercase))
        (folder / "vocab.txt").write_text(f"{lines}\n")
        return
    letters = [*string.ascii_lowercase, *(f"{c}</w>" for c in string.ascii_lowercase)]
    merged = [pair.replace(" ", "") for pair in MERGES]
    entries = [*letters, *merged, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(entries)}))
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *MERGES, "")))


def tokenizer(folder: Path, kind: str):
    """transformers' own tokenizer of a folder."""
    made = transformers.CLIPTokenizer if kind == "clip" else transformers.BertTokenizer
    return made.from_pretrained(folder, local_files_only=True)


def write_tokenizer(folder: Path, kind: str) -> None:
    """A tiny tokenizer as tokenizer.json alone, as transformers saves it."""
    write_words(folder, kind)
    saved = tokenizer(folder, kind)
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    saved.backend_tokenizer.save(str(folder / "tokenizer.json"))


def write_folder(folder: Path, found: dict, *, words: bool = False) -> None:
    """The checkpoint of a golden as on the hub, with a tiny tokenizer."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(found["config"]))
    save_file(transformers_weights.arrays(found["inventory"]), folder / "model.safetensors")
    kind = found["config"]["model_type"].partition("_")[0]
    (write_words if words else write_tokenizer)(folder, kind)
