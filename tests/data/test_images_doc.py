"""docs/images.md, line by line: each is held by the test that begins with its words."""

import io
import os
import pathlib
import re
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import (
    Preprocess,
    Source,
    UnreadableImage,
    decode_image,
    open_source,
    resize_crop,
    resolve_domains,
)
from substrate_jax.data.formats import image_formats, image_suffixes
from substrate_jax.data.paths import readable_inverse
from tests.data.containers.files import MAKERS
from tests.data.images import (
    NOISE,
    ORIENTATION,
    PLANAR,
    SIGN,
    encoded,
    fits_of,
    gray_levels,
    png_of,
    tiff_of,
)
from tests.data.test_sources import png, write
from tests.data.test_wild_records import class_feature, image_feature, sequence_of, write_set

ROOT = pathlib.Path(__file__).parents[2]
LINES = [
    " ".join(line.split())
    for line in re.findall(r"(?m)^- (.+(?:\n  .+)*)", (ROOT / "docs" / "images.md").read_text())
]
HELD: list[str] = []


def holds(beginning: str):
    """Mark the test of the line that begins so."""

    def mark(test):
        HELD.append(beginning)
        return test

    return mark


def test_every_line_has_its_test():
    assert len(LINES) > 25
    for line in LINES:
        assert sum(line.startswith(beginning) for beginning in HELD) == 1, line
    assert len(HELD) == len(LINES)


def unreadable(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data)
    return str(caught.value)


def turned(kind: str) -> bytes:
    """A file that says to turn it by a quarter."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encoded(Image.fromarray(NOISE), kind, exif=exif)


# Formats


@holds("Every format that the installed Pillow decodes is read")
def test_formats():
    assert {"JPEG", "PNG", "TIFF", "WEBP", "GIF", "JPEG2000"} <= set(image_formats())
    flat = Image.new("RGB", (32, 32), (200, 100, 50))
    for kind in {"JPEG", "PNG", "TIFF", "WEBP", "GIF", "JPEG2000", "TGA", "BMP", "PCX", "SGI"}:
        assert np.abs(decode_image(encoded(flat, kind)).astype(int) - (200, 100, 50)).max() <= 4


@holds("A file in a folder is taken for an image by its suffix")
def test_suffixes(tmp_path):
    flat = Image.new("RGB", (2, 2), (9, 9, 9))
    write(
        tmp_path, {"a.JPG": encoded(flat, "PNG"), "b.PnG": encoded(flat, "BMP"), "c.text": png(1)}
    )
    source = open_source(f"dir:{tmp_path}")
    assert source.ids == ("a.JPG", "b.PnG")
    assert [int(source[row].image[0, 0, 0]) for row in (0, 1)] == [9, 9]


@holds("EPS, PDF, WMF, HDF5 and video are not read")
def test_formats_that_are_not_read():
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5", ".mpg"} & image_suffixes()
    assert "no known" in unreadable(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")


@holds("DICOM is read where pydicom is installed")
def test_dicom(monkeypatch):
    # What becomes of its pixels: test_dicom.py.
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install 'substrate-jax[dicom]'" in unreadable(bytes(128) + b"DICM")


@holds("Of an animation the first frame is read")
def test_frames_and_pages():
    frames = [Image.new("RGB", (2, 2), color) for color in ("red", "blue")]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert decode_image(data).tolist() == [[[255, 0, 0]] * 2] * 2


@holds("An image of more pixels than Pillow allows")
def test_too_many_pixels(tmp_path):
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    assert round(most / 1e6) == 179
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 0, 0, 0, 54, 40, 20_000, 9_000, 1, 24, *[0] * 6
    )
    assert "DecompressionBomb" in unreadable(header)
    write(tmp_path, {"a.png": png(1)})
    os.truncate(tmp_path / "a.png", 2**31 + 1)
    with pytest.raises(UnreadableImage, match=r"2\.0 GiB; no image is as large"):
        open_source(f"dir:{tmp_path}")[0]


# Colors and depths


@holds("Gray is repeated over the three channels")
def test_gray_and_palettes():
    assert decode_image(encoded(Image.new("L", (1, 1), 7))).tolist() == gray_levels(7)
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert decode_image(encoded(palette)).tolist() == [[[10, 20, 30]]]


@holds("Gray of b bits runs from 0 to 2^b - 1")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_depths(bits):
    most = 2**bits - 1
    for low, high in ((0, most), (0, 1), (most // 2, most // 2)):
        text = f"{low:0{bits}b}{high:0{bits}b}"
        row = int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
        files = [tiff_of(row, 2, 1, [bits], 1, big=bits == 16)] if bits != 12 else []
        files += [tiff_of(row, 2, 1, [bits], 1)] if bits == 12 else [png_of(bits, 0, row, 2)]
        want = gray_levels(*(int(value / most * 255 + 0.5) for value in (low, high)))
        for data in files:
            assert decode_image(data).tolist() == want


@holds("A TIFF in which 0 means white is inverted")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_white_is_zero(bits):
    row = {1: b"\x40", 2: b"\x30", 4: b"\x0f", 8: b"\0\xff", 16: b"\0\0\xff\xff"}[bits]
    assert decode_image(tiff_of(row, 2, 1, [bits], 1)).tolist() == gray_levels(0, 255)
    assert decode_image(tiff_of(row, 2, 1, [bits], 0)).tolist() == gray_levels(255, 0)


@holds("Integers of 32 bits, and signed ones of 16")
def test_wide_and_signed_integers():
    for value, level in ((0, 0), (257, 1), (65535, 255)):
        wide = encoded(Image.new("I", (1, 1), value), "TIFF")
        assert decode_image(wide).tolist() == gray_levels(level)
    signed = tiff_of(struct.pack("<h", 257), 1, 1, [16], 1, **{f"t{SIGN}": 2})
    assert decode_image(signed).tolist() == gray_levels(1)
    for value in (-1, 65536):
        assert "outside 0 to 65535" in unreadable(encoded(Image.new("I", (1, 1), value), "TIFF"))


@holds("Of 16-bit colors the upper 8 bits are kept")
def test_wide_colors():
    row = struct.pack(">3H", 0x12FF, 0x3400, 0xFFFF)
    assert decode_image(png_of(16, 2, row, 1)).tolist() == [[[0x12, 0x34, 0xFF]]]
    assert decode_image(tiff_of(row, 1, 1, [16] * 3, 2, big=True)).tolist() == [
        [[0x12, 0x34, 0xFF]]
    ]


@holds("CMYK and YCbCr become RGB by Pillow's formulas")
def test_other_color_spaces():
    for mode in ("CMYK", "YCbCr"):
        image = Image.fromarray(NOISE).convert(mode)
        want = np.asarray(image.convert("RGB"))
        profile = b"not a profile, and never looked at"
        np.testing.assert_array_equal(
            decode_image(encoded(image, "TIFF", icc_profile=profile)), want
        )


@holds("Transparency of every kind")
def test_transparency():
    half = encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 127)))
    assert decode_image(half).tolist() == gray_levels(128)
    assert decode_image(encoded(Image.new("LA", (1, 1), (0, 0)))).tolist() == gray_levels(255)
    for bits, row, clear in ((2, b"\x40", 1), (4, b"\x70", 7), (8, b"\x09", 9), (16, b"\1\2", 258)):
        data = png_of(bits, 0, row, 1, tRNS=struct.pack(">H", clear))
        assert decode_image(data).tolist() == gray_levels(255)
    palette = png_of(8, 3, b"\1", 1, PLTE=bytes(6), tRNS=b"\xff\x00")
    assert decode_image(palette).tolist() == gray_levels(255)


@holds("Float pixels, signed 8-bit pixels and FITS of other than 8 bits")
def test_no_agreed_range():
    assert "float" in unreadable(encoded(Image.new("F", (1, 1), 0.5), "TIFF"))
    assert "signed" in unreadable(tiff_of(b"\1", 1, 1, [8], 1, **{f"t{SIGN}": 2}))
    assert "FITS" in unreadable(fits_of(16, bytes(4)))
    assert decode_image(fits_of(8, b"\x01\x02")).tolist() == gray_levels(1, 2)


@holds("Uncompressed 16-bit TIFF colors plane by plane")
def test_what_pillow_gives_otherwise():
    planes = tiff_of(bytes(6), 1, 1, [16] * 3, 2, **{f"t{PLANAR}": 2})
    assert "plane by plane" in unreadable(planes)
    eight = tiff_of(b"\1\2\3", 1, 1, [8] * 3, 2)
    assert decode_image(eight).tolist() == [[[1, 2, 3]]]
    assert "alpha channel" in unreadable(png_of(16, 2, bytes(6), 1, tRNS=bytes(6)))


# Orientation


@holds("Cameras note in EXIF how to turn an image")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_ignored(kind):
    assert decode_image(turned(kind)).shape == NOISE.shape


@holds("That is what the loaders do")
def test_the_default_is_that_of_the_loaders():
    data = turned("JPEG")
    with Image.open(io.BytesIO(data)) as image:  # as torchvision's pil_loader does
        np.testing.assert_array_equal(decode_image(data), np.asarray(image.convert("RGB")))


@holds("`open_source(spec, orientation=")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_where_asked_for(kind, tmp_path):
    (tmp_path / f"a.{kind.lower()}").write_bytes(turned(kind))
    plain = open_source(f"dir:{tmp_path}")[0].image
    got = open_source(f"dir:{tmp_path}", orientation="apply")[0].image
    np.testing.assert_array_equal(got, np.rot90(plain, -1))


@holds("The choice is part of a source's fingerprint")
def test_orientation_is_in_the_fingerprint(tmp_path):
    (tmp_path / "a.jpg").write_bytes(turned("JPEG"))
    prints = {
        open_source(f"dir:{tmp_path}", orientation=o).fingerprint for o in ("ignore", "apply")
    }
    assert len(prints) == 2
    assert open_source(f"dir:{tmp_path}").fingerprint in prints


# Resizing


@holds("The shorter side is resized to the encoder's")
def test_resizing():
    rows = np.arange(40, dtype=np.uint8)[:, None, None]
    image = np.broadcast_to(rows, (40, 80, 3)).copy()
    want = np.asarray(Image.fromarray(image).resize((40, 20), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_crop(image, Preprocess(10, 0.5)), want[5:15, 15:25])
    squashed = resize_crop(image, Preprocess(10, crop_mode="squash"))
    want = np.asarray(Image.fromarray(image).resize((10, 10), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(squashed, want)


@holds("Where one side is more than 32 times the other")
def test_extreme_ratios(monkeypatch):
    made = []
    resize = Image.Image.resize

    def record(self, size, *arguments, **options):
        made.append(size)
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", record)
    spec = Preprocess(224, 0.875)
    for shape in ((1, 3000), (3000, 1), (1, 32), (10, 321)):
        resize_crop(np.zeros((*shape, 3), np.uint8), spec)
    assert made == [(224, 224), (224, 224), (256 * 32, 256), (224, 224)]


# What is left out


@holds("Hidden files and folders are left out")
def test_hidden(tmp_path):
    write(tmp_path, {"a.png": png(1), ".b.png": b"", ".c/d.png": b"", ".e.txt": b""})
    source = open_source(f"dir:{tmp_path}")
    assert source.ids == ("a.png",)
    assert source.left_out == {}


@holds("Files of other suffixes are left out and counted by suffix")
def test_left_out(tmp_path, capfd, monkeypatch):
    from absl import flags, logging
    from absl.testing import flagsaver

    from experiments import cka
    from experiments.common import features as feature_files
    from experiments.common.file_panel import FilePanel
    from substrate_jax.features import Features

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    pictures = {f"{name}.png": png(seed) for seed, name in enumerate("abcd")}
    write(tmp_path, pictures | {"a.txt": b"", "b.TXT": b"", "c.heic": b""})
    source = open_source(f"dir:{tmp_path}")
    assert source.left_out == {".txt": 2, ".heic": 1}
    note = "left out 3 files that are no images by their suffix: 2 .txt, 1 .heic"
    chosen = {"domains": f"p=dir:{tmp_path}", "encoders": ["mini_mae_base"]}
    chosen |= {"k": ["1"], "components": 2}
    features = Features(source.ids, None, {})
    files = FilePanel(True, {}, {}, None)
    logged = []
    monkeypatch.setattr(logging, "warning", logged.append)
    monkeypatch.setattr(cka, "estimate", lambda *_: "")  # takes seconds, and tests of its own
    with flagsaver.flagsaver(**chosen, dry_run=True, out=str(tmp_path / "out")):
        cka.run()
        # What result.json and the report hold as their notes.
        (said,) = [
            line
            for line in feature_files.notes([], files, {"p": source}, {"p": features})
            if note in line
        ]
    assert said == f"{source.left_out_note}."
    assert logged == [source.left_out_note]
    assert note in capfd.readouterr().out


def features_of(source: Source, **options):
    from substrate_jax.encoders import load_encoder
    from substrate_jax.features import extract

    return extract([load_encoder("mini_dinov2_base")], source, batch_size=4, **options)


@holds("A file that cannot be decoded is an unreadable image")
def test_unreadable(tmp_path):
    good = {f"{i}.png": encoded(Image.fromarray(NOISE)) for i in range(3)}
    source = open_source(f"dir:{write(tmp_path, good | {'bad.png': png(1)[:40], 'c.png': b''})}")
    with pytest.raises(ValueError, match=r"2 of 5 images .* cannot be read, first bad\.png: "):
        features_of(source)
    assert features_of(source, skip_bad=True).ids == ("0.png", "1.png", "2.png")


@holds("Named pipes, sockets, devices and links that lead nowhere")
def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    (tmp_path / "gone.png").symlink_to("nowhere")
    source = open_source(f"dir:{tmp_path}")
    reasons = ("a link that leads nowhere", "a device", "a named pipe")
    for row, reason in enumerate(reasons):
        with pytest.raises(UnreadableImage, match=f"{source.ids[row]}: {reason}, not a file"):
            source[row]


@holds("A folder that may not be read is an error that names it")
def test_unreadable_folders(tmp_path, monkeypatch):
    write(tmp_path, {"a/1.png": png(1), "b/1.png": png(1)})
    listing = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "b":
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=f"1 folder cannot be read: {tmp_path}/b; allow it"):
        open_source(f"dir:{tmp_path}")


@holds("Links are followed, but a folder that is already on the path")
def test_links(tmp_path):
    root = write(tmp_path / "L", {"a/1.png": png(1)})
    (root / "a" / "up").symlink_to("..")
    write(tmp_path, {"elsewhere/2.png": png(2)})
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert open_source(f"dir:{root}").ids == ("a/1.png", "b/2.png")


# Rows and labels


@holds("A row is called by its path")
def test_names(tmp_path):
    (tmp_path / "a").mkdir()
    name = b"caf\xe9.png"
    with open(os.fsencode(tmp_path) + b"/a/" + name, "wb") as file:
        file.write(png(1))
    assert open_source(f"dir:{tmp_path}").ids == (r"a/caf\xe9.png",)
    assert readable_inverse(r"a/caf\xe9.png") == b"a/" + name


@holds("In `PATH/cat/1.png` the label is `cat`")
def test_classes(tmp_path):
    write(tmp_path, {"a/cat/1.png": png(1), "a/dog/deep/2.png": png(2), "b/1.png": png(1)})
    source = open_source(f"dir:{tmp_path}/a")
    assert [source.label_names[label] for label in source.labels] == ["cat", "dog"]
    assert open_source(f"dir:{tmp_path}/b").labels is None


@holds("Where all folders of `PATH` are called as splits are")
def test_splits(tmp_path):
    files = {f"{split}/{label}/1.png": png(1) for split in ("train", "val") for label in "xy"}
    source = open_source(f"dir:{write(tmp_path, files)}")
    assert (source.label_names, len(source)) == (("x", "y"), 4)
    part = open_source(f"dir:{tmp_path}/train")
    assert (part.label_names, len(part)) == (("x", "y"), 2)


@holds("Labels are whole numbers of any type, or words")
def test_labels(tmp_path):
    for labels, want in (([2.0, 0.0], [2, 0]), (["b", "a"], [1, 0]), ([0.5, 1], None)):
        np.savez(
            tmp_path / "m.npz", train_images=np.zeros((2, 2, 2), np.uint8), train_labels=labels
        )
        if want is None:
            with pytest.raises(ValueError, match=r"label 0\.5 of row 0 is no whole number"):
                open_source(f"npz:{tmp_path}/m.npz")
        else:
            assert open_source(f"npz:{tmp_path}/m.npz").labels.tolist() == want


@holds("What holds many images (zip files, lists, tables, shards, HDF5) follows the same rules")
@pytest.mark.parametrize("kind", MAKERS)
def test_one_unreadable_image_of_many(kind, tmp_path):
    files = [png(1), png(2)[:40], png(3), png(4)]
    source = open_source(MAKERS[kind](tmp_path, files, (0, 1, 1, 0)))
    said = []
    for row in range(4):
        try:
            assert source[row].image[0, 0, 0] in (1, 3, 4)
        except UnreadableImage as error:
            said.append((source.ids[row], str(error)))
    ((row_id, message),) = said
    assert message.startswith(f"{row_id}: ")


@holds("`tfds:NAME?image=KEY&label=KEY` chooses among several features")
def test_features_of_tfds(tmp_path):
    rows = [{"views": [png(i), png(i + 5)], "kind": i} for i in range(2)]
    write_set(tmp_path, rows, {"views": sequence_of(image_feature()), "kind": class_feature()})
    source = open_source(f"tfds:wild?image=views[1]&label=kind@{tmp_path}")
    assert source.labels.tolist() == [0, 1]
    assert source[1].image[0, 0, 0] == 6
    assert open_source(f"tfds:wild?image=views[1]&label=none@{tmp_path}").labels is None


@holds("A path with a comma is put in double quotes with its name")
def test_commas():
    assert resolve_domains('"sky=dir:day, night"') == {"sky": "dir:day, night"}
