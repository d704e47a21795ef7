"""CSV lists and HDF5 files: columns and datasets, paths that lead elsewhere, what is refused."""

import h5py
import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import UnreadableImage, decode_image, open_source
from tests.data.images import encoded
from tests.data.test_sources import png, write
from tests.data.test_wild_folders import one_line

# CSV lists.


def listed(root, text: str, name: str = "a.csv") -> str:
    write(root, {"day/1.png": png(1), "day/2, 3.PNG": png(2), name: text.encode()})
    return f"csv:{root / name}"


def levels(source) -> list[int]:
    return [int(source[row].image[0, 0, 0]) for row in range(len(source))]


def test_a_list_of_paths(tmp_path):
    text = '\ufeffpath, label,id,note\nday/1.png,dog,a7,x\n\n"day/2, 3.PNG",cat,b1,y\n'
    spec = listed(tmp_path, text)
    source = open_source(spec)
    assert (source.ids, source.labels.tolist()) == (("a7", "b1"), [1, 0])
    assert source.label_names == ("cat", "dog")
    assert levels(source) == [1, 2]
    assert open_source(f"{spec}?id=none&label=note").ids == ("day/1.png", "day/2, 3.PNG")
    assert open_source(f"{spec}?id=note&label=none").labels is None
    first = source.fingerprint
    (tmp_path / "day/1.png").write_bytes(png(1, side=5))
    assert open_source(spec).fingerprint != first


def test_tabs_numbers_and_another_root(tmp_path):
    spec = listed(tmp_path, "file_name\tclass\n1.png\t3\n./2, 3.PNG\t5\n", "a.tsv")
    source = open_source(f"{spec}?label=class&root={tmp_path}/day")
    assert (source.labels.tolist(), source.label_names) == ([3, 5], ())
    assert levels(source) == [1, 2]
    assert levels(open_source(f"{spec}?image=file_name&root={tmp_path}/day")) == [1, 2]


def test_files_that_are_not_there_are_unreadable(tmp_path):
    source = open_source(listed(tmp_path, "path\nday/1.png\nday/9.png\nday\n"))
    assert levels(source.select([0])) == [1]
    for row, message in ((1, "No such file"), (2, "a folder, not a file")):
        with pytest.raises(UnreadableImage, match=message):
            source[row]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../secret.png", "day/../../secret.png", "https://x.org/1.png", ""]
)
def test_paths_outside_the_folder_are_refused(tmp_path, path):
    spec = listed(tmp_path, f'path,x\n"{path}",1\n')
    if "//" in path:  # no address is ever fetched: it is a file that is not there
        with pytest.raises(UnreadableImage, match="No such file"):
            open_source(spec)[0]
    else:
        one_line(spec, r"of row 0 is not below .*; list files below it, or give \?root=FOLDER")
    inside = f"path\n{tmp_path}/day/1.png\n"
    assert levels(open_source(listed(tmp_path, inside, "b.csv"))) == [1]
    assert levels(open_source(f"{listed(tmp_path, inside, 'b.csv')}?root=/")) == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'; its first line names none"),
        ("picture,label\n", "no column 'path'; its first line names picture, label; choose with"),
        ("path\n", "no images"),
        ("path,label\nday/1.png\n", "line 2 has 1 fields, the first 2"),
        ('path\n"day/1.png\n', "is no whole CSV file"),
        ("path\n\udcff\n", "is no whole CSV file .*UTF-8"),
        ("path,label\nday/1.png,\n", "row 0 has no label"),
        ("path,label\nday/1.png,0.5\n", "label 0.5 of row 0 is no whole number"),
        ("path\nday/1.png\nday/1.png\n", "id 'day/1.png' appears twice"),
        ("path\nx\0y.png\n", "CSV|is not below|is no path"),
    ],
)
def test_lists_that_are_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    one_line(f"csv:{tmp_path}/a.csv", message)


# HDF5.

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)


def stored(path, **datasets) -> str:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return f"h5:{path}"


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 3)])
def test_pixels(tmp_path, shape):
    pixels = PIXELS[..., :1].reshape(shape) if np.prod(shape) == 60 else PIXELS
    labels, ids = np.array([[2], [0], [1]]), [b"a", b"\xff", b"c"]
    spec = stored(tmp_path / "a.h5", images=pixels, labels=labels, ids=np.array(ids))
    source = open_source(spec)
    want = np.broadcast_to(pixels.reshape(3, 4, 5, -1), (3, 4, 5, 3))
    np.testing.assert_array_equal([source[row].image for row in range(3)], want)
    assert (source.ids, source.labels.tolist()) == (("a", r"\xff", "c"), [2, 0, 1])


def test_pixels_of_16_bits_are_as_those_of_a_file(tmp_path):
    gray = np.array([[[0, 128, 129, 32767, 65535]]], np.uint16)
    file = encoded(Image.fromarray(gray[0]))
    source = open_source(stored(tmp_path / "a.h5", images=gray))
    np.testing.assert_array_equal(source[0].image, decode_image(file))
    colors = np.repeat(gray[..., None], 3, axis=3)
    upper = open_source(stored(tmp_path / "b.h5", images=colors))[0].image
    np.testing.assert_array_equal(upper, colors[0] >> 8)


def test_datasets_in_groups_are_chosen(tmp_path):
    spec = stored(
        tmp_path / "a.h5",
        day__image=PIXELS,
        day__label=[0, 1, 2],
        night__image=PIXELS[:2],
        night__word=["x", "y"],
    )
    one_line(spec, "day/image, night/image hold images; choose with [?]image=day/image")
    assert open_source(f"{spec}?image=day/image").labels.tolist() == [0, 1, 2]
    night = open_source(f"{spec}?image=night/image&label=night/word")
    assert (len(night), night.label_names) == (2, ("x", "y"))
    assert open_source(f"{spec}?image=night/image").labels is None
    one_line(f"{spec}?image=night/image&label=day/label", r"is \[3\] for 2 images")
    one_line(f"{spec}?image=day/label", r"'day/label' is int64 \[3\]; images are")
    one_line(f"{spec}?image=absent", "'absent' is not there; .*choose with [?]image=day/image")
    one_line(
        f"{spec}?image=day/image&id=absent", "no dataset 'absent'; choose with [?]id=day/image"
    )


def test_what_lies_in_other_files_is_passed_over(tmp_path):
    stored(tmp_path / "other.h5", images=PIXELS)
    (tmp_path / "raw").write_bytes(PIXELS.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink("other.h5", "images")
        file["soft"] = h5py.SoftLink("/images")
        outside = [(str(tmp_path / "raw"), 0, PIXELS.nbytes)]
        file.create_dataset("raw", PIXELS.shape, np.uint8, external=outside)
        layout = h5py.VirtualLayout(PIXELS.shape, np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "images", PIXELS.shape)
        file.create_virtual_dataset("virtual", layout)
        file["group/self"] = file["/"]
    one_line(f"h5:{tmp_path}/a.h5", "no dataset holds images")


def test_a_dataset_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**6, 1000, 1000), np.uint8, chunks=(1, 1000, 1000))
    one_line(f"h5:{tmp_path}/a.h5", "claims 1000000000000 bytes, which are not there")


def test_an_image_of_too_many_pixels_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9)
    source = open_source(stored(tmp_path / "a.h5", images=PIXELS))
    with pytest.raises(UnreadableImage, match="000000: 4 x 5 pixels are too many"):
        source[0]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"text")
    one_line(f"h5:{tmp_path}/a.h5", "a.h5 is no whole HDF5 file")
    one_line(stored(tmp_path / "b.h5", images=PIXELS.astype(np.float32)), "no dataset holds images")
