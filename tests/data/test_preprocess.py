"""Preprocessing against a float64 resampling written from the definition."""

import resource

import numpy as np
import pytest

from substrate_jax.data import preprocess as P
from tests.helpers import relative_error, tolerance


def cubic_weights(source: int, target: int) -> np.ndarray:
    """[target, source] antialiased bicubic (a = -1/2) weights, rows summing to 1."""
    scale = source / target
    stretch = max(scale, 1.0)
    center = (np.arange(target)[:, None] + 0.5) * scale
    x = np.abs((np.arange(source)[None, :] + 0.5 - center) / stretch)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, inner, np.where(x < 2, outer, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("shape", "crop_mode", "resized", "box"),
    [
        ((40, 60), "center", (16, 24), (3, 7)),  # landscape: 16 / 40 * 60 = 24
        ((61, 40), "center", (24, 16), (7, 3)),  # portrait: floor(16 * 61 / 40) = 24
        ((9, 7), "center", (20, 16), (5, 3)),  # enlarged: floor(16 * 9 / 7) = 20
        ((16, 16), "center", (16, 16), (3, 3)),  # nothing to resize
        ((40, 60), "squash", (16, 16), (3, 3)),
        ((16, 9), "squash", (16, 16), (3, 3)),  # one side only
    ],
)
def test_resize_crop_matches_the_definition(shape, crop_mode, resized, box):
    # Values away from 0 and 255, so that no overshoot is clipped in between.
    image = np.random.default_rng(0).integers(80, 176, (*shape, 3), np.uint8)
    spec = P.Preprocess(size=10, crop_fraction=10 / 16, crop_mode=crop_mode)
    assert spec.resized == 16
    want = np.einsum(
        "yh,xw,hwc->yxc",
        cubic_weights(shape[0], resized[0]),
        cubic_weights(shape[1], resized[1]),
        image,
    )[box[0] : box[0] + 10, box[1] : box[1] + 10]
    got = P.resize_crop(image, spec).astype(np.float64)
    # Pillow rounds to a level after each of two passes; the second spreads the first rounding
    # by at most the sum of its absolute weights.
    spread = np.abs(cubic_weights(shape[0], resized[0])).sum(axis=1).max()
    assert np.max(np.abs(got - want)) <= 0.5 + 0.5 * spread + 0.01


SHAPES = [(1, 3), (1, 30), (2, 61), (100, 7), (40, 60), (300, 9), (100, 1000), (640, 33 * 20)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("size", "fraction"), [(10, 10 / 16), (32, 1.0), (56, 0.875)])
def test_the_part_that_the_crop_keeps_is_that_of_the_whole(
    size, fraction, interpolation, monkeypatch
):
    spec = P.Preprocess(size, fraction, interpolation=interpolation)
    rng = np.random.default_rng(0)
    equal = total = 0
    for shape in SHAPES:
        # Values away from 0 and 255: where a pass clips, the order of passes shows.
        image = rng.integers(80, 176, (*shape, 3), np.uint8)
        whole = P.resize_crop(image, spec).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(P, "_LONGEST", 0)
            part = P.resize_crop(image, spec)
        assert np.abs(part - whole).max() <= 2  # a level of rounding for each of two passes
        equal, total = equal + (part == whole).sum(), total + part.size
    assert equal / total > 0.9


@pytest.mark.parametrize("shape", [(1, 3_000), (3_000, 1), (1, 200_000), (60_000, 2)])
def test_extreme_ratios_take_little_memory(shape):
    """One row of 3,000 pixels took 1.8 GB."""
    ramp = np.linspace(0, 255, max(shape)).astype(np.uint8)
    ramp = ramp[None, :, None] if shape[0] < shape[1] else ramp[:, None, None]
    image = np.broadcast_to(ramp, (*shape, 3)).copy()
    spec = P.Preprocess(224, 0.875)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = P.resize_crop(image, spec)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert got.shape == (224, 224, 3)
    assert grown < 64  # MiB
    # The middle of a ramp: gray, and no brighter from one end of the crop to the other.
    assert np.abs(got.astype(int) - 127).max() <= 2 + 255 * min(shape) / max(shape)


def test_images_that_are_not_extreme_are_resized_whole(monkeypatch):
    monkeypatch.setattr(P, "_resize_part", None)
    for shape in ((32, 1), (1, 32), (33, 2), (640, 480)):
        P.resize_crop(np.zeros((*shape, 3), np.uint8), P.Preprocess(8))


@pytest.mark.parametrize(
    ("size", "fraction", "resized"),
    [(224, 0.875, 256), (224, 0.95, 235), (224, 0.9, 248), (224, 1.0, 224), (32, 1.0, 32)],
)
def test_resized_side_rounds_down_as_timm_does(size, fraction, resized):
    assert P.Preprocess(size, fraction).resized == resized


def test_crop_is_central_and_rounds_half_to_even():
    ramp = np.repeat(np.arange(7, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)
    # shorter side 4 stays; (7 - 4) / 2 = 1.5 rounds to 2
    assert P.resize_crop(ramp, P.Preprocess(4))[0, :, 0].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (P.IMAGENET_MEAN, P.IMAGENET_STD),
        (P.CLIP_MEAN, P.CLIP_STD),
        (P.INCEPTION_MEAN, P.INCEPTION_STD),
    ],
)
def test_normalize_matches_float64(mean, std):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    want = (images / 255.0 - np.array(mean)) / np.array(std)
    got = P.normalize(images, P.Preprocess(5, 1.0, mean, std))
    assert got.dtype == np.float32
    assert relative_error(got, want) <= tolerance(1)


def test_batch_is_its_images_one_by_one():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in [(9, 12), (30, 8), (8, 8)]]
    spec = P.Preprocess(8, 0.8)
    batch = P.preprocess(images, spec)
    assert batch.shape == (3, 8, 8, 3)
    for row, image in zip(batch, images, strict=True):
        np.testing.assert_array_equal(row, P.preprocess(image[None], spec)[0])


def test_spec_from_lists_is_hashable_and_equal():
    lists = P.Preprocess(8, 1.0, list(P.CLIP_MEAN), list(P.CLIP_STD))
    assert {lists: 1}[P.Preprocess(8, 1.0, P.CLIP_MEAN, P.CLIP_STD)] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"crop_fraction": 0.0}, "crop_fraction=0.0"),
        ({"crop_fraction": 1.5}, "crop_fraction=1.5"),
        ({"mean": (0.5,)}, r"mean=\(0.5,\)"),
        ({"mean": (0.5, np.nan, 0.5)}, "give three numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "give positive values"),
        ({"std": (1.0, np.nan, 1.0)}, "give three numbers"),
        ({"std": (1.0, np.inf, 1.0)}, "give three numbers"),
        ({"crop_fraction": np.nan}, "crop_fraction=nan"),
        ({"interpolation": "cubic"}, "'cubic': give one of nearest, bilinear, bicubic"),
        ({"crop_mode": "border"}, "crop_mode='border': give center or squash"),
    ],
)
def test_spec_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        P.Preprocess(**{"size": 8, **change})


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_resize_crop_refuses(image):
    with pytest.raises(ValueError, match=r"give uint8 \[h, w, 3\], not empty"):
        P.resize_crop(image, P.Preprocess(8))
