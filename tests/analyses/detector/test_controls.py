"""What the detector is compared with: sizes, colors, thumbnails, and ridge of all features."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from substrate_jax.analyses.detector import controls
from substrate_jax.analyses.detector.parts import deal
from substrate_jax.data.sources import Source
from substrate_jax.features.image_readers import image_features


def source(images: np.ndarray) -> Source:
    ids = tuple(str(row) for row in range(len(images)))
    return Source("drawn", ids, None, "0", lambda row: images[row])


def test_statistics_are_those_of_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    image[:3] = image[:3, :, :1]
    x = image.reshape(-1, 3) / 255
    spread = np.ptp(x, axis=1)
    want = [20, 30, 1.5, (spread == 0).mean(), *x.mean(0), *x.std(0), spread.mean(), spread.std()]
    (found,) = controls.image_statistics(source(image[None]), ["0"])
    np.testing.assert_allclose(found, want, atol=1e-12)
    assert len(controls.STATISTICS) == len(want)


def test_thumbnails_are_means_of_blocks():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    pixels = image_features(source(images), names=("pixels",))
    assert list(pixels) == ["pixels"]
    found = controls.thumbnails(pixels["pixels"]).reshape(2, 8, 8, 3)
    np.testing.assert_allclose(found[1, 2, 3], images[1, 8:12, 12:16].mean((0, 1)) / 255, rtol=1e-5)


@pytest.mark.parametrize("width", [6, 120])
def test_ridge_is_scikit_learns_in_both_forms(width, monkeypatch):
    """One strength, so that nothing is chosen: more features than rows, and fewer."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 40)
    x = rng.normal(size=(120, width)) + 0.6 * np.eye(3, width)[codes]
    blocks = np.split(x, 3)
    named = {name: [block] for name, block in zip("abc", blocks, strict=True)}
    parts = deal(named, {name: range(40) for name in "abc"})
    monkeypatch.setattr(controls, "RIDGE", (0.1,))
    found = controls.ridge_answers(x, parts, 0)
    fitted = x[parts.fit] - x[parts.fit].mean(0)
    total = (fitted**2).sum() / min(fitted.shape)
    model = Ridge(alpha=0.1 * total).fit(x[parts.fit], np.eye(3)[parts.codes[parts.fit]])
    np.testing.assert_array_equal(found, model.predict(x[parts.held_out]).argmax(1))
