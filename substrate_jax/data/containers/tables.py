"""Sources of Arrow tables, whatever file they are in: which columns are meant, ids and labels.

    image    bytes of an image file, or a struct of `bytes` and `path` as Hugging Face writes it
    label    numbers or words; names of the classes come from Hugging Face's metadata
    id       texts or whole numbers, no two the same
    text     the column that `text` names, in place of the images

The column of images is the one that Hugging Face's metadata call so, the one called `image`, or the
only one that can hold any. `label` and `id` are used where they are there; `none` leaves them. A
set whose labels are all -1, which is how Hugging Face writes that it has none, has none.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from substrate_jax.data.containers.files import only_images
from substrate_jax.data.decode import Orientation, UnreadableImage, decode_image
from substrate_jax.data.labels import labels_of_cells, text_of
from substrate_jax.data.paths import MOST_BYTES, first_of, readable
from substrate_jax.data.sources import Modality, Source, digest, oriented, read_named
from substrate_jax.data.spec_options import NONE
from substrate_jax.data.unreadable import UnreadableText

OPTIONS = ("image", "label", "id", "text")
EXTRA = "files"
_METADATA = b"huggingface"


class Table(Protocol):
    """Rows of several files under one schema."""

    schema: Any
    rows: int

    def column(self, name: str) -> list[Any]:
        """Every value of a column."""
        ...

    def image(self, row: int, name: str) -> Any:
        """One value of a column of images, or of texts."""
        ...


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table that make a source.

    Attributes:
      image: of the images, or of the texts.
      label, id: of labels and ids, or None.
      names: of the classes, where the metadata give them.
      modality: "image" or "text".
    """

    image: str
    label: str | None
    id: str | None
    names: tuple[str, ...]
    modality: Modality = "image"


def open_table(
    table: Table,
    options: Mapping[str, str],
    what: str,
    row_ids: Sequence[str],
    version: Sequence[str],
    orientation: Orientation,
) -> Source:
    """A source of the rows of a table.

    Args:
      table: of any format.
      options: `image`, `label`, `id` and `text`, as typed.
      what: the spec.
      row_ids: ids where no column has them.
      version: what determines the contents, for the fingerprint.
      orientation: see `decode.decode_image`.

    Raises:
      ValueError: it is not clear which columns are meant, or they hold something else.
    """
    what = readable(what)
    columns = choose_columns(table.schema, options, what)
    ids = tuple(row_ids)
    if columns.id is not None:
        ids = _ids(table.column(columns.id), columns.id, what)
    labels, names = (None, ())
    if columns.label is not None:
        labels, names = _labels(table.column(columns.label), columns, what)

    fingerprint = digest(
        "table" if columns.modality == "image" else "table text",
        *(columns.image, str(columns.id), *version),
    )
    unreadable, decode = UnreadableText, _text_of
    if columns.modality == "image":
        fingerprint = oriented(fingerprint, orientation)
        unreadable, decode = UnreadableImage, partial(_pixels_of, orientation=orientation)
    return Source(
        name=what,
        ids=ids,
        labels=labels,
        fingerprint=fingerprint,
        read=lambda row: read_named(
            ids[row], lambda: decode(table.image(row, columns.image)), unreadable
        ),
        label_names=names,
        modality=columns.modality,
    )


def _pixels_of(image: Any, orientation: Orientation) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(image, dict):
        image = image.get("bytes")
    if image is None:
        raise UnreadableImage("no bytes in its cell; embed the images in the file")
    return decode_image(image, orientation=orientation)


def _text_of(text: str | None) -> str:
    if text is None:
        raise UnreadableText("no text in its cell; fill it")
    return text


def choose_columns(schema: Any, options: Mapping[str, str], what: str) -> Columns:
    """Find images or texts, labels and ids among the columns of a schema.

    Raises:
      ValueError: no such column, or several that may be meant.
    """
    features = _features(schema)
    if "text" in options:
        image = _choose_text(schema, options, what)
    else:
        image = _choose_image(schema, features, options, what)
    single = [field.name for field in schema if _is_single(field.type)]
    label = _choose("label", schema, single, options, what)
    feature = features.get(label or "")
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = []
    chosen_id = _choose("id", schema, single, options, what)
    modality = "text" if "text" in options else "image"
    return Columns(image, label, chosen_id, tuple(map(readable, names)), modality)


def _choose_text(schema: Any, options: Mapping[str, str], what: str) -> str:
    if "image" in options:
        raise ValueError(f"{what}: ?text= and ?image= are both given; give one of them")
    able = [field.name for field in schema if _holds_texts(field.type)]
    if options["text"] not in able:
        raise ValueError(
            f"{what}: column {options['text']!r} holds no texts; choose with "
            f"?text={first_of(able) or 'NAME'}"
        )
    return options["text"]


def _choose_image(
    schema: Any, features: Mapping[str, Any], options: Mapping[str, str], what: str
) -> str:
    able = [field.name for field in schema if _holds_images(field.type)]
    called = [name for name in able if _kind(features.get(name)) == "Image"]
    default = ["image"] if "image" in (called or able) else called or able
    image = options.get("image") or only_images(
        default, what, f"column of {first_of(schema.names)}"
    )
    if image not in able:
        raise ValueError(
            f"{what}: column {image!r} holds no images, which are bytes or a struct of bytes and "
            f"path; choose with ?image={first_of(able) or 'NAME'}"
        )
    return image


def _choose(
    role: str, schema: Any, single: Sequence[str], options: Mapping[str, str], what: str
) -> str | None:
    wanted = options.get(role)
    if wanted == NONE:
        return None
    if wanted is None:
        return role if role in single else None
    if wanted not in single:
        have = "has several values per row" if wanted in schema.names else "is not there"
        raise ValueError(
            f"{what}: column {wanted!r} {have}; choose with ?{role}={first_of([*single, NONE])}"
        )
    return wanted


def _features(schema: Any) -> dict[str, Any]:
    """What Hugging Face's metadata say of the columns; {} where they say nothing usable."""
    try:
        found = json.loads((schema.metadata or {}).get(_METADATA, b"{}"))["info"]["features"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return {}
    return found if isinstance(found, dict) else {}


def _kind(feature: Any) -> Any:
    return feature.get("_type") if isinstance(feature, dict) else None


def _holds_images(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_images(kind.field(at).type)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_texts(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind)


def _is_single(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_string,
        types.is_large_string,
    )
    return any(test(kind) for test in tests)


def _ids(cells: Sequence[Any], column: str, what: str) -> tuple[str, ...]:
    odd = next((row for row, c in enumerate(cells) if not isinstance(c, (str, bytes, int))), None)
    if odd is not None:
        raise ValueError(
            f"{what}: {cells[odd]!r:.40} of row {odd} in column {column!r} is no id; choose texts "
            "or whole numbers with ?id=NAME, or give ?id=none"
        )
    ids = tuple(text_of(c) if isinstance(c, (str, bytes)) else str(c) for c in cells)
    if len(set(ids)) < len(ids):
        twice = next(row_id for row_id, count in collections.Counter(ids).items() if count > 1)
        raise ValueError(
            f"{what}: {twice!r} is twice in column {column!r}; choose another with ?id=NAME, or "
            "give ?id=none"
        )
    return ids


def _labels(
    cells: Sequence[Any], columns: Columns, what: str
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...]]:
    labels, words = labels_of_cells(cells, what)
    if words or not columns.names:
        return (None, ()) if len(labels) and (labels == -1).all() else (labels, words)
    outside = (labels < 0) | (labels >= len(columns.names))
    if (labels == -1).all():
        return None, ()
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{what}: label {labels[row]} of row {row} is none of the {len(columns.names)} classes "
            f"of column {columns.label!r}; correct it, or give ?label=none"
        )
    return labels, columns.names


def check_rows(rows: int, size: int, file: str) -> None:
    """Refuse a file that claims more rows than it has bytes, before anything is allocated.

    Raises:
      ValueError: it does.
    """
    if not 0 <= rows <= size:
        raise ValueError(f"{file} claims {rows:,} rows in {size:,} bytes; write it again")


def check_group(size: int, file: str) -> None:
    """Refuse a group of rows that is too large to read for one image.

    Raises:
      ValueError: it is.
    """
    if not 0 <= size <= MOST_BYTES:
        raise ValueError(
            f"{file} has a group of rows of {size / 2**30:.1f} GiB, which is read for each image; "
            "write it with smaller ones (row_group_size=1000)"
        )
