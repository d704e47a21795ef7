"""Small pictures of images: their shape is kept, and what is no image is refused."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from substrate_jax.report.thumbnails import sheet_row, strip

IMAGES = list(np.random.default_rng(1).integers(0, 256, (3, 40, 60, 3), np.uint8))


def picture(uri: str) -> Image.Image:
    kind, _, content = uri.partition("base64,")
    assert kind == "data:image/jpeg;"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_thumbnails_keep_their_shape():
    assert [picture(uri).size for uri in strip(IMAGES, "", "").uris] == [(60, 40)] * 3
    tall = np.zeros((384, 192, 3), np.uint8)
    assert picture(strip([tall], "", "").uris[0]).size == (48, 96)


def test_a_row_of_a_sheet_holds_each_end_in_one_picture():
    row = sheet_row("component 0", "", {"low": IMAGES, "high": IMAGES[:1], "none": []})
    sizes = {name: picture(uri).size for name, uri, _ in row.ends}
    assert sizes == {"low": (3 * 76 - 4, 72), "high": (72, 72), "none": (1, 72)}
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
