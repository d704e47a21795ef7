"""Reports of synthetic results: what they hold, what they never do, and every size of panel."""

import base64
import copy
import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from substrate_jax.report.files import (
    KEYS,
    OWN_KEYS,
    summary_table,
    write_file,
    write_report,
    write_result,
)
from substrate_jax.report.values import plain
from tests.synthetic import synthetic_result


class Document(HTMLParser):
    """What a browser would load, and where; raises on nothing, records everything."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.texts, self.unbalanced = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def read_csv(document: Document, file: str) -> list[dict]:
    (uri,) = [a["href"] for a in document.all("a") if a.get("download") == file]
    content = base64.b64decode(uri.partition("base64,")[2]).decode()
    return list(csv.DictReader(io.StringIO(content)))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One report in full: result, its folder, and the parsed page."""
    result = synthetic_result(encoders=4, domains=2, ks=(5,))
    result["domains"]["photographs"]["cka"][0, 1] = np.nan
    result["domains"]["photographs"]["cka"][1, 0] = np.nan
    folder = tmp_path_factory.mktemp("report")
    noise = np.random.default_rng(1).integers(0, 256, (3, 40, 60, 3), np.uint8)
    path = write_report(result, folder, thumbnails={"photographs": list(noise)})
    return result, folder, Document(path.read_text(encoding="utf-8"))


def test_the_page_requests_nothing_and_is_well_formed(report):
    *_, document = report
    assert document.open == []
    assert document.unbalanced == []
    for _, attributes in document.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attributes.get(name, "data:").startswith(("data:", "#section-"))
        assert "url(" not in attributes.get("style", "")
    assert "@import" not in "".join(document.texts)
    policy = [m["content"] for m in document.all("meta") if "http-equiv" in m]
    assert policy[0].startswith("default-src 'none'; img-src data:;")
    targets = {attributes["id"] for _, attributes in document.elements if "id" in attributes}
    links = [a["href"] for a in document.all("a") if a["href"].startswith("#")]
    assert links
    assert {link[1:] for link in links} <= targets


def test_ids_are_unique_and_figures_say_what_they_show(report):
    *_, document = report
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    images = [a for a in document.all("img") if a["src"].startswith("data:image/png")]
    # Two domains of four matrices and one k, the overview and PCKA.
    assert len(images) == 2 * 5 + 2
    assert all(len(image["alt"]) > 30 for image in images)
    assert len({image["alt"] for image in images}) == len(images)


def test_the_page_names_every_encoder_domain_and_what_made_it(report):
    result, _, document = report
    text = " ".join(document.texts)
    for encoder in result["encoders"]:
        assert encoder["name"] in text
        assert encoder["sha256"][:12] in text
    for name in result["domains"]:
        assert f"Domain: {name}" in text
    for expected in (result["command"], "0.10.2", "33.4 s", "data=1", *result["notes"]):
        assert expected in text


def test_figures_lie_beside_the_page_and_are_those_inside_it(report):
    _, folder, document = report
    files = {path.read_bytes() for path in (folder / "figures").iterdir()}
    inside = {
        base64.b64decode(image["src"].partition("base64,")[2])
        for image in document.all("img")
        if image["src"].startswith("data:image/png")
    }
    assert files == inside


def test_csv_is_the_matrices_with_blanks_for_missing_values(report):
    result, _, document = report
    order = {encoder["name"]: i for i, encoder in enumerate(result["encoders"])}
    for name, domain in result["domains"].items():
        rows = read_csv(document, f"pairs-{name}.csv")
        pairs = {(order[row["encoder_a"]], order[row["encoder_b"]]): row for row in rows}
        assert set(pairs) == set(itertools.combinations(range(len(order)), 2))
        matrices = {"cka": domain["cka"], "cka_debiased": domain["cka_debiased"]}
        matrices |= {k: v for k, v in domain["calibrated"].items() if k not in ("method", "alpha")}
        matrices |= {f"knn5_{k}": v for k, v in domain["mutual_knn"]["5"].items()}
        assert {"encoder_a", "encoder_b", *matrices} == set(rows[0])
        for pair, row in pairs.items():
            for key, matrix in matrices.items():
                missing = np.isnan(matrix[pair])
                assert row[key] == ("" if missing else repr(float(matrix[pair])))
    rows = read_csv(document, "pcka.csv")
    assert [float(row["pcka"]) for row in rows] == [result["pcka"]["matrix"][0, 1]]
    rows = read_csv(document, "figure-microscopy-threshold.csv")
    tau = result["domains"]["microscopy"]["calibrated"]["tau"]
    assert [[float(row[name]) for name in order] for row in rows] == tau.tolist()


def test_a_p_that_underflows_is_shown_by_its_logarithm(tmp_path):
    result = synthetic_result(2, 1, ks=(5,))
    (domain,) = result["domains"].values()
    logarithm = np.array([[np.nan, -412.3], [-412.3, np.nan]])
    exact = {"skewness": "exact", "p_value": 10**logarithm, "log10_p_value": logarithm}
    domain["calibrated"] |= exact
    domain["mutual_knn"]["5"] |= {"method": "closed_form"} | exact
    document = Document(write_report(result, tmp_path).read_text(encoding="utf-8"))
    text = " ".join(document.texts)
    assert "1e-412" in text
    assert "in closed form, with the exact skewness" in text
    assert "share of permutations" not in text
    (row,) = read_csv(document, "pairs-photographs.csv")
    assert (row["p_value"], row["log10_p_value"]) == ("0.0", "-412.3")
    domain["calibrated"] |= {"method": "permutation", "skewness": None}
    text = " ".join(Document(write_report(result, tmp_path).read_text("utf-8")).texts)
    assert "by permutations" in text
    assert "share of permutations" in text


def test_sorting_values_stand_in_the_cells(report):
    result, _, document = report
    values = {a["data-v"] for a in document.all("td") if "data-v" in a}
    assert repr(float(result["domains"]["microscopy"]["calibrated"]["p_value"][0, 1])) in values
    assert not values & {"nan", "None", "inf"}


def test_thumbnails_keep_their_shape(report):
    *_, document = report
    uris = [a["src"] for a in document.all("img") if a["src"].startswith("data:image/jpeg")]
    sizes = [
        Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))).size for uri in uris
    ]
    assert sizes == [(60, 40)] * 3


@pytest.mark.parametrize(
    ("encoders", "domains"), [(1, 1), (1, 2), (2, 1), (2, 8), (14, 1), (40, 1)]
)
def test_every_size_of_panel_has_a_page(tmp_path, encoders, domains):
    result = synthetic_result(encoders, domains, ks=(5,))
    document = Document(write_report(result, tmp_path).read_text(encoding="utf-8"))
    assert document.unbalanced == []
    figures_of_pairs = 1 + 5 * domains if encoders > 1 else 0
    assert len(list(tmp_path.glob("figures/*.png"))) == figures_of_pairs + (domains > 1)
    text = " ".join(document.texts)
    assert ("no pairs to compare" in text) == (encoders == 1)
    assert all(encoder["name"] in text for encoder in result["encoders"])
    assert max(map(len, summary_table(result).splitlines())) < 100


def test_nothing_known_is_a_page_still(tmp_path):
    result = synthetic_result(3, 2, ks=(5,))
    for domain in result["domains"].values():
        blank = np.full((3, 3), np.nan)
        domain |= {"cka": blank, "cka_debiased": blank, "pictures": None, "description": ""}
        domain["calibrated"] |= dict.fromkeys(("score", "tau", "p_value", "q_value"), blank)
        domain["mutual_knn"] = {}
        domain["separation"] = dict.fromkeys(domain["separation"]) | {
            "discriminative_pairs": 0,
            "mim_pairs": 0,
        }
    result["encoders"][0] |= {"paradigm": "by_hand", "sha256": None}
    result["notes"] = []
    result["pcka"] |= {"matrix": np.full((2, 2), np.nan), "median": None, "min": None}
    text = " ".join(Document(write_report(result, tmp_path).read_text("utf-8")).texts)
    assert "nan" not in re.findall(r"\w+", text)
    assert "None" not in text
    assert "by_hand" in text
    assert "–" in summary_table(result)


def test_hostile_names_are_text(tmp_path):
    result = synthetic_result(3, 2, ks=(5,))
    hostile = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac{$ ~ 猫"]
    for encoder, name in zip(result["encoders"], hostile, strict=True):
        encoder["name"] = name
    names = ["../../<b>up</b>", "a&amp;b"]
    result["domains"] = dict(zip(names, result["domains"].values(), strict=True))
    result["pcka"] |= {"domains": names, "min_pair": names}
    result["notes"] = ["</script><script>alert(3)</script>"]
    document = Document(write_report(result, tmp_path / "out").read_text(encoding="utf-8"))
    text = "\n".join(document.texts)
    for name in (*hostile, *names, *result["notes"]):
        assert name in text
    assert len(document.all("script")) == 1
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert document.unbalanced == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {row["encoder_a"] for row in read_csv(document, "pairs-a-amp-b.csv")} <= set(hostile)


def test_what_cannot_be_concluded_depends_on_the_run(tmp_path):
    def text(result):
        return " ".join(Document(write_report(result, tmp_path).read_text("utf-8")).texts)

    result = synthetic_result(6, 1, ks=())
    sample = text(result)
    assert "photographs: 512 of 8" in sample
    assert "anti-conservative" in sample
    assert "trained on 32 × 32 images" in sample
    assert "the MIM mean is the value of one pair" in sample
    assert "has no interval" in sample
    for encoder in result["encoders"]:
        encoder["name"] = encoder["name"].removeprefix("mini_")
    result["domains"]["photographs"] |= {"source": "tfds:imagenette:train"}
    own = text(result)
    assert "assume that images are exchangeable" in own
    assert "crops" not in own
    assert "32 × 32" not in own


def test_result_is_json_in_a_known_order(tmp_path):
    result = synthetic_result(2, 1, ks=(5,))
    shuffled = {"zeta": np.float32(0.5), "alpha": (1, 2)} | dict(reversed(result.items()))
    path = write_result(shuffled, tmp_path / "new")
    text = path.read_text(encoding="utf-8")
    loaded = json.loads(text, parse_constant=pytest.fail)
    assert list(loaded) == [*KEYS, *OWN_KEYS["cka"], "alpha", "zeta"]
    assert loaded == plain(shuffled)
    p_value = loaded["domains"]["photographs"]["calibrated"]["p_value"]
    assert [p_value[0][0], p_value[1][1]] == [None, None]
    assert f'"alpha": {json.dumps([1, 2])}' in text


def test_reports_of_plain_and_array_results_are_equal(tmp_path):
    result = synthetic_result(2, 2, ks=(5,))
    before = copy.deepcopy(result)
    one = write_report(result, tmp_path / "one").read_bytes()
    loaded = json.loads(write_result(result, tmp_path).read_text())
    assert one == write_report(loaded, tmp_path / "two").read_bytes()
    np.testing.assert_equal(result, before)


def test_failed_writes_leave_what_was_there(tmp_path, monkeypatch):
    result = synthetic_result(2, 1, ks=())
    before = write_result(result, tmp_path).read_bytes()
    with pytest.raises(ValueError, match="type object"):
        write_result(result | {"extra": object()}, tmp_path)

    def full(*_):
        raise OSError("disk is full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="full"):
        write_result(result | {"extra": 1}, tmp_path)
    with pytest.raises(OSError, match="full"):
        write_file(tmp_path / "report.html", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "tea"}, "'tea'; give one of cka"),
        ({"notes": "absent"}, "lacks notes"),
        ({"cka": [[1.0]]}, r"photographs: cka has shape \(1, 1\); give 2 x 2"),
        ({"thumbnails": np.zeros((1, 4, 4))}, r"float64\[4, 4\]; give uint8"),
    ],
)
def test_bad_results_are_refused_in_one_line(tmp_path, change, message):
    result, thumbnails = synthetic_result(2, 1, ks=()), None
    if "cka" in change:
        result["domains"]["photographs"] |= change
    elif "thumbnails" in change:
        thumbnails = {"photographs": change["thumbnails"]}
    else:
        result |= change
        result = {key: value for key, value in result.items() if value != "absent"}
    with pytest.raises(ValueError, match=message) as error:
        write_report(result, tmp_path / "out", thumbnails=thumbnails)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_summary_holds_the_key_figures():
    result = synthetic_result(8, 3)
    lines = summary_table(result).splitlines()
    for name, domain in result["domains"].items():
        (row,) = [line for line in lines if line.startswith(name)]
        q = np.asarray(domain["calibrated"]["q_value"])[np.triu_indices(8, 1)]
        assert f"{np.sum(q < 0.05)}/28" in row
        assert f"{domain['separation']['mim_mean']:.3f} (1)" in row
        assert row.index("(1)") > row.index(f"({domain['separation']['discriminative_pairs']})")
    assert f"median {result['pcka']['median']:.3f}" in summary_table(result)
