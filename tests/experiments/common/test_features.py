"""--features: its grammar, whose rows count, and what is refused before anything is written."""

import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cka, domains, layers
from experiments.common import features as feature_files
from substrate_jax.data.domains import open_source
from substrate_jax.encoders import encoder_spec
from substrate_jax.kernels.reference import statistics as reference
from tests.helpers import tolerance

RNG = np.random.default_rng(0)
IDS = [f"{i % 3}/{i:02d}.png" for i in range(24)]
VALUES = {name: RNG.normal(size=(24, 6)).astype(np.float32) for name in "ab"}


@pytest.fixture(autouse=True)
def parsed_flags(tmp_path, monkeypatch):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    monkeypatch.chdir(tmp_path)
    for name, values in VALUES.items():
        order = RNG.permutation(24)
        np.savez(f"{name}.npz", x=values[order], ids=np.array(IDS)[order])
    with flagsaver.flagsaver(quiet=True, out=str(tmp_path / "out")):
        yield


def opened(*items, specs=(), **options):
    with flagsaver.flagsaver(features=list(items)):
        return feature_files.open_files(specs, **options)


def test_without_the_flag_domains_are_those_of_the_images():
    files = opened()
    assert files.uses_images
    assert len(files.domains) == 7
    assert not files.opened
    assert files.specs == []
    assert files.notes({}) == []


def test_rows_of_files_alone_are_matched_by_id():
    files = opened("one=a.npz", "two=b.npz")
    assert not files.uses_images
    assert list(files.domains) == ["files"]
    source = files.source("files").select(range(5, 20))
    features = files.features("files", source)
    assert features.ids == source.ids
    for name, values in zip(("one", "two"), VALUES.values(), strict=True):
        want = values[[IDS.index(one) for one in source.ids]]
        np.testing.assert_array_equal(np.asarray(features[name]), want)


def test_files_beside_images_follow_the_ids_of_the_source():
    source = open_source("sample:texture:30")
    ids = [f"/data/of/mine/{one}" for one in reversed(source.ids)]
    np.savez("long.npz", x=np.arange(30.0)[:, None], ids=np.array(ids))
    specs = [encoder_spec("mini_vit_base")]
    with flagsaver.flagsaver(domains="texture=sample:texture:30"):
        files = opened("net=long.npz", specs=specs)
    assert files.uses_images
    taken = files.source("texture").select([3, 29])
    features = files.features("texture", taken)
    assert np.asarray(features["net"]).ravel().tolist() == [26, 0]
    (note,) = [note for note in files.notes({"texture": taken}) if "ids" in note]
    assert "'/data/of/mine/'" in note


def test_a_registered_name_brings_family_and_paradigm():
    known, other = opened("resnet50=a.npz", "mine=b.npz").specs
    assert (known.family, known.paradigm) == ("resnet", "supervised")
    assert "discriminative" in known.groups
    assert (other.family, other.paradigm, other.groups) == ("mine", "unknown", frozenset())


def test_an_encoder_has_one_record_however_many_files():
    (record,) = opened("net@one=a.npz", "net@two=b.npz", layers=True).encoder_records()
    assert (record.name, record.width, record.source) == ("net", 12, "2 files of features")
    (one,) = opened("net=a.npz").encoder_records()
    assert one.source == "a.npz"
    assert one.sha256 is not None
    assert len(one.sha256) == 64


BAD = {
    "no path": (["a.npz"], {}, "features='a.npz': write NAME=PATH"),
    "no name": (["=a.npz"], {}, "write NAME=PATH"),
    "no domain": ([":x=a.npz"], {}, "write NAME=PATH"),
    "a layer": (["x@1=a.npz"], {}, "write NAME=PATH"),
    "no layer": (["x=a.npz"], {"layers": True}, "write NAME@LAYER=PATH"),
    "two at signs": (["x@1@2=a.npz"], {"layers": True}, "write NAME@LAYER=PATH"),
    "twice": (["x=a.npz", "x=b.npz"], {}, "'x' is given twice"),
    "an encoder's name": (
        ["mini_vit_base=a.npz"],
        {"specs": [encoder_spec("mini_vit_base")], "domains": "texture"},
        "'mini_vit_base' is given twice",
    ),
    "some domains": (["d:x=a.npz", "x=b.npz"], {}, "some items name a domain and some do not"),
    "other domain": (["d:x=a.npz"], {"domains": "texture"}, "domain 'd' is none of .*texture"),
    "which domain": (["x=a.npz"], {"domains": "texture,depth"}, "2 domains; write DOMAIN:NAME"),
    "one lacks": (["d:x=a.npz", "d:y=a.npz", "e:x=b.npz"], {}, "'e' and domain 'd' .* have y;"),
    "absent": (["x=absent.npz"], {}, "absent.npz: no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_items_that_are_not_clear_are_refused(case):
    items, options, match = BAD[case]
    options = dict(options)
    chosen = {"domains": options.pop("domains")} if "domains" in options else {}
    with flagsaver.flagsaver(**chosen), pytest.raises(ValueError, match=match) as caught:
        opened(*items, **options)
    assert "\n" not in str(caught.value)


def test_rows_that_one_file_lacks_are_named(tmp_path):
    np.savez("few.npz", x=VALUES["a"][:10], ids=np.array(IDS[:10]))
    for items in (("x=a.npz", "y=few.npz"), ("y=few.npz", "x=a.npz")):
        with flagsaver.flagsaver(features=list(items)):
            match = r"few\.npz lacks 14 of the 24 rows of a\.npz: .* and 4 more"
            with pytest.raises(ValueError, match=match):
                cka.run()
    assert not (tmp_path / "out").exists()


def test_other_labels_for_a_row_are_refused():
    for name, words in (("p", ["x", "y", "x"]), ("q", ["x", "y", "y"]), ("r", ["y", "y", "z"])):
        np.savez(f"{name}.npz", x=np.eye(3), ids=np.array(IDS[:3]), labels=np.array(words))
    match = r"r\.npz and p\.npz have other labels for 2 of 3 rows, such as 0/00\.png: 'y' and 'x'"
    with pytest.raises(ValueError, match=match):
        opened("p=p.npz", "r=r.npz").source("files")
    labels = opened("p=p.npz", "a=p.npz").source("files").labels
    assert labels is not None
    assert labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("launcher", "items", "said"),
    [
        (cka, ["x=a.npz", "y=b.npz"], "features [24, 12]"),
        (domains, ["d:x=a.npz", "e:x=b.npz"], "features [24, 6]"),
        (layers, ["net@x=a.npz", "net@y=b.npz"], "24 images, 1 passes"),
    ],
)
def test_plans_list_the_files(launcher, items, said, tmp_path, capsys):
    with flagsaver.flagsaver(features=items, dry_run=True, k=["5"], components=4):
        launcher.run()
    printed = capsys.readouterr().out
    assert said in printed
    assert "[24, 6] float32 -> width 6  a.npz" in printed
    assert "to download: 0 MiB" in printed
    assert not (tmp_path / "out").exists()


def test_layers_of_files_are_named_in_the_flag():
    match = "layers='x' chooses layers of networks"
    chosen = flagsaver.flagsaver(features=["net@x=a.npz"], layers=["x"])
    with chosen, pytest.raises(ValueError, match=match):
        layers.run()


def test_layers_of_files_are_compared_and_recorded(tmp_path):
    stacked = np.repeat(VALUES["a"][:, None], 3, axis=1) + np.array([-1, 0, 1])[:, None]
    np.savez("tokens.npz", x=stacked.astype(np.float64), ids=np.array(IDS))
    items = ["net@x=tokens.npz", "net@y=b.npz"]
    with flagsaver.flagsaver(features=items, pool="mean", permutations=0):
        layers.run()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    want = reference.pairwise_cka([v.astype(np.float64) for v in VALUES.values()], debiased=False)
    np.testing.assert_allclose(result["comparison"]["cka"], want, atol=tolerance(24 * 6) * 10)
    assert [record["name"] for record in result["encoders"]] == ["net"]
    first, second = result["files"]
    assert (first["path"], first["shape"], first["pool"]) == ("tokens.npz", [24, 3, 6], "mean")
    assert (second["encoder"], second["pool"], len(second["sha256"])) == ("net@y", None, 64)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "tokens.npz" in page
    assert "no image was read" in page


def test_encoders_of_files_alone_are_compared(tmp_path):
    items = ["mine=a.npz", "resnet50=b.npz"]
    with flagsaver.flagsaver(features=items, k=["5"], components=4):
        cka.run()
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    want = reference.pairwise_cka([v.astype(np.float64) for v in VALUES.values()], debiased=False)
    domain = result["domains"]["files"]
    np.testing.assert_allclose(domain["cka"], want, atol=tolerance(24 * 6) * 10)
    assert (domain["source"], domain["n"]) == ("files", 24)
    assert [(e["source"], e["parameters"]) for e in result["encoders"]] == [
        ("a.npz", None),
        ("b.npz", None),
    ]
    assert [file["path"] for file in result["files"]] == ["a.npz", "b.npz"]
    assert any("no image was read" in note for note in result["notes"])
    assert not any("Features and products" in note for note in result["notes"])
    assert not (tmp_path / "out" / "features").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Files of features" in page
    assert "24 rows" in page
