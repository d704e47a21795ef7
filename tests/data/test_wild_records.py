"""Arrays and records from the wild: labels, truncated files, TFDS sets of other shapes, commas."""

import io
import json
import pathlib
import pickle
import struct
import zipfile

import cloudpickle
import numpy as np
import pytest

from substrate_jax.data import Source, UnreadableImage, open_source, quickdraw, resolve_domains
from substrate_jax.data.labels import numbered, whole_labels
from substrate_jax.data.tfds_records import TfdsSpec
from tests.data.test_sources import medmnist, png
from tests.data.test_wild_folders import one_line

# Case 15: labels.


def labels_of(tmp_path, labels) -> Source:
    np.savez(tmp_path / "m.npz", train_images=np.zeros((3, 2, 2), np.uint8), train_labels=labels)
    return open_source(f"npz:{tmp_path / 'm.npz'}")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.0, 2.0, 5.0]),
        np.array([0, 2, 5], np.float16)[:, None],
        np.array([0, 2, 5], np.uint64),
        np.array([0, 2, 5], ">i2"),
        np.array([0, 2, 5], np.uint8)[:, None],
    ],
)
def test_whole_labels_of_any_type_are_kept(tmp_path, labels):
    source = labels_of(tmp_path, labels)
    assert source.labels.tolist() == [0, 2, 5]
    assert source.labels.dtype == np.int64
    assert source.label_names == ()


def test_words_become_names(tmp_path):
    source = labels_of(tmp_path, np.array(["dog", "cat", "dog"]))
    assert source.labels.tolist() == [1, 0, 1]
    assert source.label_names == ("cat", "dog")
    source = labels_of(tmp_path, np.array([b"dog", b"c\xe9t", b"dog"])[:, None])
    assert source.label_names == (r"c\xe9t", "dog")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.25, 0.75, 1.0], "label 0.25 of row 0 is no whole number"),
        ([0.0, np.nan, 1.0], "label nan of row 1 is no whole number"),
        ([0.0, 1.0, np.inf], "label inf of row 2"),
        ([0.0, 1.0, 1e300], "label 1e[+]300 of row 2"),
        (np.array([0, 1, 2**63], np.uint64), "label 9223372036854775808 of row 2"),
        (np.array([1j, 0, 0]), "dtype complex128"),
        (np.array(["2020-01-01"] * 3, "M8[D]"), "dtype datetime64"),
        (np.array([0, 1]), r"train_labels is \[2\] for 3 images"),
        (np.array(5), r"train_labels is \[\] for 3 images"),
    ],
)
def test_other_labels_are_refused(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        labels_of(tmp_path, np.asarray(labels))
    assert "m.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_of_two_kinds_are_refused(tmp_path):
    path = medmnist(tmp_path / "m.npz", val_labels=np.array(["a", "b"]))
    one_line(f"npz:{path}", "words in one split and numbers in another")


def test_a_source_made_by_hand_is_held_to_the_same():
    read = lambda row: np.zeros((1, 1, 3), np.uint8)  # noqa: E731
    assert Source("s", "ab", [0.0, 1.0], "0", read).labels.tolist() == [0, 1]
    assert Source("s", "ab", [True, False], "0", read).labels.tolist() == [1, 0]
    for labels in ([0.5, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"s: label .* is no whole number"):
            Source("s", "ab", labels, "0", read)
    assert whole_labels(np.array([2**63 - 1], np.uint64), "x").tolist() == [2**63 - 1]
    assert numbered([])[1] == ()


# Case 26: truncated and mistaken files.


def npz_bytes(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 6), np.uint8)
WHOLE = npz_bytes(train_images=IMAGES, train_labels=np.arange(5))


def forged(shape: str, data: bytes = b"", compression=zipfile.ZIP_STORED) -> bytes:
    """An npz whose array claims a shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(118) + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        npy = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data
        archive.writestr("train_images.npy", npy)
    return buffer.getvalue()


def npy_bytes(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


MISTAKEN = {
    "empty": b"",
    "cut in the directory": WHOLE[:-10],
    "cut in the middle": WHOLE[: len(WHOLE) // 2],
    "cut at the start": WHOLE[:20],
    "pixels changed": WHOLE[:80] + b"\0\0\0\0" + WHOLE[84:],
    "npy": npy_bytes(IMAGES),
    "pickle": pickle.dumps({"train_images": IMAGES}),
    "text": b"<html>not found</html>",
    "absurd shape": forged("(1000000000000, 28, 28)"),
    "negative shape": forged("(-1, 2, 2)"),
    "shape beyond 64 bits": forged(f"({10**30}, 2, 2)"),
    "more pixels than the file has": forged("(3, 2, 2)", b"\0" * 11),
    "fewer pixels than the file has": forged("(3, 2, 2)", b"\0" * 13),
    "no shape": forged("'abc'"),
    "another compression": forged("(3, 2, 2)", b"\0" * 12, zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("case", MISTAKEN)
def test_a_damaged_npz_is_one_line_with_the_file(tmp_path, case):
    (tmp_path / "m.npz").write_bytes(MISTAKEN[case])
    message = one_line(f"npz:{tmp_path / 'm.npz'}", r"m\.npz")
    assert message.count(str(tmp_path)) >= 1


def test_a_whole_npz_is_read_whatever_wrote_it(tmp_path):
    (tmp_path / "m.npz").write_bytes(forged("(3, 2, 2)", bytes(range(12)), zipfile.ZIP_DEFLATED))
    assert open_source(f"npz:{tmp_path / 'm.npz'}")[2].image[1, 1, 0] == 11
    order = np.asfortranarray(IMAGES)
    (tmp_path / "m.npz").write_bytes(npz_bytes(train_images=order, other=np.ones(3)))
    np.testing.assert_array_equal(
        open_source(f"npz:{tmp_path / 'm.npz'}")[3].image[..., 1], IMAGES[3]
    )


@pytest.mark.parametrize("data", [b"", npy_bytes(IMAGES)[:40], WHOLE, b"text", pickle.dumps([1])])
def test_a_damaged_quickdraw_file_is_named(tmp_path, monkeypatch, data):
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path))
    (tmp_path / "quickdraw").mkdir()
    word = next(iter(quickdraw.quickdraw_words()))
    (tmp_path / "quickdraw" / f"{word}.npy").write_bytes(data)
    one_line("quickdraw:4", rf"quickdraw/{word}\.npy: not a QuickDraw bitmap file")


# TFDS sets, written by hand: TFDS itself writes images with TensorFlow only.

MODULE = "tensorflow_datasets.core.features."


def image_feature() -> dict:
    shape = {"dimensions": ["4", "4", "3"]}
    content = {"dtype": "uint8", "encodingFormat": "png", "shape": shape}
    return {"pythonClassName": f"{MODULE}image_feature.Image", "image": content}


def class_feature(count=3) -> dict:
    return {
        "pythonClassName": f"{MODULE}class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(count)},
    }


TEXT = {"pythonClassName": f"{MODULE}text_feature.Text", "text": {}}


def tensor_feature(shape=(), dtype="int64") -> dict:
    dimensions = {"dimensions": [str(side) for side in shape]} if shape else {}
    content = {"shape": dimensions, "dtype": dtype, "encoding": "none"}
    kind = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    return {"pythonClassName": f"{MODULE}{kind}", "tensor": content}


def sequence_of(feature: dict) -> dict:
    return {
        "pythonClassName": f"{MODULE}sequence_feature.Sequence",
        "sequence": {"feature": feature, "length": "-1"},
    }


def dict_of(features: dict) -> dict:
    return {
        "pythonClassName": f"{MODULE}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def write_set(
    root: pathlib.Path, rows: list[dict], features: dict, shards: int = 1, name: str = "wild"
) -> list[pathlib.Path]:
    """A prepared set; values are lists, names of nested features are joined by slashes."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    parts = np.array_split(np.arange(len(rows)), shards)
    files = []
    for shard, part in enumerate(parts):
        files.append(folder / f"{name}-train.array_record-{shard:05d}-of-{shards:05d}")
        writer = ArrayRecordWriter(str(files[-1]), "group_size:1")
        for row in part:
            example = tf_example_pb2.Example()
            for key, values in rows[row].items():
                feature = example.features.feature[key]
                for value in values if isinstance(values, list) else [values]:
                    kind = {bytes: "bytes_list", float: "float_list"}.get(type(value), "int64_list")
                    getattr(feature, kind).value.append(value)
            writer.write(example.SerializeToString())
        writer.close()
    (folder / "features.json").write_text(json.dumps(dict_of(features)))
    split = {
        "name": "train",
        "numBytes": "1",
        "shardLengths": [str(len(part)) for part in parts],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {"name": name, "version": "1.0.0", "fileFormat": "array_record", "splits": [split]}
    info["moduleName"] = "tensorflow_datasets.core.dataset_builders.adhoc_builder"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return files


# Case 34.


def rows_of(key: str, values: list) -> list[dict]:
    return [{"image": png(i), key: value} for i, value in enumerate(values)]


def test_a_text_label(tmp_path):
    rows = rows_of("label", [b"dog", b"cat", b"dog", "né".encode()])
    write_set(tmp_path, rows, {"image": image_feature(), "label": TEXT})
    source = open_source(f"tfds:wild@{tmp_path}")
    assert source.label_names == ("cat", "dog", "né")
    assert source.labels.tolist() == [1, 0, 1, 2]
    assert source[2].image[0, 0, 0] == 2


def test_labels_that_are_whole_floats_are_numbers_and_fractions_are_refused(tmp_path):
    features = {"image": image_feature(), "label": tensor_feature(dtype="float32")}
    write_set(tmp_path / "a", rows_of("label", [0.0, 4.0]), features)
    assert open_source(f"tfds:wild@{tmp_path / 'a'}").labels.tolist() == [0, 4]
    write_set(tmp_path / "b", rows_of("label", [0.0, 0.5]), features)
    one_line(f"tfds:wild@{tmp_path / 'b'}", r"label 0\.5 of row 1 is no whole number")
    assert open_source(f"tfds:wild?label=none@{tmp_path / 'b'}").labels is None


@pytest.mark.parametrize("kind", ["sequence", "tensor"])
def test_several_labels_are_chosen_or_left_out(tmp_path, kind):
    several = sequence_of(class_feature()) if kind == "sequence" else tensor_feature((2,))
    features = {"image": image_feature(), "label": several, "kind": class_feature()}
    rows = [{"image": png(i), "label": [i, 1], "kind": i % 3} for i in range(4)]
    write_set(tmp_path, rows, features)
    one_line(f"tfds:wild@{tmp_path}", r"'label' has several values per image; .*\?label=kind, none")
    source = open_source(f"tfds:wild:train?label=kind@{tmp_path}")
    assert source.labels.tolist() == [0, 1, 2, 0]
    assert source.name == "tfds:wild:train?label=kind"
    plain = open_source(f"tfds:wild?label=none@{tmp_path}")
    assert plain.labels is None
    assert plain.fingerprint == source.fingerprint  # the same images under the same ids


def test_an_image_feature_of_another_name_is_found_or_chosen(tmp_path):
    rows = [{"left": png(i), "right": png(i + 10), "label": i} for i in range(3)]
    features = {"left": image_feature(), "label": class_feature()}
    write_set(tmp_path / "a", rows, features)
    assert open_source(f"tfds:wild@{tmp_path / 'a'}")[2].image[0, 0, 0] == 2
    write_set(tmp_path / "b", rows, features | {"right": image_feature()})
    one_line(f"tfds:wild@{tmp_path / 'b'}", r"left, right hold images; choose with \?image=left$")
    left, right = (
        open_source(f"tfds:wild?image={key}@{tmp_path / 'b'}") for key in ("left", "right")
    )
    assert (left[1].image[0, 0, 0], right[1].image[0, 0, 0]) == (1, 11)
    assert left.fingerprint != right.fingerprint
    one_line(f"tfds:wild?image=label@{tmp_path / 'b'}", r"'label' holds no images; .*left, right")
    one_line(f"tfds:wild?image=left[0]@{tmp_path / 'b'}", r"'left' is one image per row")
    one_line(f"tfds:wild?image=left&label=no@{tmp_path / 'b'}", r"no feature 'no'; .*\?label=label")


def test_a_sequence_of_images(tmp_path):
    rows = [{"frames": [png(i), png(i + 10)], "label": i} for i in range(3)]
    rows.append({"frames": [png(9)], "label": 0})
    write_set(tmp_path, rows, {"frames": sequence_of(image_feature()), "label": class_feature()})
    one_line(f"tfds:wild@{tmp_path}", r"'frames' is a sequence of images .*\?image=frames\[0\]")
    second = open_source(f"tfds:wild?image=frames[1]@{tmp_path}")
    assert [int(second[i].image[0, 0, 0]) for i in range(3)] == [10, 11, 12]
    with pytest.raises(UnreadableImage, match=r"train/000003: .*1 images in 'frames', of which"):
        second[3]
    assert open_source(f"tfds:wild?image=frames[0]@{tmp_path}")[3].image[0, 0, 0] == 9


def test_nested_features(tmp_path):
    features = {"view": dict_of({"rgb": image_feature(), "kind": class_feature()})}
    write_set(tmp_path, [{"view/rgb": png(i), "view/kind": i} for i in range(3)], features)
    source = open_source(f"tfds:wild?label=view/kind@{tmp_path}")
    assert source.labels.tolist() == [0, 1, 2]
    assert source[1].image[0, 0, 0] == 1
    nested = {"image": image_feature(), "label": dict_of({"a": class_feature()})}
    write_set(tmp_path / "b", [{"image": png(0), "label/a": 1}], nested)
    one_line(
        f"tfds:wild@{tmp_path / 'b'}", r"labels are label/a; choose with \?label=label/a, none"
    )


def test_features_that_nobody_asked_for_are_never_decoded(tmp_path):
    features = {"image": image_feature(), "mask": image_feature()}
    write_set(tmp_path, [{"image": png(1), "mask": b"no image"}, {"image": png(2)}], features)
    source = open_source(f"tfds:wild@{tmp_path}")
    assert [int(source[row].image[0, 0, 0]) for row in (0, 1)] == [1, 2]
    masks = open_source(f"tfds:wild?image=mask@{tmp_path}")
    for row, reason in ((0, "no known image format"), (1, "0 images in 'mask'")):
        with pytest.raises(UnreadableImage, match=reason):
            masks[row]


def test_ids_that_are_not_utf8_or_words(tmp_path):
    rows = [{"image": png(i), "id": value} for i, value in enumerate([b"a\xff", b"b"])]
    write_set(tmp_path / "a", rows, {"image": image_feature(), "id": TEXT})
    assert open_source(f"tfds:wild@{tmp_path / 'a'}").ids == (r"a\xff", "b")
    rows = [{"image": png(i), "id": i + 7} for i in range(2)]
    write_set(tmp_path / "b", rows, {"image": image_feature(), "id": tensor_feature()})
    assert open_source(f"tfds:wild@{tmp_path / 'b'}").ids == ("7", "8")


@pytest.mark.parametrize("text", ["a?images=x", "a?image=", "a?x", "a:train?label"])
def test_unknown_options_are_refused(text):
    one_line(f"tfds:{text}@nowhere", r"is unknown; give \?image=IMAGE&label=LABEL&version=")


def test_the_parts_of_a_spec():
    spec = TfdsSpec.parse("a/b:train[:10%]?image=x/y[2]&label=none@/d@ta?")
    assert spec == TfdsSpec("a/b", "train[:10%]", "/d@ta?", "x/y[2]", "none")
    assert str(spec) == "tfds:a/b:train[:10%]?image=x/y[2]&label=none"


# Case 26 again: records.


def spoil(file: pathlib.Path, how: str) -> None:
    data = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "changed":
        at = data.index(b"PNG") + 4
        file.write_bytes(data[:at] + b"\0" * 20 + data[at + 20 :])
    else:
        file.write_bytes(data[: {"empty": 0, "half": len(data) // 2, "short": len(data) - 9}[how]])


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("how", ["gone", "empty", "half", "short"])
def test_a_damaged_array_record_is_one_line_with_the_file(tmp_path, how, labeled):
    features = {"image": image_feature()} | ({"label": class_feature()} if labeled else {})
    rows = [{"image": png(i), "label": i % 3} for i in range(40)]
    files = write_set(tmp_path, rows, features, shards=2)
    spoil(files[1], how)
    assert files[1].name in one_line(f"tfds:wild@{tmp_path}", "tfds:wild")


def test_a_damaged_chunk_costs_its_rows(tmp_path):
    files = write_set(tmp_path, [{"image": png(i)} for i in range(4)], {"image": image_feature()})
    source = open_source(f"tfds:wild@{tmp_path}")
    spoil(files[0], "changed")
    with pytest.raises(UnreadableImage, match=f"train/000000: .*{files[0].name} is damaged"):
        source[0]
    assert source[3].image[0, 0, 0] == 3


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"pythonClassName": "os.x"}']
)
def test_damaged_descriptions_are_one_line_with_the_folder(tmp_path, file, content):
    write_set(tmp_path, [{"image": png(1)}], {"image": image_feature()})
    (tmp_path / "wild/1.0.0" / file).write_bytes(content)
    assert str(tmp_path) in one_line(f"tfds:wild@{tmp_path}", r"tfds:wild")


def test_workers_may_take_a_source_along(tmp_path):
    write_set(tmp_path, [{"image": png(i)} for i in range(3)], {"image": image_feature()})
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.png").write_bytes(png(5))
    for spec in (f"tfds:wild@{tmp_path}", f"dir:{tmp_path / 'f'}"):
        source = open_source(spec, orientation="apply")
        copy = cloudpickle.loads(cloudpickle.dumps(source))
        np.testing.assert_array_equal(copy[0].image, source[0].image)


# Case 33: commas.


def test_a_comma_is_written_in_quotes(tmp_path):
    folder = tmp_path / 'day, "night"'
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    value = f'texture, "sky=dir:{str(folder).replace(chr(34), 2 * chr(34))}",medical'
    found = resolve_domains(value)
    assert list(found) == ["texture", "sky", "medical"]
    assert open_source(found["sky"]).ids == ("a.png",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('sky="dir:a,b"', "put the quotes around the whole"),
        ('"sky=dir:a', "put an item that holds a comma in double quotes"),
        ('"sky=dir:a"b', "in double quotes"),
    ],
)
def test_quotes_in_the_wrong_place_are_explained(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve_domains(value)
    assert "\n" not in str(caught.value)


# The option of orientation, through every reader.


def test_orientation_reaches_every_reader_and_the_fingerprint(tmp_path):
    from PIL import Image

    from tests.data.images import ORIENTATION, encoded

    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.jpg").write_bytes(data)
    write_set(tmp_path, [{"image": data}], {"image": image_feature()})
    np.savez(tmp_path / "m.npz", train_images=np.zeros((1, 4, 8), np.uint8))
    for spec in (f"dir:{tmp_path / 'f'}", f"tfds:wild@{tmp_path}"):
        plain, turned = (open_source(spec, orientation=how) for how in ("ignore", "apply"))
        assert plain[0].image.shape == (4, 8, 3)
        assert turned[0].image.shape == (8, 4, 3)
        assert plain.fingerprint == open_source(spec).fingerprint != turned.fingerprint
        with pytest.raises(ValueError, match="orientation='up': give ignore or apply"):
            open_source(spec, orientation="up")
    for spec in ("sample:texture:3", f"npz:{tmp_path / 'm.npz'}"):
        one, two = (open_source(spec, orientation=how) for how in ("ignore", "apply"))
        assert one.fingerprint == two.fingerprint


def test_library_errors_name_no_flags():
    """What a function raises may be read by someone who typed no flag."""
    import re

    root = pathlib.Path(__file__).parents[2] / "substrate_jax"
    for part in ("data", "encoders"):
        for file in sorted((root / part).rglob("*.py")):
            code = re.sub(r'r?""".*?"""|#[^\n]*', "", file.read_text(), flags=re.DOTALL)
            if "argparse" not in code:
                assert not re.findall(r"[\s\"'(]--[a-z_]+", code), file
