"""Where the weights of an encoder are: bundled, in the user's folder, or on the hub.

`hf:ORG/NAME`, `hf:ORG/NAME@REVISION` and `hf:FOLDER` name checkpoints in transformers' format; the
record of an encoder may name one too. Those of texts may have options, as sources have them:
`hf:ORG/NAME?tower=text` is the tower of texts of a CLIP (see `transformers.texts`).
"""

import os
from importlib import resources
from pathlib import Path

from substrate_jax.data.paths import readable, readable_inverse, user_path
from substrate_jax.data.spec_options import split_options
from substrate_jax.encoders import hub
from substrate_jax.encoders.registry import TRANSFORMERS_PREFIX, EncoderSpec, encoder_spec
from substrate_jax.encoders.transformers.format import transformers_spec
from substrate_jax.encoders.transformers.texts import OPTIONS


def find_weights(spec: EncoderSpec, weights: str | Path | None = None) -> Path:
    """The file an encoder's weights are in, fetched from the hub if need be.

    Raises:
        ValueError: it is nowhere to be had; the message says where to put it.
    """
    if weights is None and spec.bundled:
        return Path(str(resources.files("substrate_jax") / "mini" / spec.checkpoint))
    folder = _folder(weights)
    if folder is not None and not folder.is_dir():
        if not folder.is_file():
            raise ValueError(f"weights {str(folder)!r} for {spec.name}: no such file or folder")
        return folder
    if "/" not in spec.checkpoint:
        file = None if folder is None else folder / spec.checkpoint
        if file is None or not file.is_file():
            given = "none were given" if folder is None else f"{str(folder)!r} has none"
            raise ValueError(
                f"weights for {spec.name}: {given}, and no hub has them; make {spec.checkpoint} "
                f"with `python -m substrate_jax.encoders.tflite MODEL.tflite {spec.checkpoint}` "
                "(docs/encoders.md) and give it, or its folder"
            )
        return file
    return hub.find_file(spec.name, spec.checkpoint, spec.revision, folder)


def find_spec(name: str, weights: str | Path | None = None) -> EncoderSpec:
    """The record of a registered encoder, or of one in transformers' format from its configs."""
    if name.startswith(TRANSFORMERS_PREFIX):
        folder = find_transformers(name, weights, hub.TRANSFORMERS_CONFIGS)
        return transformers_spec(folder, readable(name), options_of(name))
    return encoder_spec(name)


def is_at_hand(spec: EncoderSpec, weights: str | Path | None = None) -> bool:
    """Whether the weights can be had without a download."""
    if spec.checkpoint.startswith(TRANSFORMERS_PREFIX):
        found, repository, revision = _place(spec.checkpoint)
        if found is None:
            found = hub.local_snapshot(repository, revision, _folder(weights))
        tower = options_of(spec.checkpoint).get("tower")
        return found is not None and not hub.missing_files(found, tower)
    if spec.bundled:
        return True
    if weights is None:
        return hub.is_cached(spec.checkpoint, spec.revision)
    try:
        find_weights(spec, weights)
    except ValueError:
        return False
    return True


def find_transformers(
    name: str,
    weights: str | Path | None = None,
    files: tuple[str, ...] = hub.TRANSFORMERS_FILES,
) -> Path:
    """The folder of a checkpoint in transformers' format; see `find_weights`."""
    found, repository, revision = _place(name)
    tower = options_of(name).get("tower")
    return found or hub.find_snapshot(repository, revision, _folder(weights), files, tower)


def options_of(name: str) -> dict[str, str]:
    """The options of a name of a checkpoint in transformers' format.

    Raises:
        ValueError: an option of another name, or given twice.

    Example:
        >>> options_of("hf:openai/clip-vit-base-patch32?tower=text")
        {'tower': 'text'}
    """
    return split_options(name.removeprefix(TRANSFORMERS_PREFIX), OPTIONS, name)[1]


def _folder(weights: str | Path | None) -> Path | None:
    return None if weights is None else user_path(weights, f"weights {str(weights)!r}")


def _place(name: str) -> tuple[Path | None, str, str | None]:
    """hf:FOLDER -> FOLDER; hf:ORG/NAME@REVISION -> None, ORG/NAME, REVISION.

    Raises:
        ValueError: a path that leads to no folder.
    """
    text = split_options(name.removeprefix(TRANSFORMERS_PREFIX), OPTIONS, name)[0]
    if not text:
        raise ValueError(f"encoder {name!r}: give hf:ORG/NAME, or hf:FOLDER")
    folder = user_path(text, name)
    for found in (folder, Path(os.fsdecode(readable_inverse(str(folder))))):
        if found.is_dir():
            return found, "", None
    if text.startswith(("/", "~", "./", "../")) or folder.exists():
        raise ValueError(f"{name}: no such folder {str(folder)!r}; give one of a checkpoint")
    repository, at, revision = text.partition("@")
    if at and not revision:
        raise ValueError(f"encoder {name!r}: give a revision after @, or hf:{repository} alone")
    return None, repository, revision or None
