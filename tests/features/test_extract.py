"""Extraction: the right rows, once each, in one decode pass; what it refuses."""

import contextlib
import dataclasses
import gc
import importlib

import jax
import numpy as np
import pytest

from substrate_jax.data import Preprocess, preprocess
from substrate_jax.encoders import Encoder, encoder_spec
from substrate_jax.encoders.networks.vit import ViTConfig
from substrate_jax.encoders.weights import abstract_module, fill
from substrate_jax.features import Features, FeatureStore, collect, extract
from substrate_jax.mesh import make_mesh
from tests.encoders.networks.modules import arrays_of
from tests.features.fakes import LinearEncoder, needs, noise_source, oracle, panel, same_bits
from tests.helpers import relative_error, tolerance

extraction = importlib.import_module("substrate_jax.features.extract")  # not the function
ONE = "data=1"


@pytest.mark.parametrize("batch_size", [1, 7, 16, 37, 64])
def test_rows_match_float64_whatever_the_batch(batch_size):
    encoder, source = LinearEncoder(), noise_source(37)
    features = extract([encoder], source, mesh=make_mesh(ONE), batch_size=batch_size)
    assert features.ids == source.ids
    np.testing.assert_array_equal(features.labels, source.labels)
    assert features["linear"].dtype == np.float32
    want = oracle(encoder, source.pixels)
    assert relative_error(features["linear"], want) <= tolerance(8 * 8 * 3)


def test_one_decode_pass_feeds_every_encoder():
    encoders = [
        LinearEncoder("a"),
        LinearEncoder("b", width=3, seed=1),
        LinearEncoder("c", preprocess=Preprocess(4, 0.5)),
        LinearEncoder("d", preprocess=Preprocess(8, 1.0, (0.5,) * 3, (0.5,) * 3)),
    ]
    source = noise_source(37)
    features = extract(encoders, source, mesh=make_mesh(ONE), batch_size=8)
    assert source.reads == dict.fromkeys(range(37), 1)
    assert list(features) == ["a", "b", "c", "d"]
    for encoder in encoders:
        alone = extract([encoder], noise_source(37), mesh=make_mesh(ONE), batch_size=8)
        np.testing.assert_array_equal(alone[encoder.spec.name], features[encoder.spec.name])
        images = preprocess.preprocess(source.pixels, encoder.spec.preprocess)
        function, state = encoder.functional()
        want = np.asarray(function(state, images))
        length = encoder.size**2 * 3
        assert relative_error(features[encoder.spec.name], want) <= tolerance(length)


def test_each_encoder_compiles_once_for_many_sources_and_ragged_ends():
    encoders = [LinearEncoder("a"), LinearEncoder("b", seed=1)]
    for seed, n in enumerate((37, 20, 16)):
        extract(encoders, noise_source(n, seed=seed), mesh=make_mesh(ONE), batch_size=16)
    assert [encoder.traces for encoder in encoders] == [1, 1]


def test_progress_reaches_the_end():
    seen = []
    extract(
        [LinearEncoder()],
        noise_source(20),
        batch_size=8,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (20, 20)


def test_bad_images_are_counted_and_named():
    source = noise_source(37, bad={3, 20, 21, 36})
    message = r"4 of 37 images of noise cannot be read, first r003: truncated, r020.*skip_bad=True"
    with pytest.raises(ValueError, match=message):
        extract([LinearEncoder()], source, mesh=make_mesh(ONE), batch_size=8)


def test_skipped_images_are_left_out_for_every_encoder():
    bad = {3, 20, 21, 36}
    encoders = [LinearEncoder("a"), LinearEncoder("b", preprocess=Preprocess(4, 0.5))]
    source, whole = noise_source(37, bad=bad), noise_source(37)
    kept = [row for row in range(37) if row not in bad]
    got = extract(encoders, source, mesh=make_mesh(ONE), batch_size=8, skip_bad=True)
    want = extract(encoders, whole, mesh=make_mesh(ONE), batch_size=8)
    assert got.ids == tuple(whole.ids[row] for row in kept)
    np.testing.assert_array_equal(got.labels, whole.labels[kept])
    for name in ("a", "b"):
        np.testing.assert_array_equal(got[name], want[name][kept])


def test_nothing_left_is_an_error():
    source = noise_source(3, bad={0, 1, 2})
    with pytest.raises(ValueError, match=r"3 of 3 images .* no image is left"):
        extract([LinearEncoder()], source, skip_bad=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(value):
    encoder, source = LinearEncoder("broken"), noise_source(20)
    source.pixels[9] = 255
    plain = encoder.functional()[0]

    def function(state, images):
        white = (images > 2).all(axis=(1, 2, 3))
        return plain(state, images) + jax.numpy.where(white, value, 0.0)[:, None]

    encoder._function = function
    message = "encoder broken gives NaN or infinity in 1 of rows 8 to 15 of noise, first r009"
    with pytest.raises(ValueError, match=message):
        extract([encoder], source, mesh=make_mesh(ONE), batch_size=8)


def test_other_failures_of_a_source_are_not_hidden():
    def fail(row):
        if row == 11:
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        extract([LinearEncoder()], noise_source(20, on_read=fail), batch_size=8, skip_bad=True)


def test_refuses():
    source = noise_source(4)
    wrong = LinearEncoder("wrong")
    wrong.spec = dataclasses.replace(wrong.spec, width=6)
    for encoders, options, message in [
        ([], {}, r"encoders=\[\]: give at least one"),
        ([LinearEncoder("a"), LinearEncoder("a")], {}, "none twice"),
        ([LinearEncoder()], {"batch_size": 0}, "batch_size=0"),
        ([wrong], {}, r"wrong gives \[8, 5\] for 8 images; its spec says \[8, 6\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            extract(encoders, source, **options)


def block(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)


def test_join_keeps_order_and_rows():
    left = Features(("x", "y"), np.array([0, 1]), {"a": block(2)})
    right = Features(("x", "y"), None, {"b": block(2, 1)})
    joined = left.join(right)
    assert list(joined) == ["a", "b"]
    np.testing.assert_array_equal(joined["b"], right["b"])


@pytest.mark.parametrize(
    ("ids", "name", "message"),
    [
        (("x", "z", "y"), "b", "row 1 is 'y' here and 'z' there"),
        (("y", "x", "z"), "b", "row 0 is 'x' here and 'y' there"),
        (("x", "y"), "b", "3 rows here and 2 there, 'z' on one side only"),
        (("x", "y", "z"), "a", "encoder 'a' is in both"),
    ],
)
def test_join_refuses(ids, name, message):
    left = Features(("x", "y", "z"), None, {"a": block(3)})
    with pytest.raises(ValueError, match=message):
        left.join(Features(ids, None, {name: block(len(ids))}))


@pytest.mark.parametrize(
    ("labels", "rows", "message"), [(None, 3, "a has 3 rows for 2"), ([1], 2, "labels has 1 rows")]
)
def test_features_refuse_ragged_blocks(labels, rows, message):
    with pytest.raises(ValueError, match=message):
        Features(("x", "y"), labels, {"a": block(rows)})


@pytest.mark.parametrize("bad", [pytest.param((), marks=pytest.mark.long), (4, 21)])
def test_worker_processes_give_the_bytes_of_threads(bad):
    options = {"batch_size": 8, "skip_bad": True}
    want = extract(panel(), noise_source(37, bad=bad), **options)
    got = extract(panel(), noise_source(37, bad=bad), workers=2, **options)
    assert same_bits(got, want)


def test_worker_processes_name_bad_images():
    with pytest.raises(ValueError, match="2 of 37 images of noise cannot be read, first r004"):
        extract(panel(), noise_source(37, bad=(4, 21)), workers=1, batch_size=8)


def test_encoders_that_do_not_fit_together_take_turns_and_images_are_decoded_once(monkeypatch):
    encoders, source = panel(), noise_source(37)
    options = {"mesh": make_mesh("data=1"), "batch_size": 8}
    want = extract(encoders, source, **options)
    held, most = [], []
    loaded = extraction.loaded

    @contextlib.contextmanager
    def counted(plan, name):
        held.append(name)
        most.append(len(held))
        with loaded(plan, name) as function:
            yield function
        held.remove(name)

    monkeypatch.setattr(extraction, "loaded", counted)
    sizes = [sum(size) for size in needs(encoders, source, **options).values()]
    source.reads.clear()
    got = extract(encoders, source, device_memory=max(sizes), **options)
    assert same_bits(got, want)
    assert max(most) < len(encoders)
    assert set(source.reads.values()) == {1}
    most.clear()
    extract(encoders, source, device_memory=sum(sizes), **options)
    assert max(most) == len(encoders)


def device_bytes():
    """Of all arrays on devices."""
    return sum(array.nbytes for array in jax.live_arrays())


def test_devices_hold_no_more_than_the_budget(monkeypatch):
    """Real encoders: their weights are read onto the host, and are on a device in their turn."""
    gc.collect()  # arrays of other tests
    before = device_bytes()
    config = ViTConfig(256, 0, 1, patch_size=8, image_size=8, num_classes=0)
    record = dataclasses.replace(
        encoder_spec("mini_vit_base"), config=config, preprocess=Preprocess(8, 1.0)
    )
    encoders = []
    for seed, name in enumerate("abc"):
        module = fill(abstract_module(config), arrays_of(config, seed), source=name)
        spec = dataclasses.replace(record, name=name)
        encoders.append(Encoder(spec, module, source=name, sha256=name))
    assert device_bytes() == before
    options = {"mesh": make_mesh(ONE), "batch_size": 4}
    sizes = needs(encoders, noise_source(16), **options)
    weights, batches, _ = sizes["a"]
    assert weights > 10 * batches
    seen = []
    add = collect.Collected.add

    def watched(collected, *arguments):
        seen.append(device_bytes() - before)
        return add(collected, *arguments)

    monkeypatch.setattr(collect.Collected, "add", watched)
    for together in (1, 2):
        seen.clear()
        budget = sum(sum(sizes[name]) for name in "abc"[:together])
        extract(encoders, noise_source(12), device_memory=budget, **options)
        assert weights * together < max(seen) <= budget
        assert device_bytes() == before


def test_an_encoder_beyond_the_budget_is_named():
    with pytest.raises(ValueError, match=r"encoder a needs 0 MiB .* device_memory=0 MiB; lower"):
        extract(panel(), noise_source(5), device_memory=100)


def test_ungathered_blocks_read_rows_from_the_store(tmp_path):
    source = noise_source(37, bad=(4, 21))
    options = {"store": FeatureStore(tmp_path, chunk_rows=10), "skip_bad": True, "batch_size": 8}
    want = extract(panel(), source, **options)
    got = extract(panel(), source, gather=False, **options)
    assert same_bits(got, want)
    block = got["b"]
    assert (block.shape, len(block), block.dtype) == ((35, 7), 35, np.float32)
    for rows in (slice(7, 29), np.array([34, 0, 12]), slice(3, 3)):
        np.testing.assert_array_equal(block[rows], want["b"][rows])
    assert same_bits(got.join(Features(got.ids, None, {})), want)
    for chunk in tmp_path.glob("*/000001.npy"):
        chunk.unlink()
    with pytest.raises(ValueError, match=r"rows 10 to 19 of \w+ have left the store"):
        block[8:]


def test_rows_on_demand_need_a_store():
    with pytest.raises(ValueError, match="gather=False needs a store"):
        extract(panel(), noise_source(5), gather=False)
