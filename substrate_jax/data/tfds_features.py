"""Which features of a TFDS set are its images, sounds or texts, and labels; and their values.

A record is a protocol buffer of lists by feature, nested names joined by "/". It is read as such:
features that nobody asked for are never decoded, and a set may hold video or sound beside its
images without their libraries being there.
"""

import bisect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from substrate_jax.data.labels import numbered, text_of, whole_labels
from substrate_jax.data.paths import first_of, one_line, readable
from substrate_jax.data.sources import Modality
from substrate_jax.data.spec_options import NONE
from substrate_jax.data.unreadable import UnreadableImage, UnreadableSound

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

_STEP = 1024  # records at once
MOST_CLASSES = 1_000_000
LEAST_BYTES = 16  # of a record with an image in it


@dataclass(frozen=True)
class Chosen:
    """The features of a set that make a source.

    Attributes:
      image: feature that holds the images, the sounds or the texts.
      index: which of a sequence of them; 0 where there is one.
      label: feature that holds one label, or None.
      names: of the labels, where the set gives them.
      has_id: whether the set names its rows.
      modality: "image", "sound" or "text".
      feature: TFDS's own description of it.
    """

    image: str
    index: int
    label: str | None
    names: tuple[str, ...]
    has_id: bool
    modality: Modality = "image"
    feature: Any = None


def choose_features(
    features: Any,
    image: str | None,
    label: str | None,
    name: str,
    audio: str | None = None,
    text: str | None = None,
) -> Chosen:
    """Find the images, sounds or texts, and labels of a set among its features.

    Args:
      features: of the set.
      image: feature that holds the images, `KEY[i]` for number i of a sequence; by default `image`,
        or the only feature of images.
      label: feature that holds the labels, "none" for no labels; by default `label`, if there.
      name: of the source, for messages.
      audio: feature that holds the sounds; by default `audio`, or the only feature of sounds, of a
        set without images.
      text: feature that holds the texts; without it a set is none of texts.

    Raises:
      ValueError: no such feature, several to choose among, or one that holds several values.
    """
    import tensorflow_datasets as tfds

    leaves = _leaves(features)
    given = {"image": image, "audio": audio, "text": text}
    first, *more = [f"?{option}=" for option, value in given.items() if value] or [""]
    if more:
        raise ValueError(f"{name}: {first} and {more[0]} are both given; give one of them")
    kinds = {type(feature) for feature, _ in leaves.values()}
    silent = not any(issubclass(kind, tfds.features.Audio) for kind in kinds)
    pictures = any(issubclass(kind, tfds.features.Image) for kind in kinds)
    modality: Modality = "image" if not audio and (silent or pictures or image) else "sound"
    modality = "text" if text else modality
    key, index = _choose_values(leaves, text or audio or image, name, modality)
    found = _choose_label(leaves, label, name)
    names = () if found is None else _names(leaves[found][0], found, name)
    has_id = leaves.get("id", (None, 1))[1] == 0
    return Chosen(key, index, found, names, has_id, modality, leaves[key][0])


def _names(feature: Any, key: str, name: str) -> tuple[str, ...]:
    """Names of the classes; TFDS makes a list of numbers where a set has none."""
    count = getattr(feature, "num_classes", None) or 0
    if count > MOST_CLASSES:
        raise ValueError(
            f"{name}: features.json says that {key!r} has {count:,} classes, more than any set; "
            "fetch or prepare it again"
        )
    return tuple(getattr(feature, "names", None) or ())


def _leaves(features: Any, prefix: str = "", depth: int = 0) -> dict[str, tuple[Any, int]]:
    """Name -> feature that holds values, and how many sequences it is in, in order of the names.

    A file of features is a protocol buffer with a map, whose order varies from run to run.
    """
    import tensorflow_datasets as tfds

    if isinstance(features, tfds.features.Sequence):
        return _leaves(features.feature, prefix, depth + 1)
    if not isinstance(features, tfds.features.FeaturesDict):
        return {prefix: (features, depth)}
    found = {}
    for key, feature in sorted(features.items()):
        found |= _leaves(feature, f"{prefix}/{key}" if prefix else key, depth)
    return found


def _choose_values(
    leaves: dict[str, tuple[Any, int]], wanted: str | None, name: str, modality: Modality
) -> tuple[str, int]:
    import tensorflow_datasets as tfds

    option, kind = {
        "image": ("image", tfds.features.Image),
        "sound": ("audio", tfds.features.Audio),
        "text": ("text", tfds.features.Text),
    }[modality]
    images = {key: depth for key, (found, depth) in leaves.items() if isinstance(found, kind)}
    if not images:
        raise ValueError(
            f"{name}: features are {first_of(map(readable, leaves))}; give a set with `{option}`, "
            f"or another feature of {modality}s"
        )
    if wanted is None:
        if option not in images and len(images) > 1:
            raise ValueError(
                f"{name}: {first_of(images)} hold {modality}s; choose with "
                f"?{option}={next(iter(images))}"
            )
        wanted = option if option in images else next(iter(images))
    match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", wanted)
    key, index = match.groups() if match else (wanted, None)
    if key not in images:
        raise ValueError(
            f"{name}: {key!r} holds no {modality}s; choose with ?{option}={first_of(images)}"
        )
    if images[key] == 0 and index is not None:
        raise ValueError(f"{name}: {key!r} is one {modality} per row; give ?{option}={key}")
    if images[key] == 1 and index is None:
        raise ValueError(
            f"{name}: {key!r} is a sequence of {modality}s in each row; choose one with "
            f"?{option}={key}[0]"
        )
    if images[key] > 1:
        raise ValueError(f"{name}: {key!r} is a sequence of sequences; give a set with `{option}`")
    return key, int(index or 0)


def _choose_label(leaves: dict[str, tuple[Any, int]], wanted: str | None, name: str) -> str | None:
    import tensorflow_datasets as tfds

    single = [
        key
        for key, (feature, depth) in leaves.items()
        if depth == 0
        and not isinstance(feature, (tfds.features.Image, tfds.features.Audio))
        and feature.shape in ((), (1,))
    ]
    choice = f"choose with ?label={first_of([*single, NONE])}"
    if wanted == NONE:
        return None
    if wanted is None:
        if "label" not in leaves:
            if nested := [key for key in leaves if key.startswith("label/")]:
                raise ValueError(f"{name}: labels are {first_of(nested)}; {choice}")
            return None
        wanted = "label"
    if wanted not in leaves:
        raise ValueError(f"{name}: no feature {wanted!r}; {choice}")
    if wanted not in single:
        raise ValueError(f"{name}: {wanted!r} has several values per image; {choice}")
    return wanted


class Records:
    """The records of a split, by row number.

    Raises:
      ValueError, RuntimeError: as TFDS and array_record say, or more records are said to be in a
        file than fit into it.
    """

    def __init__(self, builder: "tfds.core.DatasetBuilder", split: str):
        import tensorflow_datasets as tfds

        # TFDS's decorator hides the arguments.
        source = builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]
        self._bytes = source.data_source
        parts = builder.info.splits[split].file_instructions
        for part in parts:
            size = tfds.core.Path(part.filename).stat().length  # which may be in a bucket
            if part.examples_in_shard > size // LEAST_BYTES:
                raise ValueError(
                    f"dataset_info.json says that {readable(part.filename)} holds "
                    f"{part.examples_in_shard:,} records, more than fit into its {size:,} bytes; "
                    "fetch or prepare it again"
                )
        counts = [p.examples_in_shard - p.skip if p.take == -1 else p.take for p in parts]
        self._files = [str(part.filename) for part in parts]
        self._ends = list(itertools.accumulate(counts))

    def __len__(self) -> int:
        return len(self._bytes)

    def image(self, row: int, chosen: Chosen) -> bytes:
        """The encoded image, or text, of a row.

        Raises:
          UnreadableImage: the record is damaged, or has no such image or text.
        """
        try:
            values = self._values(self._bytes[row], chosen.image)
        except Exception as error:  # array_record and protobuf each have errors of their own
            raise UnreadableImage(self._damaged(row, error)) from error
        if len(values) <= chosen.index or not isinstance(values[chosen.index], bytes):
            raise UnreadableImage(
                f"{readable(self._file(row))}: {len(values)} {chosen.modality}s in "
                f"{chosen.image!r}, of which number {chosen.index} is wanted"
            )
        return values[chosen.index]

    def values(self, row: int, chosen: Chosen) -> Sequence[Any]:
        """The numbers, or bytes, of a row's sound.

        Raises:
          UnreadableSound: the record is damaged.
        """
        try:
            return self._values(self._bytes[row], chosen.image)
        except Exception as error:  # array_record and protobuf each have errors of their own
            raise UnreadableSound(self._damaged(row, error)) from error

    def columns(self, chosen: Chosen, name: str) -> tuple[tuple[str, ...] | None, list]:
        """Ids, if the set has them, and values of the label, if it is wanted.

        Raises:
          ValueError: records that are damaged, or that lack an id or a label; the file is named.
        """
        keys = (["id"] if chosen.has_id else []) + ([chosen.label] if chosen.label else [])
        found: dict[str, list] = {key: [] for key in keys}
        # Without columns to read, the ends tell whether the files are whole.
        last = len(self) - 1
        blocks = _blocks(len(self)) if keys else [[0], [last]]
        for rows in blocks:
            try:
                records = self._bytes.__getitems__(rows)
            except Exception as error:  # of array_record
                raise ValueError(
                    f"{name}: {self._damaged(self._first_bad(rows), error)}"
                ) from error
            for row, record in zip(rows, records, strict=True):
                if not record:  # what array_record gives for rows beyond the end of its file
                    said = self._damaged(row, EOFError("it ends before its last records"))
                    raise ValueError(f"{name}: {said}")
                for key in keys:
                    found[key].append(self._only(row, record, key, name))
        ids = tuple(text_of(i) if isinstance(i, bytes) else str(i) for i in found.get("id", ()))
        return ids or None, found[chosen.label] if chosen.label else []

    def _only(self, row: int, record: bytes, key: str, name: str) -> Any:
        try:
            values = self._values(record, key)
        except Exception as error:  # of protobuf
            raise ValueError(f"{name}: {self._damaged(row, error)}") from error
        if len(values) != 1:
            raise ValueError(
                f"{name}: record {row} has {len(values)} values of {key!r}, where one is wanted; "
                f"{readable(self._file(row))} may be cut short: fetch or prepare it again"
            )
        return values[0]

    def _values(self, record: bytes, key: str) -> Sequence[Any]:
        # Imported here, as workers are sent these objects, and cannot be sent its classes.
        from tensorflow_datasets.proto import tf_example_pb2

        # Its classes are made when it is imported.
        example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
        features = example.FromString(record).features.feature
        if key not in features:
            return []
        kind = features[key].WhichOneof("kind")
        return [] if kind is None else list(getattr(features[key], kind).value)

    def _first_bad(self, rows: Sequence[int]) -> int:
        for row in rows:
            try:
                self._bytes[row]
            except Exception:
                return row
        return rows[0]

    def _file(self, row: int) -> str:
        return self._files[min(bisect.bisect_right(self._ends, row), len(self._files) - 1)]

    def _damaged(self, row: int, error: Exception) -> str:
        file, reason = readable(self._file(row)), one_line(error)
        return f"{file} is damaged ({reason}); fetch or prepare it again"


def _blocks(count: int) -> list[list[int]]:
    return [list(range(i, min(i + _STEP, count))) for i in range(0, count, _STEP)]


def labels_of(
    values: list, chosen: Chosen, name: str
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Labels and their names; None for a set without."""
    if chosen.label is None:
        return None, ()
    if all(isinstance(value, bytes) for value in values):
        return numbered(values)
    return whole_labels(np.array(values), name), chosen.names
