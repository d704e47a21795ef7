"""Pages of synthetic comparisons: what they hold, what they never do, and every size of panel."""

import copy
import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from substrate_jax.analyses.cka.page import cka_page
from substrate_jax.analyses.cka.results import CkaResult, SeparationOfMeans
from substrate_jax.analyses.cka.summary import cka_summary
from substrate_jax.report.files import write_report, write_result
from substrate_jax.report.values import plain
from tests.analyses.cka.synthetic import synthetic_result
from tests.report.document import Document, image_of, read_csv

CALIBRATED = ("score", "tau", "p_value", "log10_p_value", "q_value")


def written(result: CkaResult, folder: Path, thumbnails=None) -> Document:
    """The report of a result, as a browser reads it."""
    path = write_report(result, cka_page(result, thumbnails or {}), folder)
    return Document(path.read_text(encoding="utf-8"))


def text_of(result: CkaResult, folder: Path) -> str:
    return " ".join(written(result, folder).texts)


def with_comparison(domain, **changes):
    """A domain with other fields of its comparison."""
    return dataclasses.replace(domain, comparison=dataclasses.replace(domain.comparison, **changes))


def with_encoders(result: CkaResult, change) -> CkaResult:
    """A result whose encoders' records are changed each by (number, record)."""
    encoders = [change(i, encoder) for i, encoder in enumerate(result.run.encoders)]
    return dataclasses.replace(result, run=dataclasses.replace(result.run, encoders=encoders))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """One report in full: result, its folder, and the parsed page."""
    result = synthetic_result(encoders=4, domains=2, ks=(5,))
    cka = result.domains["photographs"].comparison.cka
    cka[0, 1] = cka[1, 0] = np.nan
    folder = tmp_path_factory.mktemp("report")
    noise = np.random.default_rng(1).integers(0, 256, (3, 40, 60, 3), np.uint8)
    return result, folder, written(result, folder, {"photographs": list(noise)})


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
    words = document.figures()
    # Two domains of four matrices and one k, the overview and PCKA.
    assert len(words) == 2 * 5 + 2
    assert all(len(each) > 30 for each in words)
    assert len(set(words)) == len(words)


def test_the_page_names_every_encoder_domain_and_what_made_it(report):
    result, _, document = report
    text = " ".join(document.texts)
    for encoder in result.run.encoders:
        assert encoder.name in text
        assert encoder.sha256[:12] in text
    for name in result.domains:
        assert f"Domain: {name}" in text
    for expected in (result.run.command, "0.10.2", "33.4 s", "data=1", *result.run.notes):
        assert expected in text


def test_figures_lie_beside_the_page_and_are_those_inside_it(report):
    _, folder, document = report
    files = [np.asarray(Image.open(path)) for path in (folder / "figures").iterdir()]
    assert len(files) == len(document.figures())
    (inside,) = document.drawn()  # the strip; matrices are drawn in the page
    shown = np.asarray(image_of(inside["src"]))
    assert sum(np.array_equal(shown, file) for file in files) == 1


def test_csv_is_the_matrices_with_blanks_for_missing_values(report):
    result, _, document = report
    order = {name: i for i, name in enumerate(result.run.names)}
    for name, domain in result.domains.items():
        rows = read_csv(document, f"pairs-{name}.csv")
        pairs = {(order[row["encoder_a"]], order[row["encoder_b"]]): row for row in rows}
        assert set(pairs) == set(itertools.combinations(range(len(order)), 2))
        comparison, knn = domain.comparison, domain.comparison.mutual_knn[5]
        matrices = {"cka": comparison.cka, "cka_debiased": comparison.cka_debiased}
        matrices |= {part: getattr(comparison.calibrated, part) for part in CALIBRATED}
        matrices |= {"knn5_recall": knn.recall}
        matrices |= {f"knn5_{part}": getattr(knn.calibrated, part) for part in CALIBRATED}
        assert {"encoder_a", "encoder_b", *matrices} == set(rows[0])
        for pair, row in pairs.items():
            for key, matrix in matrices.items():
                missing = np.isnan(matrix[pair])
                assert row[key] == ("" if missing else repr(float(matrix[pair])))
    rows = read_csv(document, "pcka.csv")
    assert [float(row["pcka"]) for row in rows] == [result.pcka.matrix[0, 1]]
    rows = read_csv(document, "figure-microscopy-threshold.csv")
    tau = result.domains["microscopy"].comparison.calibrated.tau
    assert [[float(row[name]) for name in order] for row in rows] == tau.tolist()


def test_a_p_that_underflows_is_shown_by_its_logarithm(tmp_path):
    result = synthetic_result(2, 1, ks=(5,))
    (domain,) = result.domains.values()
    logarithm = np.array([[np.nan, -412.3], [-412.3, np.nan]])
    calibrated = dataclasses.replace(
        domain.comparison.calibrated, p_value=10**logarithm, log10_p_value=logarithm
    )

    def report(**changes) -> Document:
        changed = dataclasses.replace(calibrated, **changes)
        domains = {"photographs": with_comparison(domain, calibrated=changed)}
        return written(dataclasses.replace(result, domains=domains), tmp_path)

    document = report()
    text = " ".join(document.texts)
    assert "1e-412" in text
    assert "in closed form, with the exact skewness" in text
    assert "share of permutations" not in text
    (row,) = read_csv(document, "pairs-photographs.csv")
    assert (row["p_value"], row["log10_p_value"]) == ("0.0", "-412.3")
    text = " ".join(report(method="permutation", skewness=None).texts)
    assert "by permutations" in text
    assert "share of permutations" in text


def test_sorting_values_stand_in_the_cells(report):
    result, _, document = report
    values = {a["data-v"] for a in document.all("td") if "data-v" in a}
    calibrated = result.domains["microscopy"].comparison.calibrated
    for matrix in (calibrated.score, calibrated.log10_p_value, calibrated.q_value):
        assert f"{matrix[0, 1]:.7g}" in values
    assert not values & {"nan", "None", "inf"}


def test_thumbnails_keep_their_shape(report):
    *_, document = report
    assert [image.size for image in document.thumbnails()] == [(60, 40)] * 3


@pytest.mark.parametrize(
    ("encoders", "domains"), [(1, 1), (1, 2), (2, 1), (2, 8), (14, 1), (40, 1)]
)
def test_every_size_of_panel_has_a_page(tmp_path, encoders, domains):
    result = synthetic_result(encoders, domains, ks=(5,))
    document = written(result, tmp_path)
    assert document.unbalanced == []
    figures_of_pairs = 1 + 5 * domains if encoders > 1 else 0
    assert len(list(tmp_path.glob("figures/*.png"))) == figures_of_pairs + (domains > 1)
    text = " ".join(document.texts)
    assert ("no pairs to compare" in text) == (encoders == 1)
    assert all(name in text for name in result.run.names)
    assert max(map(len, cka_summary(result).splitlines())) < 100


def test_nothing_known_is_a_page_still(tmp_path):
    result = synthetic_result(3, 2, ks=(5,))
    blank = np.full((3, 3), np.nan)
    domains = {
        name: dataclasses.replace(
            with_comparison(
                domain,
                cka=blank,
                cka_debiased=blank,
                calibrated=dataclasses.replace(
                    domain.comparison.calibrated, **dict.fromkeys(CALIBRATED, blank)
                ),
                mutual_knn={},
            ),
            images=dataclasses.replace(domain.images, pictures=None, description=""),
            separation=SeparationOfMeans(None, 0, None, 0, None),
        )
        for name, domain in result.domains.items()
    }
    unknown = {"matrix": np.full((2, 2), np.nan), "median": np.nan, "min": np.nan}
    first = dataclasses.replace(result.run.encoders[0], paradigm="by_hand", sha256=None)
    result = dataclasses.replace(
        result,
        run=dataclasses.replace(result.run, encoders=[first, *result.run.encoders[1:]], notes=[]),
        domains=domains,
        pcka=dataclasses.replace(result.pcka, **unknown),
    )
    text = text_of(result, tmp_path)
    assert "nan" not in re.findall(r"\w+", text)
    assert "None" not in text
    assert "by_hand" in text
    assert "–" in cka_summary(result)


def test_hostile_names_are_text(tmp_path):
    hostile = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac{$ ~ 猫"]
    result = with_encoders(
        synthetic_result(3, 2, ks=(5,)),
        lambda i, encoder: dataclasses.replace(encoder, name=hostile[i]),
    )
    names = ["../../<b>up</b>", "a&amp;b"]
    notes = ["</script><script>alert(3)</script>"]
    result = dataclasses.replace(
        result,
        run=dataclasses.replace(result.run, notes=notes),
        domains=dict(zip(names, result.domains.values(), strict=True)),
        pcka=dataclasses.replace(result.pcka, domains=names, min_pair=names),
    )
    document = written(result, tmp_path / "out")
    text = "\n".join(document.texts)
    for name in (*hostile, *names, *notes):
        assert name in text
    assert len(document.all("script")) == 1
    assert not any(image["src"] == "x" for image in document.all("img"))
    assert document.unbalanced == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {row["encoder_a"] for row in read_csv(document, "pairs-a-amp-b.csv")} <= set(hostile)


def test_what_cannot_be_concluded_depends_on_the_run(tmp_path):
    result = synthetic_result(6, 1, ks=())
    sample = text_of(result, tmp_path)
    assert "photographs: 512 of 8" in sample
    assert "anti-conservative" in sample
    assert "trained on 32 × 32 images" in sample
    assert "the MIM mean is the value of one pair" in sample
    assert "has no interval" in sample
    result = with_encoders(
        result,
        lambda i, encoder: dataclasses.replace(encoder, name=encoder.name.removeprefix("mini_")),
    )
    (domain,) = result.domains.values()
    images = dataclasses.replace(domain.images, source="tfds:imagenette:train")
    domains = {"photographs": dataclasses.replace(domain, images=images)}
    own = text_of(dataclasses.replace(result, domains=domains), tmp_path)
    assert "assume that images are exchangeable" in own
    assert "crops" not in own
    assert "32 × 32" not in own


def test_the_result_is_json_in_a_known_order(tmp_path):
    result = synthetic_result(2, 1, ks=(5,))
    path = write_result(result, tmp_path / "new")
    loaded = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    of_run = [field.name for field in dataclasses.fields(result.run) if field.name != "files"]
    assert list(loaded) == [*of_run, "domains", "pcka"]
    assert loaded == plain(result)
    domain = loaded["domains"]["photographs"]
    p_value = domain["calibrated"]["p_value"]
    assert [p_value[0][0], p_value[1][1]] == [None, None]
    assert "measures" not in domain
    assert list(domain["mutual_knn"]) == ["5"]


def test_reports_of_equal_results_are_equal(tmp_path):
    result = synthetic_result(2, 2, ks=(5,))
    before = plain(result)
    one, two = (
        write_report(of, cka_page(of, {}), tmp_path / name).read_bytes()
        for of, name in ((result, "one"), (copy.deepcopy(result), "two"))
    )
    assert one == two
    assert plain(result) == before


def test_matrices_that_do_not_fit_the_encoders_are_refused_in_one_line():
    result = synthetic_result(3, 1, ks=())
    run = dataclasses.replace(result.run, encoders=result.run.encoders[:2])
    with pytest.raises(ValueError, match=r"shape \(3, 3\); give 2 x 2") as error:
        cka_page(dataclasses.replace(result, run=run), {})
    assert "\n" not in str(error.value)


def test_summary_holds_the_key_figures():
    result = synthetic_result(8, 3)
    lines = cka_summary(result).splitlines()
    for name, domain in result.domains.items():
        (row,) = [line for line in lines if line.startswith(name)]
        q = domain.comparison.calibrated.q_value[np.triu_indices(8, 1)]
        assert f"{np.sum(q < 0.05)}/28" in row
        assert f"{domain.separation.mim_mean:.3f} (1)" in row
        assert row.index("(1)") > row.index(f"({domain.separation.discriminative_pairs})")
    assert f"median {result.pcka.median:.3f}" in cka_summary(result)
