"""Published image sets that come as one file: MedMNIST's, Imagenette, EuroSAT.

    medmnist:NAME[:SIZE]    organamnist or bloodmnist at 28 (the default), 64, 128 or 224 pixels,
                            all splits; a row is called split/row, the same at every size
    archive:NAME            imagenette or eurosat, unpacked beside its archive; a row is called by
                            its path, and its label is the folder that holds it

They lie below `download.data_folder()`, are fetched when first opened, and have a fingerprint that
depends on the published bytes alone: runs on two machines can share a feature store.

Cost: MedMNIST's arrays are held in memory: 46 MB at 28 pixels, 3 GB at 224.

Not guaranteed: that unpacked images stay as they were. The archive is checked, its contents are
not once they are unpacked.

References: J. Yang et al., MedMNIST v2, Scientific Data 10:41, 2023. P. Helber et al., EuroSAT,
IEEE JSTARS 12(7), 2019. J. Howard, Imagenette, github.com/fastai/imagenette.
"""

import dataclasses
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from substrate_jax.data.decode import Orientation
from substrate_jax.data.download import RemoteFile, data_folder, fetch, locked
from substrate_jax.data.folders import open_folder
from substrate_jax.data.npz import open_npz
from substrate_jax.data.sources import Source, digest, oriented

MEDMNIST_SIZES = (28, 64, 128, 224)
_MEDMNIST_URL = "https://zenodo.org/records/10519652/files"  # version 3.0 of the collection


@dataclasses.dataclass(frozen=True)
class MedMnist:
    """A set of MedMNIST: its size, the MD5 of its file at each number of pixels, its labels."""

    images: int
    channels: int
    md5: dict[int, str]
    label_names: tuple[str, ...]


MEDMNIST = {
    "organamnist": MedMnist(
        images=58_830,
        channels=1,
        md5={
            28: "68e3f8846a6bd62f0c9bf841c0d9eacc",
            64: "2dcccc29b88e6da5a01161ef20cda288",
            128: "eeae80d0a227a8d099027e1b3cfd3b60",
            224: "50747347e05c87dd3aaf92c49f9f3170",
        },
        label_names=(
            "bladder",
            "left femur",
            "right femur",
            "heart",
            "left kidney",
            "right kidney",
            "liver",
            "left lung",
            "right lung",
            "pancreas",
            "spleen",
        ),
    ),
    "bloodmnist": MedMnist(
        images=17_092,
        channels=3,
        md5={
            28: "7053d0359d879ad8a5505303e11de1dc",
            64: "2b94928a2ae4916078ca51e05b6b800b",
            128: "adace1e0ed228fccda1f39692059dd4c",
            224: "b718ff6835fcbdb22ba9eacccd7b2601",
        },
        label_names=(
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocyte",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
    ),
}


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published archive: the folder in it whose class folders count, and their plain names."""

    file: RemoteFile
    root: str
    names: dict[str, str]


ARCHIVES = {
    "imagenette": Archive(
        RemoteFile(
            "imagenette2-320.tgz",
            "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
            "sha256:569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
            341_663_724,
        ),
        "imagenette2-320",
        {
            "n01440764": "tench",
            "n02102040": "English springer",
            "n02979186": "cassette player",
            "n03000684": "chain saw",
            "n03028079": "church",
            "n03394916": "French horn",
            "n03417042": "garbage truck",
            "n03425413": "gas pump",
            "n03445777": "golf ball",
            "n03888257": "parachute",
        },
    ),
    "eurosat": Archive(
        RemoteFile(
            "EuroSAT.zip",
            "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
            "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            "md5:c8fa014336c82ac7804f0398fcb19387",
            94_280_567,
        ),
        "2750",
        {},
    ),
}


def medmnist_file(name: str, size: int) -> RemoteFile:
    """The npz file of a MedMNIST set.

    Raises:
      ValueError: a set or size that is not published.

    Example:
      >>> medmnist_file("bloodmnist", 64).name
      'bloodmnist_64.npz'
    """
    if name not in MEDMNIST or size not in MEDMNIST_SIZES:
        raise ValueError(
            f"medmnist:{name}:{size}: no such set; give {' or '.join(MEDMNIST)} and a size of "
            f"{', '.join(map(str, MEDMNIST_SIZES))}"
        )
    published = MEDMNIST[name]
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    return RemoteFile(
        file,
        url=f"{_MEDMNIST_URL}/{file}",
        checksum=f"md5:{published.md5[size]}",
        size=published.images * published.channels * size**2,
    )


def open_medmnist(name: str, size: int = 28, *, quiet: bool = False) -> Source:
    """A MedMNIST set, every split of it.

    Args:
      name: "organamnist" or "bloodmnist".
      size: one of MEDMNIST_SIZES, in pixels.
      quiet: no progress bar.

    Returns:
      A source with ids "split/row".

    Raises:
      ValueError: no such set, or it cannot be fetched.
    """
    file = medmnist_file(name, size)
    return dataclasses.replace(
        open_npz(fetch(file, quiet=quiet)),
        name=f"medmnist:{name}:{size}",
        fingerprint=digest("medmnist", file.checksum),
        label_names=MEDMNIST[name].label_names,
    )


def open_archive(name: str, *, quiet: bool = False, orientation: Orientation = "ignore") -> Source:
    """Images of a published archive, which is fetched and unpacked if need be.

    Args:
      name: one of ARCHIVES.
      quiet: no progress bar.
      orientation: see `decode.decode_image`.

    Returns:
      A source in the order of its ids, which are paths.

    Raises:
      ValueError: no such archive, or it cannot be fetched.
    """
    archive = find_archive(name)
    folder = data_folder() / name
    if not folder.is_dir():
        _unpack(fetch(archive.file, quiet=quiet), folder)
    source = open_folder(folder / archive.root, orientation)
    classes = [path.split("/")[-2] for path in source.ids]
    present = sorted(set(classes))
    number = {label: row for row, label in enumerate(present)}
    return dataclasses.replace(
        source,
        name=f"archive:{name}",
        labels=np.array([number[label] for label in classes]),
        fingerprint=oriented(digest("archive", archive.file.checksum, *source.ids), orientation),
        label_names=tuple(archive.names.get(label, label) for label in present),
    )


def archive_bytes(name: str) -> int:
    """Bytes still to fetch for `open_archive`.

    Raises:
      ValueError: no such archive.
    """
    archive = find_archive(name)
    return 0 if (data_folder() / name).is_dir() else archive.file.missing_bytes()


def find_archive(name: str) -> Archive:
    """The record of an archive.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in ARCHIVES:
        raise ValueError(f"archive:{name}: no such archive; give {' or '.join(ARCHIVES)}")
    return ARCHIVES[name]


def _unpack(path: Path, folder: Path) -> None:
    with locked(folder):
        if folder.is_dir():
            return
        half = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as files:
                files.extractall(half)
        else:
            with tarfile.open(path) as files:
                files.extractall(half, filter="data")
        half.rename(folder)
