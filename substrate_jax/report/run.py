"""What every result begins with: how it was made, with which encoders, on which images.

A result is a frozen dataclass whose field `run` is a `Run`, marked `INLINE`: in result.json its
fields stand at the top, beside those of the analysis.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@dataclasses.dataclass(frozen=True)
class EncoderRecord:
    """An encoder of a run, and where its weights are from.

    Attributes:
        name: in the registry, or hf:ORG/NAME.
        family: architecture, such as resnet or vit.
        paradigm: what the weights were trained on.
        width: features per image.
        parameters: how many it has; None where only its features are known.
        source: file, folder or repository the weights were read from.
        revision: commit of the repository, None elsewhere.
        sha256: hash of the weights' file.
    """

    name: str
    family: str
    paradigm: str
    width: int
    parameters: int | None
    source: str
    revision: str | None
    sha256: str | None


@dataclasses.dataclass(frozen=True)
class FileRecord:
    """A file that features of an encoder were read from.

    Attributes:
        encoder: as the user calls it.
        domain: whose rows it holds.
        path: as the user gave it.
        sha256: of the file; of a folder, of the hashes of its files.
        shape: of the array in it.
        dtype: likewise.
        pool: how more than two dimensions became one row each; None for two.
    """

    encoder: str
    domain: str
    path: str
    sha256: str
    shape: Sequence[int]
    dtype: str
    pool: str | None


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """The images, or sounds, of a domain.

    Attributes:
        source: as the user gave it, such as sample:texture or dir:PICTURES.
        fingerprint: hash of what is in it.
        description: one sentence; empty for a source that is not registered.
        pictures: distinct labels: classes, or the pictures that sample domains are cut from; None
            without labels.
        modality: "image" or "sound".
    """

    source: str
    fingerprint: str
    description: str
    pictures: int | None
    modality: str = "image"


@dataclasses.dataclass(frozen=True)
class Run:
    """How a result was made.

    Attributes:
        experiment: name of the launcher.
        command: the command line as the user would type it.
        versions: package -> version.
        devices: platform, kind, count, processes and mesh.
        seconds: stage -> time, and the total.
        arguments: flag -> value.
        encoders: those compared, in the order of all matrices.
        notes: choices of this run that change how its numbers read, a sentence each.
        files: those that features were read from; None where there are none.
    """

    experiment: str
    command: str
    versions: Mapping[str, str]
    devices: Mapping[str, Any]
    seconds: Mapping[str, float | None]
    arguments: Mapping[str, Any]
    encoders: Sequence[EncoderRecord]
    notes: Sequence[str]
    files: Sequence[FileRecord] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the encoders."""
        return [encoder.name for encoder in self.encoders]


@runtime_checkable
class Result(Protocol):
    """A dataclass that says how it was made."""

    @property
    def run(self) -> Run:
        """How it was made."""
        ...
