"""Where published weights are: a folder the user names, the Hugging Face cache, or the hub.

    FOLDER/NAME.safetensors                       by the encoder's name
    FOLDER/ORG/REPOSITORY/model.safetensors       as `hf download --local-dir` leaves it
    FOLDER/models--ORG--REPOSITORY/snapshots/...  as the hub's cache is laid out

Only safetensors and JSON are ever asked for: nothing is unpickled and no code is fetched. Downloads
show their progress and go on where they stopped (huggingface_hub). The cache names a file's blob by
its SHA-256, so a file from a cache is checked against it; a record can pin a revision and a hash.
"""

import contextlib
import re
from pathlib import Path

from substrate_jax.encoders.weights import file_sha256

WEIGHTS = "model.safetensors"
# What a checkpoint in transformers' format is described by, and all that it is read from.
TRANSFORMERS_CONFIGS = ("config.json", "preprocessor_config.json")
TRANSFORMERS_FILES = (
    *TRANSFORMERS_CONFIGS,
    WEIGHTS,
    f"{WEIGHTS}.index.json",
    "model-*-of-*.safetensors",
)


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
        return Path(huggingface_hub.hf_hub_download(repository, WEIGHTS, revision=revision))


def find_snapshot(
    repository: str,
    revision: str | None = None,
    folder: Path | None = None,
    files: tuple[str, ...] = TRANSFORMERS_FILES,
) -> Path:
    """The folder of a checkpoint in transformers' format, fetched if need be; see `find_file`.

    Args:
        repository, revision, folder: as for `find_file`.
        files: patterns of the files to fetch.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(**options) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=list(files), **options
            )
        )

    if folder is not None:
        if (folder / repository / "config.json").is_file():
            return folder / repository
        with _missing(repository, repository, folder):
            return snapshot(cache_dir=folder, local_files_only=True)
    with _missing(repository, repository):
        with contextlib.suppress(LocalEntryNotFoundError):
            found = snapshot(local_files_only=True)
            # An earlier download may have stopped on the way, or wanted the configs alone.
            if files == TRANSFORMERS_CONFIGS or any(found.glob("model*.safetensors")):
                return found
        return snapshot()


def is_cached(repository: str, revision: str | None = None) -> bool:
    """Whether the hub's cache holds the weights of a repository."""
    import huggingface_hub

    return any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name, revision=revision), str)
        for name in (WEIGHTS, f"{WEIGHTS}.index.json")
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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    errors = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError)
    try:
        yield
    except errors as error:
        if folder is not None:
            wanted = f"{repository}/config.json and its weights"
            if name != repository:
                wanted = f"{name}.safetensors, {repository}/{WEIGHTS}"
            raise ValueError(
                f"no weights for {name} in {str(folder)!r}; place there {wanted} or a hub cache "
                f"that holds {repository}"
            ) from error
        raise ValueError(
            f"the checkpoint {repository!r} of {name} is not cached and cannot be fetched "
            f"({type(error).__name__}); put it in a folder, {name}.safetensors or "
            f"{repository}/{WEIGHTS}, and give --weights_dir=FOLDER, or use --panel=mini, whose "
            "weights are bundled"
        ) from error
