"""Sources: ids, labels, fingerprints, subsamples, and what each refuses."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import Preprocess, UnreadableImage, open_source, resize_crop, take
from substrate_jax.data.sources import Source, digest


def png(value: int, side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


CLASSES = {"dog/b.png": png(3), "cat/a.png": png(1), "cat/deep/b.PNG": png(2)}


def test_folder_of_classes(tmp_path):
    root = write(tmp_path, {**CLASSES, "notes.txt": b"x", ".hidden/c.png": b"", "dog/.d.png": b""})
    source = open_source(f"dir:{root}")
    assert source.ids == ("cat/a.png", "cat/deep/b.PNG", "dog/b.png")
    assert source.labels.tolist() == [0, 0, 1]
    assert source.label_names == ("cat", "dog")
    assert [int(source[row].image[0, 0, 0]) for row in range(3)] == [1, 2, 3]
    assert source[-1].id == "dog/b.png"
    with pytest.raises(IndexError):
        source[3]


def test_flat_folder_has_no_labels(tmp_path):
    source = open_source(f"dir:{write(tmp_path, {'b.png': png(2), 'a.png': png(1)})}")
    assert source.ids == ("a.png", "b.png")
    assert source.labels is None
    assert source[0].label is None


def test_folder_fingerprint_follows_content_and_names(tmp_path):
    root = write(tmp_path, CLASSES)
    first = open_source(f"dir:{root}").fingerprint
    assert open_source(f"dir:{root}").fingerprint == first
    os.utime(root / "dog/b.png", ns=(1, 1))
    touched = open_source(f"dir:{root}").fingerprint
    (root / "dog/b.png").rename(root / "dog/c.png")
    renamed = open_source(f"dir:{root}").fingerprint
    assert len({first, touched, renamed}) == 3


@pytest.mark.parametrize("data", [b"", png(1)[:40], b"text"], ids=["empty", "cut", "text"])
def test_bad_file_in_a_folder_names_itself(tmp_path, data):
    source = open_source(f"dir:{write(tmp_path, {'a/good.png': png(1), 'a/bad.png': data})}")
    with pytest.raises(UnreadableImage, match=r"a/bad\.png: "):
        source[0]
    assert source[1].image.shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no images in"),
        ({"a.txt": b"x"}, "no images in .* files that end in .apng"),
        ({"a.png": png(1), "b/c.png": png(1)}, "'a.png' lies beside the class folder 'b'"),
    ],
)
def test_folder_refuses(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        open_source(f"dir:{write(tmp_path, files)}")


def test_sizes_may_differ_and_images_be_constant(tmp_path):
    source = open_source(f"dir:{write(tmp_path, {'a.png': png(0), 'b.png': png(0, side=9)})}")
    assert [source[row].image.shape for row in (0, 1)] == [(4, 4, 3), (9, 9, 3)]
    assert not source[1].image.any()
    assert resize_crop(source[1].image, Preprocess(4)).shape == (4, 4, 3)


def medmnist(path: pathlib.Path, **change) -> pathlib.Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 6, 6), np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None]
    np.savez(path, **{**arrays, **change})
    return path


def test_npz_splits(tmp_path):
    path = medmnist(tmp_path / "m.npz")
    whole, part = open_source(f"npz:{path}"), open_source(f"npz:{path}:val")
    assert len(whole) == 10
    assert whole.ids[5:7] == part.ids == ("val/000000", "val/000001")
    assert part.labels.tolist() == [0, 1]
    assert part[1].image.shape == (6, 6, 3)
    np.testing.assert_array_equal(part[1].image, whole[6].image)
    np.testing.assert_array_equal(part[1].image[..., 0], part[1].image[..., 2])
    assert whole.fingerprint != part.fingerprint


def test_npz_color_and_several_labels(tmp_path):
    color = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)
    path = medmnist(tmp_path / "m.npz", train_images=color, train_labels=np.zeros((5, 14)))
    source = open_source(f"npz:{path}:train")
    np.testing.assert_array_equal(source[2].image, color[2])
    assert source.labels is None


def test_npz_without_labels(tmp_path):
    np.savez(tmp_path / "m.npz", train_images=np.zeros((2, 3, 3), np.uint8))
    source = open_source(f"npz:{tmp_path}/m.npz")
    assert source.ids == ("train/000000", "train/000001")
    assert source.labels is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((5, 6, 6), np.float32)}, "train_images is float32"),
        ({"train_images": np.zeros((5, 6, 6, 6), np.uint8)}, r"give uint8 \[n, h, w\]"),
        ({"train_images": np.array([None])}, "holds Python objects"),
    ],
)
def test_npz_refuses(tmp_path, change, message):
    path = medmnist(tmp_path / "m.npz", **change)
    with pytest.raises(ValueError, match=message):
        open_source(f"npz:{path}:train")


def test_absent_split_and_files(tmp_path):
    np.savez(tmp_path / "m.npz", test_images=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"no array val_images .* holds test_images"):
        open_source(f"npz:{tmp_path}/m.npz:val")
    for kind in ("npz", "dir"):
        with pytest.raises(ValueError, match=f"^{kind}:.*no such"):
            open_source(f"{kind}:{tmp_path}/absent")


def stub(ids, labels=None) -> Source:
    return Source("stub", tuple(ids), labels, "0", lambda row: np.zeros((1, 1, 3), np.uint8))


def test_take_is_a_function_of_seed_and_ids():
    ids = [f"i{k}" for k in range(100)]
    ten = take(stub(ids, np.arange(100)), 10, seed=3)
    assert len(set(ten.ids)) == 10
    assert take(stub(ids[::-1]), 10, seed=3).ids == ten.ids
    assert take(stub(ids), 30, seed=3).ids[:10] == ten.ids
    assert take(stub(ids), 10, seed=4).ids != ten.ids
    assert [f"i{label}" for label in ten.labels] == list(ten.ids)
    grown = take(stub([*ids, "new"]), 10, seed=3).ids
    assert len(set(grown) & set(ten.ids)) >= 9
    assert ten.fingerprint != take(stub(ids), 11, seed=3).fingerprint


def test_select_reads_the_rows_it_names():
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    source = Source("five", tuple("abcde"), np.arange(5), "0", lambda row: pixels[row])
    chosen = source.select([4, 1]).select([1, 0])
    assert [(e.id, e.label, int(e.image[0, 0, 0])) for e in (chosen[0], chosen[1])] == [
        ("b", 1, 1),
        ("e", 4, 4),
    ]


@pytest.mark.parametrize("n", [0, 6])
def test_take_names_both_counts(n):
    with pytest.raises(ValueError, match=f"n={n}: stub has 5 images"):
        take(stub("abcde"), n)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ("abcbc", None, "id 'b' appears twice"),
        ("", None, "no images"),
        ("abc", [0, 1], r"labels have shape \(2,\).* 3 ids"),
    ],
)
def test_source_refuses(ids, labels, message):
    with pytest.raises(ValueError, match=message):
        stub(ids, labels)


def test_digest_keeps_parts_apart():
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
