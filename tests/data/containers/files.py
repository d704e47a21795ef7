"""Small files of every kind that holds many images, written for the tests."""

import csv
import io
import json
import pathlib
import tarfile
import zipfile
from collections.abc import Callable, Sequence

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.test_sources import write

WORDS = ("cat", "dog")
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def tar_of(members: dict[str, bytes], path: pathlib.Path) -> pathlib.Path:
    """A shard with members in the given order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return path


def zip_of(members: dict[str, bytes], path: pathlib.Path) -> pathlib.Path:
    """A zip file packed by deflate."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def hugging_face(**features: dict) -> dict[bytes, bytes]:
    """Metadata of a schema as Hugging Face's library writes them."""
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def class_label(*names: str) -> dict:
    """What the metadata say of a column of classes."""
    return {"names": list(names), "_type": "ClassLabel"}


def table_of(images: Sequence[bytes], labels: Sequence[int]) -> pa.Table:
    """A table as Hugging Face's library makes it."""
    rows = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    schema = pa.schema(
        [("image", STRUCT), ("label", pa.int64())],
        hugging_face(image={"_type": "Image"}, label=class_label(*WORDS)),
    )
    return pa.table({"image": pa.array(rows, STRUCT), "label": labels}, schema)


def saved(folder: pathlib.Path, table: pa.Table, split: str = "train") -> pathlib.Path:
    """A folder as `save_to_disk` leaves it, in two files."""
    folder.mkdir(parents=True, exist_ok=True)
    half = max(table.num_rows // 2, 1)
    names = []
    for number, part in enumerate((table[:half], table[half:])):
        names.append(f"data-{number:05d}-of-00002.arrow")
        with pa.ipc.new_stream(str(folder / names[-1]), table.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def _parquet(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    pq.write_table(table_of(images, labels), root / "a.parquet", row_group_size=2)
    return f"parquet:{root / 'a.parquet'}"


def _hfds(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    return f"hfds:{saved(root / 'set', table_of(images, labels))}"


def _wds(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    members = {}
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        members |= {f"{row}.png": image, f"{row}.cls": WORDS[label].encode()}
    return f"wds:{tar_of(members, root / 'a.tar')}"


def _by_class(images: Sequence[bytes], labels: Sequence[int]) -> dict[str, bytes]:
    rows = enumerate(zip(images, labels, strict=True))
    return {f"{WORDS[label]}/{row}.png": image for row, (image, label) in rows}


def _zip(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    return f"zip:{zip_of(_by_class(images, labels), root / 'a.zip')}"


def _csv(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    files = _by_class(images, labels)
    write(root, files)
    with (root / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((name, name.split("/")[0]) for name in files)]
        )
    return f"csv:{root / 'a.csv'}"


def _h5(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    with h5py.File(root / "a.h5", "w") as file:
        encoded = file.create_dataset("images", len(images), h5py.vlen_dtype(np.uint8))
        for row, image in enumerate(images):
            encoded[row] = np.frombuffer(image, np.uint8)
        file["labels"] = [WORDS[label] for label in labels]
    return f"h5:{root / 'a.h5'}"


def _folder(root: pathlib.Path, images: Sequence[bytes], labels: Sequence[int]) -> str:
    write(root / "a", _by_class(images[:2], labels[:2]))
    write(root / "b", _by_class(images[2:], labels[2:]))
    return f"dir:{root / 'a'}+{root / 'b'}"


# Kind -> what writes images, labeled by a number of WORDS, below a folder and returns the spec.
Maker = Callable[[pathlib.Path, Sequence[bytes], Sequence[int]], str]
MAKERS: dict[str, Maker] = {
    "parquet": _parquet,
    "hfds": _hfds,
    "wds": _wds,
    "zip": _zip,
    "csv": _csv,
    "h5": _h5,
    "dir": _folder,
}
