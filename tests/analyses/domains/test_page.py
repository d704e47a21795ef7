"""Reports of synthetic comparisons of domains: what they say, hold, and leave out."""

import base64
import io
import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from substrate_jax.analyses.domains.caveats import VERBS, limits_of_reading
from substrate_jax.analyses.domains.controls import READINGS
from substrate_jax.analyses.domains.page import domains_page
from substrate_jax.report import drawing
from substrate_jax.report import heatmaps as figures
from substrate_jax.report.files import KEYS, OWN_KEYS, summary_table, write_report, write_result
from substrate_jax.report.values import plain
from tests.analyses.domains.synthetic import (
    FEATURES,
    KS,
    K,
    contact_sheets,
    domains_result,
    pairs_of,
)
from tests.report.test_report import Document, read_csv

OPTIONAL = ("controls", "components", "panel_test")


def text_of(result, folder, **images) -> str:
    path = write_report(result, folder, **images)
    return " ".join(Document(path.read_text(encoding="utf-8")).texts)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A whole report: result, its folder, and the parsed page."""
    result = domains_result(15, 8)
    folder = tmp_path_factory.mktemp("domains")
    path = write_report(result, folder, sheets=contact_sheets(["photographs"], 6))
    return result, folder, Document(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    """Figures are laid out but not rendered, which takes long; `report` renders them."""
    monkeypatch.setattr(figures, "png", lambda figure: b"")


@pytest.fixture
def small():
    return domains_result(4, 3)


def test_every_figure_has_a_caption_words_for_the_blind_and_its_numbers(report):
    _, folder, document = report
    assert document.open == []
    assert document.unbalanced == []
    pictures = [a for a in document.all("img") if a["src"].startswith("data:image/png")]
    # PCKA, two companions, controls, overlap, ceiling, sweep, variance, left out, followed; ratios
    # and pairs of four measures; a map a domain.
    assert len(pictures) == 10 + 2 * 4 + 8
    assert all(len(picture["alt"]) > 40 for picture in pictures)
    assert len({picture["alt"] for picture in pictures}) == len(pictures)
    keys = {path.stem for path in (folder / "figures").iterdir()}
    assert len(keys) == len(pictures)
    for key in keys:
        assert len(read_csv(document, f"figure-{key}.csv")) >= 2
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    downloads = [a["download"] for a in document.all("a") if "download" in a]
    assert len(downloads) == len(set(downloads))
    for _, attributes in document.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#section-"))


def test_csv_is_the_result(report):
    result, _, document = report
    names = list(result["domains"])
    for key, file in (("pcka", "pcka"), ("grassmann", "domains-grassmann")):
        for row in read_csv(document, f"figure-{file}.csv"):
            i = names.index(row.pop("domain"))
            assert [float(v) for v in row.values()] == result[key]["matrix"][i].tolist()
    pairs = {(r["domain_a"], r["domain_b"]): r for r in read_csv(document, "pairs.csv")}
    assert list(pairs) != list(itertools.combinations(names, 2))
    controls = result["controls"]
    sources = {
        "pcka": result["pcka"]["matrix"], "low": result["pcka"]["low"],
        "error": result["pcka"]["error"], "log10_p_value": result["pcka"]["log10_p_value"],
        "procrustes": result["procrustes"]["matrix"],
        "pixels_own": controls["pixels"]["own"]["matrix"],
        "random_one": controls["random"]["one"]["matrix"],
    }  # fmt: skip
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        for key, matrix in sources.items():
            assert float(pairs[a, b][key]) == matrix[i, j]
    sweep = {int(row["k"]): row for row in read_csv(document, "figure-sweep.csv")}
    for i, k in enumerate(KS):
        assert float(sweep[k]["greatest"]) == result["sweep"]["greatest"][i]
    assert sweep[24]["paper_four_domains"] == "0.683"
    reading = read_csv(document, "figure-depth-reading.csv")
    assert len(reading) == K * len(FEATURES)
    assert [row["correlation"] for row in reading if row["feature"] == "sobel 0°"] == [""] * K
    dots = read_csv(document, "figure-panel-knn30-pairs.csv")
    assert len(dots) == 9 * 15 * 14 // 2
    want = result["panel_test"]["domains"]["depth"]["mutual_knn"]["30"]["pairs"][5]
    assert {"domain": "depth", "encoder_a": want["a"], "encoder_b": want["b"], "kind": want["kind"],
            "score": repr(want["score"]), "raw": repr(want["raw"])} in dots  # fmt: skip


def test_controls_are_counted_against_the_substrate_pair_by_pair(report):
    result, _, document = report
    ours = pairs_of(result["pcka"]["matrix"])
    rows = {(r["control"], r["reading"]): r for r in read_csv(document, "controls.csv")}
    assert ("pixels", "overlap") not in rows
    for (control, reading), row in rows.items():
        theirs = pairs_of(result["controls"][control][reading]["matrix"])
        assert int(row["reached"]) == np.sum(theirs >= ours)
    strip = read_csv(document, "figure-controls.csv")
    draws = [float(r["value"]) for r in strip if (r["control"], r["reading"]) == ("random", "both")]
    assert draws == result["controls"]["random"]["both"]["values"].tolist()
    assert sum(row["control"] == "substrate" for row in strip) == len(ours)


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (0.2, "Pixels transport better than the substrate here: median 0."),
        (0.01, "Pixels transport as well as the substrate as far as this run can tell"),
        (-0.01, "Pixels transport as well as the substrate as far as this run can tell"),
        (-0.1, "Pixels, own components: below the substrate in the median but not throughout"),
        (-0.4, "Below the substrate in every pair: pixels, own components (0."),
    ],
)
def test_what_is_said_of_a_control_depends_on_where_it_stands(tmp_path, small, shift, said):
    pcka = small["pcka"]
    matrix = np.array(pcka["matrix"]) + shift * (1 - np.eye(3))
    if shift == -0.1:  # one pair above, whatever the median
        least = np.argwhere(pcka["matrix"] == pcka["min"])[0]
        matrix[tuple(least)] = matrix[tuple(least[::-1])] = pcka["min"] + 0.001
    values = pairs_of(matrix)
    small["controls"]["pixels"]["own"] |= {"matrix": matrix, "median": np.median(values)}
    small["controls"] = {"pixels": {"own": small["controls"]["pixels"]["own"]}}
    points = " ".join(limits_of_reading(plain(small)))
    assert said in points
    assert ("ABOVE THE SUBSTRATE" in summary_table(small)) == (shift > 0)
    others = {"better than", "as far as this run can tell", "not throughout", "in every pair:"}
    assert sum(words in points for words in others) == 1
    assert {reading.control for reading in READINGS} == VERBS.keys()


def test_what_a_run_left_out_is_left_out(tmp_path, small):
    headings = {
        "controls": ["Controls", "The substrate and its controls"],
        "components": ["What the components follow", "What the components of depth follow"],
        "panel_test": ["Discriminative against masked encoders", "Without one family"],
    }
    whole = text_of(small, tmp_path)
    assert all(heading in whole for group in headings.values() for heading in group[:1])
    bare = {key: value for key, value in small.items() if key not in OPTIONAL[1:]}
    bare |= {"controls": {}, "split_half": None, "notes": []}
    bare["pcka"] |= dict.fromkeys(("low", "high", "error", "median_low", "median_high"))
    bare["pcka"] |= {"draws": 0}
    bare["sweep"] |= {"low": None, "high": None}
    text = text_of(bare, tmp_path)
    for heading in itertools.chain(*headings.values()):
        assert heading not in text
    assert "This run has no controls" in text
    assert "This run has no intervals" in text
    assert "This run has no ceiling" in text
    assert "None" not in text
    assert "nan" not in re.findall(r"\w+", text)
    assert "control:" not in summary_table(bare)


def test_numbers_that_do_not_exist_are_dashes(tmp_path, small):
    m = len(small["domains"])
    for key in ("grassmann", "procrustes"):
        small[key] |= {"rank_correlation": None, "matrix": np.full((m, m), np.nan)}
    for found in small["components"].values():
        found |= {"energy_of_first": np.nan, "largest_of_others": None,
                  "correlation": np.full((K, len(FEATURES)), np.nan)}  # fmt: skip
    for test in small["panel_test"]["domains"].values():
        for found in (test["cka"], *test["mutual_knn"].values()):
            found["ratio"] = {"value": None, "low": 2.5, "high": None}
            found["mim"] = {"mean": 0.0, "low": 0.0, "high": 0.1, "pairs": 1}
            found["leave_out"] = []
    small["leave_one_out"] |= {"encoders": [], "families": []}
    text = text_of(small, tmp_path)
    assert "None" not in text
    assert "nan" not in re.findall(r"\w+", text)
    assert "none can be left out" in text
    assert "covers the choice of images, not that of encoders" in text
    assert "over MIM" not in summary_table(small)


def test_sample_domains_are_called_crops_of_few_pictures(small):
    points = " ".join(limits_of_reading(plain(small)))
    assert "photographs: 512 of 8" in points
    assert "Near-duplicates" not in points
    for domain in small["domains"].values():
        domain["source"] = "tfds:imagenette"
    for encoder in small["encoders"]:
        encoder["name"] = encoder["name"].removeprefix("mini_")
    points = " ".join(limits_of_reading(plain(small)))
    assert "crops" not in points
    assert "Near-duplicates" in points
    assert "mini panel" not in points
    q = small["pcka"]["q_value"]
    q[0, 1] = q[1, 0] = 0.2
    assert "2 of 3 pairs pass" in " ".join(limits_of_reading(plain(small)))


def test_contact_sheets_run_from_the_lowest_score_to_the_highest(tmp_path, small):
    levels = np.arange(10, 130, 20, dtype=np.uint8)
    flat = [np.full((30, 30, 3), level, np.uint8) for level in (*levels, *(levels + 120))]
    # The most extreme image comes first at either end.
    rows = [{"component": i, "bottom": flat[:6], "top": flat[:5:-1]} for i in range(6)]
    path = write_report(small, tmp_path, sheets={"medical": rows},
                        thumbnails={"medical": flat, "photographs": flat[:2]})  # fmt: skip
    html = path.read_text(encoding="utf-8")
    document = Document(html)
    uris = [a["src"] for a in document.all("img") if a["src"].startswith("data:image/jpeg")]
    assert len(uris) == 2 + 2 * 6
    ends = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))))
        for uri in uris[2:4]
    ]
    shades = [end[36, 36 + 76 * i].mean() for end in ends for i in range(6)]
    np.testing.assert_allclose(shades, [*levels, *(levels + 120)], atol=4)
    assert {end.shape for end in ends} == {(72, 6 * 76 - 4, 3)}
    shown, _, folded = html.partition("<summary><h3>Components 4 to 5 of medical</h3>")
    assert shown.count("<b>Component 3</b>") == 1
    assert shown.count("<b>Component 4</b>") == 0
    assert folded.count("<b>Component 5</b>") == 1
    assert "r = 0.82 with image energy" in shown


class Boxes:
    """Where text was drawn: left, right, bottom, top, text and figure, in inches."""

    def __init__(self, monkeypatch):
        self.drawn, draw = {}, drawing.Drawing.text

        def text(canvas, x, y, text, size, *, ha="center", va="center", up=False, **options):
            wide, tall = drawing.text_width(text, size), 0.73 * size / 72
            start = {"left": 0.0, "center": wide / 2, "right": wide}[ha]
            drop = {"center": tall / 2, "top": tall}[va]
            corners = [(-start, -drop), (wide - start, tall - drop)]
            (a, b), (c, d) = [(-q, p) if up else (p, q) for p, q in corners]
            box = (x + min(a, c), x + max(a, c), y + min(b, d), y + max(b, d), text)
            if text:
                self.drawn.setdefault(id(canvas), (canvas, []))[1].append(box)
            return draw(canvas, x, y, text, size, ha=ha, va=va, up=up, **options)

        monkeypatch.setattr(drawing.Drawing, "text", text)

    def overlapping(self) -> list[tuple[str, str]]:
        """Pairs of texts that share more than a hair of the drawing, or leave it."""
        found = []
        for canvas, boxes in self.drawn.values():
            width, height = canvas.axes.figure.get_size_inches()
            for box in boxes:
                if box[0] < 0 or box[2] < 0 or box[1] > width or box[3] > height:
                    found.append((box[4], "border"))
            for a, b in itertools.combinations(boxes, 2):
                across, up = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
                if min(across, up) > 0.01:
                    found.append((a[4], b[4]))
        return found


@pytest.mark.parametrize("long", [False, True])
def test_no_labels_overlap_and_every_figure_fits_a_telephone(monkeypatch, long):
    result = plain(domains_result(15, 8))
    if long:
        other = r'"what some person or another calls \1 at quite some length indeed"'
        renamed = re.sub(r'"(photographs|depth|mini_[a-z0-9_]+)"', other, json.dumps(result))
        result = json.loads(renamed)
    boxes = Boxes(monkeypatch)
    pictures = domains_page(result, {}, {}).pictures
    assert len(boxes.drawn) == len(pictures) == 26
    assert boxes.overlapping() == []
    assert max(picture.width for picture in pictures) <= round(drawing.PHONE * drawing.CSS_DPI)


def test_the_diverging_colors_are_white_at_zero_and_darken_to_both_sides():
    colors = figures.DIVERGING(np.linspace(0, 1, 257))[:, :3]
    assert colors[128].tolist() == [1, 1, 1]
    luminance = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = luminance @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[:129]) > 0).all()
    assert (np.diff(luminance[128:]) < 0).all()
    # Blue and red differ in sign at every step, which no kind of color blindness takes away.
    assert (colors[:128, 2] > colors[:128, 0]).all()
    assert (colors[129:, 0] > colors[129:, 2]).all()


def test_summary_holds_the_key_figures(report):
    result = report[0]
    text = summary_table(result)
    assert max(map(len, text.splitlines())) < 100
    median = result["pcka"]["median"]
    assert f"median {median:.3f}, 95% interval {median - 0.02:.3f} to {median + 0.02:.3f}" in text
    for i, name in enumerate(result["domains"]):
        (row,) = [line for line in text.splitlines() if line.startswith(name)]
        mean = np.delete(result["pcka"]["matrix"][i], i).mean()
        assert row.split()[1:3] == ["512", f"{mean:.3f}"]
    with pytest.raises(ValueError, match="'bench'; give one of cka"):
        summary_table({"experiment": "bench"})


def test_reports_of_plain_and_array_results_are_equal(tmp_path):
    result = domains_result(2, 2)
    one = write_report(result, tmp_path / "one").read_bytes()
    loaded = json.loads(write_result(result, tmp_path).read_text())
    assert list(loaded)[: len(KEYS) + len(OWN_KEYS["domains"])] == [*KEYS, *OWN_KEYS["domains"]]
    assert one == write_report(loaded, tmp_path / "two").read_bytes()


def test_hostile_names_are_text(tmp_path):
    hostile = {"photographs": "<script>alert(1)</script>", "microscopy": '"><img src=x>'}
    text = json.dumps(plain(domains_result(3, 2)))
    for name, other in hostile.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    sheets = contact_sheets(hostile.values(), 5, 1)
    path = write_report(json.loads(text), tmp_path, sheets=sheets)
    document = Document(path.read_text(encoding="utf-8"))
    words = "\n".join(document.texts)
    assert all(f"Domain: {name}" in words for name in hostile.values())
    assert len(document.all("script")) == 1
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert document.unbalanced == []


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("pcka", {"matrix": [[1.0]]}, r"pcka: matrix has shape \(1, 1\); give 3 x 3"),
        ("grassmann", {"matrix": [[1.0]]}, r"grassmann: matrix has shape \(1, 1\); give 3 x 3"),
        ("sweep", None, "lacks sweep"),
        ("sheets", np.zeros((4, 4)), r"sheets: an image is float64\[4, 4\]; give uint8"),
    ],
)
def test_bad_results_are_refused_in_one_line(tmp_path, small, part, change, message):
    sheets = {}
    if part == "sheets":
        sheets = {"medical": [{"component": 0, "top": [change], "bottom": []}]}
    elif change is None:
        del small[part]
    else:
        small[part] |= change
    with pytest.raises(ValueError, match=message) as error:
        write_report(small, tmp_path / "out", sheets=sheets)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
