"""Extraction over 8 devices equals extraction on one, with rows that do not divide."""

import numpy as np
import pytest

from substrate_jax.features import FeatureStore, extract
from substrate_jax.mesh import make_mesh
from tests.features.fakes import LinearEncoder, noise_source
from tests.helpers import relative_error, tolerance


@pytest.mark.parametrize("n", [1, 8, 37, 64])
@pytest.mark.parametrize("spec", ["data=8", "data=4,model=2", "data=3"])
def test_devices_change_nothing_but_rounding(spec, n):
    encoders = [LinearEncoder("a"), LinearEncoder("b", seed=1, conv=True)]
    one = extract(encoders, noise_source(n), mesh=make_mesh("data=1"), batch_size=16)
    source = noise_source(n)
    many = extract(encoders, source, mesh=make_mesh(spec), batch_size=16)
    assert many.ids == one.ids
    assert source.reads == dict.fromkeys(range(n), 1)
    for name in one:
        # 27 products per pixel in the convolution, then 192 in the matrix product.
        assert relative_error(many[name], one[name]) <= tolerance(27 + 192)


def test_work_is_split_and_compiles_once():
    encoder = LinearEncoder("a")
    plain, shapes = encoder.functional()[0], []

    def function(state, images):
        shapes.append(images.shape)
        return plain(state, images)

    encoder._function = function
    extract([encoder], noise_source(37), mesh=make_mesh("data=8"), batch_size=10)
    assert shapes == [(16, 8, 8, 3)]  # 10 rounded up to a multiple of 8


def test_default_mesh_uses_every_device():
    encoder = LinearEncoder("a")
    got = extract([encoder], noise_source(37))
    want = extract([encoder], noise_source(37), mesh=make_mesh("data=8"))
    np.testing.assert_array_equal(got["a"], want["a"])


def test_store_written_on_eight_devices_resumes_on_eight(tmp_path):
    encoders, mesh = [LinearEncoder("a", conv=True)], make_mesh("data=8")
    store = FeatureStore(tmp_path, chunk_rows=16)
    first = extract(encoders, noise_source(37), mesh=mesh, store=store, batch_size=16)
    sorted(tmp_path.glob("*/*.npy"))[1].unlink()
    source = noise_source(37)
    second = extract(encoders, source, mesh=mesh, store=store, batch_size=16)
    assert second["a"].tobytes() == first["a"].tobytes()
    assert set(source.reads) == set(range(16, 32))
