"""Small pictures of images: their shape is kept, and what is no image is refused."""

import numpy as np
import pytest

from substrate_jax.report.thumbnails import sheet_row, strip
from tests.report.document import image_of

IMAGES = list(np.random.default_rng(1).integers(0, 256, (3, 40, 60, 3), np.uint8))


def test_thumbnails_keep_their_shape():
    assert [image_of(uri).size for uri in strip(IMAGES, "", "").uris] == [(60, 40)] * 3
    tall = np.zeros((384, 192, 3), np.uint8)
    assert image_of(strip([tall], "", "").uris[0]).size == (48, 96)


def test_a_row_of_a_sheet_holds_each_end_in_one_picture():
    row = sheet_row("component 0", "", {"low": IMAGES, "high": IMAGES[:1], "none": []})
    sizes = {name: image_of(uri).size for name, uri, _ in row.ends}
    assert sizes == {"low": (3 * 68 - 4, 64), "high": (64, 64), "none": (1, 64)}
    assert [width for *_, width in row.ends] == [width for width, _ in sizes.values()]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_images_of_another_kind_are_refused_in_one_line(image):
    kind = rf"an image is {image.dtype}\[{', '.join(map(str, image.shape))}\]; give uint8"
    for make in (
        lambda: strip([image], "", ""),
        lambda: sheet_row("", "", {"low": [image]}),
    ):
        with pytest.raises(ValueError, match=kind) as error:
            make()
        assert "\n" not in str(error.value)
