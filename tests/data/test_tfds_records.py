"""TFDS sets prepared as array_record: which are found, how they are read, what is refused."""

import json
import pathlib

import pytest

from substrate_jax.data import UnreadableImage, open_source
from tests.data.test_sources import png

PREPARED = pathlib.Path(__file__).parents[3] / "shared" / "tfds"


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


def test_a_version_and_a_folder_are_chosen(tmp_path):
    for version, value in (("1.9.0", 1), ("1.10.0", 2)):
        write_tfds(tmp_path / "new", "set", [{"image": png(value)}], ("image",))
        (tmp_path / "a@b/set").mkdir(parents=True, exist_ok=True)
        (tmp_path / "new/set/1.0.0").rename(tmp_path / "a@b/set" / version)
        (tmp_path / "new/set").rmdir()
    folder = f"tfds:{tmp_path}/a@b/set"
    for spec, value in {
        f"tfds:set?version=1.9.0@{tmp_path}/a@b": 1,
        f"{folder}/1.9.0": 1,
        f"{folder}/1.9.0:train[:1]?image=image": 1,
        folder: 2,
        f"{folder}?version=1.9.0": 1,
    }.items():
        assert open_source(spec)[0].image[0, 0, 0] == value, spec
    for spec in (f"{folder}?version=2.0.0", f"tfds:set?version=2.0.0@{tmp_path}/a@b"):
        message = (
            r"no prepared data of version 2.0.0 in .*; give one of 1.10.0, 1.9.0 with \?version="
        )
        with pytest.raises(ValueError, match=message):
            open_source(spec)
    with pytest.raises(ValueError, match=r"give the folder of a version, which holds dataset_info"):
        open_source(f"tfds:{tmp_path}/new")


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
        "absent": r"no prepared data in \S+absent; run `python -m \S+prepare tfds:absent@\S+`",
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
