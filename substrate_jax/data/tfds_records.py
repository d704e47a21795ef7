"""TFDS data sets prepared as array_record files: where they are, and reading them.

    tfds:NAME[/config][:split][@data_dir]    read without TensorFlow or a network

Preparing them is `substrate_jax.data.prepare`'s.

Cost: opening reads every record once if the set has an `id` feature or labels (about 0.1 ms per
record).

Not guaranteed: ids across slices. Without an `id` feature a row is called `split/row`, so ids of
differently sliced splits do not match, and joining them raises.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np

from substrate_jax.data.decode import decode_image
from substrate_jax.data.download import RemoteFile, data_folder
from substrate_jax.data.sources import Source, digest, read_named

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


def open_tfds(name: str, split: str = "train", data_dir: str | None = None) -> Source:
    """A TFDS data set prepared as array_record files, read without TensorFlow or a network.

    Needs an `image` feature; `label` and `id` are used where present. Of several prepared versions
    the highest is read.

    Args:
      name: data set, with its config where there is one ("eurosat/rgb").
      split: TFDS split, slices and sums included ("train", "train[:10%]", "train+test").
      data_dir: folder that holds `name`; None means TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
      A source in file order.

    Raises:
      ValueError: the data are absent, in another file format, or without images.
    """
    spec = f"tfds:{name}:{split}"
    folder = prepared_folder(name, data_dir)
    if folder is None:
        raise ValueError(
            f"{spec}: no prepared data in {tfds_folder(data_dir) / name}; {_remedy(name, data_dir)}"
        )
    # A second to import, and few users of this module need it.
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    features = dict(cast("tfds.features.FeaturesDict", builder.info.features).items())
    if "image" not in features:
        raise ValueError(f"{spec}: features are {', '.join(features)}; give a set with `image`")
    try:
        # Bytes, not pixels: color rules and damaged files are the business of decode_image.
        records = builder.as_data_source(
            split=split,  # pyright: ignore[reportCallIssue]  TFDS's decorator hides the arguments
            decoders={"image": tfds.decode.SkipDecoding()},
        )
    except (ValueError, NotImplementedError, AssertionError) as error:
        raise ValueError(f"{spec}: {' '.join(str(error).split())} (data in {folder})") from error
    ids, labels = _tfds_columns(records, split, features)
    files = sorted(folder.iterdir())
    return Source(
        name=f"tfds:{name}:{split}",
        ids=ids,
        labels=labels,
        fingerprint=digest(
            *("tfds", builder.info.full_name, split),
            *(f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}" for f in files),
        ),
        read=lambda row: read_named(ids[row], lambda: decode_image(records[row]["image"])),
        label_names=tuple(getattr(features["label"], "names", None) or ())
        if labels is not None
        else (),
    )


def tfds_folder(data_dir: str | None = None) -> Path:
    """Where prepared sets are: the folder given, TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def prepared_folder(name: str, data_dir: str | None = None) -> Path | None:
    """The highest prepared version of a data set, with its config; None where there is none."""
    versions = (tfds_folder(data_dir) / name).glob("*/dataset_info.json")
    return max((path.parent for path in versions), key=_version, default=None)


def _remedy(name: str, data_dir: str | None) -> str:
    """What to do about a set that is not prepared."""
    spec = f"tfds:{name}" + (f"@{data_dir}" if data_dir else "")
    run = f"`python -m substrate_jax.data.prepare {spec}`"
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


def _tfds_columns(records, split: str, features: Iterable[str]):
    """Ids and labels of every record, in as few reads as the set allows."""
    keys = [key for key in ("id", "label") if key in features]
    columns = {key: [] for key in keys}
    step = 1024
    for start in range(0, len(records) if keys else 0, step):
        rows = list(range(start, min(start + step, len(records))))
        for record in records.__getitems__(rows):
            for key in keys:
                columns[key].append(record[key])
    if "id" in columns:
        ids = tuple(i.decode() if isinstance(i, bytes) else str(i) for i in columns["id"])
    else:
        ids = tuple(f"{split}/{row:06d}" for row in range(len(records)))
    return ids, np.array(columns["label"]) if "label" in columns else None
