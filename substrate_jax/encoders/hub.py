"""Where published weights are: a folder the user names, the Hugging Face cache, or the hub.

    FOLDER/NAME.safetensors                       by the encoder's name
    FOLDER/ORG/REPOSITORY/model.safetensors       as `hf download --local-dir` leaves it
    FOLDER/models--ORG--REPOSITORY/snapshots/...  as the hub's cache is laid out

Only safetensors, JSON and lists of words are ever asked for: nothing is unpickled and no code is
fetched. Downloads show their progress and go on where they stopped (huggingface_hub). The cache
names a file's blob by its SHA-256, so a file from a cache is checked against it; a record can pin a
revision and a hash.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, NoReturn

from substrate_jax.data.paths import one_line, read_file
from substrate_jax.data.route import check_hub_route, hub_errors
from substrate_jax.encoders.weights import file_sha256

CONFIG = "config.json"
# Where transformers keeps how images are prepared: the second file since its version 5.
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# Of texts: what cuts them into tokens, and what sentence-transformers writes beside it.
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",))
TOKENIZER_CONFIG = "tokenizer_config.json"
SENTENCE, POOLING = "sentence_bert_config.json", "1_Pooling/config.json"
TEXT_FILES = (
    *(name for names in TOKENIZERS for name in names),
    *(TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", SENTENCE, POOLING),
)
TEXT_MODEL_TYPES = ("bert", "clip_text_model")  # which take texts alone
# What a checkpoint in transformers' format is described by, and all that it is read from.
TRANSFORMERS_CONFIGS = (CONFIG, PREPROCESSOR, PROCESSOR, *TEXT_FILES)
TRANSFORMERS_FILES = (*TRANSFORMERS_CONFIGS, WEIGHTS, INDEX, "model-*-of-*.safetensors")


def find_file(
    name: str, repository: str, revision: str | None = None, folder: Path | None = None
) -> Path:
    """The weights of an encoder in timm's format, fetched if need be and no folder is given.

    Args:
        name: the encoder's.
        repository: on the hub, `ORG/NAME`.
        revision: commit or branch; None for the main one.
        folder: look here and nowhere else.

    Raises:
        ValueError: they are nowhere to be had; the message says where to put them.
    """
    if folder is not None:
        for path in (folder / f"{name}.safetensors", folder / repository / WEIGHTS):
            if path.is_file():
                return path
        with _missing(name, repository, folder):
            return _cached_file(repository, revision, folder)
    with _missing(name, repository):
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        with contextlib.suppress(LocalEntryNotFoundError):
            return _cached_file(repository, revision)
        check_hub_route()
        return Path(huggingface_hub.hf_hub_download(repository, WEIGHTS, revision=revision))


def find_snapshot(
    repository: str,
    revision: str | None = None,
    folder: Path | None = None,
    files: tuple[str, ...] = TRANSFORMERS_FILES,
    tower: str | None = None,
) -> Path:
    """The folder of a checkpoint in transformers' format, fetched if need be; see `find_file`.

    Without a connection it may be one that lacks files: whoever reads it says which.

    Args:
        repository, revision, folder: as for `find_file`.
        files: patterns of the files to fetch.
        tower: "text" for the tower of texts.
    """
    import huggingface_hub

    with _missing(repository, repository, folder):
        found = local_snapshot(repository, revision, folder, files)
        if found is not None and (
            folder is not None or not missing_files(found, tower, weights=WEIGHTS in files)
        ):
            return found
        if folder is not None:
            raise FileNotFoundError(repository)
        try:
            check_hub_route()
            return Path(
                huggingface_hub.snapshot_download(
                    repository, revision=revision, allow_patterns=list(files)
                )
            )
        except hub_errors():
            if found is None:
                raise
            return found


def local_snapshot(
    repository: str,
    revision: str | None = None,
    folder: Path | None = None,
    files: tuple[str, ...] = TRANSFORMERS_FILES,
) -> Path | None:
    """What of a checkpoint in transformers' format is here, if anything; see `find_snapshot`."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if folder is not None and (folder / repository / CONFIG).is_file():
        return folder / repository
    with contextlib.suppress(LocalEntryNotFoundError, HFValidationError):
        return Path(
            huggingface_hub.snapshot_download(
                repository,
                revision=revision,
                allow_patterns=list(files),
                cache_dir=folder,
                local_files_only=True,
            )
        )
    return None


def takes_text(folder: Path, tower: str | None = None) -> bool:
    """Whether a checkpoint in transformers' format, or the tower asked for, takes texts."""
    if tower == "text" or not (folder / CONFIG).is_file():
        return tower == "text"
    return read_json(folder / CONFIG).get("model_type") in TEXT_MODEL_TYPES


def missing_files(folder: Path, tower: str | None = None, *, weights: bool = True) -> list[str]:
    """Names of the files that a checkpoint in transformers' format lacks, its shards among them.

    An earlier download may have stopped on the way, or wanted the configs alone.
    """
    lacks = [] if (folder / CONFIG).is_file() else [CONFIG]
    if takes_text(folder, tower):
        if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
            lacks.append(" or ".join(" with ".join(names) for names in TOKENIZERS))
    elif not any((folder / name).is_file() for name in (PREPROCESSOR, PROCESSOR)):
        lacks.append(PREPROCESSOR)
    if not weights or (folder / WEIGHTS).is_file():
        return lacks
    if not (folder / INDEX).is_file():
        return [*lacks, WEIGHTS]
    # os.path: a name in a damaged index may be longer than names of files can be.
    return lacks + [name for name in shards(folder) if not os.path.isfile(folder / name)]


def shards(folder: Path) -> list[str]:
    """Names of the files that the weights are spread over, from their index."""
    return sorted(set(weight_map(folder).values()))


def weight_map(folder: Path) -> dict[str, str]:
    """Key -> shard that holds it, as the index lists them.

    Raises:
        ValueError: the index is broken, lists nothing, or files outside its folder.
    """
    listed = read_json(folder / INDEX).get("weight_map")
    if (
        not listed
        or not isinstance(listed, dict)
        or not all(isinstance(name, str) and Path(name).name == name for name in listed.values())
    ):
        raise ValueError(f"{str(folder / INDEX)!r} lists no shards of its folder; fetch it again")
    return listed


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: no such file, or it holds no object.
    """
    try:
        content = json.loads(read_file(path).decode(), parse_constant=_refuse_constant)
    except OSError as error:
        why = error.strerror or one_line(error)
        raise ValueError(
            f"{str(path)!r} cannot be read ({why}); fetch it with the checkpoint"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is not JSON ({one_line(error)}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{str(path)!r} holds a {type(content).__name__} and no object; fetch it again"
        )
    return content


def _refuse_constant(word: str) -> NoReturn:
    """JSON has no NaN and no infinities, though Python reads them."""
    raise ValueError(f"{word} is no number")


def is_cached(repository: str, revision: str | None = None) -> bool:
    """Whether the hub's cache holds the weights of a repository."""
    import huggingface_hub

    return any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name, revision=revision), str)
        for name in (WEIGHTS, INDEX)
    )


def checked_sha256(path: Path, pinned: str | None = None) -> str:
    """SHA-256 of a file, which must be the pinned one, and the one its cache names it by.

    Raises:
        ValueError: it is not.
    """
    actual = file_sha256(path)
    blob = path.resolve().name
    expected = pinned or (blob if re.fullmatch("[0-9a-f]{64}", blob) else actual)
    if actual != expected:
        raise ValueError(
            f"weights {str(path)!r}: sha256 is {actual}, expected {expected}; the file was cut "
            "short or changed: delete it and fetch it again"
        )
    return actual


def revision_of(path: Path) -> str | None:
    """Commit of a file or folder in a cache's snapshots; None elsewhere."""
    found = re.search(r"/models--[^/]+/snapshots/([^/]+)", path.as_posix())
    return found and found[1]


def _cached_file(repository: str, revision: str | None, cache: Path | None = None) -> Path:
    import huggingface_hub

    return Path(
        huggingface_hub.hf_hub_download(
            repository, WEIGHTS, revision=revision, cache_dir=cache, local_files_only=True
        )
    )


@contextlib.contextmanager
def _missing(name: str, repository: str, folder: Path | None = None):
    """One line for everything that keeps a checkpoint from us."""
    try:
        yield
    except hub_errors() as error:
        if folder is not None:
            wanted = f"{repository}/{CONFIG} and its weights"
            if name != repository:
                wanted = f"{name}.safetensors, {repository}/{WEIGHTS}"
            raise ValueError(
                f"no weights for {name} in {str(folder)!r}; place there {wanted} or a hub cache "
                f"that holds {repository}"
            ) from error
        first = next(iter(str(error).strip().splitlines()), "")
        said = f"the checkpoint {repository!r} of {name}"
        wanted = f"{name}.safetensors or {repository}/{WEIGHTS}"
        if name == repository:  # given as hf:ORG/NAME
            said = f"the checkpoint 'hf:{repository}'"
            wanted = f"{repository}/{CONFIG}, {PREPROCESSOR} and {WEIGHTS} beside it"
        raise ValueError(
            f"{said} is not cached and cannot be fetched "
            f"({type(error).__name__}: {first}); put it in a folder, as {wanted}, and give "
            "weights=FOLDER, or choose an encoder of the mini panel, whose weights are bundled"
        ) from error
