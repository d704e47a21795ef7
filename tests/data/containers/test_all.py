"""What holds for every source that is a file of many images, or several folders."""

import pathlib
import sys

import cloudpickle
import numpy as np
import pytest
from PIL import Image

from substrate_jax.data import open_source
from substrate_jax.data.domains import bytes_to_download
from substrate_jax.data.kinds import KINDS
from tests.data import fuzz
from tests.data.containers.files import MAKERS, WORDS
from tests.data.images import NOISE, ORIENTATION, encoded
from tests.data.test_sources import png
from tests.data.test_wild_folders import one_line

KINDS_HERE = pytest.mark.parametrize("kind", MAKERS)
VALUES, LABELS = (10, 20, 30, 40), (0, 1, 1, 0)
IMAGES = [png(value) for value in VALUES]


def pixels(source) -> dict[int, str]:
    """The word that each image is labeled with, by its level of gray."""
    found = {}
    for row in range(len(source)):
        image, label, _ = source[row]
        assert image.dtype == np.uint8
        found[int(image[0, 0, 0])] = source.label_names[label]
    return found


@KINDS_HERE
def test_images_and_labels(kind, tmp_path):
    spec = MAKERS[kind](tmp_path, IMAGES, LABELS)
    source = open_source(spec)
    assert source.label_names == WORDS
    assert pixels(source) == {v: WORDS[label] for v, label in zip(VALUES, LABELS, strict=True)}
    again = open_source(spec)
    assert (again.ids, again.fingerprint) == (source.ids, source.fingerprint)
    assert bytes_to_download(spec) == 0
    joined = f"{spec}?label=none"
    assert open_source(joined).labels is None


@KINDS_HERE
def test_rows_are_read_in_any_order_in_another_process(kind, tmp_path):
    source = open_source(MAKERS[kind](tmp_path, IMAGES, LABELS))
    want = [int(source[row].image[0, 0, 0]) for row in range(4)]
    sent = cloudpickle.loads(cloudpickle.dumps(source))  # as grain sends it to workers
    assert [int(sent[row].image[0, 0, 0]) for row in (3, 1, 1, 0)] == [
        want[i] for i in (3, 1, 1, 0)
    ]


@KINDS_HERE
def test_orientation_is_applied_and_known_by_the_fingerprint(kind, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = encoded(Image.fromarray(NOISE), "PNG", exif=exif)
    spec = MAKERS[kind](tmp_path, [turned] * 4, LABELS)
    stored, applied = open_source(spec), open_source(spec, orientation="apply")
    assert stored[0].image.shape == NOISE.shape
    assert applied[0].image.shape == (NOISE.shape[1], NOISE.shape[0], 3)
    assert stored.fingerprint != applied.fingerprint


@KINDS_HERE
def test_other_contents_have_another_fingerprint(kind, tmp_path):
    first = open_source(MAKERS[kind](tmp_path, IMAGES, LABELS)).fingerprint
    other = [png(value, side=5) for value in VALUES]
    assert open_source(MAKERS[kind](tmp_path, other, LABELS)).fingerprint != first


@KINDS_HERE
def test_what_is_not_there_ends_in_one_line(kind, tmp_path):
    said = one_line(f"{kind}:{tmp_path}/absent", "absent")
    assert len(said) < 500


@pytest.mark.parametrize("kind", ["parquet", "hfds", "wds", "zip", "h5"])
def test_damaged_files_give_the_right_rows_or_one_line(kind, tmp_path):
    """Cut at twelve places, and with noise at twelve."""
    spec = MAKERS[kind](tmp_path, IMAGES, LABELS)
    (file, *_) = sorted(path for path in tmp_path.rglob("*") if path.suffix not in ("", ".json"))
    whole = file.read_bytes()
    want = [int(open_source(spec)[row].image[0, 0, 0]) for row in range(4)]
    places = [len(whole) * part // 12 for part in range(12)]
    rng = np.random.default_rng(0)
    for at in places:
        for noise in (b"", rng.bytes(8)):
            file.write_bytes(whole[:at] + noise + (whole[at + 8 :] if noise else b""))
            source = fuzz.attempt(lambda: open_source(spec), str(tmp_path))
            assert source is None or noise or len(source) == 4  # never fewer without a word
            for row in range(len(source or ())):
                image = fuzz.attempt(lambda source=source, row=row: source[row].image)
                assert (
                    image is None
                    or (noise and image.dtype == np.uint8)
                    or image[0, 0, 0] == want[row]
                )


@pytest.mark.parametrize(
    ("kind", "module", "extra"),
    [("parquet", "pyarrow", "files"), ("hfds", "pyarrow", "files"), ("h5", "h5py", "files")],
)
def test_a_missing_library_names_its_extra(kind, module, extra, tmp_path, monkeypatch):
    spec = MAKERS[kind](tmp_path, IMAGES, LABELS)
    for name in [module, f"{module}.parquet"]:
        monkeypatch.setitem(sys.modules, name, None)
    said = one_line(spec, f"needs {module}; pip install")
    assert f"'substrate-jax[{extra}]'" in said


@KINDS_HERE
def test_options_of_other_kinds_are_refused(kind, tmp_path):
    spec = MAKERS[kind](tmp_path, IMAGES, LABELS)
    one_line(f"{spec}?pixels=a", r"'pixels=a' is unknown; give \?.*label=LABEL")


def test_the_page_on_domains_lists_every_kind():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "domains.md").read_text()
    for name in KINDS.keys() - {"sample", "medmnist", "archive", "quickdraw"}:
        options = " ".join(f"`{option}`" for option in KINDS[name].options)
        assert f"| `{name}:{KINDS[name].form}` | {options} |".replace("|  |", "| |") in page, name
