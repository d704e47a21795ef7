"""TFDS data sets prepared as array_record files: where they are, and reading them.

    tfds:NAME[/config][:split][?image=KEY&label=KEY&version=X.Y.Z&audio=KEY&rate=N&text=KEY][@data_dir]
    tfds:FOLDER[:split][?...]        a folder, which begins with "/", "." or "~"

Read without TensorFlow or a network, of several versions the highest. `?image` names the feature
that holds the images, where there are several or a sequence of them (`KEY[0]`), `?label` the one
that holds the labels (`none` for no labels). A set without images is one of sounds, and so is one
of which `?audio` names a feature; `?rate` gives the samples a second where the set does not. A set
of which `?text` names a feature is one of texts.

Preparing them is `substrate_jax.data.prepare`'s.

Cost: opening reads every record once if the set has an `id` feature or labels (about 0.1 ms per
record).

Not guaranteed: ids across slices. Without an `id` feature a row is called `split/row`, so ids of
differently sliced splits do not match, and joining them raises.
"""

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

from substrate_jax.data.decode import Orientation, decode_image
from substrate_jax.data.download import RemoteFile, data_folder
from substrate_jax.data.paths import first_of, one_line, readable, user_path
from substrate_jax.data.sources import Source, digest, oriented, read_named
from substrate_jax.data.spec_options import parse_options, query_of, split_options, split_place
from substrate_jax.data.texts import decode_text
from substrate_jax.data.tfds_features import Records, choose_features, labels_of
from substrate_jax.data.tfds_sounds import SoundRecords, without_tensorflow
from substrate_jax.data.unreadable import UnreadableSound, UnreadableText

OPTIONS = ("image", "label", "version", "audio", "rate", "text")
_FOLDER = ("/", ".", "~")  # what a name that is a folder begins with
KAIST = "kaist_lwir"
KAIST_INSTRUCTIONS = (
    "get sets 06 to 11 of the KAIST multispectral pedestrian data set "
    "(https://soonminhwang.github.io/rgbt-ped-detection) and place their folders, which hold "
    "set06/V000/lwir/I00019.jpg and so on,"
)
# What our own builders read, by the name of the set.
TFDS_FILES = {
    "nyu_depth_labeled": RemoteFile(
        "nyu_depth_v2_labeled.mat",
        "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat",
        "sha256:2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa",
        2_972_037_809,
    ),
    "galaxy10_decals": RemoteFile(
        "Galaxy10_DECals.h5",
        "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5",
        "sha256:19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571",
        2_735_267_419,
    ),
}


@dataclasses.dataclass(frozen=True)
class TfdsSpec:
    """What follows `tfds:`, as the head of this module has it.

    Args:
      name: data set, with its config where there is one ("eurosat/rgb"); or the folder of a
        version, or of its versions, which begins with "/", "." or "~".
      split: TFDS split, slices and sums included ("train", "train[:10%]", "train+test").
      data_dir: folder that holds `name`; None means TFDS_DATA_DIR or ~/tensorflow_datasets.
      image: feature that holds the images, `KEY[i]` for number i of a sequence; None for the only
        one, or `image`.
      label: feature that holds the labels, "none" for no labels; None for `label` if there is one.
      version: prepared version, as its folder is called; None for the highest.
      audio: feature that holds the sounds; None for the only one of a set without images.
      rate: samples a second of the sounds, where the set does not say.
      text: feature that holds the texts; None for a set of images or sounds.
    """

    name: str
    split: str = "train"
    data_dir: str | None = None
    image: str | None = None
    label: str | None = None
    version: str | None = None
    audio: str | None = None
    rate: str | None = None
    text: str | None = None

    @classmethod
    def parse(cls, text: str) -> "TfdsSpec":
        """The parts of a spec.

        Raises:
          ValueError: an option of another name.

        Example:
          >>> spec = TfdsSpec.parse("eurosat/rgb:train[:10%]?label=land@data")
          >>> spec.name, spec.split, spec.label, spec.data_dir
          ('eurosat/rgb', 'train[:10%]', 'land', 'data')
        """
        if text.startswith(_FOLDER):
            place, options = split_options(text, OPTIONS, f"tfds:{text}")
            name, split = split_place(place)
            return cls(name, split or "train", **options)
        rest, _, data_dir = text.partition("@")
        rest, _, query = rest.partition("?")
        name, _, split = rest.partition(":")
        options = parse_options(query, OPTIONS, f"tfds:{text}")
        return cls(name, split or "train", data_dir or None, **options)

    def __str__(self) -> str:
        options = {key: getattr(self, key) for key in OPTIONS}
        return f"tfds:{self.name}:{self.split}{query_of(options)}"


def open_tfds(spec: TfdsSpec, orientation: Orientation = "ignore") -> Source:
    """A TFDS data set prepared as array_record files, read without TensorFlow or a network.

    `label` and `id` are used where present, and images are those of `image` or of the only feature
    that holds any. Of several prepared versions the highest is read.

    Args:
      spec: which set and which of its features.
      orientation: see `decode.decode_image`.

    Returns:
      A source in file order.

    Raises:
      ValueError: the data are absent or damaged, in another file format, without what is asked
        for, or it is not clear which of their features are meant.
    """
    name = readable(str(spec))
    root = _root(spec.name, spec.data_dir)
    folder = prepared_folder(spec.name, spec.data_dir, spec.version)
    if folder is None:
        which = f" of version {readable(spec.version)}" if spec.version else ""
        raise ValueError(
            f"{name}: no prepared data{which} in {readable(str(root))}; {_remedy(spec)}"
        )
    # A second to import, and few users of this module need it.
    import tensorflow_datasets as tfds

    where = readable(str(folder))
    try:
        with without_tensorflow():
            builder = tfds.builder_from_directory(folder)
        records = Records(builder, spec.split)
    except Exception as error:  # TFDS raises anything on a file of JSON that is damaged
        raise ValueError(f"{name}: {one_line(error)} (data in {where})") from error
    features = builder.info.features
    chosen = choose_features(features, spec.image, spec.label, name, spec.audio, spec.text)
    sounds = None
    if chosen.modality == "sound":
        sounds = SoundRecords(records, chosen, spec.rate, name)
    chosen = dataclasses.replace(chosen, feature=None)  # which workers cannot be sent
    ids, values = records.columns(chosen, name)
    if ids is None:
        ids = tuple(f"{spec.split}/{row:06d}" for row in range(len(records)))
    labels, label_names = labels_of(values, chosen, name)
    files = sorted(folder.iterdir())
    image = [] if spec.image in (None, "image") else [spec.image]
    if sounds is not None:
        image = ["audio", chosen.image, str(sounds.rate)]
    if chosen.modality == "text":
        image = ["text", chosen.image, str(chosen.index)]

    def read(row: int) -> Any:
        if sounds is not None:
            return read_named(ids[row], partial(sounds.read, row), UnreadableSound)
        image = partial(records.image, row, chosen)
        if chosen.modality == "text":
            return read_named(ids[row], lambda: decode_text(image()), UnreadableText)
        return read_named(ids[row], lambda: decode_image(image(), orientation=orientation))

    return Source(
        name=name,
        ids=ids,
        labels=labels,
        fingerprint=oriented(
            digest(
                *("tfds", builder.info.full_name, spec.split, *image),
                *(f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files),
            ),
            orientation,
        ),
        read=read,
        label_names=label_names,
        modality=chosen.modality,
        rates=(sounds.rate,) if sounds is not None and sounds.rate else (),
    )


def tfds_folder(data_dir: str | None = None) -> Path:
    """Where prepared sets are: the folder given, TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return user_path(folder, f"tfds data in {folder}")


def prepared_folder(
    name: str, data_dir: str | None = None, version: str | None = None
) -> Path | None:
    """The folder of a prepared version; None where there is none.

    Args:
      name: data set with its config, or a folder; see `TfdsSpec`.
      data_dir: see `TfdsSpec`.
      version: None for the highest.
    """
    root = _root(name, data_dir)
    versions = [path.parent for path in root.glob("*/dataset_info.json")]
    if name.startswith(_FOLDER) and (root / "dataset_info.json").is_file():
        versions = [root.absolute()]
    if version is not None:
        versions = [folder for folder in versions if folder.name == version]
    return max(versions, key=_version, default=None)


def _root(name: str, data_dir: str | None) -> Path:
    """The folder that holds the versions of a set."""
    if name.startswith(_FOLDER):
        return user_path(name, f"tfds:{name}")
    return tfds_folder(data_dir) / name


def _remedy(spec: TfdsSpec) -> str:
    """What to do about a set that is not prepared."""
    name = readable(spec.name)
    have = sorted(
        path.parent.name for path in _root(name, spec.data_dir).glob("*/dataset_info.json")
    )
    if have:
        return f"give one of {first_of(map(readable, have))} with ?version="
    if name.startswith(_FOLDER):
        return "give the folder of a version, which holds dataset_info.json, or one of versions"
    place = f"tfds:{name}" + (f"@{readable(spec.data_dir)}" if spec.data_dir else "")
    run = f"`python -m substrate_jax.data.prepare {place}`"
    if name == KAIST:
        return f"{KAIST_INSTRUCTIONS} below {data_folder() / 'kaist'}, then run {run}"
    if name in TFDS_FILES:
        file = TFDS_FILES[name]
        return (
            f"run {run}, which fetches {file.name} ({file.size / 1e9:.1f} GB) from {file.url} "
            f"unless you place it at {file.path}"
        )
    return (
        f"run {run}, place {name}/VERSION/ there, prepared as array_record elsewhere, or name "
        "another folder after @"
    )


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in folder.name.split("."))
