"""Files of features: every format gives the same rows; what is no such file ends in one line."""

import io
import json
import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from substrate_jax.features import Features
from substrate_jax.features.files import FileRows, open_features, opened
from tests.features.files.made import FORMATS, IDS, VALUES, hdf5, npy, npz, parquet, table


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        Features.read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_every_format_gives_the_same_rows(make, tmp_path):
    features = Features.read(make(tmp_path))
    assert features.ids == IDS
    assert list(features) == ["made"]
    assert features["made"].dtype == np.float32
    assert np.asarray(features["made"]).tobytes() == VALUES.tobytes()
    assert features.labels is not None
    assert features.labels.tolist() == [1, 2, 1, 2, 0]
    assert features.label_names == ("ant", "cat", "dog")


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_files_that_are_cut_short_end_in_one_line(make, tmp_path):
    path = make(tmp_path)
    data = path.read_bytes()
    for size in (0, 1, 9, len(data) // 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        if make is table and size > 50:  # a table that ends sooner is a table
            continue
        refused(path, path.name)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".h5", ".csv", ".parquet"])
def test_files_of_another_kind_end_in_one_line(suffix, tmp_path):
    path = tmp_path / f"odd{suffix}"
    (tmp_path / "ids.txt").write_text("a\nb\n")
    for data in (
        b"\0" * 100,
        b"<html>no such page</html>\n",
        pickle.dumps(VALUES),
        b"\xff\xfe" * 40,
    ):
        path.write_bytes(data)
        refused(path, f"odd{suffix}")


def test_objects_are_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    objects = np.array([[Evil()]], object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", ids=np.array([Evil()], object), x=VALUES[:1])
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "ids.txt").write_text("a\n")
    for name in ("a.npy", "b.npz", "c.npy", "d.pt"):
        refused(tmp_path / name, name[:1])
    assert not (tmp_path / "made").exists()


DTYPES = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", "?", "i1", "<u2", ">i4", "<i8", "<u8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_become_the_nearest_float32(dtype, tmp_path):
    values = (np.arange(12).reshape(4, 3) * 4567.89 % 117).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "a.npy.ids.txt").write_text("a\nb\nc\nd")
    found = np.asarray(Features.read(tmp_path / "a.npy")["a"])
    assert found.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(found, values.astype(np.longdouble).astype(np.float32))


def test_bfloat16_is_read_from_safetensors_and_refused_without_its_type(tmp_path):
    import ml_dtypes

    values = VALUES.astype(ml_dtypes.bfloat16)
    save_file({"x": values}, tmp_path / "a.safetensors", {"ids": json.dumps(IDS)})
    found = Features.read(tmp_path / "a.safetensors")["x"]
    np.testing.assert_array_equal(np.asarray(found), values.astype(np.float32))
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "ids.txt").write_text("\n".join("abcde"))
    refused(tmp_path / "a.npy", r"a\.npy has dtype .*bfloat16.*safetensors")


@pytest.mark.parametrize("values", [np.ones((5, 2), complex), np.full((5, 2), "1.0")])
def test_what_is_no_real_number_is_refused(values, tmp_path):
    np.savez(tmp_path / "a.npz", x=values, ids=np.array(IDS))
    refused(tmp_path / "a.npz", "dtype.*give whole or floating-point numbers")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_rows_that_are_not_finite_are_named(value, tmp_path):
    values = VALUES.astype(np.float64)
    values[3, 1] = value
    np.savez(tmp_path / "a.npz", x=values, ids=np.array(IDS))
    refused(tmp_path / "a.npz", "in 1 of 5 rows: dog/4.png;")


def test_ten_of_many_rows_are_named(tmp_path):
    ids = [f"row{i:02d}" for i in range(30)]
    np.savez(tmp_path / "a.npz", x=np.full((30, 2), np.nan), ids=np.array(ids))
    assert "row09 and 20 more;" in refused(tmp_path / "a.npz", "in 30 of 30 rows: row00, row01, ")


IDS_OF = {
    "none": (None, r"its rows have no ids; write a\.ids\.txt beside it"),
    "twice": (["a", "b", "a", "c", "b"], "2 ids appear twice .*: a, b;"),
    "few": (["a", "b"], "5 rows and 2 ids"),
    "empty": (["a", "b", "", "c", "d"], "row 2 has an empty id"),
    "fractions": ([0.5, 1.5, 2.5, 3.5, 4.5], "ids are float64"),
    "square": (np.ones((5, 2), int), r"ids are int64 \[5, 2\]"),
}


@pytest.mark.parametrize("case", IDS_OF)
def test_ids_that_tell_no_rows_apart_are_refused(case, tmp_path):
    ids, match = IDS_OF[case]
    more = {} if ids is None else {"ids": np.array(ids)}
    np.savez(tmp_path / "a.npz", x=VALUES, **more)
    refused(tmp_path / "a.npz", match)


def test_ids_may_be_whole_numbers_and_stand_in_a_column(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES, id=np.arange(5)[:, None])
    assert Features.read(tmp_path / "a.npz").ids == ("0", "1", "2", "3", "4")


@pytest.mark.parametrize("name", ["a.ids.txt", "a.npy.ids.txt", "ids.txt", "file_names.txt"])
def test_ids_lie_beside_the_file(name, tmp_path):
    np.save(tmp_path / "a.npy", VALUES[:2])
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfcaf\xe9\r\nb c\r\n")
    assert Features.read(tmp_path / "a.npy").ids == (r"caf\xe9", "b c")


def test_an_empty_line_among_ids_is_named(tmp_path):
    np.save(tmp_path / "a.npy", VALUES[:2])
    (tmp_path / "ids.txt").write_text("a\n\nb\n")
    refused(tmp_path / "a.npy", r"ids\.txt: line 2 is empty")


LABELS = {
    "numbers": ([3, 1, 1, 2, 3], [3, 1, 1, 2, 3], ()),
    "whole floats": ([3.0, 1.0, 1.0, 2.0, 3.0], [3, 1, 1, 2, 3], ()),
    "words": (["b", "a", "b", "c", "a"], [1, 0, 1, 2, 0], ("a", "b", "c")),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_become_numbers_and_words_are_kept(case, tmp_path):
    given, numbers, words = LABELS[case]
    np.savez(tmp_path / "a.npz", x=VALUES, ids=np.array(IDS), label=np.array(given)[:, None])
    features = Features.read(tmp_path / "a.npz")
    assert features.labels is not None
    assert (features.labels.tolist(), features.label_names) == (numbers, words)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0.5, 1, 2, 3, 4], "label 0.5 of row 0"),
        ([np.nan, 1, 2, 3, 4], "label nan of row 0"),
        (["a", "", "b", " ", "c"], "2 of 5 rows have no label: dog/ü, 2.png, dog/4.png;"),
        ([1, 2], r"labels are \[2\] for 5 rows"),
    ],
)
def test_labels_that_are_missing_or_no_classes_are_refused(labels, match, tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES, ids=np.array(IDS), labels=np.array(labels))
    refused(tmp_path / "a.npz", match)


def test_names_of_labels_must_cover_them(tmp_path):
    kept = {"x": VALUES, "ids": np.array(IDS), "label_names": np.array(["a", "b"])}
    np.savez(tmp_path / "a.npz", labels=np.array([0, 1, 1, 0, 1]), **kept)
    assert Features.read(tmp_path / "a.npz").label_names == ("a", "b")
    np.savez(tmp_path / "a.npz", labels=np.array([0, 1, 2, 0, 1]), **kept)
    refused(tmp_path / "a.npz", "labels up to 2 for 2 label_names")


CSV = {
    "without header": ("a,1,2\nb,3,4\n", ("a", "b")),
    "index of pandas": (",0,1\n7,1,2\n8,3,4\n", ("7", "8")),
    "words alone": ("name,x,y\na,1,2\n\nb,3,4\n", ("a", "b")),
    "a column of numbers as ids": ("id,x,y\n007,1,2\n8,3,4", ("007", "8")),
    "quoted": ('"a, b",1,2\r\n"c ""d""",3,4\r\n', ("a, b", 'c "d"')),
}


@pytest.mark.parametrize("case", CSV)
def test_a_csv_has_its_ids_where_people_put_them(case, tmp_path):
    text, ids = CSV[case]
    (tmp_path / "a.csv").write_text(text, newline="")
    features = Features.read(tmp_path / "a.csv")
    assert features.ids == ids
    assert np.asarray(features["a"]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,x\na,1\nb,2,3\n", "line 3 has 3 fields, the first 2"),
        ("id,x\na,1\nb,\n", "'' in column x of row 2 is no number"),
        ("id,x,kind\na,1,big\n", "'big' in column kind of row 1"),
        ("1,2\n3,4\n", "rows have no ids"),
        ("id,x\n", "has no rows"),
        ("", "has no rows"),
        ("id\na\nb\n", r"is \[2, 0\]"),
    ],
)
def test_a_csv_that_is_no_table_of_numbers_is_refused(text, match, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", match)


def test_a_csv_is_read_in_parts(tmp_path, monkeypatch):
    from substrate_jax.features.files import tables

    monkeypatch.setattr(tables, "_ROWS", 2)
    found = Features.read(table(tmp_path))
    assert np.asarray(found["made"]).tobytes() == VALUES.tobytes()
    lines = (tmp_path / "made.csv").read_text().splitlines()
    (tmp_path / "made.csv").write_text("\n".join([*lines, "1,z,what,cat,3"]))
    refused(tmp_path / "made.csv", "'what' in column y of row 6")


def test_parquet_refuses_columns_that_are_no_features(tmp_path):
    import pyarrow
    import pyarrow.parquet

    def write(**columns):
        pyarrow.parquet.write_table(pyarrow.table({"ids": ["a", "b"], **columns}), path)

    path = tmp_path / "a.parquet"
    write(x=[1.0, 2.0], split=["a", "b"])
    refused(path, "columns that hold no numbers: split")
    write(x=[1.0, None])
    refused(path, "column x has empty cells")
    write(x=[[1.0, 2.0], [3.0]])
    refused(path, "column x holds lists of 2, 1 numbers")
    write(x=[[1.0, None], [3.0, 4.0]])
    refused(path, "column x has empty cells")
    fixed = pyarrow.array([[1.0, 2.0], [3.0, 4.0]], pyarrow.list_(pyarrow.float64(), 2))
    write(x=fixed, y=[[1], [2]])
    found = Features.read(path)
    assert np.asarray(found["x"]).tolist() == [[1, 2], [3, 4]]
    assert list(found) == ["x", "y"]


@pytest.mark.parametrize(("make", "module"), [(hdf5, "h5py"), (parquet, "pyarrow")])
def test_formats_that_need_more_say_what_to_install(make, module, tmp_path, monkeypatch):
    import importlib

    path, real = make(tmp_path), importlib.import_module

    def absent(name):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    refused(path, rf"needs {module}; pip install 'substrate-jax\[files\]'")


def test_hdf5_reads_groups_and_nothing_outside_the_file(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = VALUES
    (tmp_path / "raw").write_bytes(VALUES.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/layer1"], file["ids"] = VALUES, list(IDS)
        file["deep/again"] = file["deep"]  # a group that holds itself
        file["link"] = h5py.ExternalLink("other.h5", "secret")
        file.create_dataset("raw", (5, 3), np.float32, external=[("raw", 0, 60)])
        layout = h5py.VirtualLayout((5, 3), np.float32)
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "secret", (5, 3))
        file.create_virtual_dataset("virtual", layout)
    assert list(open_features(tmp_path / "a.h5").blocks) == ["deep/layer1"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["ids"] = list(IDS)
        file.create_dataset("x", (10**9, 1000), np.float32, chunks=(1000, 1000))
    refused(tmp_path / "b.h5", "x claims 4000000000000 bytes")


def test_a_name_picks_its_block_or_the_only_one(tmp_path):
    assert open_features(npz(tmp_path)).key_of("mine") == "made"
    np.savez(tmp_path / "two.npz", x=VALUES, y=VALUES, ids=np.array(IDS))
    file = open_features(tmp_path / "two.npz")
    assert file.key_of("y") == "y"
    with pytest.raises(ValueError, match=r"2 blocks and none is called 'mine'; name one of x, y"):
        file.key_of("mine")


def test_blocks_must_have_the_same_rows(tmp_path):
    np.savez(tmp_path / "a.npz", x=VALUES, y=VALUES[:4], ids=np.array(IDS))
    refused(tmp_path / "a.npz", "several lengths: x 5, y 4")


def test_what_is_no_file_of_features_is_refused(tmp_path):
    refused(tmp_path / "absent.npy", "no such file or folder")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path / "pipe.npy", "a named pipe")
    (tmp_path / "a.txt").write_text("1 2")
    refused(tmp_path / "a.txt", r"\.txt is not read; give one of \.npy")
    np.savez(tmp_path / "a.npz", x=np.ones(5), ids=np.array(IDS))
    refused(tmp_path / "a.npz", "no array of two dimensions")
    np.save(tmp_path / "flat.npy", np.ones(5))
    (tmp_path / "ids.txt").write_text("\n".join("abcde"))
    refused(tmp_path / "flat.npy", r"\[5\]; give \[rows, features\]")
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    refused(tmp_path / "none.npy", "none.npy has 0 rows and 5 ids")


def test_metadata_that_is_no_list_is_refused(tmp_path):
    for text in ("{}", "[", "3"):
        save_file({"x": VALUES}, tmp_path / "a.safetensors", {"ids": text})
        refused(tmp_path / "a.safetensors", r"a\.safetensors")


def test_a_large_npy_stays_on_the_disk(tmp_path, monkeypatch):
    path = npy(tmp_path)
    monkeypatch.setattr(opened, "MAPPED_BYTES", 10)
    file = open_features(path)
    block = file.rows("made", order=np.array([4, 1, 0]))
    assert isinstance(block, FileRows)
    np.testing.assert_array_equal(np.asarray(block), VALUES[[4, 1, 0]])
    np.testing.assert_array_equal(block[1:], VALUES[[1, 0]])
    assert block.shape == (3, 3)
    assert len(block) == 3


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**9, 10**6)}
    np.lib.format.write_array_header_1_0(buffer, header)
    (tmp_path / "a.npy").write_bytes(buffer.getvalue() + VALUES.tobytes())
    refused(tmp_path / "a.npy", r"a\.npy is no whole \.npy file")


def test_a_long_name_leaves_no_room_for_that_of_its_ids(tmp_path):
    path = tmp_path / f"{'a' * 248}.npy"
    np.save(path, VALUES)
    assert "ids" in refused(path, "ids")
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n")
    assert Features.read(path).ids == IDS
