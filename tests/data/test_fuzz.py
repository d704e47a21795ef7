"""Damaged images, arrays and records: the right rows or one line, soon and in little memory."""

import contextlib
import io
import json
import pathlib
import re
import shutil
import tempfile
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from substrate_jax.data import decode_image, open_source, quickdraw
from substrate_jax.data.domains import resolve_domains
from substrate_jax.data.formats import image_formats
from substrate_jax.data.paths import one_line
from substrate_jax.data.tfds_records import TfdsSpec
from tests.data import fuzz
from tests.data.images import NOISE, encoded, fits_of, png_of, tiff_of
from tests.data.test_sources import png
from tests.data.test_wild_records import class_feature, image_feature, npy_bytes, write_set


@pytest.fixture(scope="module", autouse=True)
def bounded():
    """Pillow's limit of pixels, lower; and a limit on what the whole file may take."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 4_000_000
    with fuzz.little_memory():
        yield
    Image.MAX_IMAGE_PIXELS = limit


def _files() -> dict[str, bytes]:
    """A file of every format that Pillow writes, in several modes, and some that it does not."""
    Image.init()
    found: dict[str, bytes] = {}
    image = Image.fromarray(NOISE)
    for kind in sorted(set(Image.SAVE) & {*image_formats(), "MPO"}):
        for mode in ("RGB", "L", "1", "P", "RGBA", "I;16", "CMYK"):
            made = image.convert("L" if mode == "I;16" else mode).convert(mode)
            with warnings.catch_warnings(), contextlib.suppress(OSError, ValueError, KeyError):
                warnings.simplefilter("ignore")  # a format may be on its way out
                found[f"{kind} {mode}"] = encoded(made, kind)
    frames = {"save_all": True, "append_images": [image, image]}
    for kind in ("GIF", "PNG", "TIFF", "WEBP"):
        found[f"{kind} frames"] = encoded(image, kind, **frames)
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        found[f"TIFF {compression}"] = encoded(image, "TIFF", compression=compression)
    found["TIFF 12"] = tiff_of(bytes(range(30)), 10, 2, [12], 1)
    found["PNG tRNS"] = png_of(16, 0, bytes(16), 8, tRNS=b"\0\0")
    found["FITS"] = fits_of(8, b"ab")
    found["PGM"] = b"P2 4 1 1000 1 2 3 999"
    return found


FILES = _files()


def test_every_format_is_here():
    kinds = {name.split()[0] for name in FILES}
    assert {"JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "ICO", "TGA", "JPEG2000", "DDS"} <= kinds
    refused = {
        name for name in FILES if fuzz.attempt(lambda n=name: decode_image(FILES[n])) is None
    }
    assert {name.split()[0] for name in refused} <= {"SPIDER"}  # whose pixels are float


@pytest.mark.parametrize("kind", sorted({name.split()[0] for name in FILES}))
def test_damaged_images(kind):
    files = [data for name, data in FILES.items() if name.split()[0] == kind]

    @fuzz.tried(60, st.data())
    def check(data):
        file = data.draw(fuzz.damaged(data.draw(st.sampled_from(files))))
        orientation = data.draw(st.sampled_from(["ignore", "apply"]))
        image = fuzz.attempt(lambda: decode_image(file, orientation=orientation))
        if image is not None:
            assert image.dtype == np.uint8
            assert image.shape[2:] == (3,)
            assert image.size

    check()


@fuzz.tried(100, st.binary(max_size=200))
def test_noise_is_no_image(data):
    fuzz.attempt(lambda: decode_image(data))


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)


def _npz(save, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


NPZ = [
    _npz(save, train_images=IMAGES, train_labels=labels, test_images=IMAGES[:1])
    for save in (np.savez, np.savez_compressed)
    for labels in (np.arange(4), np.array(["a", "b", "a", "c"]), np.arange(4.0)[:, None])
]


@pytest.fixture(scope="module")
def folder():
    path = pathlib.Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def test_damaged_npz(folder):
    @fuzz.tried(300, st.data())
    def check(data):
        file = folder / "m.npz"
        file.write_bytes(data.draw(fuzz.damaged(data.draw(st.sampled_from(NPZ)))))
        source = fuzz.attempt(lambda: open_source(f"npz:{file}"), "m.npz")
        for row in range(len(source or ())):
            assert source[row].image.shape[2] == 3

    check()


def test_damaged_npy_of_quickdraw(folder, monkeypatch):
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(folder))
    word = next(iter(quickdraw.quickdraw_words()))
    path = folder / "quickdraw" / f"{word}.npy"
    path.parent.mkdir()
    whole = npy_bytes(np.zeros((3, 784), np.uint8))

    @fuzz.tried(200, st.data())
    def check(data):
        path.write_bytes(data.draw(fuzz.damaged(whole)))
        drawings = fuzz.attempt(lambda: quickdraw._drawings(word, 2), f"{word}.npy")
        assert drawings is None or drawings.shape[1:] == (784,)

    check()


ROWS = [{"image": png(i), "label": i % 3} for i in range(6)]
FEATURES = {"image": image_feature(), "label": class_feature()}


@pytest.fixture
def records(tmp_path):
    files = write_set(tmp_path, ROWS, FEATURES)
    return tmp_path, files[0]


def read_all(root: pathlib.Path, *names: str) -> list[int | None]:
    """The pixels of a set that was damaged, None for a row that is unreadable."""
    source = fuzz.attempt(lambda: open_source(f"tfds:wild@{root}"), *names)
    if source is None:
        return []
    images = [
        fuzz.attempt(lambda row=row: source[row].image, "train/") for row in range(len(source))
    ]
    return [None if image is None else int(image[0, 0, 0]) for image in images]


def test_damaged_records(records):
    root, file = records
    whole = file.read_bytes()
    used = len(whole.rstrip(b"\0")) + 1

    @fuzz.tried(150, st.data())
    def check(data):
        if data.draw(st.booleans()):  # where the records are
            at = data.draw(st.integers(0, used - 1))
            count = data.draw(st.integers(1, 32))
            changed = whole[:at] + data.draw(st.binary(min_size=count, max_size=count))
            file.write_bytes(changed + whole[at + count :])
        else:
            file.write_bytes(data.draw(fuzz.damaged(whole)))
        # Records are hashed: a row that is given is the right one.
        assert all(value in (row, None) for row, value in enumerate(read_all(root, file.name)))

    check()


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_damaged_descriptions_of_a_set(name, records):
    root, file = records
    path = file.parent / name
    whole = path.read_bytes()

    @fuzz.tried(100, st.data())
    def check(data):
        if data.draw(st.booleans()):
            path.write_bytes(data.draw(fuzz.damaged(whole)))
        else:
            path.write_text(json.dumps(data.draw(fuzz.altered(json.loads(whole)))))
        read_all(root, "tfds:wild")

    check()


@pytest.mark.parametrize("count", [10**6 + 1, 2**31 - 1])
def test_more_classes_than_any_set_has_are_refused(count, tmp_path):
    """Found by the long form: TFDS lists the numbers of classes that have no names."""
    write_set(tmp_path, ROWS, FEATURES | {"label": class_feature(count)})
    with pytest.raises(ValueError, match=rf"'label' has {count:,} classes, more than any") as error:
        open_source(f"tfds:wild@{tmp_path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [10**6, 2**32 - 1])
def test_more_records_than_fit_into_a_file_are_refused(count, records):
    """Found by the long form: a list of as many rows took all memory."""
    root, file = records
    path = file.parent / "dataset_info.json"
    whole = path.read_text()
    changed = re.sub(r'("shardLengths": \[\s*)"\d+"', rf'\1"{count}"', whole)
    assert changed != whole
    path.write_text(changed)
    with pytest.raises(ValueError, match=f"holds {count:,} records, more than fit into") as error:
        open_source(f"tfds:wild@{root}")
    assert file.name in str(error.value)
    assert "\n" not in str(error.value)


def test_the_long_form_knows_every_fuzz_test_by_name():
    root = pathlib.Path(__file__).parents[2]
    for nodes in fuzz.TARGETS.values():
        for file, _, name in (node.partition("::") for node in nodes):
            assert f"def {name}(" in (root / file).read_text() or not name


def test_the_long_form_tries_new_examples_and_counts_what_came_of_them(monkeypatch):
    monkeypatch.setattr(fuzz, "SEEN", fuzz.Seen())
    drawn = []

    @fuzz.tried(10, st.integers(0, 10**9))
    def check(number):
        drawn.append(number)
        fuzz.attempt(lambda: 3 / 4 if number % 2 else int("a"))

    check()
    check()
    usual = len(drawn) // 2
    assert drawn[:usual] == drawn[usual:]
    monkeypatch.setattr(fuzz.SEEN, "share", 0.2)
    check()
    assert len(set(drawn)) > 3 * usual
    assert fuzz.SEEN.examples == len(drawn) == fuzz.SEEN.read + fuzz.SEEN.refused
    assert fuzz.SEEN.read == sum(number % 2 for number in drawn)


@fuzz.tried(200, fuzz.LETTERS, st.integers(10, 400))
def test_any_words_of_an_error_make_one_line(text, most):
    said = one_line(ValueError(text), most)
    assert said.isprintable()
    assert 0 < len(said) <= most


LETTERS = [*'abd:?@=&,"[]/~.\\ é\0', "dir:", "npz:", "tfds:", "train", "image="]
TEXT = st.lists(st.sampled_from(LETTERS), max_size=12).map("".join)


@fuzz.tried(200, TEXT)
def test_any_text_as_domains_or_spec(text):
    for read in (resolve_domains, TfdsSpec.parse, lambda spec: open_source(f"dir:{spec}x?")):
        fuzz.attempt(lambda read=read: read(text))


def test_any_file_names(tmp_path):
    @fuzz.tried(
        100,
        st.sets(
            st.binary(min_size=1, max_size=8).map(lambda b: b.translate(None, b"/\0.")), max_size=6
        ),
    )
    def check(names):
        root = pathlib.Path(tempfile.mkdtemp(dir=tmp_path))
        names = sorted(filter(None, names))
        for value, name in enumerate(names):
            with open(bytes(root) + b"/" + name + b".png", "wb") as file:
                file.write(png(value))
        if names:
            source = open_source(f"dir:{root}")
            assert len(set(source.ids)) == len(names)
            "".join(source.ids).encode()
            assert sorted(int(source[row].image[0, 0, 0]) for row in range(len(names))) == list(
                range(len(names))
            )

    check()
