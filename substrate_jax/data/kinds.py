"""The kinds of sources, one row each: what a user types, what opens it, what it would download.

`domains.open_source` and `domains.bytes_to_download` are driven by this table, and docs/domains.md
lists it.
"""

import dataclasses
from collections.abc import Callable, Mapping

from substrate_jax.data.archives import archive_bytes, medmnist_file, open_archive, open_medmnist
from substrate_jax.data.containers import hdf5, hub, manifest, parquet, tables, tar_shards, zips
from substrate_jax.data.decode import Orientation
from substrate_jax.data.dicom_folders import OPTIONS as DICOM_OPTIONS
from substrate_jax.data.dicom_folders import open_dicom
from substrate_jax.data.digits import open_digits
from substrate_jax.data.folders import open_folder
from substrate_jax.data.npz import open_npz
from substrate_jax.data.quickdraw import open_quickdraw, quickdraw_bytes
from substrate_jax.data.sample import DEFAULT_COUNT, open_sample
from substrate_jax.data.sound_folders import OPTIONS as SOUND_OPTIONS
from substrate_jax.data.sound_folders import open_sounds
from substrate_jax.data.sources import Source
from substrate_jax.data.spec_options import split_options
from substrate_jax.data.texts import OPTIONS as TEXT_OPTIONS
from substrate_jax.data.texts import open_texts
from substrate_jax.data.tfds_records import OPTIONS as TFDS_OPTIONS
from substrate_jax.data.tfds_records import TFDS_FILES, TfdsSpec, open_tfds, prepared_folder
from substrate_jax.data.tones import open_tones


@dataclasses.dataclass(frozen=True)
class Spec:
    """A spec taken apart.

    Attributes:
      text: the whole, as typed.
      place: what follows the kind, without options.
      options: by name.
      orientation: "ignore" or "apply".
      quiet: no progress bars.
    """

    text: str
    place: str
    options: Mapping[str, str]
    orientation: Orientation = "ignore"
    quiet: bool = False

    @property
    def name_and_count(self) -> tuple[str, str]:
        """The parts before and after the first colon."""
        name, _, count = self.place.partition(":")
        return name, count

    def whole(self, word: str) -> int:
        """A part that is a count.

        Raises:
          ValueError: it is none.
        """
        if not word.isdecimal():
            raise ValueError(
                f"source {self.text!r}: {word!r} is no count; give a whole number there"
            )
        return int(word)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
      form: what a user types after the kind and its colon, without options.
      open: opens it.
      options: names of its options.
      missing_bytes: what opening it would download.
      splits_itself: whether it takes its options apart, as something may follow them.
    """

    form: str
    open: Callable[[Spec], Source]
    options: tuple[str, ...] = ()
    missing_bytes: Callable[[Spec], int] = lambda spec: 0
    splits_itself: bool = False


def split_spec(
    spec: str, orientation: Orientation = "ignore", *, quiet: bool = False
) -> tuple[Kind, Spec] | None:
    """The kind of a spec and its parts; None for one of no kind, or without a place.

    Raises:
      ValueError: an option that the kind does not have.

    Example:
      >>> split_spec("h5:a.h5?label=none")[1].options
      {'label': 'none'}
    """
    name, _, rest = spec.partition(":")
    kind = KINDS.get(name)
    if kind is None or not rest:
        return None
    place, options = rest, {}
    if not kind.splits_itself:
        place, options = split_options(rest, kind.options, spec)
    return kind, Spec(spec, place, options, orientation, quiet)


def kind_form(name: str) -> str:
    """What a user types for a kind, options included.

    Example:
      >>> kind_form("zip")
      'zip:PATH[?label=LABEL]'
    """
    kind = KINDS[name]
    options = "?" + "&".join(f"{option}={option.upper()}" for option in kind.options)
    if kind.splits_itself:
        return f"{name}:{kind.form.replace('?...', options)}"
    return f"{name}:{kind.form}" + (f"[{options}]" if kind.options else "")


def _npz(spec: Spec) -> Source:
    path, _, split = spec.place.rpartition(":")
    known = split in ("train", "val", "test")
    return open_npz(path, split) if known else open_npz(spec.place)


def _digits(spec: Spec) -> Source:
    if spec.place != "digits":
        raise ValueError(f"source {spec.text!r}: of scikit-learn's sets give sklearn:digits")
    return open_digits()


def _tones(spec: Spec) -> Source:
    if spec.place != "digits":
        raise ValueError(f"source {spec.text!r}: of synthetic sounds there is tones:digits")
    return open_tones()


def _medmnist(spec: Spec) -> tuple[str, int]:
    name, size = spec.name_and_count
    return name, spec.whole(size or "28")


def _sample(spec: Spec) -> Source:
    name, count = spec.name_and_count
    return open_sample(name, spec.whole(count or str(DEFAULT_COUNT)))


def _tfds_bytes(spec: Spec) -> int:
    tfds = TfdsSpec.parse(spec.place)
    missing = tfds.name in TFDS_FILES and prepared_folder(tfds.name, tfds.data_dir) is None
    return TFDS_FILES[tfds.name].missing_bytes() if missing else 0


KINDS = {
    "tfds": Kind(
        "NAME[/config][:split][?...][@data_dir]",
        lambda spec: open_tfds(TfdsSpec.parse(spec.place), spec.orientation),
        TFDS_OPTIONS,
        _tfds_bytes,
        splits_itself=True,
    ),
    "dir": Kind(
        "PATH[+PATH]",
        lambda spec: open_folder(spec.place, spec.orientation, spec.options),
        ("label",),
    ),
    "zip": Kind(
        "PATH",
        lambda spec: zips.open_zip(spec.place, spec.options, spec.orientation),
        zips.OPTIONS,
    ),
    "csv": Kind(
        "PATH",
        lambda spec: manifest.open_manifest(spec.place, spec.options, spec.orientation),
        manifest.OPTIONS,
    ),
    "parquet": Kind(
        "PATH",
        lambda spec: parquet.open_parquet(spec.place, spec.options, spec.orientation),
        tables.OPTIONS,
    ),
    "hfds": Kind(
        "NAME[:split]",
        lambda spec: hub.open_hub_set(spec.place, spec.options, spec.orientation, quiet=spec.quiet),
        hub.OPTIONS,
        lambda spec: hub.hub_set_bytes(spec.place, spec.options),
    ),
    "wds": Kind(
        "PATTERN",
        lambda spec: tar_shards.open_tar_shards(spec.place, spec.options, spec.orientation),
        tar_shards.OPTIONS,
    ),
    "h5": Kind(
        "PATH",
        lambda spec: hdf5.open_hdf5(spec.place, spec.options, spec.orientation),
        hdf5.OPTIONS,
    ),
    "wav": Kind("PATH[+PATH]", lambda spec: open_sounds(spec.place, spec.options), SOUND_OPTIONS),
    "text": Kind("PATH[+PATH]", lambda spec: open_texts(spec.place, spec.options), TEXT_OPTIONS),
    "dicom": Kind("PATH[+PATH]", lambda spec: open_dicom(spec.place, spec.options), DICOM_OPTIONS),
    "npz": Kind("PATH[:split]", _npz),
    "sample": Kind("NAME[:count]", _sample),
    "medmnist": Kind(
        "NAME[:size]",
        lambda spec: open_medmnist(*_medmnist(spec), quiet=spec.quiet),
        missing_bytes=lambda spec: medmnist_file(*_medmnist(spec)).missing_bytes(),
    ),
    "archive": Kind(
        "NAME",
        lambda spec: open_archive(spec.place, quiet=spec.quiet, orientation=spec.orientation),
        missing_bytes=lambda spec: archive_bytes(spec.place),
    ),
    "quickdraw": Kind(
        "COUNT",
        lambda spec: open_quickdraw(spec.whole(spec.place), quiet=spec.quiet),
        missing_bytes=lambda spec: quickdraw_bytes(spec.whole(spec.place)),
    ),
    "sklearn": Kind("digits", _digits),
    "tones": Kind("digits", _tones),
}
