"""The registry as tables: what `--list_encoders` prints, docs/encoders.md and README show.

    python -m substrate_jax.encoders.table    # in a checkout: count parameters, rewrite the tables

Parameters are counted once, into parameters.json: building 300 networks takes a minute.
"""

import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from substrate_jax.encoders.registry import EncoderSpec, encoder_spec, list_encoders
from substrate_jax.encoders.transformers.model_types import (
    MODEL_TYPES,
    SOUND_TYPES,
    TEXT_TYPES,
)

COLUMNS = (
    "name",
    "family",
    "paradigm",
    "parameters",
    "width",
    "input",
    "license",
    "checkpoint",
)
HEADING = """# Encoders

Generated from the registry by `python -m substrate_jax.encoders.table`. Licenses are those of the
weights. A checkpoint id is that of the repository on the hub. The input of images is a side in
pixels, that of sounds a length and a rate. Encoders of texts have no records: see below.

CLIP towers by OpenAI, DFN and MetaCLIP were trained with quick GELU, which timm computes in its
`quickgelu` variants of the same repository, and with exact GELU under the plain names. DFN's and
MetaCLIP's are here as trained; OpenAI's under both: `clip_base` as timm's plain name (and the
paper's panel) has it, `clip_base_quickgelu` as trained.

Left out of what timm has of these families: MaxViT's and MaxxViT's `rw` and `rmlp` sizes, CoAtNet,
MobileViT V1, Swin V2, EfficientNetV2 and EfficientNet's Lite and EdgeTPU sizes, ResNets with other
stems or with attention (`d`, `ts`, SE, ECA, CLIP), RegNetZ, hybrids of ResNet and ViT, and other
weights of the same networks: those run under the name of a network of that shape, with
`load_encoder(NAME, weights=FILE)` or with a launcher's `--weights_dir`.

## Sounds

`clap` and `clap_fused` are the towers of sounds of `laion/clap-htsat-unfused` and `-fused`, read in
transformers' format from the hub, its cache, or a folder that holds `laion/clap-htsat-unfused/`;
`hf:FOLDER` reads any checkpoint of CLAP. Features are the pooled ones before the projection to the
joint space with text, which is the tap `projection` (not normalized). Tiny checkpoints are compared
with transformers by a test, the full size and trained weights of the speech encoder by hand:

    python -m tests.golden.check_sounds clap
    python -m tests.golden.check_sounds speech FOLDER

`speech_embedding` was trained to spot words; 0.33 million parameters. Its weights are in the PyPI
package `pyopen-wakeword` as `embedding_model.tflite`, and

    python -m substrate_jax.encoders.tflite embedding_model.tflite speech_embedding.safetensors

makes the file that `--weights_dir` looks for. Its features are the mean over 16 windows of
0.78 seconds in two; the tap `windows` has them apart.

An encoder of sounds takes sounds alone: `wav:FOLDER` or a TFDS set. What becomes of them:
[sounds.md](sounds.md).

## Texts

`hf:openai/clip-vit-base-patch32?tower=text` is the tower of texts of a whole CLIP (without the
option it is the tower of pictures); `hf:ORG/NAME` and `hf:FOLDER` read checkpoints of type
`clip_text_model` and `bert`, such as `hf:sentence-transformers/all-MiniLM-L6-v2`. RoBERTa,
DistilBERT, MPNet and others are refused by name. An encoder of texts takes texts alone:
`text:PATH`, or `csv:`, `parquet:`, `hfds:` and `tfds:` with `?text=NAME`
([domains.md](domains.md)).

- Features of CLIP are those of the token that ends the text, after the last LayerNorm; their map to
  the joint space with pictures is the tap `projection` (not normalized).
- Features of BERT are the mean over the tokens, padding left out, or the first token where
  `1_Pooling/config.json` says so or with `?pool=cls`. The pooler, heads of pretraining, and what
  follows the pooling of a sentence encoder (a normalization, a linear map) are no part of them.
- A checkpoint needs its tokenizer: `tokenizer.json`, which is taken as it is, or CLIP's
  `vocab.json` and `merges.txt`, or BERT's `vocab.txt`.
- The longest text is the least of `max_position_embeddings`, `model_max_length` of
  `tokenizer_config.json` and `max_seq_length` of `sentence_bert_config.json`. Longer ones are cut
  off, and a note counts them. An empty text has the marks at its ends, and features.
- Every text is padded to that length, so that one program serves all. Features do not depend on it,
  but time does: `?length=32`, or `&length=32` after another option, is enough for most captions.
- Taps of blocks are pooled over the tokens as features are.

Nothing published has been loaded here: tiny checkpoints and two of published shapes are compared
with transformers by tests.

## Checkpoints in transformers' format

`hf:ORG/NAME`, `hf:ORG/NAME@REVISION` or `hf:FOLDER`, of the model types below. transformers' own
classes read the JSON files, without PyTorch; no code of a repository is run. Options that change
the output and that we do not compute are refused by name. Features are what transformers pools
before a classifier or projection: the class token after the last LayerNorm (ViT, MAE, MSN, DeiT,
DINOv2 and 3, CLIP), the mean of the patches after it (I-JEPA), an attention pooling head (SigLIP),
and spatial means. BEiT and Data2Vec want the LayerNorm of their pooler, which fine-tuned
checkpoints have. SigLIP 2 of one image size is a `siglip`; NaFlex (`siglip2`) is refused, and so is
`swinv2`. Of texts see above.

"""
MARKERS = "<!-- encoders: begin -->\n", "<!-- encoders: end -->\n"


def parameters() -> dict[str, int]:
    """Parameters of every registered network, running statistics left out."""
    file = resources.files("substrate_jax") / "encoders" / "parameters.json"
    return json.loads(file.read_text())


def row(spec: EncoderSpec, count: int) -> tuple[str, ...]:
    """The cells of one encoder, in the order of COLUMNS."""
    return (
        spec.name,
        spec.family,
        spec.paradigm,
        f"{count / 1e6:.2f} M",
        str(spec.width),
        spec.preprocess.label,
        spec.license,
        spec.checkpoint,
    )


def rows(names: Iterable[str] | None = None) -> list[tuple[str, ...]]:
    """The cells of the named encoders, of all by default."""
    counts = parameters()
    names = list_encoders() if names is None else names
    return [row(encoder_spec(name), counts[name]) for name in names]


def text_table(names: Iterable[str] | None = None) -> str:
    """Aligned columns, one encoder per line.

    Example:
        >>> print(text_table(["resnet18"]))
        name     family paradigm   parameters width input license    checkpoint
        resnet18 resnet supervised 11.69 M    512   224   apache-2.0 timm/resnet18.a1_in1k
    """
    lines = [COLUMNS, *rows(names)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join(
        " ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table() -> str:
    """Every encoder, for docs/encoders.md."""
    head = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in rows())]) + "\n"


def types_table() -> str:
    """The model types of transformers that are computed, for docs/encoders.md."""
    lines = ["| model type | paradigm of the published weights | paper |", "|---" * 3 + "|"]
    for name, kind in sorted((MODEL_TYPES | SOUND_TYPES | TEXT_TYPES).items()):
        paper = f"[{kind.paper}](https://arxiv.org/abs/{kind.paper})"
        lines.append(f"| {name} | {kind.paradigm} | {paper} |")
    return "\n".join(lines) + "\n"


def family_table() -> str:
    """One line per family, for README."""
    lines = [
        "| family | published checkpoints | parameters | in the paper's panel |",
        "|---" * 4 + "|",
    ]
    counts, by_family = parameters(), {}
    for name in list_encoders():
        if not encoder_spec(name).bundled:
            by_family.setdefault(encoder_spec(name).family, []).append(name)
    for family, names in sorted(by_family.items()):
        sizes = sorted(counts[name] / 1e6 for name in names)
        panel = ", ".join(name for name in names if encoder_spec(name).panel == "paper")
        largest = f" to {sizes[-1]:,.0f}" if sizes[-1] >= sizes[0] + 1 else ""
        lines.append(f"| {family} | {len(names)} | {sizes[0]:.1f}{largest} M | {panel} |")
    total = sum(len(names) for names in by_family.values())
    lines.append(f"| all | {total} | | {len(list_encoders('paper'))} |")
    return "\n".join(lines) + "\n"


def documents(root: Path) -> dict[Path, str]:
    """The files that show the registry, and what they should hold."""
    readme = (root / "README.md").read_text()
    before, rest = readme.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    return {
        root / "README.md": before + MARKERS[0] + family_table() + MARKERS[1] + after,
        root / "docs" / "encoders.md": HEADING + types_table() + "\n## All\n\n" + markdown_table(),
    }


def main() -> None:
    """Count parameters, then rewrite the documents of the checkout."""
    from substrate_jax.encoders.weights import parameter_count

    root = Path(__file__).parents[2]
    counts = {name: parameter_count(encoder_spec(name).config) for name in list_encoders()}
    (root / "substrate_jax" / "encoders" / "parameters.json").write_text(
        json.dumps(counts, indent=0) + "\n"
    )
    for path, text in documents(root).items():
        path.write_text(text)


if __name__ == "__main__":
    main()
