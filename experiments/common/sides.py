"""The two sides of a comparison of modalities: sources or files of features, and their encoders.

A side is an item of --domains, or a DOMAIN of --features, or both. Encoders of images see a side of
images, and of a side of sounds the pictures of their spectrograms; encoders of sounds, and the
statistics log_mel, a side of sounds; encoders of texts a side of texts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from . import encoders as panel
from . import features as feature_files
from .file_panel import ROWS, FilePanel

if TYPE_CHECKING:
    from substrate_jax.analyses.crossmodal.sides import Side
    from substrate_jax.data.sources import Source
    from substrate_jax.features import Features
    from substrate_jax.report.run import EncoderRecord

FLAGS = flags.FLAGS
flags.DEFINE_bool("pictures", True, "Show encoders of images the spectrograms of sounds.")
flags.DEFINE_string(
    "class_of",
    None,
    "Regular expression whose first bracket is the class in an id, such as '^([0-9])_', for sides "
    "where it finds one.",
)
flags.DEFINE_string(
    "group_of",
    "(speaker[0-9]+)",
    "The same for a group that rows of a class come in, such as the speaker.",
)
# An encoder of each modality, for a message.
_ENCODERS = {
    "image": "mini_vit_base",
    "sound": "clap",
    "text": "hf:openai/clip-vit-base-patch32?tower=text or a bert",
}
PICTURE = "{} on pictures"  # what an encoder of images is called on the side of sounds


@dataclasses.dataclass(frozen=True)
class OpenedSide:
    """A side before anything is computed.

    Attributes:
        name: of the side.
        files: its source and its files of features, one domain.
        source: its rows; sounds stay sounds.
        images: records of the encoders that see images of it.
        others: records of those that take its sounds or texts.
    """

    name: str
    files: FilePanel
    source: "Source"
    images: Sequence[Any]
    others: Sequence[Any]

    @property
    def specs(self) -> list[Any]:
        """Records of all its encoders."""
        return [*self.images, *self.others]

    @property
    def has_sounds(self) -> bool:
        """Whether rows are sounds."""
        return self.files.uses_images and self.source.modality == "sound"

    @property
    def width(self) -> int:
        """Features of a row, of all encoders."""
        own = sum(spec.width for spec in (*self.specs, *self.files.specs))
        return own + (_log_mel().spec.width if self.has_sounds else 0)

    def kinds(self) -> dict[str, str]:
        """Encoder -> what it takes, by the name that it has on this side."""
        if not self.has_sounds:
            return {}
        pictures = {PICTURE.format(spec.name): "picture" for spec in self.images}
        names = [spec.name for spec in (*self.others, *self.files.specs)]
        return dict.fromkeys([_log_mel().spec.name, *names], "sound") | pictures

    def rows(self, features: "Features | None" = None) -> "Side":
        """Ids, classes and groups of the rows; with features, of the rows that these have."""
        from substrate_jax.analyses.crossmodal.sides import Side

        expressions = {"class_of": FLAGS.class_of, "group_of": FLAGS.group_of}
        return Side.of(self.name, features or self.source, **expressions, kinds=self.kinds())

    def records(self, loaded: Mapping[str, Any]) -> "list[EncoderRecord]":
        """What is recorded of the encoders of this side, networks by their loaded encoder."""
        from substrate_jax.report.run import EncoderRecord

        found = [panel.encoder_record(loaded[spec.name]) for spec in self.specs]
        found = [
            dataclasses.replace(one, paradigm="untrained")
            if one.source.startswith("untrained-")
            else one
            for one in found
        ]
        if self.has_sounds:
            spec = _log_mel().spec
            own = (
                spec.name,
                "formula",
                "formula",
                spec.width,
                None,
                "features.log_mel",
                None,
                None,
            )
            found.append(EncoderRecord(*own))
        return found + self.files.encoder_records()

    def pictures(self) -> "Source":
        """What encoders of images see."""
        from substrate_jax.data.sound_pictures import pictures_of

        return pictures_of(self.source) if self.has_sounds else self.source


def open_sides(specs: Sequence[Any]) -> tuple[OpenedSide, OpenedSide]:
    """The sides of --domains and --features.

    Args:
        specs: records of the encoders that run.

    Raises:
        ValueError: not two sides, an item of --features without one, a name twice, a side that no
            encoder takes, or what opening a source or a file raises.
    """
    from substrate_jax.data.domains import resolve_domains
    from substrate_jax.features.files import open_features

    items = feature_files.items()
    with_source = not items or not FLAGS["domains"].using_default_value
    sources = resolve_domains(FLAGS.domains) if with_source else {}
    if unnamed := [item.name for item in items if item.domain is None]:
        raise ValueError(f"features: {unnamed[0]!r} names no side; write SIDE:NAME=PATH")
    names = list(dict.fromkeys([*sources, *(item.domain or "" for item in items)]))
    if len(names) != 2:
        raise ValueError(
            f"{len(names)} sides ({', '.join(names)}): give two, in --domains=A=SOURCE,B=SOURCE or "
            "--features=A:NAME=PATH,B:NAME=PATH"
        )
    found = []
    for name in names:
        own = [item for item in items if item.domain == name]
        if len({item.name for item in own}) < len(own):
            raise ValueError(f"features: side {name!r} has a name twice; give every encoder a name")
        opened = {}
        for item in own:
            file = open_features(item.path)
            opened[item.name] = feature_files.Opened(file, file.key_of(item.name))
        spec = sources.get(name, ROWS)
        by_domain = {name: opened} if opened else {}
        files = FilePanel(name in sources, {name: spec}, by_domain, FLAGS.pool)
        # Networks that nobody asked for do not run beside files.
        unasked = bool(opened) and FLAGS["encoders"].using_default_value
        found.append(_side(name, files, () if unasked else specs))
    return found[0], found[1]


def _side(name: str, files: FilePanel, specs: Sequence[Any]) -> OpenedSide:
    source = files.source(name)
    if not files.uses_images:
        return OpenedSide(name, files, source, (), ())
    of = {kind: [s for s in specs if s.preprocess.modality == kind] for kind in _ENCODERS}
    if source.modality == "sound":
        return OpenedSide(name, files, source, of["image"] if FLAGS.pictures else (), of["sound"])
    if not of[source.modality] and not files.opened:
        raise ValueError(
            f"side {name!r} has {source.modality}s, and none of --encoders="
            f"{','.join(FLAGS.encoders)} takes {source.modality}s; name one, such as "
            f"{_ENCODERS[source.modality]}, or give its --features"
        )
    if source.modality == "text":
        return OpenedSide(name, files, source, (), of["text"])
    return OpenedSide(name, files, source, of["image"], ())


def extract_side(side: OpenedSide, loaded: Mapping[str, Any], store, mesh, progress) -> "Features":
    """Features of a side: of its images, sounds or texts, of the pictures of sounds, and of files.

    Args:
        side: opened.
        loaded: encoders by name.
        store: for what is extracted.
        mesh: of the devices.
        progress: of the rows.
    """
    found = None
    encoders = [_log_mel()] if side.has_sounds else []
    encoders += [loaded[spec.name] for spec in side.others]
    if encoders:
        found = panel.extract_features(encoders, side.source, store, mesh, progress)
    if side.images:
        encoders = [loaded[spec.name] for spec in side.images]
        seen = panel.extract_features(encoders, side.pictures(), store, mesh, progress)
        if found is None:
            found = seen
        else:
            named = {PICTURE.format(name): block for name, block in seen.items()}
            found = found.join(dataclasses.replace(seen, arrays=named))
    return side.files.features(side.name, side.source, found)


def _log_mel():
    from substrate_jax.features.log_mel import LogMel

    return LogMel()
