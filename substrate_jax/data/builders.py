"""TFDS builders of the domains that TFDS does not have: KAIST's thermal, NYU's depth, DECaLS.

    kaist_lwir          long-wave infrared frames of street scenes, every 20th of a video
    nyu_depth_labeled   depth maps of rooms, colored
    galaxy10_decals     galaxies, every fourth of the file

They read what lies in the folder for manual downloads (`download.data_folder()` when called by
`substrate_jax.data.prepare`), and hand TFDS encoded images, so that neither preparing nor reading
needs TensorFlow. TFDS sorts up to 1 GB per split in memory and uses TensorFlow's files beyond: the
subsets above stay below that, and are far more than the 1,000 images that a domain draws.

Importing this module imports tensorflow_datasets and registers the builders with it.

Not guaranteed: that neighboring frames and galaxies are independent. Frames 20 apart show one
street a second later.

References: S. Hwang et al., Multispectral Pedestrian Detection, CVPR 2015. N. Silberman et al.,
Indoor Segmentation and Support Inference from RGBD Images, ECCV 2012. M. Walmsley et al., Galaxy
Zoo DECaLS, MNRAS 509, 2022; H. Leung, J. Bovy, Galaxy10 DECaLS.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8
from PIL import Image

from substrate_jax.data.paths import readable
from substrate_jax.data.tfds_records import KAIST_INSTRUCTIONS, TFDS_FILES

# Near is dark violet, far is yellow. Lightness rises evenly, so that the map reads in gray as well.
DEPTH_COLORS = "viridis"

GALAXIES = (
    "disturbed",
    "merging",
    "round smooth",
    "in-between round smooth",
    "cigar shaped smooth",
    "barred spiral",
    "unbarred tight spiral",
    "unbarred loose spiral",
    "edge-on without bulge",
    "edge-on with bulge",
)

_FRAME = re.compile(r"(set\d\d)/(V\d\d\d)/lwir/I(\d{5})\.(?:jpg|png)")
_FRAME_STEP = 20
_GALAXY_STEP = 4
_BLOCK = 128


class KaistLwir(tfds.core.GeneratorBasedBuilder):
    """The LWIR channel of KAIST's multispectral videos, thinned as its benchmark thins them."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{KAIST_INSTRUCTIONS} in kaist/."

    def _info(self) -> tfds.core.DatasetInfo:
        """Labels are the benchmark's six kinds of scene."""
        places = ("campus", "road", "downtown")
        scenes = [f"{time}_{place}" for time in ("day", "night") for place in places]
        return tfds.core.DatasetInfo(
            builder=self,
            description="Thermal street scenes, 640 x 512, every 20th frame.",
            features=_features(tfds.features.ClassLabel(names=scenes), "jpeg"),
            homepage="https://soonminhwang.github.io/rgbt-ped-detection",
        )

    def _split_generators(self, dl_manager):
        """Sets 00 to 05 train, 06 to 11 test, as in the benchmark; those that are there."""
        root = Path(os.fspath(dl_manager.manual_dir)) / "kaist"
        frames = {"train": [], "test": []}
        for path in sorted(root.rglob("lwir/I*")):
            match = _FRAME.fullmatch("/".join(path.parts[-4:]))
            if match and int(match[3]) % _FRAME_STEP == _FRAME_STEP - 1:
                frames["train" if match[1] < "set06" else "test"].append(path)
        if not any(frames.values()):
            where = readable(str(root))
            raise ValueError(f"no thermal frames below {where}: {KAIST_INSTRUCTIONS} there")
        return {name: self._generate_examples(paths) for name, paths in frames.items() if paths}

    def _generate_examples(self, paths: Sequence[Path]) -> Iterator[tuple[str, dict]]:
        """Frames as they are, under ids such as set06/V000/I00019."""
        for path in paths:
            scene, video, _, frame = path.parts[-4:]
            name = f"{scene}/{video}/{frame.split('.')[0]}"
            label = int(scene.removeprefix("set")) % 6
            yield name, {"image": path.read_bytes(), "label": label, "id": name}


class NyuDepthLabeled(tfds.core.GeneratorBasedBuilder):
    """The 1,449 depth maps of NYU-Depth V2's labeled set, colored by `color_depth`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Place {TFDS_FILES['nyu_depth_labeled'].name} of "
        f"{TFDS_FILES['nyu_depth_labeled'].url} there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        """No labels."""
        return tfds.core.DatasetInfo(
            builder=self,
            description="Kinect depth of indoor scenes, 640 x 480, holes filled, colored.",
            features=_features(None, "png"),
            homepage="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
        )

    def _split_generators(self, dl_manager):
        """One split."""
        name = TFDS_FILES["nyu_depth_labeled"].name
        return {"train": self._generate_examples(dl_manager.manual_dir / name)}

    def _generate_examples(self, path) -> Iterator[tuple[str, dict]]:
        """Maps in the file's order; MATLAB stores them with their axes turned round."""
        with tfds.core.lazy_imports.h5py.File(os.fspath(path)) as arrays:
            for row, depth in _rows(arrays["depths"]):
                name = f"{row:04d}"
                yield name, {"image": _png(color_depth(depth.T)), "id": name}


class Galaxy10Decals(tfds.core.GeneratorBasedBuilder):
    """Every fourth of Galaxy10 DECaLS's 17,736 galaxies in g, r and z."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Place {TFDS_FILES['galaxy10_decals'].name} of {TFDS_FILES['galaxy10_decals'].url} there."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        """Labels are the ten classes of the set."""
        return tfds.core.DatasetInfo(
            builder=self,
            description="Galaxies of the DESI Legacy Imaging Surveys, 256 x 256.",
            features=_features(tfds.features.ClassLabel(names=GALAXIES), "png"),
            homepage="https://zenodo.org/records/10845026",
        )

    def _split_generators(self, dl_manager):
        """One split."""
        name = TFDS_FILES["galaxy10_decals"].name
        return {"train": self._generate_examples(dl_manager.manual_dir / name)}

    def _generate_examples(self, path) -> Iterator[tuple[str, dict]]:
        """Galaxies called by their row of the file, which is sorted by class."""
        with tfds.core.lazy_imports.h5py.File(os.fspath(path)) as arrays:
            labels = arrays["ans"][:]
            for row, image in _rows(arrays["images"], _GALAXY_STEP):
                name = f"{row:05d}"
                yield name, {"image": _png(image), "label": int(labels[row]), "id": name}


def color_depth(depth: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A depth map as colors: its 1st to 99th percentile over the whole of DEPTH_COLORS.

        t = clip((z - q01) / (q99 - q01), 0, 1),  q over the known depths of this image alone

    So an image tells near from far and not how many meters, and one stray pixel does not darken
    the rest. Where depth is unknown (not finite, or not positive) the image is black.

    Args:
      depth: any float unit, far is large.

    Returns:
      uint8 [h, w, 3]; one color if all depths are equal.

    Example:
      >>> color_depth(np.array([[1.0, 9.0, 0.0]]))[0].tolist()
      [[68, 1, 84], [253, 231, 36], [0, 0, 0]]
    """
    import matplotlib

    depth = np.asarray(depth, np.float64)
    known = np.isfinite(depth) & (depth > 0)
    low, high = np.percentile(depth[known], (1, 99)) if known.any() else (0.0, 0.0)
    scaled = np.clip((np.where(known, depth, low) - low) / ((high - low) or 1.0), 0, 1)
    colors = matplotlib.colormaps[DEPTH_COLORS](scaled, bytes=True)[..., :3]
    return np.where(known[..., None], colors, np.uint8(0))


def _features(label, encoding: str) -> tfds.features.FeaturesDict:
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding),
        "id": tfds.features.Text(),
    }
    return tfds.features.FeaturesDict(features | ({"label": label} if label else {}))


def _rows(dataset, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Every `step`-th row, read in blocks: a compressed chunk of the file may span many rows."""
    for start in range(0, len(dataset), _BLOCK):
        block = dataset[start : start + _BLOCK]
        for row in range(-start % step, len(block), step):
            yield start + row, block[row]


def _png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
