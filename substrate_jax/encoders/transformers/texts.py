"""Encoders of texts in transformers' format: CLIP's tower of texts, and BERTs.

A folder holds, in place of a preprocessor, a tokenizer (`data.tokens`), and of a sentence encoder
what the library sentence-transformers writes: `sentence_bert_config.json` with the longest text,
and `1_Pooling/config.json` with what is made of the tokens. Options of `hf:NAME?...` go first:

    tower=text    of a whole CLIP the tower of texts
    pool=cls      of a BERT the first token in place of the mean; or `mean`
    length=N      tokens of a text, where fewer do: attention costs less

Not guaranteed: what follows the pooling of a sentence encoder (a normalization, a linear map) is no
part of its features.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from substrate_jax.data.tokens import TextPreprocess, tokenizer_of, tokenizer_sha256
from substrate_jax.encoders.hub import (
    CONFIG,
    POOLING,
    SENTENCE,
    TEXT_FILES,
    TOKENIZER_CONFIG,
    read_json,
)
from substrate_jax.encoders.networks.text import BertConfig, CLIPTextConfig
from substrate_jax.encoders.transformers.configs import ACTIVATIONS
from substrate_jax.encoders.transformers.names import CLIP_BLOCKS, Names, fuse
from substrate_jax.encoders.transformers.options import Options, refuse

OPTIONS = ("tower", "pool", "length")  # of a name
_KINDS = {"bert": "bert", "clip_text_model": "clip"}  # of a tokenizer, by model type
_PLAIN = (None, ("CLIPTextModel",))  # classes without a projection
CLIP = {
    "hidden_act": tuple(ACTIVATIONS),
    "architectures": (*_PLAIN, ("CLIPTextModelWithProjection",), ("CLIPModel",)),
}
_TANH = {"gelu_new": "gelu_tanh"}  # BERT's name for it
BERT = {
    "hidden_act": (*ACTIVATIONS, *_TANH),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}
_OLD_END = 2  # number of the last token by which transformers knows an old configuration of CLIP
_POOLS = ("mean", "cls")
# sentence-transformers' names of ours; any other way of pooling that it has begins alike.
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def tower_options(config: Options, tower: Options) -> Options:
    """The options of CLIP's tower of texts, from those of the whole and its own.

    As transformers has it, the projection is decided by the whole model's options.
    """
    own = {name: value for name, value in tower.items() if name != "projection_dim"}
    given = {name: config[name] for name in ("projection_dim",) if name in config}
    return own | given | {"architectures": config.get("architectures") or ["CLIPModel"]}


def tokenizer_paths(folder: Path) -> list[Path]:
    """Every file that may decide what becomes of a text before the network."""
    named = [folder / name for name in TEXT_FILES]
    return [file for file in named if file.is_file()]


def _shape(options: Options, length: int) -> dict[str, Any]:
    """What both networks have, by our names."""
    width, heads = options["hidden_size"], options["num_attention_heads"]
    if width % heads:
        refuse(CONFIG, options, "num_attention_heads", f"give a divisor of hidden_size={width}")
    return {
        "width": width,
        "depth": options["num_hidden_layers"],
        "heads": heads,
        "hidden": options["intermediate_size"],
        "vocabulary": options["vocab_size"],
        "positions": options["max_position_embeddings"],
        "length": length,
        "activation": (ACTIVATIONS | _TANH)[options["hidden_act"]],
        "eps": options["layer_norm_eps"],
    }


def clip(options: Options, length: int) -> CLIPTextConfig:
    """CLIP's tower of texts, with its projection where the class of the model has one."""
    end = options["eos_token_id"]
    if not isinstance(end, int) or not 0 <= end < options["vocab_size"]:
        refuse(CONFIG, options, "eos_token_id", "give the number of one token")
    projected = options["architectures"] not in _PLAIN
    return CLIPTextConfig(
        **_shape(options, length),
        end=None if end == _OLD_END else end,
        projection=options["projection_dim"] if projected else 0,
    )


def bert(options: Options, length: int, pool: Literal["mean", "cls"] = "mean") -> BertConfig:
    """A BERT whose tokens are pooled."""
    return BertConfig(**_shape(options, length), types=options["type_vocab_size"], pool=pool)


def read_text_encoder(
    folder: Path, model_type: str, options: Options, asked: Mapping[str, str]
) -> tuple[CLIPTextConfig | BertConfig, TextPreprocess]:
    """Config and preprocessing of a checkpoint of texts.

    Args:
        folder: holds its files.
        model_type: a key of `NAMES`.
        options: of its config.json, complete.
        asked: what the user says of the three `OPTIONS`.

    Raises:
        ValueError: a tokenizer that is missing, damaged, or of another network; a way of pooling or
            a length that is not computed.
    """
    kind = _KINDS[model_type]
    longest = options["max_position_embeddings"]
    length = _asked_length(asked, longest) or _length(folder, longest)
    spec = TextPreprocess(length, tokenizer_sha256(folder, kind), kind, str(folder))
    tokenizer = tokenizer_of(spec.folder, spec.kind, spec.tokenizer)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if highest >= options["vocab_size"]:
        fix = f"its tokenizer has number {highest}; give both of one checkpoint"
        refuse(CONFIG, options, "vocab_size", fix)
    marks, _ = spec.encode("")
    if kind == "bert":
        return bert(options, length, _pool(folder, asked)), spec
    if "pool" in asked:
        raise ValueError("pool= is an option of bert; CLIP reads out the end of a text")
    config = clip(options, length)
    if config.end is not None and config.end not in marks:
        fix = "its tokenizer does not end texts so; give both of one checkpoint"
        refuse(CONFIG, options, "eos_token_id", fix)
    return config, spec


def _asked_length(asked: Mapping[str, str], longest: int) -> int | None:
    word = asked.get("length")
    if word is None:
        return None
    if not word.isdecimal() or not 1 <= int(word) <= longest:
        raise ValueError(f"length={word!r}: give tokens of a text, at most {longest}")
    return int(word)


def _length(folder: Path, longest: int) -> int:
    """The fewest that the network and the files beside it say."""
    for name, key in ((TOKENIZER_CONFIG, "model_max_length"), (SENTENCE, "max_seq_length")):
        value = read_json(folder / name).get(key) if (folder / name).is_file() else None
        # Where no length is known transformers writes 10^30.
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1:
            longest = min(longest, int(value))
    return longest


def _pool(folder: Path, asked: Mapping[str, str]) -> Literal["mean", "cls"]:
    if (word := asked.get("pool")) is not None:
        if word not in _POOLS:
            raise ValueError(f"pool={word!r}: give {' or '.join(_POOLS)}")
        return cast(Literal["mean", "cls"], word)
    if not (folder / POOLING).is_file():
        return "mean"
    settings = read_json(folder / POOLING)
    chosen = [key for key, value in settings.items() if key.startswith("pooling_mode") and value]
    # Later versions write one name in place of the switches.
    pools = [_MODES.get(key, settings[key]) for key in chosen]
    if len(pools) != 1 or pools[0] not in _POOLS:
        raise ValueError(
            f"{POOLING}: {', '.join(chosen) or 'no way of pooling'} is not supported; give "
            "?pool=mean or ?pool=cls"
        )
    return pools[0]


def _layer_norm(name: str):
    """Replacement for (numbers of `name`, leaf), whose leaves had other names once."""

    def replace(*groups: str) -> str:
        *numbers, leaf = groups
        leaf = {"gamma": "weight", "beta": "bias"}.get(leaf, leaf)
        return f"{name.format(*numbers)}.{leaf}"

    return replace


NAMES = {
    "clip_text_model": Names(
        "text_model",
        (
            ("embeddings.token_embedding.weight", "token_embed"),
            *CLIP_BLOCKS,
            ("final_layer_norm.~", "norm.{0}"),
            ("text_projection.weight", "projection.weight"),
        ),
        (
            "vision_model.**",
            "visual_projection.weight",
            "logit_scale",
            "embeddings.position_ids",
        ),
    ),
    "bert": Names(
        "bert",
        (
            ("embeddings.word_embeddings.weight", "token_embed"),
            ("embeddings.position_embeddings.weight", "pos_embed"),
            ("embeddings.token_type_embeddings.weight", "type_embed"),
            ("embeddings.LayerNorm.~", _layer_norm("norm_embed")),
            ("encoder.layer.*.attention.self.(query|key|value).~", fuse("blocks.{}.attn")),
            ("encoder.layer.*.attention.output.dense.~", "blocks.{0}.attn.proj.{1}"),
            ("encoder.layer.*.attention.output.LayerNorm.~", _layer_norm("blocks.{}.norm1")),
            ("encoder.layer.*.intermediate.dense.~", "blocks.{0}.mlp.fc1.{1}"),
            ("encoder.layer.*.output.dense.~", "blocks.{0}.mlp.fc2.{1}"),
            ("encoder.layer.*.output.LayerNorm.~", _layer_norm("blocks.{}.norm2")),
        ),
        # The pooler is a map of the first token for a task of pretraining, and cls its head.
        (
            "pooler.dense.~",
            "cls.**",
            "qa_outputs.~",
            "embeddings.position_ids",
            "embeddings.token_type_ids",
        ),
    ),
}
