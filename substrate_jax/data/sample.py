"""The embedded domains: crops of the pictures inside scikit-image's and scikit-learn's wheels.

For a first run, tests and demonstrations without a download. Each domain is a handful of
pictures, cut into 512 crops (or as many as asked for) of 48 to 160 pixels, so that at 32 x 32
there is still something to see. The label of a crop is the number of its picture.

Crop k of a picture has side s = SIDES[k mod 5] and its corner at the k-th point of the R2
low-discrepancy sequence, scaled to the positions where it fits: no random numbers, evenly spread,
and the first 512 crops are the first 512 of any larger number. Pictures take turns in proportion
to the square root of their area. A crop whose gray values deviate by less than `MIN_STD` levels
(the surround of a retina, the inside of a phantom's ellipse), or whose pixels are those of a crop
kept before, is passed over.

Cost: decoding the pictures once per process (about 10 ms each), then array slices.

Not guaranteed: independence. Crops of one picture overlap and share light, focus and subject, so
an error bar or p-value from them is too small, and a random split leaks. They show that the
pipeline works and roughly what a domain looks like; they measure nothing about it.

References: M. Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018 (R2).
"""

import functools
import gzip
import importlib.util
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from substrate_jax.data.decode import decode_image
from substrate_jax.data.sources import Source, digest

SIDES = (48, 64, 96, 128, 160)
MIN_STD = 4.0
DEFAULT_COUNT = 512

# Powers of the plastic number's inverse: the generator of the R2 sequence.
_R2 = (0.7548776662466927, 0.5698402909980532)

# Domain -> picture -> (package, file, factor by which crops are enlarged in that picture).
_PICTURES = {
    "photographs": {
        "astronaut": ("skimage", "data/astronaut.png", 1),
        "camera": ("skimage", "data/camera.png", 1),
        "chelsea": ("skimage", "data/chelsea.png", 1),
        "china": ("sklearn", "datasets/images/china.jpg", 1),
        "coffee": ("skimage", "data/coffee.png", 1),
        "flower": ("sklearn", "datasets/images/flower.jpg", 1),
        "motorcycle": ("skimage", "data/motorcycle_left.png", 1),
        "rocket": ("skimage", "data/rocket.jpg", 1),
    },
    "microscopy": {
        "cell": ("skimage", "data/cell.png", 1),
        "immunohistochemistry": ("skimage", "data/ihc.png", 1),
    },
    "astronomy": {
        "hubble_deep_field": ("skimage", "data/hubble_deep_field.jpg", 1),
        "moon": ("skimage", "data/moon.png", 1),
    },
    "medical": {
        "microaneurysms": ("skimage", "data/microaneurysms.png", 1),
        "phantom": ("skimage", "data/phantom.png", 1),
        "retina": ("skimage", "data/retina.jpg", 3),
    },
    "texture": {
        "brick": ("skimage", "data/brick.png", 1),
        "grass": ("skimage", "data/grass.png", 1),
        "gravel": ("skimage", "data/gravel.png", 1),
    },
    "depth": {
        "motorcycle_disparity": ("skimage", "data/motorcycle_disp.npz", 1),
    },
    "writing": {
        "digits": ("sklearn", "datasets/data/digits.csv.gz", 1),
        "page": ("skimage", "data/page.png", 1),
        "text": ("skimage", "data/text.png", 1),
    },
}

SAMPLE_DOMAINS = tuple(_PICTURES)


def open_sample(name: str, count: int = DEFAULT_COUNT) -> Source:
    """Crops of one embedded domain.

    Args:
      name: one of SAMPLE_DOMAINS.
      count: number of crops, at least 1; more of them overlap more.

    Returns:
      A source with ids "picture/left-top-right-bottom" (pixels of the picture; right and bottom
      are exclusive), labeled by picture.

    Raises:
      ValueError: unknown name, a count that is not positive or that the pictures cannot give, or
        a wheel that lacks a picture.

    Example:
      >>> source = open_sample("texture", 4)
      >>> source.ids[0], source.label_names
      ('brick/232-232-280-280', ('brick', 'grass', 'gravel'))
    """
    if name not in _PICTURES:
        raise ValueError(f"sample:{name}: no such domain; give one of {', '.join(_PICTURES)}")
    if count < 1:
        raise ValueError(f"sample:{name}:{count}: give at least 1 crop")
    table = _PICTURES[name]
    pictures = [_picture(package, file) for package, file, _ in table.values()]
    crops = [
        _crops(picture, scale)
        for picture, (*_, scale) in zip(pictures, table.values(), strict=True)
    ]
    weights = [np.sqrt(picture.shape[0] * picture.shape[1]) for picture in pictures]
    taken = [0] * len(pictures)
    rows = []
    for _ in range(count):
        label = min(range(len(pictures)), key=lambda i: (taken[i] + 1) / weights[i])
        taken[label] += 1
        box = next(crops[label], None)
        if box is None:
            raise ValueError(
                f"sample:{name}:{count}: its pictures give {len(rows)} crops; ask for fewer"
            )
        rows.append((label, box))
    names = tuple(table)

    def read(row: int) -> UInt8[np.ndarray, "h w 3"]:
        label, (left, top, right, bottom) = rows[row]
        return pictures[label][top:bottom, left:right]

    ids = tuple(f"{names[label]}/" + "-".join(map(str, box)) for label, box in rows)
    return Source(
        name=f"sample:{name}",
        ids=ids,
        labels=np.array([label for label, _ in rows]),
        fingerprint=digest("sample", *(picture.tobytes() for picture in pictures), *ids),
        read=read,
        label_names=names,
    )


def _crops(picture: np.ndarray, scale: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of one picture, flat and repeated ones left out."""
    height, width = picture.shape[:2]
    gray = np.asarray(Image.fromarray(picture).convert("L"))
    sides = [side * scale for side in SIDES if side * scale <= min(height, width)]
    seen = set()
    for k in range(20_000):
        side = sides[k % len(sides)]
        left = int((0.5 + k * _R2[0]) % 1 * (width - side + 1))
        top = int((0.5 + k * _R2[1]) % 1 * (height - side + 1))
        crop = gray[top : top + side : scale, left : left + side : scale]
        pixels = crop.tobytes()
        if crop.std() >= MIN_STD and pixels not in seen:
            seen.add(pixels)
            yield left, top, left + side, top + side


def packaged_file(package: str, file: str) -> pathlib.Path:
    """A file inside an installed package, which is not imported: that costs over a second.

    Raises:
      ValueError: it is not there.
    """
    spec = importlib.util.find_spec(package)
    path = pathlib.Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ValueError(
            f"sample picture {file} of {package} is absent ({path}); "
            "reinstall scikit-image>=0.24 and scikit-learn>=1.5 from their wheels"
        )
    return path


@functools.cache
def _picture(package: str, file: str) -> UInt8[np.ndarray, "h w 3"]:
    """One picture as RGB."""
    path = packaged_file(package, file)
    if file.endswith("disp.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            return _disparity(arrays[arrays.files[0]])
    if file.endswith("csv.gz"):
        with gzip.open(path) as rows:
            return _digit_sheet(np.loadtxt(rows, delimiter=",", dtype=np.uint8)[:, :-1])
    return decode_image(path.read_bytes())


def _disparity(values: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of disparity, near is bright; where it is unknown (infinite), black."""
    known = np.isfinite(values)
    gray = np.where(known, values, 0) * (255 / values[known].max())
    return np.repeat(np.round(gray).astype(np.uint8)[:, :, None], 3, axis=2)


def _digit_sheet(values: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Handwritten digits, [n, 64] with ink 0 to 16, as dark ink on one white sheet, 32 px each."""
    side = int(len(values) ** 0.5)
    sheet = values[: side * side].reshape(side, side, 8, 8).swapaxes(1, 2).reshape(side * 8, -1)
    gray = np.round(255 - sheet * (255 / 16)).astype(np.uint8)
    size = (side * 32, side * 32)
    return np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
