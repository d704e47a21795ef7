"""Pixels and hand-crafted features, read like the features of an encoder."""

import numpy as np
import pytest

from substrate_jax.data.preprocess import Preprocess, resize_crop
from substrate_jax.features import extract
from substrate_jax.features.handcrafted import handcrafted_features
from substrate_jax.features.image_readers import image_energy, image_features, image_readers
from tests.features.fakes import LinearEncoder, noise_source
from tests.features.test_handcrafted import LIMIT, SUM, S
from tests.helpers import tolerance


def test_reading_images_follows_ids_and_is_kept_in_a_store(tmp_path):
    source = noise_source(n=11, size=20, bad=(4,))
    ids = [f"r{row:03d}" for row in (9, 2, 0, 7)]
    options = {"store": tmp_path, "batch_size": 8}
    found = image_features(source, ids, **options)
    rows = np.stack([resize_crop(source.pixels[int(i[1:])], Preprocess(S)) for i in ids])
    np.testing.assert_allclose(found["handcrafted"], handcrafted_features(rows), atol=LIMIT)
    small = np.stack([resize_crop(source.pixels[int(i[1:])], Preprocess(32)) for i in ids]) / 255
    np.testing.assert_allclose(found["pixels"], small.reshape(4, -1), atol=tolerance(1))
    np.testing.assert_allclose(image_energy(found["pixels"]), (small**2).mean((1, 2, 3)), rtol=SUM)
    source.reads.clear()
    again = image_features(source, ids, **options)
    assert not source.reads
    for name, block in found.items():
        np.testing.assert_array_equal(again[name], block)
    with pytest.raises(ValueError, match="'r404', which noise does not have"):
        image_features(source, ["r404"])


def test_readers_share_the_decode_pass_of_a_panel():
    source = noise_source(n=9, size=20, bad=(4,))
    steps = []
    features = extract(
        [LinearEncoder(), *image_readers()],
        source,
        skip_bad=True,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert list(features) == ["linear", "pixels", "handcrafted"]
    assert [block.shape for block in features.values()] == [(8, 5), (8, 3072), (8, 59)]
    assert set(source.reads.values()) == {1}
    assert steps[-1] == (9, 9)
