"""Features made elsewhere, as launchers take them: the flags --features and --pool.

An item of --features is [DOMAIN:]NAME=PATH, or NAME@LAYER=PATH where layers are compared. One that
holds a comma is put in double quotes, as everywhere. With DOMAIN every domain needs a file of every
NAME; without it there is one domain.

Without --encoders and --domains the rows are those of the files, which must all have the same ids,
and no image is read. With either of them the rows are the images of the domains, and every file
must have a row for each that is used. Files and their formats: `substrate_jax.features.files`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from . import encoders as panel
from .file_panel import ROWS, FilePanel, Opened
from .stages import progress_bar

if TYPE_CHECKING:
    from substrate_jax.features import Features

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(panel)
flags.DEFINE_list(
    "features",
    [],
    "Features made elsewhere, [DOMAIN:]NAME=PATH,...: .npy, .npz, .safetensors, .h5, .csv, "
    ".parquet or a folder of thingsvision, rows by id (docs/applications.md).",
)
flags.DEFINE_enum(
    "pool",
    None,
    ["mean", "flatten", "first"],
    "One row of activations of more dimensions: their mean over positions or tokens, all of them, "
    "or the first token.",
)


@dataclasses.dataclass(frozen=True)
class Item:
    """An item of --features.

    Attributes:
        domain: None where none is named.
        name: of the encoder, with @LAYER if it has one.
        path: as the user gave it.
    """

    domain: str | None
    name: str
    path: str


def chosen_specs() -> list:
    """The records of --encoders, unless --features is given alone, and of --random_weights."""
    only_files = FLAGS.features and FLAGS["encoders"].using_default_value
    return panel.random_specs() if only_files else panel.chosen_specs()


def open_files(specs: Sequence[Any], *, flag: str = "domains", layers: bool = False) -> FilePanel:
    """The domains of a run and the files of --features, opened.

    Args:
        specs: records of the encoders that run.
        flag: that names the domains.
        layers: whether items name layers, NAME@LAYER=PATH.

    Raises:
        ValueError: a malformed item, a name given twice, domains with different encoders, or a file
            that cannot be read.
    """
    from substrate_jax.data.domains import resolve_domains
    from substrate_jax.features.files import open_features

    items = [_item(word, layers) for word in FLAGS.features]
    uses_images = not items or bool(specs) or not FLAGS[flag].using_default_value
    named = dict.fromkeys(item.domain for item in items)
    if len(named) > 1 and None in named:
        raise ValueError(
            f"features={','.join(FLAGS.features)!r}: some items name a domain and some do not; "
            "write DOMAIN:NAME=PATH for all of them"
        )
    domains = {domain or ROWS: ROWS for domain in named}
    if uses_images:
        domains = resolve_domains(getattr(FLAGS, flag))
        if None in named and len(domains) > 1:
            raise ValueError(
                f"features={','.join(FLAGS.features)!r}: {len(domains)} {flag}; write "
                "DOMAIN:NAME=PATH for each of them"
            )
        if unknown := [domain for domain in named if domain not in (None, *domains)]:
            raise ValueError(
                f"features: domain {unknown[0]!r} is none of this run's {', '.join(domains)}; "
                f"name it in --{flag}"
            )
    paths: dict[str, dict[str, str]] = {domain: {} for domain in domains} if items else {}
    taken = {spec.name for spec in specs}
    for item in items:
        of = paths[item.domain or next(iter(domains))]
        if item.name in of or item.name in taken:
            raise ValueError(f"features: {item.name!r} is given twice; give every encoder a name")
        of[item.name] = item.path
    order = list(next(iter(paths.values()), {}))
    for domain, of in paths.items():
        if differ := sorted(of.keys() ^ set(order)):
            raise ValueError(
                f"features: domain {domain!r} and domain {next(iter(paths))!r} do not both have "
                f"{', '.join(differ)}; give every encoder a file for every domain"
            )
    opened: dict[str, dict[str, Opened]] = {domain: {} for domain in paths}
    for domain, of in paths.items():
        for name in order:
            file = open_features(of[name])
            opened[domain][name] = Opened(file, file.key_of(name))
    return FilePanel(uses_images, domains, opened, FLAGS.pool)


def features_of(
    files: FilePanel,
    encoders: Sequence[Any],
    sources: Mapping[str, Any],
    store,
    mesh,
    stages,
    **options,
) -> "dict[str, Features]":
    """Features of every domain: extracted by the encoders, then those of the files.

    Args:
        files: of --features.
        encoders: loaded; may be none.
        sources: domain -> images.
        store: for what is extracted.
        mesh: of the devices.
        stages: of the run; the time is that of "extract".
        options: of `encoders.extract_features`.
    """
    found = {}
    for name, source in sources.items():
        bar = progress_bar(name, len(source), source.modality)
        with stages("extract"), bar as progress:
            extracted = None
            if encoders:
                extracted = panel.extract_features(
                    encoders, source, store, mesh, progress, **options
                )
            found[name] = files.features(name, source, extracted)
    return found


def notes(
    specs: Sequence[Any], files: FilePanel, sources: Mapping[str, Any], features: Mapping[str, Any]
) -> list[str]:
    """Choices of a run, and what befell its images, that change how its numbers read."""
    found = panel.arithmetic_notes() if specs else []
    found += panel.paradigm_notes(specs) + files.notes(sources)
    for name, source in sources.items():
        found += panel.unreadable_note(name, source, len(features[name].ids))
        found += panel.left_out_note(source) + panel.few_images_note(name, source)
        found += panel.constant_notes(name, features[name]) + panel.input_notes(specs, source)
    return found


def items(*, layers: bool = False) -> list[Item]:
    """The items of --features.

    Args:
        layers: whether they name layers.

    Raises:
        ValueError: a malformed one.
    """
    return [_item(word, layers) for word in FLAGS.features]


def _item(word: str, layers: bool) -> Item:
    name, _, path = word.partition("=")
    domain, colon, name = name.rpartition(":")
    form = "NAME@LAYER=PATH" if layers else "NAME=PATH or DOMAIN:NAME=PATH"
    parts = name.split("@")
    wrong = len(parts) != (2 if layers else 1) or not all(parts) or (layers and colon)
    if not path or wrong or (colon and not domain):
        raise ValueError(
            f"features={word!r}: write {form}; put an item that holds a comma in double quotes"
        )
    return Item(domain or None, name, path)
