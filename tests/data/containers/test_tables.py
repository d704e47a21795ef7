"""Parquet and Arrow: which columns are taken, several files, ids, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from substrate_jax.data import UnreadableImage, open_source
from substrate_jax.data.containers import parquet, tables
from tests.data.containers.files import STRUCT, class_label, hugging_face, saved, table_of
from tests.data.test_sources import png
from tests.data.test_wild_folders import one_line

ONE = table_of([png(1), png(2)], [0, 1])


def written(path, columns: dict, **features) -> str:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(hugging_face(**features)), path)
    return f"parquet:{path}"


def levels(source) -> list[int]:
    return [int(source[row].image[0, 0, 0]) for row in range(len(source))]


def test_several_files(tmp_path):
    for name, value in (("b", 3), ("a", 1), ("deep/c", 5), (".d", 7)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table = table_of([png(value), png(value + 1)], [1, 0])
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=1)
    source = open_source(f"parquet:{tmp_path}")
    assert source.ids == tuple(f"{n}/00000{i}" for n in ("a", "b", "deep/c") for i in range(2))
    assert levels(source) == [1, 2, 3, 4, 5, 6]
    assert source.labels.tolist() == [1, 0] * 3
    assert open_source(f"parquet:{tmp_path}/{{b,a}}.parquet").ids == source.ids[:4]
    assert open_source(f"parquet:{tmp_path}/[ab].parquet").ids == source.ids[:4]
    assert open_source(f"parquet:{tmp_path}/a.parquet").ids == source.ids[:2]
    one_line(f"parquet:{tmp_path}/{{a,e}}.parquet", "no file .*e.parquet")
    one_line(f"parquet:{tmp_path}/{{3..1}}.parquet", "lower number first")
    one_line(f"parquet:{tmp_path}/{{0..9999999999}}.parquet", "no range of files")


def test_groups_are_kept_up_to_a_limit(tmp_path, monkeypatch):
    table = table_of([png(i) for i in range(9)], [0] * 9)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    source = open_source(f"parquet:{tmp_path}/a.parquet")
    read, real = [], parquet.ParquetTable._read

    def counted(self, group, name):
        read.append(group)
        return real(self, group, name)

    monkeypatch.setattr(parquet.ParquetTable, "_read", counted)
    assert levels(source) == list(range(9))
    assert read == [0, 1, 2, 3, 4]
    monkeypatch.setattr(parquet, "MOST_HELD", 1)
    assert [int(source[row].image[0, 0, 0]) for row in (0, 1, 8, 0)] == [0, 1, 8, 0]
    assert read[5:] == [4, 0]  # the first was still held


def test_columns_and_ids_are_chosen(tmp_path):
    columns = {
        "left": [png(1), png(2)],
        "right": pa.array(
            [{"bytes": png(3), "path": None}, {"bytes": png(4), "path": None}], STRUCT
        ),
        "kind": pa.array(["b", "a"]).dictionary_encode(),
        "label": [5.0, 7.0],
        "key": [10, 11],
        "tags": [["x"], ["y"]],
    }
    spec = written(tmp_path / "a.parquet", columns)
    one_line(spec, "left, right hold images; choose with [?]image=left")
    right = open_source(f"{spec}?image=right&label=kind&id=key")
    assert levels(right) == [3, 4]
    assert (right.ids, right.label_names, right.labels.tolist()) == (
        ("10", "11"),
        ("a", "b"),
        [1, 0],
    )
    left = open_source(f"{spec}?image=left")
    assert (left.labels.tolist(), left.label_names) == ([5, 7], ())
    assert left.fingerprint != right.fingerprint
    one_line(f"{spec}?image=kind", "'kind' holds no images")
    one_line(f"{spec}?image=left&label=tags", "'tags' has several values per row; choose with")
    one_line(f"{spec}?image=left&id=none&label=absent", "'absent' is not there; .*none")
    marked = written(tmp_path / "b.parquet", columns, right={"_type": "Image"})
    assert levels(open_source(marked)) == [3, 4]


@pytest.mark.parametrize(
    ("labels", "names", "want"),
    [([0, 1], ["cat", "dog"], [0, 1]), ([-1, -1], ["cat", "dog"], None), ([-1, -1], [], None)],
)
def test_classes_of_the_metadata(tmp_path, labels, names, want):
    columns = {"image": [png(1), png(2)], "label": labels}
    source = open_source(written(tmp_path / "a.parquet", columns, label=class_label(*names)))
    assert (None if source.labels is None else source.labels.tolist()) == want
    assert source.label_names == (() if want is None else tuple(names))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], "label 2 of row 1 is none of the 2 classes"),
        ([-1, 0], "label -1 of row 0 is none"),
        ([0, None], "row 1 has no label; fill it, or give [?]label=none"),
        ([0.0, 0.5], "label 0.5 of row 1 is no whole number"),
    ],
)
def test_other_labels_are_refused(tmp_path, labels, message):
    columns = {"image": [png(1), png(2)], "label": labels}
    one_line(written(tmp_path / "a.parquet", columns, label=class_label("a", "b")), message)


def test_metadata_that_say_nothing_usable_are_passed_over(tmp_path):
    for text in (
        b"[]",
        b"{",
        b'{"info": {"features": [1]}}',
        b'{"info": {"features": {"label": 3}}}',
    ):
        table = pa.table({"image": [png(1)], "label": [4]})
        pq.write_table(
            table.replace_schema_metadata({b"huggingface": text}), tmp_path / "a.parquet"
        )
        assert open_source(f"parquet:{tmp_path}/a.parquet").labels.tolist() == [4]


def test_an_image_without_bytes_is_unreadable(tmp_path):
    images = pa.array([{"bytes": None, "path": "/etc/passwd"}, None], STRUCT)
    source = open_source(written(tmp_path / "a.parquet", {"image": images}))
    for row in range(2):
        with pytest.raises(UnreadableImage, match=r"a/00000\d: no bytes in its cell"):
            source[row]


def test_files_of_other_columns_and_other_files_are_refused(tmp_path):
    pq.write_table(ONE, tmp_path / "a.parquet")
    pq.write_table(ONE.drop_columns("label"), tmp_path / "b.parquet")
    one_line(f"parquet:{tmp_path}", r"b.parquet has columns image of other kinds than \S*a.parquet")
    one_line(written(tmp_path / "c.parquet", {"x": [1]}), "no column of x holds images")
    (tmp_path / "d.parquet").write_bytes(b"PAR1" + bytes(90) + b"PAR1")
    one_line(f"parquet:{tmp_path}/d.parquet", "is no whole Parquet file")
    (tmp_path / "e").mkdir()
    one_line(f"parquet:{tmp_path}/e", "no file in .* ends in .parquet or .pq")
    twice = written(tmp_path / "f.parquet", {"image": [png(1), png(2)], "id": ["a", "a"]})
    one_line(twice, "'a' is twice in column 'id'; choose another .* [?]id=none")
    assert open_source(f"{twice}?id=none").ids == ("f/000000", "f/000001")


def test_claims_beyond_the_file_are_refused_before_anything_is_read():
    with pytest.raises(ValueError, match=r"x claims 1,001 rows in 1,000 bytes"):
        tables.check_rows(1001, 1000, "x")
    with pytest.raises(ValueError, match=r"group of rows of 4.0 GiB"):
        tables.check_group(2**32, "x")


def test_saved_sets_have_splits(tmp_path):
    for split, value in (("train", 1), ("test", 5)):
        saved(tmp_path / split, table_of([png(value), png(value + 1)], [0, 1]), split)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    source = open_source(f"hfds:{tmp_path}:test")
    assert source.ids == ("test/000000", "test/000001")
    assert levels(source) == [5, 6]
    assert source.label_names == ("cat", "dog")
    assert levels(open_source(f"hfds:{tmp_path}")) == [1, 2]
    assert open_source(f"hfds:{tmp_path}/test").ids == source.ids
    one_line(f"hfds:{tmp_path}:val", "no split 'val'; give one of train, test")


def test_a_cache_of_the_library_is_read(tmp_path):
    for name, value in (
        ("x-train-00000-of-00002", 1),
        ("x-train-00001-of-00002", 3),
        ("x-test", 5),
    ):
        with pa.ipc.new_stream(str(tmp_path / f"{name}.arrow"), ONE.schema) as stream:
            stream.write_table(table_of([png(value), png(value + 1)], [0, 1]))
    (tmp_path / "cache-0123.arrow").write_bytes(b"")
    assert levels(open_source(f"hfds:{tmp_path}")) == [1, 2, 3, 4]
    assert levels(open_source(f"hfds:{tmp_path}:test")) == [5, 6]
    with pa.ipc.new_file(str(tmp_path / "x-val.arrow"), ONE.schema) as file:
        file.write_table(ONE)
    assert levels(open_source(f"hfds:{tmp_path}:val")) == [1, 2]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../x.arrow"}]}, "lists no files of its folder"),
        ({"_data_files": [{"filename": "/etc/passwd"}]}, "lists no files of its folder"),
        ({"_data_files": [{"filename": 3}]}, "lists no files of its folder"),
        ({"_data_files": []}, "lists no files of its folder"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "gone.arrow is missing"),
        ([], "lists no files"),
    ],
)
def test_a_state_that_lies_is_refused(tmp_path, state, message):
    (tmp_path / "x.arrow").write_bytes(b"")
    folder = saved(tmp_path / "set", ONE)
    (folder / "state.json").write_text(json.dumps(state))
    one_line(f"hfds:{folder}", message)
    (folder / "state.json").write_text("{")
    one_line(f"hfds:{folder}", "state.json cannot be read")


def test_rows_selected_before_saving_are_refused(tmp_path):
    folder = saved(tmp_path / "set", ONE)
    state = json.loads((folder / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))
    one_line(f"hfds:{folder}", "flatten_indices")
