"""Sources: ids, labels, fingerprints, subsamples, and what each refuses."""

import io
import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import UnreadableImage, open_source, take
from substrate_jax.data.sources import Source, digest

PREPARED = pathlib.Path(__file__).parents[3] / "shared" / "tfds"


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
        ({"a.txt": b"x"}, "no images in .* files that end in .bmp"),
        ({"a.png": png(1), "b/c.png": png(1)}, "'a.png' lies beside the class folder 'b'"),
    ],
)
def test_folder_refuses(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        open_source(f"dir:{write(tmp_path, files)}")


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


def test_npz_colour_and_several_labels(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)
    path = medmnist(tmp_path / "m.npz", train_images=colour, train_labels=np.zeros((5, 14)))
    source = open_source(f"npz:{path}:train")
    np.testing.assert_array_equal(source[2].image, colour[2])
    assert source.labels is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((5, 6, 6), np.float32)}, "train_images is float32"),
        ({"train_images": np.zeros((5, 6, 6, 6), np.uint8)}, r"give uint8 \[n, h, w\]"),
        ({"train_images": np.array([None])}, "allow_pickle"),
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


def write_tfds(root: pathlib.Path, name: str, rows: list[dict], features: dict) -> None:
    """A prepared TFDS set by hand: TFDS itself writes images with TensorFlow only."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    file = f"{name}-train.array_record-00000-of-00001"
    writer = ArrayRecordWriter(str(folder / file), "group_size:1")
    for row in rows:
        example = tf_example_pb2.Example()
        for key, value in row.items():
            feature = example.features.feature[key]
            if isinstance(value, bytes):
                feature.bytes_list.value.append(value)
            else:
                feature.int64_list.value.append(value)
        writer.write(example.SerializeToString())
    writer.close()
    module = "tensorflow_datasets.core.features."
    kinds = {
        "image": {
            "pythonClassName": f"{module}image_feature.Image",
            "image": {"dtype": "uint8", "encodingFormat": "png", "shape": {}},
        },
        "label": {
            "pythonClassName": f"{module}class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "3"},
        },
        "id": {"pythonClassName": f"{module}text_feature.Text", "text": {}},
    }
    kinds["image"]["image"]["shape"] = {"dimensions": ["4", "4", "3"]}
    record = {
        "pythonClassName": f"{module}features_dict.FeaturesDict",
        "featuresDict": {"features": {key: kinds[key] for key in features}},
    }
    (folder / "features.json").write_text(json.dumps(record))
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": "array_record",
        "moduleName": "tensorflow_datasets.core.dataset_builders.adhoc_builder",
        "splits": [
            {
                "name": "train",
                "numBytes": "1",
                "shardLengths": [str(len(rows))],
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        ],
    }
    (folder / "dataset_info.json").write_text(json.dumps(info))


def test_tfds_with_ids(tmp_path):
    rows = [{"image": png(v), "label": v % 3, "id": b"row-%d" % v} for v in range(7)]
    write_tfds(tmp_path, "tiny", rows, ("image", "label", "id"))
    source = open_source(f"tfds:tiny@{tmp_path}")
    assert source.ids == tuple(f"row-{v}" for v in range(7))
    assert source.labels.tolist() == [v % 3 for v in range(7)]
    assert [int(source[v].image[0, 0, 0]) for v in range(7)] == list(range(7))
    part = open_source(f"tfds:tiny:train[2:4]@{tmp_path}")
    assert part.ids == ("row-2", "row-3")
    assert part.fingerprint != source.fingerprint


def test_tfds_reads_the_highest_version_of_a_config(tmp_path):
    for version, value in (("1.9.0", 1), ("1.10.0", 2)):
        write_tfds(tmp_path / "new", "set", [{"image": png(value)}], ("image",))
        (tmp_path / "set/plain").mkdir(parents=True, exist_ok=True)
        (tmp_path / "new/set/1.0.0").rename(tmp_path / "set/plain" / version)
        (tmp_path / "new/set").rmdir()
    assert open_source(f"tfds:set/plain@{tmp_path}")[0].image[0, 0, 0] == 2


def test_tfds_without_ids_or_labels_and_with_a_bad_record(tmp_path):
    write_tfds(tmp_path, "bare", [{"image": png(0)}, {"image": png(1)[:50]}], ("image",))
    source = open_source(f"tfds:bare:train@{tmp_path}")
    assert source.ids == ("train/000000", "train/000001")
    assert source.labels is None
    with pytest.raises(UnreadableImage, match="train/000001: "):
        source[1]


def test_tfds_refuses(tmp_path):
    write_tfds(tmp_path, "bare", [{"image": png(0)}], ("image",))
    write_tfds(tmp_path, "words", [{"id": b"a"}], ("id",))
    for spec, message in {
        "absent": r"no prepared data in \S+absent; place absent/VERSION/ there.*`tfds build absent",
        "bare:test": "Unknown split 'test'",
        "words": "features are id; give a set with `image`",
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            open_source(f"tfds:{spec}@{tmp_path}")
        assert "\n" not in str(error.value)
    info = tmp_path / "bare/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=r"tfds:bare:train: .*array_record"):
        open_source(f"tfds:bare@{tmp_path}")


@pytest.mark.parametrize(
    ("name", "n", "classes"),
    [("pacs_photo", 467, 7), ("lung_ct", None, 3), ("galaxy_zoo", None, 4)],
)
def test_prepared_image_sets(name, n, classes):
    if not (PREPARED / name).is_dir():
        pytest.skip("prepared image sets are absent")
    source = open_source(f"tfds:{name}:test@{PREPARED}")
    assert n in (None, len(source))
    assert len(source.label_names) == len(set(source.labels.tolist())) == classes
    assert source[0].image.shape == (64, 64, 3)


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
