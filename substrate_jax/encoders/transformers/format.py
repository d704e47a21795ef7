"""Encoders in the format of Hugging Face transformers: `hf:facebook/dinov2-small`, or a folder.

A folder holds `config.json`, `preprocessor_config.json` (or since transformers 5 the part
`image_processor` of `processor_config.json`; for texts a tokenizer, see `texts`) and
`model.safetensors`, or the shards that `model.safetensors.index.json` lists. transformers' own
classes read the JSON files (see `options`); of what they make the config becomes one of our
configs, the preprocessor a `Preprocess`, and the checkpoint's keys become timm's names (see
`keys`). Nothing is guessed: every option that decides the output is computed or must have a value
that is; every key of the checkpoint is used or dropped by name.

Features are what transformers pools before a classifier or projection:

    class token after the last LayerNorm    vit, vit_mae (nothing masked), vit_msn, deit, dinov2,
                                            dinov3_vit, clip
    mean of the patches after it            ijepa
    a mean over space, before projections   clap, of sounds
    attention-pooling head                  siglip
    end of the text, before a projection    clip_text_model; clip with tower=text
    mean over the tokens, or the first      bert
    `pooler_output`, a spatial mean         all others

Not guaranteed: pixels equal to the last level; see `preprocessing`.
"""

import hashlib
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from substrate_jax.data.modality import AnyPreprocess
from substrate_jax.data.paths import first_of
from substrate_jax.data.preprocess import Preprocess
from substrate_jax.encoders.hub import (
    CONFIG,
    INDEX,
    PREPROCESSOR,
    PROCESSOR,
    WEIGHTS,
    checked_sha256,
    missing_files,
    read_json,
    shards,
    takes_text,
    weight_map,
)
from substrate_jax.encoders.networks.interpolation import cubic_weights
from substrate_jax.encoders.networks.network import Config
from substrate_jax.encoders.registry import EncoderSpec
from substrate_jax.encoders.transformers.clap import sound_preprocess
from substrate_jax.encoders.transformers.configs import square_side
from substrate_jax.encoders.transformers.keys import rename
from substrate_jax.encoders.transformers.model_types import (
    MODEL_TYPES,
    SOUND_TYPES,
    TEXT_TYPES,
    model_options,
)
from substrate_jax.encoders.transformers.options import Options, refuse
from substrate_jax.encoders.transformers.preprocessing import preprocess_of, settings_of
from substrate_jax.encoders.transformers.texts import read_text_encoder, tokenizer_paths
from substrate_jax.encoders.weights import read_safetensors

# First convolution of the networks that are fed BGR: our images are RGB, so its inputs turn round.
_STEMS = {"mobilevitv2": "stem.conv.weight"}
NO_OPTIONS: Mapping[str, str] = types.MappingProxyType({})


def from_transformers(
    config: Options, preprocessor: Options | None
) -> tuple[Config, AnyPreprocess]:
    """Our config and preprocessing of a checkpoint of transformers.

    Args:
        config: content of config.json.
        preprocessor: content of preprocessor_config.json.

    Returns:
        A config of one of our families, without a head, and what its images or sounds go through.

    Raises:
        ValueError: a model type, option or preprocessing that we do not compute, named; no
            preprocessor; or a type that takes texts.

    Example:
        >>> config, preprocess = from_transformers(
        ...     {"model_type": "vit"}, {"image_processor_type": "ViTImageProcessor"}
        ... )
        >>> config.family, config.width, preprocess.size, preprocess.crop_mode
        ('vit', 768, 224, 'squash')
    """
    name, options = model_options(config)
    if name in TEXT_TYPES:
        raise ValueError(f"{CONFIG}: {name} takes texts, which need the tokenizer of its folder")
    try:
        if name in SOUND_TYPES:
            sound = sound_preprocess(preprocessor)
            return SOUND_TYPES[name].build(options, sound), sound
        return _translated(name, options, preprocessor)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(
            f"{CONFIG} or {PREPROCESSOR} holds what transformers does not write ({error}); fetch "
            "both again"
        ) from error


def _translated(
    name: str, options: Options, preprocessor: Options | None
) -> tuple[Config, Preprocess]:
    kind = MODEL_TYPES[name]
    settings = settings_of(preprocessor, name)
    if settings.get("do_flip_channel_order") and name not in _STEMS:
        refuse(PREPROCESSOR, settings, "do_flip_channel_order", f"{name} takes RGB")
    preprocess = preprocess_of(settings)
    own = options.get("image_size")
    if not kind.any_size and own not in (preprocess.size, (preprocess.size,) * 2):
        raise ValueError(
            f"{CONFIG}: image_size={own!r} but {PREPROCESSOR} makes images of {preprocess.size} "
            f"pixels; {name} takes no other size than its own, give a preprocessor of that"
        )
    return kind.build(options, preprocess.size), preprocess


def to_timm(
    config: Options,
    arrays: Mapping[str, np.ndarray],
    *,
    image_size: int | None = None,
    flip_channels: bool = False,
    tower: str | None = None,
) -> dict[str, np.ndarray]:
    """A checkpoint of transformers under timm's names, for `weights.fill`.

    Args:
        config: content of config.json.
        arrays: the checkpoint's arrays by transformers' names.
        image_size: side of the images where DINOv2's positions are to be resampled to it.
        flip_channels: whether the checkpoint wants BGR.
        tower: see `model_options`.

    Raises:
        ValueError: keys that are neither parameters of the features nor known to be none.
    """
    name, options = model_options(config, tower)
    if flip_channels and name not in _STEMS:
        raise ValueError(f"flip_channels=True: {name} takes RGB")
    renamed = rename(name, options, arrays)
    if name == "dinov2" and image_size is not None and "pos_embed" in renamed:
        grid = image_size // square_side(options, "patch_size")
        renamed["pos_embed"] = resample_bicubic(renamed["pos_embed"], grid)
    if name == "dinov2_with_registers" and {"pos_embed", "cls_token"} <= renamed.keys():
        table = renamed["pos_embed"]
        renamed |= {"cls_token": renamed["cls_token"] + table[:, :1], "pos_embed": table[:, 1:]}
    if flip_channels:
        renamed[_STEMS[name]] = renamed[_STEMS[name]][:, ::-1]
    return renamed


def resample_bicubic(table: Float[np.ndarray, "1 t c"], grid: int) -> Float[np.ndarray, "1 u c"]:
    """A position table of a class token and a square grid, resampled as DINOv2 does on every call.

    Bicubic with kernel parameter -0.75 and edge values repeated, never antialiased; float64 inside.

    Raises:
        ValueError: the rows after the first are not those of a square.
    """
    count = table.shape[1] - 1
    side = math.isqrt(count)
    if side**2 != count:
        raise ValueError(f"pos_embed has {count} patch positions, which is not a square number")
    if side == grid:
        return table
    weights = cubic_weights((np.arange(grid) + 0.5) * (side / grid) - 0.5, side)
    square = table[0, 1:].astype(np.float64).reshape(side, side, -1)
    resampled = np.einsum("yh,xw,hwc->yxc", weights, weights, square, optimize=True)
    patches = resampled.reshape(1, grid**2, -1).astype(table.dtype)
    return np.concatenate([table[:, :1], patches], axis=1)


def transformers_files(folder: Path, tower: str | None = None) -> list[Path]:
    """Every file of the folder that decides the encoder: config, preprocessor, weights.

    Args:
        folder: holds the files as the hub does.
        tower: see `model_options`.

    Raises:
        ValueError: one of them is missing, or the weights are a pickle.
    """
    lacks = missing_files(folder, tower)
    if WEIGHTS in lacks:
        raise ValueError(
            f"{str(folder)!r} has neither {WEIGHTS} nor {INDEX}: only safetensors are read, never "
            "a pickle; many repositories have them in a pull request, then give "
            "hf:ORG/NAME@refs/pr/N, or convert the checkpoint into a folder and give hf:FOLDER"
        )
    if lacks:
        raise ValueError(f"{str(folder)!r} lacks {first_of(lacks)}; fetch what is missing")
    text = takes_text(folder, tower)
    inputs = tokenizer_paths(folder) if text else [_preprocessor(folder)[0]]
    return [folder / CONFIG, *inputs, *_weights(folder)]


def _weights(folder: Path) -> list[Path]:
    """The one file of weights, or the index and its shards."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return [folder / INDEX, *(folder / name for name in shards(folder))]


def read_transformers_arrays(folder: Path, tower: str | None = None) -> dict[str, np.ndarray]:
    """All arrays of model.safetensors, or of the shards that its index lists.

    Args:
        folder: holds the files as the hub does.
        tower: see `model_options`.

    Raises:
        ValueError: no safetensors, a shard missing or broken, or one whose arrays are not those
            that the index lists.
    """
    transformers_files(folder, tower)
    files = _weights(folder)
    if files[0].name == WEIGHTS:
        return read_safetensors(files[0])
    listed_keys = weight_map(folder)
    arrays = {}
    for shard in files[1:]:
        read = read_safetensors(shard)
        listed = {key for key, name in listed_keys.items() if name == shard.name}
        if read.keys() != listed:
            differ = first_of(sorted(read.keys() ^ listed))
            raise ValueError(f"{str(shard)!r} and {INDEX} differ in {differ}; fetch both again")
        arrays |= read
    return arrays


def transformers_sha256(folder: Path, tower: str | None = None) -> str:
    """Hexadecimal SHA-256 over the hashes of all files that decide the encoder."""
    files = transformers_files(folder, tower)
    hashes = [f"{file.name} {checked_sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def transformers_spec(
    folder: Path, name: str, asked: Mapping[str, str] = NO_OPTIONS
) -> EncoderSpec:
    """The record of a checkpoint in transformers' format, from its JSON files and its tokenizer.

    The learning paradigm is that of the architecture's published weights; the license is not in
    the files.

    Args:
        folder: holds the files as the hub does.
        name: what to call the encoder.
        asked: options of texts, see `texts`.

    Raises:
        ValueError: a file is missing or broken, or the checkpoint is one we do not compute; begins
            with the name.
    """
    try:
        config = read_json(folder / CONFIG)
        model_type, options = model_options(config, asked.get("tower"))
        if model_type in TEXT_TYPES:
            ours, preprocess = read_text_encoder(folder, model_type, options, asked)
        elif asked:
            raise ValueError(f"{next(iter(asked))}= is an option of {', '.join(TEXT_TYPES)}")
        else:
            ours, preprocess = from_transformers(config, _preprocessor(folder)[1])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    kind = (MODEL_TYPES | SOUND_TYPES | TEXT_TYPES)[model_type]
    return EncoderSpec(
        name=name,
        config=ours,
        paradigm=kind.paradigm,
        preprocess=preprocess,
        checkpoint=name,
        license="unknown",
        paper=kind.paper,
    )


def transformers_encoder(
    folder: Path, name: str, asked: Mapping[str, str] = NO_OPTIONS
) -> tuple[EncoderSpec, dict[str, np.ndarray]]:
    """The record of a checkpoint in transformers' format, and its arrays for `weights.fill`."""
    tower = asked.get("tower")
    transformers_files(folder, tower)
    spec = transformers_spec(folder, name, asked)
    config = read_json(folder / CONFIG)
    arrays = read_transformers_arrays(folder, tower)
    if not isinstance(spec.preprocess, Preprocess):
        return spec, to_timm(config, arrays, tower=tower)
    settings = settings_of(_preprocessor(folder)[1], model_options(config)[0])
    return spec, to_timm(
        config,
        arrays,
        image_size=spec.preprocess.size,
        flip_channels=bool(settings.get("do_flip_channel_order")),
    )


def _preprocessor(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that says how inputs are prepared, and what it says; found as transformers does."""
    if (folder / PROCESSOR).is_file():
        parts = read_json(folder / PROCESSOR)
        for nested in map(parts.get, ("image_processor", "feature_extractor")):
            if isinstance(nested, dict):
                return folder / PROCESSOR, nested
    return folder / PREPROCESSOR, read_json(folder / PREPROCESSOR)
