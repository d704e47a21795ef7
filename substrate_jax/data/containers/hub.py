"""Image data sets of the Hugging Face hub: `hfds:NAME[:split][?config=NAME&revision=NAME&...]`.

NAME is `ORG/NAME` on the hub, or a folder that `save_to_disk` or the library's cache wrote (see
`arrow`). Of a set on the hub its Parquet files are read: those that the hub converts every set to
(`refs/convert/parquet`), or, where those are cut off at 5 GB or missing, its own. What the hub's
cache holds is read without a connection, its own files first. Neither the library `datasets` nor a
script of a set is ever run.

    refs/convert/parquet   CONFIG/SPLIT/0000.parquet
    its own                data/SPLIT-00000-of-00002.parquet, CONFIG/SPLIT-..., SPLIT.parquet

A row is called split/row unless a column `id` names it; the columns are those of `tables`.

Not guaranteed: that a set in the cache is complete, where its files do not say how many they are.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tqdm.asyncio import tqdm

from substrate_jax.data.containers import arrow, tables
from substrate_jax.data.containers.parquet import ParquetTable
from substrate_jax.data.decode import Orientation
from substrate_jax.data.optional import optional
from substrate_jax.data.paths import first_of, one_line, readable, user_path
from substrate_jax.data.route import check_hub_route, hub_errors
from substrate_jax.data.sources import Source
from substrate_jax.data.spec_options import query_of, split_place

OPTIONS = (*tables.OPTIONS, "config", "revision")
CONVERTED = "refs/convert/parquet"
_FOLDER = ("/", ".", "~")  # what a name that is a folder begins with
_DEFAULT, _PARTIAL = "default", "partial-"
_OF = re.compile(r"(.+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?")


def open_hub_set(
    text: str,
    options: Mapping[str, str],
    orientation: Orientation = "ignore",
    *,
    quiet: bool = False,
) -> Source:
    """A data set of the hub, of its cache, or of a folder that Hugging Face's library wrote.

    Args:
      text: `ORG/NAME[:split]` or `FOLDER[:split]`; without a split `train`, or the only one.
      options: `config` and `revision` of a set on the hub; `image`, `label`, `id` and `text`.
      orientation: see `decode.decode_image`.
      quiet: no progress bars.

    Returns:
      A source in the order of the set.

    Raises:
      ValueError: it is nowhere to be had (the message says where to put it), has no such split or
        config, or it is not clear which columns are meant.
    """
    place, split = split_place(text)
    folder = user_path(place, f"hfds:{text}")
    if arrow.is_saved(folder):
        return arrow.open_saved(folder, split, options, orientation)
    if place.startswith(_FOLDER):
        raise ValueError(
            f"hfds:{readable(text)}: no data set saved there; give a folder that save_to_disk "
            "wrote, or parquet:PATH for one of Parquet files"
        )
    repository, _, split = text.partition(":")
    what = f"hfds:{readable(text)}"
    optional("pyarrow.parquet", what, tables.EXTRA)
    chosen, folder = _find(repository, split or None, options, what, quiet)
    files = [folder / name for name in chosen.files]
    table = ParquetTable(files, what)
    row_ids = [f"{chosen.split}/{row:06d}" for row in range(table.rows)]
    # The cache names the contents of a file by their hash, which is the same on every machine.
    version = [f"{repository}/{name} {(folder / name).resolve().name}" for name in chosen.files]
    config = "" if chosen.config == _DEFAULT else chosen.config
    named = f"hfds:{repository}:{chosen.split}{query_of({'config': config})}"
    return tables.open_table(table, options, named, row_ids, version, orientation)


def hub_set_bytes(text: str, options: Mapping[str, str]) -> int:
    """Bytes still to fetch for `open_hub_set`; the hub is asked unless the cache has the set.

    Raises:
      ValueError: it is not there, or the hub does not answer.
    """
    place, split = split_place(text)
    repository, _, split = text.partition(":")
    what = f"hfds:{readable(text)}"
    if place.startswith(_FOLDER) or arrow.is_saved(user_path(place, what)):
        return 0
    with _missing(repository, what):
        if _cached(repository, split or None, options, what) is not None:
            return 0
        revision, chosen = _listed(repository, split or None, options, what)
        import huggingface_hub

        about = huggingface_hub.HfApi().get_paths_info(
            repository, list(chosen.files), revision=revision, repo_type="dataset"
        )
        return sum(getattr(one, "size", 0) for one in about)


class Chosen:
    """The Parquet files of one split of one config, and what the two are called.

    Args:
      names: of all files of a revision.
      split, config: as wanted, or None.
      what: the spec, for messages.

    Raises:
      ValueError: several configs or splits may be meant, or none is there.
    """

    def __init__(self, names: Iterable[str], split: str | None, config: str | None, what: str):
        found: dict[str, dict[str, list[str]]] = {}
        for name in sorted(names):
            if placed := place_of(name):
                found.setdefault(placed[0], {}).setdefault(placed[1], []).append(name)
        if not found:
            raise ValueError(f"{what}: none of its files is Parquet of a known layout")
        if config is None and (_DEFAULT in found or len(found) == 1):
            config = _DEFAULT if _DEFAULT in found else next(iter(found))
        if config not in found:
            raise ValueError(
                f"{what}: {'no config ' + repr(config) if config else 'several configs'}; choose "
                f"with ?config={first_of(found)}"
            )
        parts = found[config]
        self.config = config
        self.split = arrow.choose_split([s.removeprefix(_PARTIAL) for s in parts], split, what)
        self.partial = self.split not in parts
        self.files = tuple(parts[_PARTIAL + self.split if self.partial else self.split])

    @property
    def complete(self) -> bool:
        """Whether as many files are there as their names say."""
        counted = [_OF.fullmatch(Path(name).stem) for name in self.files]
        if all(counted):
            return len(self.files) == int(counted[0][3])  # pyright: ignore[reportOptionalSubscript]
        stems = [Path(name).stem for name in self.files]
        return not stems[0].isdigit() or [int(stem) for stem in stems] == list(range(len(stems)))


def place_of(name: str) -> tuple[str, str] | None:
    """Config and split of a Parquet file by its name in a repository; None for other files.

    Example:
      >>> place_of("plain_text/train/0000.parquet"), place_of("data/test-00000-of-00002.parquet")
      (('plain_text', 'train'), ('default', 'test'))
    """
    *folders, file = name.split("/")
    stem, _, suffix = file.rpartition(".")
    if not stem or suffix != "parquet":
        return None
    if stem.isdecimal():
        if not folders:
            return None
        *folders, split = folders
    else:
        match = _OF.fullmatch(stem)
        split = match[1] if match else stem
    config = next((folder for folder in folders if folder != "data"), _DEFAULT)
    return config, split


def _find(
    repository: str, split: str | None, options: Mapping[str, str], what: str, quiet: bool
) -> tuple[Chosen, Path]:
    import huggingface_hub

    with _missing(repository, what):
        if cached := _cached(repository, split, options, what):
            return cached
        revision, chosen = _listed(repository, split, options, what)
        folder = huggingface_hub.snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[re.sub(r"([*?[])", r"[\1]", name) for name in chosen.files],
            tqdm_class=_Quiet if quiet else None,
        )
        return chosen, Path(folder)


def _revisions(options: Mapping[str, str]) -> tuple[str | None, ...]:
    return (options["revision"],) if "revision" in options else (CONVERTED, None)


def _cached(
    repository: str, split: str | None, options: Mapping[str, str], what: str
) -> tuple[Chosen, Path] | None:
    """What the cache holds whole."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    for revision in reversed(_revisions(options)):
        with contextlib.suppress(LocalEntryNotFoundError):
            folder = Path(
                huggingface_hub.snapshot_download(
                    repository, repo_type="dataset", revision=revision, local_files_only=True
                )
            )
            names = [file.relative_to(folder).as_posix() for file in folder.rglob("*.parquet")]
            with contextlib.suppress(ValueError):  # of a split that is not cached
                chosen = Chosen(names, split, options.get("config"), what)
                if chosen.complete and not chosen.partial:
                    return chosen, folder
    return None


def _listed(
    repository: str, split: str | None, options: Mapping[str, str], what: str
) -> tuple[str | None, Chosen]:
    """The revision and files of a split, as the hub lists them."""
    import huggingface_hub
    from huggingface_hub.errors import RevisionNotFoundError

    check_hub_route()
    api, first = huggingface_hub.HfApi(), None
    for revision in _revisions(options):
        try:
            names = api.list_repo_files(repository, repo_type="dataset", revision=revision)
            chosen = Chosen(names, split, options.get("config"), what)
        except RevisionNotFoundError as error:
            first = first or ValueError(f"{what}: no revision {revision}: {error}")
        except ValueError as error:
            first = first or error
        else:
            if not chosen.partial:
                return revision, chosen
            first = ValueError(
                f"{what}: the hub converted a part of it only; fetch its own files and give "
                "parquet:PATH"
            )
    raise first or ValueError(f"{what}: no files")


@contextlib.contextmanager
def _missing(repository: str, what: str) -> Iterator[None]:
    """One line for everything that keeps a data set from us."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{what}: {repository!r} is no name of a data set; give ORG/NAME"
        ) from error
    except hub_errors() as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise ValueError(
            f"{what}: not in the hub's cache, and cannot be fetched ({type(error).__name__}: "
            f"{one_line(Exception(first), 200)}); where there is a connection run "
            f"huggingface_hub.snapshot_download({repository!r}, repo_type='dataset') and place its "
            "cache at HF_HUB_CACHE, or place its Parquet files in a folder and give parquet:FOLDER"
        ) from error


class _Quiet(tqdm):
    """No progress bar."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options | {"disable": True})
