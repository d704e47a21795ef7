"""Reports of synthetic comparisons of domains: what they say, hold, and leave out."""

import copy
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from substrate_jax.analyses.cka.results import MeanScore, Ratio
from substrate_jax.analyses.domains.caveats import VERBS, caveats
from substrate_jax.analyses.domains.page import domains_page, domains_summary, finding
from substrate_jax.analyses.domains.readings import READINGS
from substrate_jax.analyses.domains.results import DomainsResult, Extremes
from substrate_jax.report import drawing, heatmaps
from substrate_jax.report.files import write_report, write_result
from substrate_jax.report.values import plain, upper
from tests.analyses.domains.synthetic import FEATURES, KS, K, contact_sheets, domains_result
from tests.report.boxes import misplaced, text_boxes
from tests.report.document import Document, read_csv
from tests.report.tiny import PIXEL


def written(result: DomainsResult, folder: Path, sheets: Mapping | None = None) -> str:
    """The report of a result."""
    path = write_report(result, domains_page(result, sheets or {}), folder)
    return path.read_text(encoding="utf-8")


def text_of(result: DomainsResult, folder: Path) -> str:
    return " ".join(Document(written(result, folder)).texts)


def with_comparison(result: DomainsResult, **changes) -> DomainsResult:
    """A result with other fields of its comparison."""
    comparison = dataclasses.replace(result.comparison, **changes)
    return dataclasses.replace(result, comparison=comparison)


def with_part(result: DomainsResult, part: str, **changes) -> DomainsResult:
    """A result with other fields in a part of its comparison."""
    changed = dataclasses.replace(getattr(result.comparison, part), **changes)
    return with_comparison(result, **{part: changed})


def renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """A result with other names, wherever they stand."""
    if isinstance(value, str):
        return rename(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return type(value)(**{name: renamed(getattr(value, name), rename) for name in fields})
    if isinstance(value, Mapping):
        return {renamed(key, rename): renamed(item, rename) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [renamed(item, rename) for item in value]
    return value


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A whole report: result, its folder, and the parsed page."""
    result = domains_result(15, 8)
    folder = tmp_path_factory.mktemp("domains")
    return result, folder, Document(written(result, folder, contact_sheets(["photographs"], 6)))


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    """Figures are laid out but not rendered, which takes long; `report` renders them."""
    monkeypatch.setattr(drawing, "png", lambda figure: PIXEL)


@pytest.fixture
def small() -> DomainsResult:
    return domains_result(4, 3)


def test_every_figure_has_a_caption_words_for_the_blind_and_its_numbers(report):
    _, folder, document = report
    assert document.open == []
    assert document.unbalanced == []
    pictures = document.figures()
    # PCKA, two companions, controls, overlap, ceiling, sweep, variance, left out, followed; ratios
    # and pairs of four measures; a map a domain.
    assert len(pictures) == 10 + 2 * 4 + 8
    assert all(len(words) > 40 for words in pictures)
    assert len(set(pictures)) == len(pictures)
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
    names, compared, pcka = list(result.domains), result.comparison, result.comparison.pcka
    for matrix, file in ((pcka.matrix, "pcka"), (compared.grassmann.matrix, "domains-grassmann")):
        for row in read_csv(document, f"figure-{file}.csv"):
            i = names.index(row.pop("domain"))
            assert [float(v) for v in row.values()] == matrix[i].tolist()
    pairs = {(r["domain_a"], r["domain_b"]): r for r in read_csv(document, "pairs.csv")}
    assert list(pairs) != list(itertools.combinations(names, 2))
    controls = result.controls
    sources = {
        "pcka": pcka.matrix,
        "low": pcka.low,
        "error": pcka.error,
        "p_value": pcka.p_value,
        "log10_p_value": pcka.log10_p_value,
        "procrustes": compared.procrustes.matrix,
        "pixels_own": controls["pixels"]["own"].matrix,
        "random_one": controls["random"]["one"].matrix,
    }
    for (i, a), (j, b) in itertools.combinations(enumerate(names), 2):
        for key, matrix in sources.items():
            assert float(pairs[a, b][key]) == matrix[i, j]
    sweep = {int(row["k"]): row for row in read_csv(document, "figure-sweep.csv")}
    for i, k in enumerate(KS):
        assert float(sweep[k]["greatest"]) == compared.sweep.greatest[i]
    assert sweep[24]["paper_four_domains"] == "0.683"
    rows = read_csv(document, "figure-depth-correlations.csv")
    assert len(rows) == K * len(FEATURES)
    assert [row["correlation"] for row in rows if row["feature"] == "sobel 0°"] == [""] * K
    dots = read_csv(document, "figure-panel-knn30-pairs.csv")
    assert len(dots) == 9 * 15 * 14 // 2
    want = result.panel_test.domains["depth"].mutual_knn[30].pairs[5]
    row = {
        "domain": "depth",
        "encoder_a": want.a,
        "encoder_b": want.b,
        "kind": want.kind,
        "score": repr(want.score),
        "raw": repr(want.raw),
    }
    assert row in dots


def test_controls_are_counted_against_the_substrate_pair_by_pair(report):
    result, _, document = report
    ours = upper(result.comparison.pcka.matrix)
    rows = {(r["control"], r["reading"]): r for r in read_csv(document, "controls.csv")}
    assert ("pixels", "overlap") not in rows
    for (control, reading), row in rows.items():
        theirs = upper(result.controls[control][reading].matrix)
        assert int(row["reached"]) == np.sum(theirs >= ours)
    strip = read_csv(document, "figure-controls.csv")
    draws = [float(r["value"]) for r in strip if (r["control"], r["reading"]) == ("random", "both")]
    assert draws == result.controls["random"]["both"].values.tolist()
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
def test_what_is_said_of_a_control_depends_on_where_it_stands(small, shift, said):
    pcka = small.comparison.pcka
    matrix = pcka.matrix + shift * (1 - np.eye(3))
    if shift == -0.1:  # one pair above, whatever the median
        least = np.argwhere(pcka.matrix == pcka.min)[0]
        matrix[tuple(least)] = matrix[tuple(least[::-1])] = pcka.min + 0.001
    own = dataclasses.replace(
        small.controls["pixels"]["own"], matrix=matrix, median=float(np.median(upper(matrix)))
    )
    small = dataclasses.replace(small, controls={"pixels": {"own": own}})
    points = " ".join(caveats(small))
    assert said in points
    assert ("ABOVE THE SUBSTRATE" in domains_summary(small)) == (shift > 0)
    assert ("it takes no trained panel" in finding(small)) == (shift > -0.1)
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
    bare = dataclasses.replace(
        small,
        run=dataclasses.replace(small.run, notes=[]),
        controls=None,
        components=None,
        panel_test=None,
    )
    ends = dict.fromkeys(("low", "high", "error", "median_low", "median_high"))
    bare = with_part(bare, "pcka", **ends, draws=0)
    bare = with_part(bare, "sweep", low=None, high=None)
    bare = with_comparison(bare, split_half=None)
    for controls in (None, {}):
        bare = dataclasses.replace(bare, controls=controls)
        text = text_of(bare, tmp_path)
        for heading in itertools.chain(*headings.values()):
            assert heading not in text
        assert "This run has no controls" in text
        assert "This run has no intervals" in text
        assert "This run has no ceiling" in text
        assert "None" not in text
        assert "nan" not in re.findall(r"\w+", text)
        assert "control:" not in domains_summary(bare)
        assert finding(bare).endswith("No control says what less would give.")


def test_numbers_that_do_not_exist_are_dashes(tmp_path, small):
    m = len(small.domains)
    unknown = np.full((m, m), np.nan)
    for part in ("grassmann", "procrustes"):
        small = with_part(small, part, rank_correlation=None, matrix=unknown)
    components = {
        name: dataclasses.replace(
            found,
            energy_of_first=np.nan,
            largest_of_others=None,
            correlation=np.full((K, len(FEATURES)), np.nan),
        )
        for name, found in small.components.items()
    }

    def without_ratio(test):
        return dataclasses.replace(
            test, ratio=Ratio(None, 2.5, None), mim=MeanScore(0.0, 0.0, 0.1, 1), leave_out=[]
        )

    tests = {
        name: dataclasses.replace(
            test,
            cka=without_ratio(test.cka),
            mutual_knn={k: without_ratio(found) for k, found in test.mutual_knn.items()},
        )
        for name, test in small.panel_test.domains.items()
    }
    small = dataclasses.replace(
        with_part(small, "leave_one_out", encoders=[], families=[]),
        components=components,
        panel_test=dataclasses.replace(small.panel_test, domains=tests),
    )
    text = text_of(small, tmp_path)
    assert "None" not in text
    assert "nan" not in re.findall(r"\w+", text)
    assert "none can be left out" in text
    assert "covers the choice of images, not that of encoders" in text
    assert "over MIM" not in domains_summary(small)


def test_sample_domains_are_called_crops_of_few_pictures(small):
    points = " ".join(caveats(small))
    assert "photographs: 512 of 8" in points
    assert "Near-duplicates" not in points
    domains = {
        name: dataclasses.replace(
            domain, images=dataclasses.replace(domain.images, source="tfds:imagenette")
        )
        for name, domain in small.domains.items()
    }
    encoders = [
        dataclasses.replace(encoder, name=encoder.name.removeprefix("mini_"))
        for encoder in small.run.encoders
    ]
    small = dataclasses.replace(
        small, domains=domains, run=dataclasses.replace(small.run, encoders=encoders)
    )
    points = " ".join(caveats(small))
    assert "crops" not in points
    assert "Near-duplicates" in points
    assert "mini panel" not in points
    q = small.comparison.pcka.q_value.copy()
    q[0, 1] = q[1, 0] = 0.2
    assert "2 of 3 pairs pass" in " ".join(caveats(with_part(small, "pcka", q_value=q)))


def test_contact_sheets_run_from_the_lowest_score_to_the_highest(tmp_path, small):
    levels = np.arange(10, 130, 20, dtype=np.uint8)
    flat = [np.full((30, 30, 3), level, np.uint8) for level in (*levels, *(levels + 120))]
    # The most extreme image comes first at either end.
    rows = [Extremes(i, top=flat[:5:-1], bottom=flat[:6]) for i in range(6)]
    html = written(small, tmp_path, {"medical": rows})
    document = Document(html)
    ends = [np.asarray(image) for image in document.thumbnails()]
    assert len(ends) == 2 * 6
    shades = [end[32, 32 + 68 * i].mean() for end in ends[:2] for i in range(6)]
    np.testing.assert_allclose(shades, [*levels, *(levels + 120)], atol=4)
    assert {end.shape for end in ends} == {(64, 6 * 68 - 4, 3)}
    shown, _, folded = html.partition("<summary><h3>Components 4 to 5 of medical</h3>")
    assert shown.count("<b>Component 3</b>") == 1
    assert shown.count("<b>Component 4</b>") == 0
    assert folded.count("<b>Component 5</b>") == 1
    assert "r = 0.82 with image energy" in shown


@pytest.mark.long
@pytest.mark.parametrize("long", [False, True])
def test_no_labels_overlap_and_every_figure_fits_a_phone(monkeypatch, long):
    result = domains_result(15, 8)
    if long:
        other = r"what some person or another calls \1 at quite some length indeed"
        name = re.compile(r"(photographs|depth|mini_[a-z0-9_]+)")
        result = renamed(
            result, lambda text: name.sub(other, text) if name.fullmatch(text) else text
        )
    figures = []
    monkeypatch.setattr(drawing, "png", lambda figure: figures.append(figure) or PIXEL)
    pictures = domains_page(result, {}).pictures
    assert len(figures) == len(pictures) == 26
    assert all(text_boxes(figure) for figure in figures)
    assert [misplaced(figure) for figure in figures] == [[]] * 26
    assert max(picture.width for picture in pictures) <= round(drawing.PHONE * drawing.CSS_DPI)


def test_the_diverging_colors_are_white_at_zero_and_darken_to_both_sides():
    colors = heatmaps.DIVERGING(np.linspace(0, 1, 257))[:, :3]
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
    text, pcka = domains_summary(result), result.comparison.pcka
    assert max(map(len, text.splitlines())) < 100
    median = pcka.median
    assert f"median {median:.3f}, 95% interval {median - 0.02:.3f} to {median + 0.02:.3f}" in text
    for i, name in enumerate(result.domains):
        (row,) = [line for line in text.splitlines() if line.startswith(name)]
        mean = np.delete(pcka.matrix[i], i).mean()
        assert row.split()[1:3] == ["512", f"{mean:.3f}"]


def test_reports_of_equal_results_are_equal(tmp_path):
    result = domains_result(2, 2)
    before = plain(result)
    one, two = (
        written(of, tmp_path / name)
        for of, name in ((result, "one"), (copy.deepcopy(result), "two"))
    )
    assert one == two
    assert plain(result) == before


def test_the_result_is_json_in_a_known_order(tmp_path):
    result = domains_result(2, 2)
    path = write_result(result, tmp_path)
    loaded = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert loaded == plain(result)
    of_run = [field.name for field in dataclasses.fields(result.run) if field.name != "files"]
    of_comparison = [field.name for field in dataclasses.fields(result.comparison)]
    own = ["k", "domains", *of_comparison, "panel_test", "controls", "components"]
    assert list(loaded) == [*of_run, *own]
    assert loaded["pcka"]["p_value"][1][1] is None
    assert "matrix" not in loaded["controls"]["pixels"]["overlap"]
    assert list(loaded["panel_test"]["domains"]["pooled"]["mutual_knn"]) == ["10", "30", "100"]


def test_hostile_names_are_text(tmp_path):
    hostile = {"photographs": "<script>alert(1)</script>", "microscopy": '"><img src=x>'}
    result = renamed(domains_result(3, 2), lambda text: hostile.get(text, text))
    document = Document(written(result, tmp_path, contact_sheets(hostile.values(), 5, 1)))
    words = "\n".join(document.texts)
    assert all(f"Domain: {name}" in words for name in hostile.values())
    assert len(document.all("script")) == 1
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert document.unbalanced == []


def test_matrices_that_do_not_fit_the_domains_are_refused_in_one_line(small):
    fewer = dict(list(small.domains.items())[:2])
    with pytest.raises(ValueError, match=r"shape \(3, 3\); give 2 x 2") as error:
        domains_page(dataclasses.replace(small, domains=fewer), {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["grassmann", "procrustes"])
def test_a_companion_that_does_not_fit_the_domains_is_refused_in_one_line(small, part):
    small = with_part(small, part, matrix=np.ones((1, 1)))
    with pytest.raises(ValueError, match=r"shape \(1, 1\); give 3 x 3") as error:
        domains_page(small, {})
    assert "\n" not in str(error.value)
