"""Drawings as SVG: elements of a page, and only what was asked for."""

import base64
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
from PIL import Image

from substrate_jax.report import heatmaps
from substrate_jax.report.svg import Svg


def test_a_heat_map_holds_its_colors_and_its_text():
    matrix = np.array([[1.0, 0.25], [0.25, 1.0]])
    figure = heatmaps.heatmap(matrix, ["a <b>", 'c & "d"'], quantity="q")
    root = ET.fromstring(f'<svg xmlns="http://www.w3.org/2000/svg">{figure.vector}</svg>')
    words = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert words.count("a <b>") == words.count('c & "d"') == 2
    assert ".25" in words
    uri = re.findall('base64,([^"]+)', figure.vector)[0]
    cells = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    want = np.asarray(figure.axes[0].images[0].get_array())[..., :3]
    np.testing.assert_array_equal(cells, np.uint8(np.round(255 * want)))


def test_places_are_pixels_from_the_upper_left():
    svg = Svg(2.0, 1.0)
    svg.squares([1.0], [0.75], ["#ff0000"], 0.5)
    svg.text(0.5, 0.25, "up", 9, ha="right", color="#000000", bold=False, up=True)
    drawn = svg.finish()
    assert '<rect x="72" y="0" width="48.00" height="48.00" fill="#ff0000"/>' in drawn
    assert 'font-size="12.00" text-anchor="end"' in drawn
    assert '<text transform="translate(48 72) rotate(-90)">up</text>' in drawn
