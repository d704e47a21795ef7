"""DICOM images: rescaling, windows, lookup tables, photometric interpretations, frames, damage."""

import io
import sys
import warnings

import cloudpickle
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import processing

from substrate_jax.data import UnreadableImage, decode_image, open_source
from tests.data import fuzz
from tests.data.containers.files import zip_of
from tests.data.images import NOISE, encoded, gray_levels
from tests.data.test_sources import png, write
from tests.data.test_wild_folders import one_line


def dataset(pixels: np.ndarray, photometric="MONOCHROME2", bits=None, **changes):
    """A DICOM data set around pixels [h, w], [h, w, 3] or, with frames, [n, h, w]."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = changes.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    colors = pixels.ndim == 3 and pixels.shape[2] == 3
    file.Rows, file.Columns = pixels.shape[:2] if colors else pixels.shape[-2:]
    file.SamplesPerPixel = 3 if colors else 1
    if colors:
        file.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colors:
        file.NumberOfFrames = len(pixels)
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = 8 * pixels.dtype.itemsize
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    file["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in changes.items():
        setattr(file, name, value)
    return file


def dicom(pixels: np.ndarray, *arguments, **changes) -> bytes:
    """The bytes of its file."""
    buffer = io.BytesIO()
    dataset(pixels, *arguments, **changes).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def row(*values, dtype=np.uint16) -> np.ndarray:
    return np.array([values], dtype)


def levels(data: bytes) -> list[int]:
    image = decode_image(data)
    assert (image == image[:, :, :1]).all()
    return image[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("pixels", "bits", "want"),
    [
        (row(0, 128, 255, dtype=np.uint8), 8, [0, 128, 255]),
        (row(0, 32767, 65535), 16, [0, 127, 255]),
        (row(0, 2047, 4095), 12, [0, 127, 255]),
        (row(-2048, 0, 2047, dtype=np.int16), 12, [0, 128, 255]),
    ],
)
def test_without_a_window_the_range_of_the_stored_bits_is_taken(pixels, bits, want):
    assert levels(dicom(pixels, "MONOCHROME2", bits)) == want
    assert levels(dicom(pixels, "MONOCHROME1", bits)) == [255 - value for value in want]
    # Rescaling moves values and the range alike, and one downwards turns it around.
    moved = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    assert levels(dicom(pixels, "MONOCHROME2", bits, **moved)) == want
    down = {"RescaleSlope": -1, "RescaleIntercept": 0}
    assert levels(dicom(pixels, "MONOCHROME2", bits, **down)) == [255 - value for value in want]


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(function):
    stored = np.arange(0, 4096, 7, dtype=np.uint16)[None]
    changes = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    changes |= {} if function is None else {"VOILUTFunction": function}
    file = dataset(stored, "MONOCHROME2", 12, **changes)
    rescaled = processing.apply_modality_lut(stored, file)
    shown = processing.apply_windowing(rescaled, file)
    want = np.floor((shown + 1024) / 4095 * 255 + 0.5)
    got = levels(dicom(stored, "MONOCHROME2", 12, **changes))
    np.testing.assert_array_equal(got, want[0])
    assert (min(got), max(got)) == (0, 255)


def test_the_first_of_several_windows_is_taken_and_an_option_goes_before(tmp_path):
    stored = row(0, 100, 200, 300)
    file = dicom(stored, "MONOCHROME2", 12, WindowCenter=[101, 9], WindowWidth=[201, 9])
    folder = write(tmp_path / "ct", {"a.dcm": file})
    first = open_source(f"dicom:{folder}")
    wide = open_source(f"dicom:{folder}?window=200.5/401")
    assert first[0].image[0, :, 0].tolist() == [0, 127, 254, 255]
    assert wide[0].image[0, :, 0].tolist() == [0, 64, 128, 191]
    assert first.fingerprint != wide.fingerprint
    for window in ("40", "40/1", "nan/9", "a/b", "1/2/3"):
        one_line(f"dicom:{folder}?window={window}", "give CENTER/WIDTH with a width above 1")


def lut(entries, first, bits):
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [len(entries), first, bits])
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return pydicom.Sequence([item])


def test_lookup_tables():
    # Of 8 bits with more than 256 entries, where an index of 8 bits would wrap around.
    entries = [min(value // 2, 255) for value in range(600)]
    stored = row(0, 10, 300, 500, 4000)
    want = [0, 0, 145, 245, 255]
    assert levels(dicom(stored, "MONOCHROME2", 12, VOILUTSequence=lut(entries, 10, 8))) == want
    assert levels(dicom(stored, "MONOCHROME2", 12, ModalityLUTSequence=lut(entries, 10, 8))) == want
    window = {"ModalityLUTSequence": lut(entries, 10, 8), "WindowCenter": 145.5, "WindowWidth": 2}
    assert levels(dicom(stored, "MONOCHROME2", 12, **window)) == [0, 0, 128, 255, 255]


def test_colors_become_rgb():
    np.testing.assert_array_equal(decode_image(dicom(NOISE, "RGB")), NOISE)
    wide = NOISE.astype(np.uint16) << 4
    np.testing.assert_array_equal(decode_image(dicom(wide, "RGB", 12)), NOISE)
    flat = np.tile(np.array([[[81, 90, 240]]], np.uint8), (2, 2, 1))  # red
    red = decode_image(dicom(flat, "YBR_FULL"))
    assert red[0, 0, 0] > 200
    assert red[0, 0, 1:].max() < 40


def test_palettes():
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint16)
    changes = {}
    for at, name in enumerate(("Red", "Green", "Blue")):
        changes[f"{name}PaletteColorLookupTableDescriptor"] = [3, 5, 16]
        changes[f"{name}PaletteColorLookupTableData"] = (colors[:, at] * 256).tobytes()
    stored = row(0, 5, 6, 7, 255, dtype=np.uint8)
    image = decode_image(dicom(stored, "PALETTE COLOR", **changes))
    np.testing.assert_array_equal(image[0], colors[[0, 0, 1, 2, 2]])


def test_the_first_frame_and_packed_pixels():
    frames = np.stack([row(0, 255, dtype=np.uint8), row(9, 9, dtype=np.uint8)])
    assert levels(dicom(frames)) == [0, 255]
    jpeg = encoded(Image.fromarray(NOISE[:, :, 0]), "JPEG2000", irreversible=False)
    file = dataset(NOISE[:, :, 0].copy(), syntax=pydicom.uid.JPEG2000Lossless)
    file.PixelData = pydicom.encaps.encapsulate([jpeg])
    file["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    np.testing.assert_array_equal(decode_image(buffer.getvalue())[..., 0], NOISE[..., 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels are too many"),
        ({"Rows": 60}, "ValueError: "),
        ({"PhotometricInterpretation": "RGB"}, "photometric interpretation 'RGB' of one sample"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "a window of width 0; give [?]window=CENTER/WIDTH"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "of function 'CUBIC'"),
    ],
)
def test_other_files_are_unreadable(change, message):
    with pytest.raises(UnreadableImage, match=message):
        decode_image(dicom(row(0, 9), "MONOCHROME2", **change))


def test_what_holds_no_pixels_or_is_packed_as_a_whole_is_unreadable():
    buffer = io.BytesIO()
    file = dataset(row(0, 9))
    del file.PixelData
    file.save_as(buffer, enforce_file_format=True)
    with pytest.raises(UnreadableImage, match="float pixels, whose range is not known"):
        decode_image(buffer.getvalue())
    deflated = dicom(row(0, 9), syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnreadableImage, match="a deflated data set"):
        decode_image(deflated)


def test_damaged_files_are_images_or_one_line():
    whole = dicom(row(*range(64)), "MONOCHROME2", 12, WindowCenter=30, WindowWidth=50)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of much that is damaged
        for at in range(0, len(whole), 11):
            for damaged in (whole[:at], whole[:at] + rng.bytes(4) + whole[at + 4 :]):
                image = fuzz.attempt(lambda data=damaged: decode_image(data))
                assert image is None or (image.dtype == np.uint8 and image.shape[2] == 3)


def test_a_folder(tmp_path):
    one, two = dicom(row(0, 255, dtype=np.uint8)), dicom(row(255, 0, dtype=np.uint8))
    files = {
        "p1/study/IM0001": one,
        "p2/b.DCM": two,
        "p2/bad.dcm": bytes(128) + b"DICM" + b"x" * 20,
        "DICOMDIR": one,
        "p2/notes": b"text",
        "p2/c.png": png(1),
    }
    source = open_source(f"dicom:{write(tmp_path / 'in', files)}")
    assert source.ids == ("p1/study/IM0001", "p2/b.DCM", "p2/bad.dcm")
    assert source.label_names == ("p1", "p2")
    assert source.left_out == {"without suffix": 2, ".png": 1}
    source = cloudpickle.loads(cloudpickle.dumps(source))
    assert source[1].image.tolist() == gray_levels(255, 0)
    with pytest.raises(UnreadableImage, match=r"p2/bad\.dcm: "):
        source[2]
    assert open_source(f"dicom:{tmp_path}/in?label=none").labels is None
    both = open_source(f"dicom:{tmp_path}/in/p1+{tmp_path}/in/p2?label=none")
    assert both.ids == source.ids
    one_line(
        f"dicom:{write(tmp_path / 'none', {'a.png': png(1)})}", "only 1 .png; .* begin as DICOM"
    )


def test_lists_and_shards_may_hold_dicom(tmp_path):
    file = dicom(row(0, 255, dtype=np.uint8))
    write(tmp_path, {"IM1": file, "a.csv": b"path\nIM1\n"})
    assert open_source(f"csv:{tmp_path}/a.csv")[0].image.tolist() == gray_levels(0, 255)
    one_line(f"zip:{zip_of({'a.dcm': file}, tmp_path / 'a.zip')}", "only 1 .dcm")


def test_without_the_library(tmp_path, monkeypatch):
    folder = write(tmp_path / "in", {"a.dcm": dicom(row(0, 9))})
    write(tmp_path, {"a.csv": b"path\nin/a.dcm\n"})
    monkeypatch.setitem(sys.modules, "pydicom", None)
    said = r"needs pydicom; pip install 'substrate-jax\[dicom\]'"
    one_line(f"dicom:{folder}", said)
    with pytest.raises(UnreadableImage, match=said):
        open_source(f"csv:{tmp_path}/a.csv")[0]
