"""Type and marks: what a font lacks, what fits, and what can be told apart."""

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from substrate_jax.report import drawing, heatmaps, tags


def test_ink_meets_the_contrast_of_wcag_on_every_color_used():
    colors = matplotlib.colormaps[heatmaps.COLORMAP](np.linspace(0, 1, 256))[:, :3]
    chips = [matplotlib.colors.to_rgb(tag.color) for tag in tags.PARADIGMS.values()]
    for color in (*colors, *chips):
        color = np.array(color)
        linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        contrasts = {"#000000": (luminance + 0.05) / 0.05, "#ffffff": 1.05 / (luminance + 0.05)}
        ink = drawing.ink_on(color)
        assert contrasts[ink] == max(contrasts.values()) >= 4.5


def test_characters_that_the_font_lacks_are_question_marks():
    assert drawing.drawable("a 猫\tb\n") == "a ? b"
    assert drawing.drawable("a" * 20 + "b" * 20, 9) == "aaaa…bbbb"


@pytest.mark.parametrize("text", ["ceiling 0.962", "iiiiillll", "MWMWMWMW", "mini_vit_base, N^2"])
@pytest.mark.parametrize("size", [6.0, 7.5, 8.0])
def test_type_takes_the_room_that_was_reckoned(text, size):
    figure = drawing.new_figure(3, 1)
    drawn = figure.text(0, 0, text, fontsize=size)
    box = drawn.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    width = drawing.text_width(text, size)
    assert 0.85 * width < box.width / figure.dpi < drawing.HINTED * width


@pytest.mark.parametrize("room", [0.3, 1.0, 2.0])
def test_texts_are_shortened_no_more_than_they_must_be(room):
    text = "".join(itertools.islice(itertools.cycle("some_name "), 50))
    short = drawing.fitting(text, 8.0, room)
    assert drawing.text_width(short, 8.0) <= room
    longer = drawing.drawable(text, len(short) + 2)
    assert drawing.text_width(longer, 8.0) * drawing.HINTED > room
    assert drawing.fitting(text, 8.0, 9.0) == text.strip()


def test_drawings_are_the_same_bytes_each_time():
    def once():
        return drawing.png(heatmaps.heatmap(np.eye(2), ["a", "b"], quantity="q"))

    assert once() == once()
