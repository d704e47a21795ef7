"""WebDataset shards: `wds:PATTERN[?image=EXT&label=EXT&id=shard]`.

    wds:DIR    wds:DIR/train-{000000..000146}.tar    wds:DIR/*.tar

A sample is the members of a shard whose paths are the same up to the first dot of their names; that
path is its id. What follows the dot, its extension, says what a member is:

    jpg, png, ...    the image; of several choose with ?image=left.jpg
    cls              the label, a number or a word
    json             a JSON object whose key `label` is the label, if there is no cls; another key
                     by ?label=json.KEY
    others           left out; ?label=txt takes a text, as it is, for the label

Where shards use the same keys, `?id=shard` calls rows SHARD/KEY. Every shard is read through once,
on opening, for the places of its members; nothing is unpacked to disk, so names of members are
never paths.

Cost: opening seeks from member to member; about 100 bytes of memory per sample.

Not guaranteed: compressed shards, which have no random access and are refused; sparse members.

References: https://github.com/webdataset/webdataset; POSIX.1-2001, pax.
"""

import collections
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from substrate_jax.data.containers.files import find_shards, only_images, versions
from substrate_jax.data.decode import Orientation, UnreadableImage, decode_image
from substrate_jax.data.formats import image_suffixes
from substrate_jax.data.labels import labels_of_cells, labels_of_texts
from substrate_jax.data.paths import one_line, read_file, readable
from substrate_jax.data.sources import Source, digest, oriented, read_named
from substrate_jax.data.spec_options import NONE

OPTIONS = ("image", "label", "id")
SHARD = "shard"
_MOST_LABEL = 2**20  # bytes of a member that holds a label
_BLOCK = 512


class Place(NamedTuple):
    """Where the bytes of a member are."""

    shard: int
    offset: int
    size: int


def open_tar_shards(
    pattern: str, options: Mapping[str, str], orientation: Orientation = "ignore"
) -> Source:
    """Images in WebDataset's tar shards.

    Args:
      pattern: a file, a folder of `.tar` files or a pattern; see `files.find_shards`.
      options: `image` and `label`: extensions (`none` for no labels); `id=shard` for ids with the
        name of the shard.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of the shards and of their members.

    Raises:
      ValueError: nothing is there, a shard is compressed or damaged, keys repeat, or it is not
        clear which members are meant.
    """
    what = f"wds:{readable(pattern)}"
    if options.get("id", SHARD) != SHARD:
        raise ValueError(f"{what}: ids are the paths of members; give ?id=shard or leave it out")
    files, names = find_shards(pattern, (".tar",), what)
    samples: dict[str, dict[str, Place]] = {}
    special = collections.Counter[str]()
    for number, (file, name) in enumerate(zip(files, names, strict=True)):
        prefix = f"{name}/" if "id" in options else ""
        found = _index(file, number, f"{what}: {readable(str(file))}", special)
        for key, members in found.items():
            key = prefix + key
            if key in samples:
                other = readable(str(files[next(iter(samples[key].values())).shard]))
                raise ValueError(
                    f"{what}: {key!r} is in {other} and in {readable(str(file))}; give ?id=shard, "
                    "which calls rows SHARD/KEY"
                )
            samples[key] = members
    image = _choose_image(samples, options.get("image"), what)
    ids = [key for key, members in samples.items() if image in members]
    places = [samples[key][image] for key in ids]
    chosen = {key: samples[key] for key in ids}
    labels, label_names, used = _labels(chosen, options.get("label"), files, what)
    left_out = special + collections.Counter(
        f".{extension}"
        for members in samples.values()
        for extension in members
        if extension not in (image, used)
    )
    return Source(
        name=what,
        ids=tuple(ids),
        labels=labels,
        fingerprint=oriented(
            digest("wds", image, options.get("id", ""), *versions(files)), orientation
        ),
        read=lambda row: read_named(
            ids[row], lambda: decode_image(_read(files, places[row]), orientation=orientation)
        ),
        label_names=label_names,
        left_out=dict(left_out),
    )


def _index(
    path: Path, shard: int, name: str, special: collections.Counter[str]
) -> dict[str, dict[str, Place]]:
    """Key -> extension -> place of every member of a shard that has an extension."""
    found: dict[str, dict[str, Place]] = {}
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in _members(archive):
                if member.isdir():
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not stem:  # hidden
                    continue
                if not member.isreg() or member.issparse() or not dot:
                    special["links and others" if dot else "without suffix"] += 1
                    continue
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"{readable(member.name)} ends beyond the file")
                key, extension = readable(f"{folder}{slash}{stem}"), readable(extension.lower())
                members = found.setdefault(key, {})
                if extension in members:
                    raise tarfile.ReadError(f"{key}.{extension} is in it twice")
                members[extension] = Place(shard, member.offset_data, member.size)
            end = archive.offset
        # The library takes any block that is no header for the end.
        if read_file(path, end, _BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("no end mark: it is cut short or damaged")
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        hint = "; unpack it once (gunzip): a compressed shard has no random access"
        packed = path.suffix != ".tar"
        raise ValueError(
            f"{name} is no whole tar file ({one_line(error, 200)})"
            f"{hint if packed else '; make or fetch it again'}"
        ) from error
    return found


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member
        # Which it would keep for a search by name.
        archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]


def _choose_image(samples: Mapping[str, Mapping[str, Place]], wanted: str | None, what: str) -> str:
    counts = collections.Counter(e for members in samples.values() for e in members)
    if wanted is not None:
        if wanted.lower() not in counts:
            have = ", ".join(f"{e} ({n})" for e, n in counts.most_common(10)) or "none"
            raise ValueError(f"{what}: no member has extension {wanted!r}; it holds {have}")
        return wanted.lower()
    suffixes = image_suffixes()
    able = [e for e, _ in counts.most_common() if f".{e.rpartition('.')[2]}" in suffixes]
    return only_images(able, what, "extension")


def _labels(
    samples: Mapping[str, Mapping[str, Place]],
    wanted: str | None,
    files: Sequence[Path],
    what: str,
) -> tuple[Int64[np.ndarray, " n"] | None, tuple[str, ...], str | None]:
    """Labels, their names, and the extension that holds them."""
    if wanted == NONE:
        return None, (), None
    have = {e for members in samples.values() for e in members}
    if wanted is None:
        wanted = "cls" if "cls" in have else "json" if "json" in have else None
        if wanted is None:
            return None, (), None
        optional = wanted == "json"
    else:
        optional = False
    extension, key = wanted, "label"
    if extension not in have and wanted.startswith("json."):
        extension, key = "json", wanted.removeprefix("json.")
    texts = []
    for row, members in samples.items():
        if extension not in members:
            raise ValueError(
                f"{what}: {row!r} has no {extension}; give every sample its label, or ?label=none"
            )
        place = members[extension]
        if place.size > _MOST_LABEL:
            raise ValueError(
                f"{what}: {row}.{extension} is {place.size:,} bytes, which no label is"
            )
        texts.append(_read(files, place))
    if extension != "json":
        words = [text.decode("utf-8", "surrogateescape") for text in texts]
        return (*labels_of_texts(words, what), extension)
    cells = []
    for row, text in zip(samples, texts, strict=True):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{what}: {row}.json is damaged ({one_line(error, 200)})") from error
        cells.append(content.get(key) if isinstance(content, dict) else None)
    if optional and all(cell is None for cell in cells):
        return None, (), None
    return (*labels_of_cells(cells, what), extension)


def _read(files: Sequence[Path], place: Place) -> bytes:
    data = read_file(files[place.shard], place.offset, place.size)
    if len(data) < place.size:
        raise UnreadableImage(f"{readable(str(files[place.shard]))} has become shorter")
    return data
