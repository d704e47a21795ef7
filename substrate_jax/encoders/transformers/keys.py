"""Checkpoints of Hugging Face transformers under timm's names, which are those of our modules.

`names` holds what each key becomes and which keys are dropped. A key in neither of its tables is an
error that names it, so nothing is passed over in silence; nor is a value that no training leaves
(see `wrappers`). Three separate matrices of queries, keys and values become one, and so do gates
and values of a gated MLP. The base model's prefix (`vit.`, `vision_model.`) is optional, as it is
in files on the hub.
"""

import re
from collections.abc import Mapping

import numpy as np

from substrate_jax.data.paths import first_of
from substrate_jax.encoders.transformers import clap, texts
from substrate_jax.encoders.transformers.names import FUSED, HEADS, NAMES
from substrate_jax.encoders.transformers.options import Options
from substrate_jax.encoders.weights import COUNTER
from substrate_jax.encoders.wrappers import check_values, unwrapped

_TABLES = NAMES | {"clap": clap.NAMES} | texts.NAMES


def _compile(pattern: str) -> re.Pattern:
    for wildcard, regex in ((".", r"\."), ("**", "§"), ("*", r"(\d+)"), ("~", r"(\w+)")):
        pattern = pattern.replace(wildcard, regex)
    return re.compile(pattern.replace("§", ".*"))


def rename(
    model_type: str, options: Options, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays of the features under timm's names, queries, keys and values fused.

    Args:
        model_type: a key of `NAMES` here or in `texts`, or "clap".
        options: the config, defaults filled in.
        arrays: the checkpoint.

    Raises:
        ValueError: keys that the tables do not know, or that give one parameter twice, or values of
            another dtype than floating point, not finite, or variances below zero.
    """
    source = f"{model_type} checkpoint"
    names = _TABLES[model_type]
    rows = names.rows(options) if callable(names.rows) else names.rows
    patterns = [(_compile(pattern), replacement) for pattern, replacement in rows]
    dropped = [_compile(pattern) for pattern in (*HEADS, *names.dropped)]
    renamed: dict[str, np.ndarray] = {}
    unknown, used = [], {}
    for key, value in unwrapped(arrays, source).items():
        short = key.removeprefix(f"{names.prefix}.")
        found = next(((m, to) for pattern, to in patterns if (m := pattern.fullmatch(short))), None)
        if found is None:
            if not any(pattern.fullmatch(short) for pattern in dropped):
                unknown.append(key)
            continue
        match, replacement = found
        groups = match.groups()
        name = replacement(*groups) if callable(replacement) else replacement.format(*groups)
        if name in renamed:
            raise ValueError(f"checkpoint of type {model_type}: {key} gives {name} a second time")
        renamed[name] = value
        if not key.endswith(COUNTER):
            used[key] = value
    if unknown:
        raise ValueError(
            f"checkpoint of type {model_type} has {len(unknown)} unknown keys: "
            f"{first_of(sorted(unknown))}; give a checkpoint of the plain network"
        )
    check_values(used, source)
    return _reshaped(_fused(_with_biases(renamed, options)))


def _with_biases(arrays: dict[str, np.ndarray], options: Options) -> dict[str, np.ndarray]:
    """Zeros for biases of queries, keys or values that a DINOv3 has not."""
    zeros = {}
    for index, part in enumerate(("query", "key", "value")):
        if options.get(f"{part}_bias", True):
            continue
        for name, value in arrays.items():
            if name.endswith(f".qkv.weight{FUSED}{index}"):
                bias = name.replace(".weight", ".bias")
                zeros[bias] = np.zeros(len(value), value.dtype)
    return zeros | arrays


def _fused(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    whole = {key: value for key, value in arrays.items() if FUSED not in key}
    for name in sorted({key.split(FUSED)[0] for key in arrays.keys() - whole.keys()}):
        words = "qkv" if ".qkv." in name else ("gate", "up")
        parts = [f"{name}{FUSED}{index}" for index in range(len(words))]
        # Only the weights of BEiT's keys have no bias beside them, and that has names of its own.
        absent = [word for word, key in zip(words, parts, strict=True) if key not in arrays]
        if absent:
            raise ValueError(f"checkpoint lacks the {', '.join(absent)} part of {name}")
        whole[name] = np.concatenate([arrays[key] for key in parts])
    return whole


def _reshaped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Axes as timm has them, and the pooling head's query apart from its key and value."""
    shaped = {}
    for name, value in arrays.items():
        if name in ("cls_token", "pos_embed") and value.ndim < 3:
            value = value.reshape(1, -1, value.shape[-1])
        elif ".grn." in name:
            value = value.reshape(-1)
        elif name.startswith("attn_pool.qkv."):
            query, pair = name.replace("qkv", "q"), name.replace("qkv", "kv")
            shaped[query], shaped[pair] = np.split(value, [len(value) // 3])
            continue
        elif not value.size:  # the registers of a network that has none
            continue
        shaped[name] = value
    return shaped
