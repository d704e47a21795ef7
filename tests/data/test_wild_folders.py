"""Folders from the wild: links, permissions, pipes, odd names, other suffixes, splits."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import UnreadableImage, open_source, take
from substrate_jax.data.formats import image_suffixes
from substrate_jax.data.paths import readable, readable_inverse
from tests.data.images import encoded
from tests.data.test_sources import png, write

TWELVE = {f"{label}/{i}.png": png(i) for label in ("a", "b", "c") for i in range(4)}


def one_line(spec: str, message: str, **options) -> str:
    """What opening a source says: one line that can be printed."""
    with pytest.raises(ValueError, match=message) as caught:
        open_source(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).encode().decode()


# Case 3: a folder that is already on the path.


def test_a_link_to_the_parent_is_not_entered_again(tmp_path):
    (write(tmp_path / "L", TWELVE) / "a" / "up").symlink_to("..")
    source = open_source(f"dir:{tmp_path / 'L'}")
    assert source.ids == tuple(sorted(TWELVE))
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("target", [".", "{root}", "{root}/a", "{root}/.."])
def test_other_links_upwards(tmp_path, target):
    root = write(tmp_path / "L", TWELVE)
    (root / "a" / "up").symlink_to(target.format(root=root))
    assert open_source(f"dir:{root}").ids == tuple(sorted(TWELVE))


def test_folders_that_link_to_each_other_end(tmp_path):
    root = write(tmp_path / "L", TWELVE)
    (root / "a" / "x").symlink_to("../b")
    (root / "b" / "y").symlink_to("../a")
    # Each is read below the other once: a link to a folder that is not above is followed.
    assert len(open_source(f"dir:{root}")) == 12 + 8


def test_links_to_files_and_to_folders_elsewhere_are_followed(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", {"deep/1.png": png(1)})
    root = write(tmp_path / "L", {"a/0.png": png(0)})
    (root / "a" / "2.png").symlink_to(elsewhere / "deep" / "1.png")
    (root / "b").symlink_to(elsewhere)
    source = open_source(f"dir:{root}")
    assert source.ids == ("a/0.png", "a/2.png", "b/deep/1.png")
    assert source[1].image[0, 0, 0] == source[2].image[0, 0, 0] == 1


# Case 4: permissions. Root may read everything, so another user looks.

LOOK = """
import os, sys
from substrate_jax.data import open_source
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
for root in sys.argv[1:]:
    try:
        print(len(open_source(f"dir:{root}")))
    except ValueError as error:
        print(f"refused: {error}")
"""


def test_folders_without_permission_are_named(tmp_path):
    for folder in tmp_path.parents[:3]:  # pytest and its workers make theirs private
        folder.chmod(folder.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)
    roots = {}
    for mode in (0o755, 0o000, 0o444, 0o111):
        root = write(tmp_path / f"{mode:o}", TWELVE | {"c/deep/1.png": png(1)})
        roots[root / "b"] = mode
    many = write(tmp_path / "many", {f"{i:02d}/a.png": png(1) for i in range(13)})
    roots |= {folder: 0 for folder in many.iterdir()}
    itself = write(tmp_path / "itself", TWELVE)
    roots[itself] = 0
    looked = [*sorted({folder.parent for folder in list(roots)[:4]}), many, itself]
    for folder, mode in roots.items():
        folder.chmod(mode)
    try:
        done = subprocess.run(
            [sys.executable, "-c", LOOK, *looked], capture_output=True, text=True, check=True
        )
    finally:
        for folder in roots:
            folder.chmod(0o755)
    said = dict(zip(looked, done.stdout.splitlines(), strict=True))
    assert said[tmp_path / "755"] == "13"
    for mode in ("0", "444", "111"):
        root = tmp_path / mode
        assert said[root].startswith(
            f"refused: dir:{root}: 1 folder cannot be read: {root}/b; allow it"
        )
    assert "13 folders cannot be read" in said[many]
    assert "and 3 more" in said[many]
    assert f"1 folder cannot be read: {itself}; allow" in said[itself]


# Case 5: every format, and what is left out.


def test_every_suffix_that_pillow_decodes_is_read(tmp_path):
    assert {".jfif", ".jpe", ".jp2", ".tga", ".ico", ".qoi", ".sgi", ".apng"} <= image_suffixes()
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    kinds = {
        ".jfif": "JPEG",
        ".JPE": "JPEG",
        ".tga": "TGA",
        ".dib": "DIB",
        ".pcx": "PCX",
        ".mpo": "JPEG",
    }
    if ".avif" in image_suffixes():
        kinds[".avif"] = "AVIF"
    root = write(tmp_path, {f"a{suffix}": encoded(image, kind) for suffix, kind in kinds.items()})
    source = open_source(f"dir:{root}")
    assert len(source) == len(kinds)
    assert source.left_out == {}
    assert source.left_out_note == ""
    for row in range(len(source)):
        assert np.abs(source[row].image.astype(int) - (200, 100, 50)).max() <= 3


def test_what_is_no_image_is_counted_by_suffix(tmp_path):
    others = {"a/x.TXT": b"", "a/y.txt": b"", "b/deep/t.csv": b"", "b/README": b"", "a/f.pdf": b""}
    root = write(tmp_path, CAT | others | {".hidden": b"", "a/.DS_Store": b"", ".git/x.txt": b""})
    source = open_source(f"dir:{root}")
    assert source.left_out == {".txt": 2, ".csv": 1, "without suffix": 1, ".pdf": 1}
    note = (
        f"dir:{root}: left out 5 files that are no images by their suffix: 2 .txt, 1 .csv, 1 .pdf"
    )
    assert source.left_out_note.startswith(note)
    assert take(source, 1).left_out == source.left_out
    one = open_source(f"dir:{write(tmp_path / 'one', {'a.png': png(1), 'b.json': b''})}")
    assert one.left_out_note.endswith("left out 1 file that is no image by its suffix: 1 .json")


CAT = {"a/1.png": png(1), "b/2.png": png(2)}


def test_a_folder_of_other_files_says_which(tmp_path):
    root = write(tmp_path, {f"{i}.heic": b"" for i in range(3)})
    one_line(f"dir:{root}", r"no images in .*; only 3 \.heic; give a folder with files that end in")


# Case 25: what only has an image's name.


@pytest.fixture
def odd_files(tmp_path):
    root = write(tmp_path / "L", {"a/good.png": png(7), "a/gone.png": b"", "a/loop.png": b""})
    os.mkfifo(root / "a" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "a" / "s.png"))
    for name, target in (("gone.png", "nowhere"), ("loop.png", "loop.png")):
        (root / "a" / name).unlink()
        (root / "a" / name).symlink_to(target)
    (root / "a" / "null.png").symlink_to("/dev/null")
    (root / "a" / "folder.png").mkdir()
    (root / "a" / "folder.png" / "in.png").write_bytes(png(8))
    return root


ODD = {
    "a/gone.png": "a link that leads nowhere",
    "a/loop.png": "a link that leads nowhere",
    "a/null.png": "a device, not a file",
    "a/pipe.png": "a named pipe, not a file",
    "a/s.png": "a socket, not a file",
}


def test_what_is_no_file_is_an_unreadable_image(odd_files):
    source = open_source(f"dir:{odd_files}")
    assert source.ids == tuple(sorted([*ODD, "a/good.png", "a/folder.png/in.png"]))
    for name, reason in ODD.items():
        with pytest.raises(UnreadableImage, match=f"{name}: {reason}"):
            source[source.ids.index(name)]
    assert source[source.ids.index("a/good.png")].image[0, 0, 0] == 7
    again = open_source(f"dir:{odd_files}")
    assert again.fingerprint == source.fingerprint


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path):
    root = write(tmp_path, {"a.png": png(1)})
    source = open_source(f"dir:{root}")
    (root / "a.png").unlink()
    os.mkfifo(root / "a.png")
    with pytest.raises(UnreadableImage, match=r"a\.png: a named pipe"):
        source[0]
    (root / "a.png").unlink()
    with pytest.raises(UnreadableImage, match=r"a\.png: No such file"):
        source[0]


def test_a_file_too_large_for_an_image_is_not_read(tmp_path):
    root = write(tmp_path, {"a.png": png(1)})
    with (root / "a.png").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(UnreadableImage, match=r"a\.png: 1024\.0 GiB; no image is as large"):
        open_source(f"dir:{root}")[0]


@pytest.mark.parametrize("kind", ["dir", "npz"])
def test_a_pipe_in_place_of_a_source(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    one_line(f"{kind}:{tmp_path / 'pipe'}", "no such folder|a named pipe")


# Case 29: names that are not UTF-8.

NAMES = [
    b"caf\xe9.png",
    b"\xff\xfe.png",
    b"a\\b\xe9.png",
    "café.png".encode(),
    b"back\\slash.png",
    rb"like\xe9.png",
]


def test_names_that_are_not_utf8_are_escaped_and_back(tmp_path):
    for value, name in enumerate(NAMES):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(png(value))
    source = open_source(f"dir:{tmp_path}")
    assert {readable_inverse(i) for i in source.ids} == set(NAMES)
    assert len(set(source.ids)) == len(NAMES)
    assert "café.png" in source.ids
    assert r"back\slash.png" in source.ids
    for example in (source[row] for row in range(len(source))):
        assert NAMES[example.image[0, 0, 0]] == readable_inverse(example.id)
        assert json.loads(json.dumps(example.id).encode()) == example.id


def test_folders_that_are_not_utf8(tmp_path):
    root = os.fsencode(tmp_path) + b"/r\xe9"
    os.makedirs(root + b"/cl\xe4ss")
    with open(root + b"/cl\xe4ss/1.png", "wb") as file:
        file.write(b"broken")
    with open(root + b"/cl\xe4ss/2.t\xe9t", "wb"):
        pass
    source = open_source("dir:" + os.fsdecode(root))
    assert source.name == rf"dir:{tmp_path}/r\xe9"
    assert source.label_names == (r"cl\xe4ss",)
    assert source.left_out == {r".t\xe9t": 1}
    (source.name + source.left_out_note).encode()
    with pytest.raises(UnreadableImage, match=r"cl\\xe4ss/1\.png: no known image format") as caught:
        source[0]
    str(caught.value).encode()
    for kind in ("dir", "npz", "tfds"):
        one_line(f"{kind}:" + os.fsdecode(root + b"/none"), "no such|no prepared")


@pytest.mark.parametrize(
    "name", [*NAMES, b"", b"\\", b"\\\\x\xe9", rb"\x41", rb"\\xe9", b"\xed\xa0\x80"]
)
def test_escaping_is_reversible(name):
    text = readable(os.fsdecode(name))
    assert readable_inverse(text) == name
    assert text.encode().decode() == text


def test_escaping_keeps_names_apart():
    rng = np.random.default_rng(0)
    letters = [b"\\", b"x", b"e", b"9", b"\xe9", b"\xc3", b"\xa9"]
    names = {
        b"".join(letters[i] for i in rng.integers(0, 7, rng.integers(1, 9))) for _ in range(4000)
    }
    assert len({readable(os.fsdecode(name)) for name in names}) == len(names)
    assert all(readable_inverse(readable(os.fsdecode(name))) == name for name in names)


# Case 33: splits, homes and commas.


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("Train", "valid"), ("test",)])
def test_folders_of_splits_are_no_classes(tmp_path, splits):
    files = {f"{split}/{label}/1.png": png(1) for split in splits for label in ("cat", "dog")}
    source = open_source(f"dir:{write(tmp_path, files)}")
    assert source.label_names == ("cat", "dog")
    assert source.ids == tuple(sorted(files))
    assert [source.label_names[label] for label in source.labels] == [
        row_id.split("/")[1] for row_id in source.ids
    ]
    one = open_source(f"dir:{tmp_path}/{splits[0]}")
    assert one.label_names == ("cat", "dog")
    assert len(one) == 2


def test_splits_without_classes_have_no_labels(tmp_path):
    source = open_source(f"dir:{write(tmp_path, {'train/1.png': png(1), 'test/2.png': png(2)})}")
    assert source.labels is None
    assert source.label_names == ()


def test_a_class_may_be_called_as_a_split(tmp_path):
    source = open_source(f"dir:{write(tmp_path, {'train/1.png': png(1), 'bus/2.png': png(2)})}")
    assert source.label_names == ("bus", "train")


def test_splits_of_which_one_has_no_classes_are_refused(tmp_path):
    files = {"train/cat/1.png": png(1), "test/2.png": png(2)}
    one_line(
        f"dir:{write(tmp_path, files)}",
        "'test/2.png' lies beside the class folder 'train/cat'; .*, or give one split",
    )


def test_home_is_expanded_and_unknown_homes_are_refused(tmp_path, monkeypatch):
    write(tmp_path, {"pictures/1.png": png(1)})
    np.savez(tmp_path / "m.npz", train_images=np.zeros((1, 2, 2), np.uint8))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("dir:~/pictures").ids == ("1.png",)
    assert open_source("npz:~/m.npz").ids == ("train/000000",)
    for spec in ("dir:~nobody-here/x", "npz:~nobody-here/x", "tfds:a@~nobody-here/x"):
        one_line(spec, "no such path|no prepared")


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "x/" * 3000, "loop"])
def test_paths_that_cannot_be(tmp_path, path):
    (tmp_path / "loop").symlink_to("loop")
    for kind in ("dir", "npz"):
        one_line(f"{kind}:{tmp_path}/{path}", r"no such|too long|loop|Too many")
