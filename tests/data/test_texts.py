"""Sources of texts: files, folders and columns of tables, and what is refused in one line."""

import dataclasses
import os
import re

import cloudpickle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from substrate_jax.data import open_source
from substrate_jax.data.domains import resolve_domains
from substrate_jax.data.modality import cut_note
from substrate_jax.data.sources import take
from substrate_jax.data.texts import decode_text
from substrate_jax.data.unreadable import UnreadableText
from substrate_jax.features.processes import some_images
from tests.data.test_sources import png, write
from tests.data.test_wild_records import (
    TEXT,
    class_feature,
    image_feature,
    sequence_of,
    write_set,
)

LINES = "\ufeffa café\r\n\n  two dogs \nlast, without an end"


def texts_of(source) -> list[str]:
    return [source[row].text for row in range(len(source))]


def refused(spec: str) -> str:
    with pytest.raises(ValueError) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_of_a_file(tmp_path):
    file = tmp_path / "captions.txt"
    file.write_bytes(LINES.encode())
    source = open_source(f"text:{file}")
    assert (source.modality, source.labels) == ("text", None)
    assert source.ids == ("1", "2", "3", "4")
    assert texts_of(source) == ["a café", "", "  two dogs ", "last, without an end"]
    assert source[0].id == "1"
    with pytest.raises(ValueError, match=r"^1 is a text and has no pixels"):
        _ = source[0].image
    few = take(source, 2)
    assert [few[i].text for i in range(2)] == [texts_of(source)[int(i) - 1] for i in few.ids]
    again = cloudpickle.loads(cloudpickle.dumps(source))  # as workers get it
    assert texts_of(again) == texts_of(source)
    file.write_bytes(LINES.encode() + b"\n")
    assert texts_of(open_source(f"text:{file}")) == texts_of(source)
    os.utime(file, ns=(1, 1))
    assert open_source(f"text:{file}").fingerprint != source.fingerprint


def test_rows_are_read_when_asked_for(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\nthree\n")
    source = open_source(f"text:{file}")
    file.write_text("ONE\ntw")
    assert source[0].text == "ONE"
    for row in (1, 2):
        with pytest.raises(UnreadableText, match=rf"^line {row + 1}: .*cut short"):
            source.read(row)


def test_files_of_a_folder(tmp_path):
    files = {"cat/1.txt": b"a cat\n", "dog/2.TXT": b"a dog\nruns\n", "dog/3.md": b"left out"}
    write(tmp_path, files)
    source = open_source(f"text:{tmp_path}")
    assert source.ids == ("cat/1.txt", "dog/2.TXT")
    assert (source.labels.tolist(), source.label_names) == ([0, 1], ("cat", "dog"))
    assert texts_of(source) == ["a cat", "a dog\nruns"]
    assert "left out 1 file that is no text by its suffix: 1 .md" in source.left_out_note
    assert open_source(f"text:{tmp_path}?label=none").labels is None
    write(tmp_path, {"dog/4.txt": b"\xff\xfe"})
    source = open_source(f"text:{tmp_path}")
    with pytest.raises(UnreadableText, match=r"^dog/4.txt: no UTF-8 \(byte 0xff\); save it as UTF"):
        source.read(2)


def test_texts_must_be_utf8(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("ok\ncafé\n".encode("latin-1"))
    assert re.search(
        r"line 2 is no UTF-8 \(byte 0xe9\); save it as UTF-8$", refused(f"text:{file}")
    )
    with pytest.raises(UnreadableText, match="no UTF-8"):
        decode_text(b"\x80")


def test_places_without_texts(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    assert "no texts; give a source with at least one" in refused(f"text:{tmp_path}/empty.txt")
    assert "is a named pipe; give a file of texts" in refused(f"text:{tmp_path}/pipe")
    assert "no such folder" in refused(f"text:{tmp_path}/absent")
    assert "lines have no labels" in refused(f"text:{tmp_path}/empty.txt?label=kind")
    assert "give ?label=LABEL" in refused(f"text:{tmp_path}/empty.txt?root=/")
    (tmp_path / "empty.txt").unlink()
    assert "files that end in .txt" in refused(f"text:{tmp_path}")


CSV = (
    'path,caption,label,n\na/1.png,"a dog, red",dog,7\na/2.png,,cat,8\na/3.png,"two\nlines",dog,9\n'
)


@pytest.fixture
def table(tmp_path):
    write(tmp_path, {f"a/{i}.png": png(i) for i in (1, 2, 3)})
    (tmp_path / "list.csv").write_text(CSV)
    return tmp_path / "list.csv"


def test_a_column_of_a_list_has_the_ids_of_its_pictures(table):
    pictures, captions = open_source(f"csv:{table}"), open_source(f"csv:{table}?text=caption")
    assert captions.ids == pictures.ids == ("a/1.png", "a/2.png", "a/3.png")
    assert texts_of(captions) == ["a dog, red", "", "two\nlines"]
    assert captions.labels.tolist() == pictures.labels.tolist() == [1, 0, 1]
    assert captions.label_names == ("cat", "dog")
    assert captions.fingerprint != pictures.fingerprint
    assert open_source(f"csv:{table}?text=label").fingerprint != captions.fingerprint
    named = open_source(f"csv:{table}?text=caption&id=n&label=none")
    assert (named.ids, named.labels) == (("7", "8", "9"), None)
    table.write_text(CSV.replace("path", "p"))  # without any column of ids
    assert open_source(f"csv:{table}?text=caption").ids == ("1", "2", "3")


def test_columns_of_a_list_that_are_none(table):
    said = refused(f"csv:{table}?text=captoin")
    columns = "path, caption, label, n"
    assert f"no column 'captoin'; its first line names {columns}; choose with ?text=NAME" in said
    assert "no column 'none'" in refused(f"csv:{table}?text=none")
    for other in ("image=path", "root=/"):
        name = other.partition("=")[0]
        message = f"?text= and ?{name}= are both given; give one of them"
        assert message in refused(f"csv:{table}?text=caption&{other}")
    assert "id 'dog' appears twice" in refused(f"csv:{table}?text=caption&id=label")
    table.write_bytes(CSV.replace("red", "café").encode("latin-1"))
    assert "write it again, in UTF-8" in refused(f"csv:{table}?text=caption")
    table.write_text("path,caption\n")
    assert "no texts; give a source" in refused(f"csv:{table}?text=caption")


@pytest.mark.parametrize("kind", ["parquet", "hfds"])
def test_a_column_of_arrow_tables(kind, tmp_path):
    values = {
        "image": [png(i) for i in range(3)],
        "caption": ["a dog", "", None],
        "label": ["b", "a", "b"],
        "words": [["a"], [], ["b"]],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
    data = pa.table(values)
    if kind == "parquet":
        place = f"parquet:{tmp_path}/a.parquet"
        pq.write_table(data, tmp_path / "a.parquet")
    else:
        place = f"hfds:{tmp_path}/set"
        (tmp_path / "set").mkdir()
        with pa.ipc.new_stream(str(tmp_path / "set" / "x-train.arrow"), data.schema) as stream:
            stream.write_table(data)
    pictures, captions = open_source(place), open_source(f"{place}?text=caption")
    assert captions.modality == "text"
    assert captions.ids == pictures.ids
    assert captions.labels.tolist() == [1, 0, 1]
    assert [captions[i].text for i in range(2)] == ["a dog", ""]
    with pytest.raises(UnreadableText, match=rf"^{captions.ids[2]}: no text in its cell; fill it"):
        captions.read(2)
    assert texts_of(open_source(f"{place}?text=kind")) == ["x", "y", "x"]
    assert captions.fingerprint not in (
        pictures.fingerprint,
        open_source(f"{place}?text=kind").fingerprint,
    )
    for column in ("image", "words", "absent"):
        message = f"column {column!r} holds no texts; choose with ?text=caption, label, kind"
        assert message in refused(f"{place}?text={column}")
    assert "are both given" in refused(f"{place}?text=caption&image=image")


def test_a_feature_of_a_tfds_set(tmp_path):
    rows = [
        {"image": png(i), "caption": text.encode(), "words": [b"x", b"y"], "label": i}
        for i, text in enumerate(("a dög", ""))
    ]
    rows += [{"image": png(2), "caption": b"\xff", "words": [], "label": 1}]
    features = {"image": image_feature(), "caption": TEXT, "words": sequence_of(TEXT)}
    write_set(tmp_path, rows, features | {"label": class_feature()})
    pictures = open_source(f"tfds:wild@{tmp_path}")
    captions = open_source(f"tfds:wild?text=caption@{tmp_path}")
    assert (pictures.modality, captions.modality) == ("image", "text")
    assert captions.ids == pictures.ids
    assert captions.labels.tolist() == [0, 1, 1]
    assert [captions[i].text for i in range(2)] == ["a dög", ""]
    with pytest.raises(UnreadableText, match=r"^train/000002: no UTF-8"):
        captions.read(2)
    second = open_source(f"tfds:wild?text=words[1]@{tmp_path}")
    assert second[0].text == "y"
    with pytest.raises(UnreadableText, match=r"0 texts in 'words', of which number 1 is wanted"):
        second.read(2)
    assert len({of.fingerprint for of in (pictures, captions, second)}) == 3
    again = cloudpickle.loads(cloudpickle.dumps(captions))
    assert again[0].text == "a dög"
    for query, message in (
        ("text=label", "'label' holds no texts; choose with ?text=caption, words"),
        (
            "text=words",
            "'words' is a sequence of texts in each row; choose one with ?text=words[0]",
        ),
        ("text=caption&image=image", "?image= and ?text= are both given; give one of them"),
    ):
        assert message in refused(f"tfds:wild?{query}@{tmp_path}")


def test_a_side_may_be_called_text(tmp_path):
    """A kind of source is a name all the same, where no colon follows it."""
    found = resolve_domains("text=csv:a.csv?text=caption,picture=csv:a.csv")
    assert found == {"text": "csv:a.csv?text=caption", "picture": "csv:a.csv"}
    with pytest.raises(ValueError, match=r"domain 'csv:a=b.csv' is unknown"):
        resolve_domains("csv:a=b.csv")


def test_processes_compare_what_they_read(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    source = open_source(f"text:{tmp_path}/a.txt")
    same = some_images(dataclasses.replace(source, read=["one", "x", "three"].__getitem__))
    assert same.keys() == {"text 1", "text 2", "text 3"}
    assert [same[key] == value for key, value in some_images(source).items()] == [True, False, True]


def test_no_note_without_encoders_of_texts(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    assert cut_note([], open_source(f"text:{tmp_path}/a.txt")) == ""
