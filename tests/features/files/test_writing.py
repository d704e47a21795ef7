"""Features that are written and read again, and rows that are matched by id."""

import numpy as np
import pytest

from substrate_jax.features import Features
from substrate_jax.features.files import relative_to

SUFFIXES = [".safetensors", ".npz"]


def features(labels=True):
    rng = np.random.default_rng(0)
    blocks = {
        name: rng.normal(size=(4, d)).astype(np.float32) for name, d in (("a/b", 3), ("ü", 1))
    }
    blocks["ü"][0] = np.array([-0.0], np.float32)
    ids = ("cat/1.png", r"caf\xe9", "a\nb", " ")
    return Features(ids, np.array([2, 0, 2, 1]) if labels else None, blocks, ("x", "y", "z"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("labels", [True, False])
def test_the_same_bits_come_back(suffix, labels, tmp_path):
    written = features(labels)
    written.write(tmp_path / f"a{suffix}")
    found = Features.read(tmp_path / f"a{suffix}")
    assert found.ids == written.ids
    assert found.keys() == written.keys()
    for name in written:
        assert np.asarray(found[name]).tobytes() == written[name].tobytes()
    assert found.label_names == (written.label_names if labels else ())
    assert (found.labels is None) == (not labels)
    if labels:
        np.testing.assert_array_equal(found.labels, written.labels)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    one = np.ones((1, 2), np.float32)
    for path, ids, blocks, match in (
        ("a.npy", ("a",), {"x": one}, r"ends in \.safetensors or \.npz"),
        ("a.npz", ("a",), {"ids": one}, "an encoder is called 'ids'"),
        ("a.npz", ("a",), {}, "no encoder to write"),
        ("a.npz", ("a\0",), {"x": one}, "null characters"),
        ("absent/a.npz", ("a",), {"x": one}, "cannot be written"),
    ):
        with pytest.raises(ValueError, match=match):
            Features(ids, None, blocks).write(tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    features().write(path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ValueError, match="cannot be written"):
        features().write(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]


def test_rows_are_matched_by_id():
    written = features()
    found = written.matched(written.ids[::-1])
    np.testing.assert_array_equal(found["a/b"], written["a/b"][::-1])
    np.testing.assert_array_equal(found.labels, [1, 2, 0, 2])
    assert found.matched(written.ids).join(Features(written.ids, None, {"c": found["ü"]})).ids
    many = [f"row{i:02d}" for i in range(25)]
    with pytest.raises(ValueError, match=r"lacks 25 of the 25 rows .*row09 and 15 more"):
        written.matched(many)


@pytest.mark.parametrize(
    ("ids", "wanted", "taken"),
    [
        (["/d/p/cat/1", "/d/p/dog/1"], ["cat/1", "dog/1"], "/d/p/"),
        (["/d/p/cat/1", "/d/p/cat/2"], ["cat/2"], "/d/p/"),
        (["p/1", "p/2"], ["p/1", "1"], ""),  # one of them is wanted as it is
        (["p/1", "q/2"], ["1", "2"], ""),  # no folder that all begin with
        (["p/1"], ["x"], ""),
    ],
)
def test_paths_lose_the_folder_that_all_begin_with(ids, wanted, taken):
    found, folder = relative_to(ids, wanted)
    assert folder == taken
    assert found == tuple(one.removeprefix(taken) for one in ids)
