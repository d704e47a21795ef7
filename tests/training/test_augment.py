"""Random views: what they keep of an image, and what they change."""

import jax
import numpy as np

from substrate_jax.training.augment import crop_and_flip, random_view
from tests.training.pictures import SIZE, pictures


def test_unpadded_crops_are_the_image_or_its_mirror():
    images = pictures(16)
    crop = jax.jit(crop_and_flip, static_argnums=2)
    got = np.asarray(crop(jax.random.key(0), images, 0))
    assert got.dtype == np.uint8
    kept = (got == images).all((1, 2, 3))
    mirrored = (got == images[:, :, ::-1]).all((1, 2, 3))
    assert np.all(kept ^ mirrored)
    assert kept.any()
    assert mirrored.any()


def test_crops_are_shifts_of_the_reflected_image():
    images = pictures(12)
    got = np.asarray(jax.jit(crop_and_flip)(jax.random.key(1), images))
    assert got.shape == images.shape
    assert got.dtype == np.uint8
    wide = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(wide, (SIZE, SIZE), (1, 2))
    windows = np.moveaxis(windows, 3, -1)  # n, row, column, height, width, channel
    corners = set()
    for image, choices in zip(got, windows, strict=True):
        equal = (choices == image).all((2, 3, 4)) | (choices == image[:, ::-1]).all((2, 3, 4))
        assert equal.any()
        corners.add(tuple(np.argwhere(equal)[0]))
    assert len(corners) > 1


def test_views_are_pictures_and_differ():
    images = np.concatenate([pictures(3), np.full((1, SIZE, SIZE, 3), 255, np.uint8)])
    view = jax.jit(random_view)
    first, second = (np.asarray(view(jax.random.key(seed), images)) for seed in (0, 1))
    assert first.shape == images.shape
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.any(first != second, axis=(1, 2, 3))[:3].all()
    # A crop lies within the image: no border of zeros comes in, white stays one gray level.
    assert np.ptp(first[3]) <= 8 * np.finfo(np.float32).eps
