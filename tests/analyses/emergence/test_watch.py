"""Features of a network that changes: its own, by one program, kept in files."""

import jax
import numpy as np
import pytest
from flax import nnx

from substrate_jax.analyses.emergence.watch import Watched, WatchedNetwork, Watcher, probe_rows
from substrate_jax.data.preprocess import Preprocess, normalize
from substrate_jax.data.sources import Source
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.features import forward
from substrate_jax.training.labeled_images import LabeledImages

SIZE = Preprocess(16)
CONFIG = ViTConfig(8, 1, 2, patch_size=8, pool="avg", num_classes=3, image_size=16)


def images(n=24):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), np.uint8)
    labels = (np.arange(n) % 3).astype(np.int32)
    ids = tuple(map(str, range(n)))

    def read(row):
        raise AssertionError("read anew")

    return LabeledImages(pixels, labels, Source("made", ids, labels, "0", read))


def networks(count=2):
    found = [CONFIG.build(nnx.Rngs(seed)) for seed in range(count)]
    for network in found:
        network.eval()
    return found


def test_features_and_accuracy_are_the_network_s_own(tmp_path):
    test, probes = images(), np.array([1, 5, 20])
    watcher = Watcher(tmp_path, test, probes, SIZE, batch_size=8)
    for step, network in enumerate(networks()):
        watcher.watch("one", step, network, classifies=step == 0)
        found = Watched.load(watcher.path("one", step))
        features = network.features(normalize(test.images, SIZE))
        # float32, and sums in another order of 192 terms and less, eight times over
        np.testing.assert_allclose(found.features, np.asarray(features)[probes], atol=1e-5)
        if step:
            assert np.isnan(found.accuracy)
        else:
            right = np.asarray(network.classify(features)).argmax(-1) == test.labels
            assert found.accuracy == pytest.approx(right.mean())
        assert 0 <= found.probe_accuracy <= 1


def test_one_program_serves_all_steps():
    first, second = networks()
    watched = WatchedNetwork(first, "student", SIZE)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    before, weights = forward.program(watched, mesh, 8)
    said = watched.fingerprint
    watched.update(second)
    after, others = forward.program(watched, mesh, 8)
    assert before is after
    assert watched.fingerprint != said
    assert any((a != b).any() for a, b in zip(weights, others, strict=True))


def test_what_is_there_stays(tmp_path):
    first, second = networks()
    watcher = Watcher(tmp_path, images(), np.arange(3), SIZE, batch_size=8)
    watcher.watch("one", 0, first, classifies=True)
    content = watcher.path("one", 0).read_bytes()
    watcher.watch("one", 0, second, classifies=True)
    assert watcher.path("one", 0).read_bytes() == content


def test_a_class_of_one_image_has_no_probe(tmp_path):
    test = images(25)
    test.labels[24] = 3
    watcher = Watcher(tmp_path, test, np.arange(3), SIZE, batch_size=8)
    watcher.watch("one", 0, networks(1)[0], classifies=False)
    assert np.isnan(Watched.load(watcher.path("one", 0)).probe_accuracy)


def test_files_keep_all_and_damaged_ones_are_named(tmp_path):
    path = tmp_path / "a" / "0.safetensors"
    given = Watched(np.eye(3, dtype=np.float32), 0.5, float("nan"))
    given.save(path)
    found = Watched.load(path)
    np.testing.assert_array_equal(found.features, given.features)
    assert found.accuracy == 0.5
    assert np.isnan(found.probe_accuracy)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="no features of this step"):
        Watched.load(path)
    with pytest.raises(ValueError, match="another --out"):
        Watched.load(tmp_path / "absent.safetensors")


def test_probes_are_of_all_classes_alike():
    labels = np.array([0] * 10 + [1] * 3 + [2] * 10)
    rows = probe_rows(labels, 9)
    assert np.bincount(labels[rows]).tolist() == [3, 3, 3]
    assert probe_rows(labels, 23).tolist() == list(range(23))
    with pytest.raises(ValueError, match="probe_images=24: there are 23"):
        probe_rows(labels, 24)
