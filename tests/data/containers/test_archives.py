"""Tar shards, zip files and several folders: keys, classes, what is left out, what is refused."""

import gzip
import io
import json
import tarfile
import warnings
import zipfile

import pytest

from substrate_jax.data import UnreadableImage, open_source
from tests.data.containers.files import tar_of, zip_of
from tests.data.test_sources import png, write
from tests.data.test_wild_folders import one_line

# Tar shards.


def levels(source) -> list[int]:
    return [int(source[row].image[0, 0, 0]) for row in range(len(source))]


def test_keys_are_paths_up_to_the_first_dot(tmp_path):
    members = {
        "a.b/x.left.png": png(1),
        "a.b/x.cls": b"7\n",
        "./y.left.PNG": png(2),
        "./y.cls": b" 3",
        "z.cls": b"9",
        "README": b"",
        ".hidden.left.png": b"",
    }
    source = open_source(f"wds:{tar_of(members, tmp_path / 'a.tar')}")
    assert source.ids == ("a.b/x", "./y")
    assert (source.labels.tolist(), source.label_names) == ([7, 3], ())
    assert levels(source) == [1, 2]
    assert source.left_out == {"without suffix": 1}


def test_several_shards(tmp_path):
    for number in range(3):
        members = {f"{number}{row}.png": png(10 * number + row) for row in range(2)}
        tar_of(members, tmp_path / f"part-{number:03d}.tar")
    source = open_source(f"wds:{tmp_path}/part-{{000..002}}.tar")
    assert source.ids == ("00", "01", "10", "11", "20", "21")
    assert levels(source) == [0, 1, 10, 11, 20, 21]
    assert source.labels is None
    assert open_source(f"wds:{tmp_path}").ids == source.ids
    assert open_source(f"wds:{tmp_path}/part-00?.tar").ids == source.ids
    part = open_source(f"wds:{tmp_path}/part-{{000,002}}.tar?id=shard")
    assert part.ids == ("part-000/00", "part-000/01", "part-002/20", "part-002/21")
    one_line(f"wds:{tmp_path}/part-{{000..003}}.tar", "no file .*part-003.tar")
    tar_of({"00.png": png(9)}, tmp_path / "more.tar")
    one_line(f"wds:{tmp_path}", r"'00' is in \S*more.tar and in \S*part-000.tar; give \?id=shard")
    assert len(open_source(f"wds:{tmp_path}?id=shard")) == 7
    one_line(f"wds:{tmp_path}?id=json.key", "give [?]id=shard")


@pytest.mark.parametrize(
    ("options", "labels", "names"),
    [
        ("", [1, 0], ("cat", "dog")),
        ("?label=json.at", [5, 6], ()),
        ("?label=txt", [0, 1], ("a hat", "b, c")),
        ("?label=none", None, ()),
    ],
)
def test_labels_of_shards(tmp_path, options, labels, names):
    members = {}
    for key, word, at, text in (("x", "dog", 5, "a hat"), ("y", "cat", 6, "b, c")):
        content = json.dumps({"label": word, "at": at}).encode()
        members |= {f"{key}.json": content, f"{key}.png": png(at), f"{key}.txt": text.encode()}
    source = open_source(f"wds:{tar_of(members, tmp_path / 'a.tar')}{options}")
    assert (None if source.labels is None else source.labels.tolist()) == labels
    assert source.label_names == names


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.png": b"", "x.jpg": b""}, "png, jpg hold images; choose with [?]image=png"),
        ({"x.txt": b""}, "no extension holds images"),
        (
            {"x.png": b"", "y.png": b"", "x.cls": b"1"},
            "'y' has no cls; give every sample its label",
        ),
        ({"x.png": b"", "x.cls": b""}, "row 0 has no label"),
        ({"x.png": b"", "x.cls": b"0.5"}, "label 0.5 of row 0 is no whole number"),
        ({"x.png": b"", "x.cls": bytes(2**20 + 1)}, "x.cls is 1,048,577 bytes, which no label is"),
        ({"x.png": b"", "x.json": b"{"}, "x.json is damaged"),
    ],
)
def test_shards_that_are_refused(tmp_path, members, message):
    one_line(f"wds:{tar_of(members, tmp_path / 'a.tar')}", message)


def test_words_that_are_not_utf8(tmp_path):
    members = {"x.png": png(1), "x.cls": b"cl\xe4ss", "y.png": png(2), "y.cls": b"b"}
    source = open_source(f"wds:{tar_of(members, tmp_path / 'a.tar')}")
    assert source.label_names == ("b", r"cl\xe4ss")


def test_json_without_labels_is_no_label(tmp_path):
    shard = tar_of({"x.png": png(1), "x.json": b'{"caption": "a"}'}, tmp_path / "a.tar")
    assert open_source(f"wds:{shard}").labels is None
    assert open_source(f"wds:{shard}").left_out == {".json": 1}
    one_line(f"wds:{shard}?label=json.caption2", "row 0 has no label")
    one_line(
        f"wds:{shard}?image=webp", "no member has extension 'webp'; it holds png .1., json .1."
    )


def test_compressed_and_cut_shards_are_refused(tmp_path):
    whole = tar_of({f"{i}.png": png(i) for i in range(3)}, tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole))
    one_line(f"wds:{tmp_path}/a.tar.gz", "gunzip.: a compressed shard has no random access")
    # At the end of a member, where the library takes what follows for the end.
    for at in (0, 1024, 1500, 2048, 3072):
        (tmp_path / "a.tar").write_bytes(whole[:at])
        one_line(f"wds:{tmp_path}/a.tar", "a.tar is no whole tar file")
    (tmp_path / "a.tar").write_bytes(whole[:1024] + b"x" * 512 + whole[1536:])
    one_line(f"wds:{tmp_path}/a.tar", "no end mark: it is cut short or damaged")


def test_links_and_odd_members_are_never_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(9))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("x.png", tarfile.SYMTYPE), ("y.png", tarfile.LNKTYPE), ("z.png", b"3")):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(about)
        for name in ("../../out.png", "/etc/out.png", "n\xe9\udcff.png"):
            about = tarfile.TarInfo(name)
            about.size = len(png(1))
            archive.addfile(about, io.BytesIO(png(1)))
    before = sorted(tmp_path.rglob("*"))
    source = open_source(f"wds:{tmp_path}/a.tar")
    assert source.ids == ("../../out", "/etc/out", "né\\xff")
    assert levels(source) == [1, 1, 1]
    assert source.left_out == {"links and others": 3}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_shard_that_shrinks_while_it_is_read_is_unreadable(tmp_path):
    shard = tar_of({"x.png": png(1)}, tmp_path / "a.tar")
    source = open_source(f"wds:{shard}")
    shard.write_bytes(shard.read_bytes()[:520])
    with pytest.raises(UnreadableImage, match=r"x: .*a.tar has become shorter"):
        source[0]


# Zip files.


def test_entries_are_taken_as_files_of_a_folder(tmp_path):
    members = {
        "pets/dog/b.png": png(3),
        "pets/cat/a.PNG": png(1),
        "pets/notes.txt": b"x",
        "pets/cat/.x.png": b"",
        "__MACOSX/pets/cat/._a.PNG": b"",
        "pets/empty/": b"",
    }
    source = open_source(f"zip:{zip_of(members, tmp_path / 'a.zip')}")
    assert source.ids == ("pets/cat/a.PNG", "pets/dog/b.png")
    assert (source.labels.tolist(), source.label_names) == ([0, 1], ("cat", "dog"))
    assert source.left_out == {".txt": 1}
    flat = zip_of({"b.png": png(2), "a.png": png(1)}, tmp_path / "b.zip")
    assert open_source(f"zip:{flat}").labels is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "no images in"),
        ({"a.txt": b""}, "no images in .*; only 1 .txt; "),
        ({"a.png": b"", "b/c.png": b""}, "'a.png' lies beside the class folder 'b'"),
    ],
)
def test_zip_files_that_are_refused(tmp_path, members, message):
    one_line(f"zip:{zip_of(members, tmp_path / 'a.zip')}", message)


def test_an_entry_twice_and_what_is_no_zip_file_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of it
        for _ in range(2):
            archive.writestr("a.png", png(1))
    one_line(f"zip:{tmp_path}/a.zip", "'a.png' is in it twice")
    (tmp_path / "b.zip").write_bytes(b"text")
    one_line(f"zip:{tmp_path}/b.zip", "b.zip is no whole zip file")
    one_line(f"zip:{tmp_path}", "a folder")


def test_entries_that_claim_too_much_are_unreadable(tmp_path):
    members = {"big.png": png(2), "packed.png": png(3), "key.png": png(4)}
    path = zip_of(members, tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("other.png", png(5))
    data = path.read_bytes()
    at = data.index(b"big.png", data.index(b"PK\1\2")) - 46  # its record in the directory
    data = data[: at + 24] + (2**31 - 1).to_bytes(4, "little") + data[at + 28 :]
    at = data.index(b"key.png", data.index(b"PK\1\2")) - 46
    data = data[: at + 8] + b"\1" + data[at + 9 :]
    path.write_bytes(data)
    source = open_source(f"zip:{path}")
    assert source.ids == ("big.png", "key.png", "other.png", "packed.png")
    for row, message in {
        0: "claims 2,147,483,647 bytes, packed into",
        1: "encrypted",
        2: "packed other than by deflate",
    }.items():
        with pytest.raises(UnreadableImage, match=rf"{source.ids[row]}: .*{message}"):
            source[row]
    assert source[3].image[0, 0, 0] == 3


def test_names_of_entries_are_never_paths(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["../../out.png", "/etc/out.png", "a\\..\\out.png"]
    path = zip_of({name: png(i) for i, name in enumerate(sorted(names))}, folder / "a.zip")
    source = open_source(f"zip:{path}?label=none")
    assert source.ids == tuple(sorted(names))
    assert levels(source) == [0, 1, 2]
    assert list(tmp_path.rglob("*")) == [folder, path]


# Several folders.


def test_several_folders_are_one(tmp_path):
    write(tmp_path, {"day/cat/1.png": png(1), "night/x+y/cat/1.png": png(2), "z/dog/1.png": png(3)})
    source = open_source(f"dir:{tmp_path}/day+{tmp_path}/night/x+y+{tmp_path}/z")
    assert source.ids == ("day/cat/1.png", "night/x+y/cat/1.png", "z/dog/1.png")
    assert (source.labels.tolist(), source.label_names) == ([0, 0, 1], ("cat", "dog"))
    assert levels(source) == [1, 2, 3]
    plus = open_source(f"dir:{tmp_path}/night/x+y")
    assert plus.ids == ("cat/1.png",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{0}/a+{0}/none", r"no such folder \S*none"),
        ("{0}/a+{0}/a/cat", "lies in"),
        ("{0}/a+{0}/a", "lies in"),
        ("{0}/a+{0}/flat", "one of the folders has class folders and another has not"),
        ("{0}/a+{0}/empty", r"no images in \S*empty"),
        ("{0}/a?label=cat", "labels are the class folders; give [?]label=none"),
    ],
)
def test_folders_that_are_refused(tmp_path, spec, message):
    write(tmp_path, {"a/cat/1.png": png(1), "flat/1.png": png(1), "empty/x.txt": b""})
    one_line(f"dir:{spec.format(tmp_path)}", message)
    assert open_source(f"dir:{tmp_path}/a+{tmp_path}/flat?label=none").labels is None
