"""Encoders of which there are only features, in files: their rows, and what is recorded of them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import encoders as panel
from . import redaction

if TYPE_CHECKING:
    import numpy as np

    from substrate_jax.analyses.layers.rows import GivenLayers
    from substrate_jax.data.sources import Source
    from substrate_jax.features import Features
    from substrate_jax.features.files import FeatureFile
    from substrate_jax.report.run import EncoderRecord, FileRecord, ImageSet, Run

ROWS = "files"  # the domain of files without one, and the source of rows that no image is read for


@dataclasses.dataclass(frozen=True)
class FileSpec:
    """What is known of an encoder of which there are only features.

    Attributes:
        name: as the user calls it.
        family: that of the registered encoder of this name; else the name, a family of its own.
        paradigm: likewise; else "unknown".
        groups: of the paradigm.
        width: features per row.
        registered: whether there is such an encoder.
    """

    name: str
    family: str
    paradigm: str
    groups: frozenset[str]
    width: int
    registered: bool


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file, and which of its blocks is meant."""

    file: "FeatureFile"
    key: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block, as it lies in the file."""
        return self.file.blocks[self.key].shape

    def width(self, pool: str | None) -> int:
        """Features of a row."""
        from substrate_jax.features.files import FileRows

        return FileRows(self.file.blocks[self.key], pool, self.file.path).shape[1]


@dataclasses.dataclass(frozen=True)
class FilePanel:
    """The encoders of --features on every domain of a run.

    Attributes:
        uses_images: whether rows are images of a source, or those of the files.
        domains: name -> source, as for `data.domains.open_source`; `ROWS` without images.
        opened: domain -> encoder -> file; no domain without --features.
        pool: how activations of more dimensions become one row each; None where it was not said.
    """

    uses_images: bool
    domains: Mapping[str, str]
    opened: Mapping[str, Mapping[str, Opened]]
    pool: str | None

    @property
    def specs(self) -> list[FileSpec]:
        """Records of the encoders, in the order given."""
        from substrate_jax.encoders import encoder_spec, list_encoders

        found, known = [], set(list_encoders())
        for name, opened in next(iter(self.opened.values()), {}).items():
            of, width = name.partition("@")[0], opened.width(self.pool)
            if of in known:
                spec = encoder_spec(of)
                kept = (spec.family, spec.paradigm, spec.groups)
            else:
                kept = (of, "unknown", frozenset())
            found.append(FileSpec(name, *kept, width, of in known))
        return found

    def source(self, domain: str) -> "Source":
        """Images of a domain; without images its rows, which can only be named.

        Raises:
            ValueError: files that do not have the same ids, or other labels for them.
        """
        if self.uses_images:
            return panel.open_images(self.domains[domain])
        return _rows_as_source(domain, self.opened[domain])

    def features(
        self, domain: str, source: "Source", extracted: "Features | None" = None
    ) -> "Features":
        """Features of a domain: those extracted, then the files' rows of the same images.

        Args:
            domain: its name.
            source: its images.
            extracted: of the encoders that ran on them; None without any.

        Raises:
            ValueError: a file without a row for one of the images, or with one that is not finite.
        """
        from substrate_jax.features import Features

        found = extracted or Features(source.ids, source.labels, {}, source.label_names)
        blocks = {
            name: opened.file.rows(
                opened.key, self.pool, _order(opened.file, found.ids, f"domain {domain!r}")[0]
            )
            for name, opened in self.opened.get(domain, {}).items()
        }
        return dataclasses.replace(found, arrays={**found.arrays, **blocks})

    def layers(self) -> "dict[str, GivenLayers]":
        """Encoder -> its layers, of items NAME@LAYER on the one domain of the run."""
        from substrate_jax.analyses.layers.rows import GivenLayers

        found: dict[str, dict[str, Opened]] = {}
        for of in self.opened.values():
            for name, opened in of.items():
                encoder, _, layer = name.partition("@")
                found.setdefault(encoder, {})[layer] = opened

        domain = next(iter(self.domains))

        def given(of: Mapping[str, Opened]) -> GivenLayers:
            def rows(layer: str, ids: Sequence[str]):
                file, key = of[layer].file, of[layer].key
                return file.rows(key, self.pool, _order(file, ids, f"domain {domain!r}")[0])

            widths = {layer: (opened.width(self.pool),) for layer, opened in of.items()}
            return GivenLayers(widths, rows)

        return {encoder: given(of) for encoder, of in found.items()}

    def encoder_records(self) -> "list[EncoderRecord]":
        """What is known of the encoders, for result.json."""
        from substrate_jax.report.run import EncoderRecord

        members: dict[str, list[FileSpec]] = {}
        for spec in self.specs:
            members.setdefault(spec.name.partition("@")[0], []).append(spec)
        records = []
        for name, specs in members.items():
            files = [of[spec.name].file for of in self.opened.values() for spec in specs]
            one = len(files) == 1
            records.append(
                EncoderRecord(
                    name=name,
                    family=specs[0].family,
                    paradigm=specs[0].paradigm,
                    width=sum(spec.width for spec in specs),
                    parameters=None,
                    source=files[0].path if one else f"{len(files)} files of features",
                    revision=None,
                    sha256=_sha256(files[0]) if one else None,
                )
            )
        return redaction.redacted(records)

    def described(self, run: "Run") -> "Run":
        """The run with its files."""
        return dataclasses.replace(run, files=self._records()) if self.opened else run

    def _records(self) -> "list[FileRecord]":
        from substrate_jax.report.run import FileRecord

        records = [
            FileRecord(
                encoder=name,
                domain=domain,
                path=opened.file.path,
                sha256=_sha256(opened.file),
                shape=list(opened.shape),
                dtype=str(opened.file.blocks[opened.key].dtype),
                pool=self.pool if len(opened.shape) > 2 else None,
            )
            for domain, of in self.opened.items()
            for name, opened in of.items()
        ]
        return redaction.redacted(records)

    def image_set(self, domain: str, source: "Source") -> "ImageSet":
        """What a domain's images are, or its rows."""
        import numpy as np

        from substrate_jax.report.run import ImageSet

        if self.uses_images:
            return panel.image_set(domain, self.domains[domain], source)
        labels = source.labels
        return ImageSet(
            source=ROWS,
            fingerprint=source.fingerprint,
            description="Rows of files of features; no image was read.",
            pictures=None if labels is None else len(np.unique(labels)),
        )

    def notes(self, sources: "Mapping[str, Source]") -> list[str]:
        """How numbers of files read."""
        if not self.opened:
            return []
        found = ["Features in files are taken as they are: no network was run for them."]
        if not self.uses_images:
            found.append(
                "Rows come from the files and no image was read: there are no thumbnails, and what "
                "is called an image here is a row."
            )
        registered = {spec.name.partition("@")[0]: spec for spec in self.specs if spec.registered}
        found += [
            f"{name} counts as {spec.paradigm.replace('_', ' ')} of the family {spec.family}, "
            "as the registered encoder of that name."
            for name, spec in registered.items()
        ]
        for domain, of in self.opened.items():
            for name, opened in of.items():
                _, folder = _order(opened.file, sources[domain].ids, domain)
                if folder:
                    found.append(f"{name}, {domain}: ids of rows are read without {folder!r}.")
        return found

    def lines(self) -> list[str]:
        """The files of a plan, one a line."""
        widths = {spec.name: spec.width for spec in self.specs}
        return [
            f"  {name:20s} {domain:20s} {list(opened.shape)} "
            f"{opened.file.blocks[opened.key].dtype} -> width {widths[name]}  {opened.file.path}"
            for domain, of in self.opened.items()
            for name, opened in of.items()
        ]


def _order(file: "FeatureFile", ids: Sequence[str], there: str) -> "tuple[np.ndarray, str]":
    """Which row of a file is which image, and the folder that its ids lose for it."""
    from substrate_jax.features.files import match_rows, relative_to

    own, folder = relative_to(file.ids, ids)
    return match_rows(own, ids, file.path, there), folder


def _rows_as_source(domain: str, files: Mapping[str, Opened]) -> "Source":
    """The rows that all files of a domain have, as images that cannot be read."""
    from substrate_jax.data.decode import UnreadableImage
    from substrate_jax.data.sources import Source, digest
    from substrate_jax.features.files import match_rows

    found = [opened.file for opened in files.values()]
    first = min(found, key=lambda file: sum(map(len, file.ids)))  # folders in front make ids longer
    labels, names, whose = first.labels, first.label_names, first.path
    for file in found:
        order, folder = _order(file, first.ids, first.path)
        own = [one.removeprefix(folder) for one in file.ids]
        match_rows(first.ids, own, first.path, file.path)
        if file.labels is None:
            continue
        theirs = file.labels[order]
        if labels is None:
            labels, names, whose = theirs, file.label_names, file.path
        elif bool(names) == bool(file.label_names):
            words = [
                [names[x] if names else x for x in side] if names else side.tolist()
                for names, side in ((names, labels), (file.label_names, theirs))
            ]
            if wrong := [row for row, (a, b) in enumerate(zip(*words, strict=True)) if a != b]:
                raise ValueError(
                    f"{file.path} and {whose} have other labels for {len(wrong)} of {len(order)} "
                    f"rows, such as {first.ids[wrong[0]]}: {words[1][wrong[0]]!r} and "
                    f"{words[0][wrong[0]]!r}; correct one of them"
                )

    def read(row: int):
        raise UnreadableImage("a row of a file, which has no image")

    fingerprint = digest(ROWS, *sorted(first.ids))
    return Source(domain, first.ids, labels, fingerprint, read, label_names=names)


def _sha256(file: "FeatureFile") -> str:
    """Of the file's bytes; of a folder, of the SHA-256 of its files in order."""
    from substrate_jax.data.sources import digest
    from substrate_jax.encoders.weights import file_sha256

    hashes = [file_sha256(path) for path in file.files]
    return hashes[0] if len(hashes) == 1 else digest(*hashes)
