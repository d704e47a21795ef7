"""The registry of domains, and what users may type."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from substrate_jax.data import domains
from substrate_jax.data.sample import SAMPLE_DOMAINS


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(domains, "_DOMAINS", dict(domains._DOMAINS))


def test_sample_group_is_every_embedded_domain():
    records = domains.list_domains("sample")
    assert tuple(d.name for d in records) == SAMPLE_DOMAINS
    assert all(d.description.endswith(".") for d in records)


def test_the_papers_groups_are_in_its_order():
    eight = [domain.name for domain in domains.list_domains("paper8")]
    assert eight == [
        "imagenette",
        "organamnist",
        "eurosat",
        "bloodmnist",
        "quickdraw",
        "nyu_depth",
        "kaist",
        "decals",
    ]
    assert [domain.name for domain in domains.list_domains("paper4")] == eight[:4]
    assert list(domains.resolve_domains("paper8")) == eight
    names = [domain.name for domain in domains.list_domains()]
    assert len(set(names)) == len(names) == 16


@pytest.mark.parametrize("domain", domains.list_domains("paper8"), ids=lambda domain: domain.name)
def test_absent_and_offline_ends_in_one_line(tmp_path, monkeypatch, domain):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    by_hand = domain.name == "kaist"
    assert (domains.bytes_to_download(domain.spec) == 0) is by_hand
    assert domains.bytes_to_download(domain.name) == domains.bytes_to_download(domain.spec)
    with pytest.raises(ValueError, match=rf"https?://.*{tmp_path}/data/") as error:
        domains.open_source(domain.name)
    assert "\n" not in str(error.value)
    assert ("substrate_jax.data.prepare" in str(error.value)) is domain.spec.startswith("tfds:")


def test_the_page_on_domains_has_every_published_one():
    page = (Path(__file__).parents[2] / "docs" / "domains.md").read_text()
    for domain in domains.list_domains("paper8"):
        assert f"| {domain.name} | `{domain.spec}` |" in page


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("sample", {name: f"sample:{name}" for name in SAMPLE_DOMAINS}),
        ("texture, medical", {"texture": "sample:texture", "medical": "sample:medical"}),
        (
            "depth,sky=tfds:sky/rgb:train@/data=x",
            {"depth": "sample:depth", "sky": "tfds:sky/rgb:train@/data=x"},
        ),
    ],
)
def test_resolves(value, resolved):
    assert list(domains.resolve_domains(value).items()) == list(resolved.items())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("medcial", "domain 'medcial' is unknown; did you mean medical"),
        ("zzz", "give one of photographs, .*sample"),
        ("", "names none"),
        ("=dir:x", "'=dir:x' is unknown"),
        ("sky=", "'sky=' is unknown"),
        ("h5:a.h5?image=b", "'h5:a.h5[?]image=b' is unknown; .* or write NAME=SPEC"),
        ("medical,sample", "'medical' is given twice"),
        ("paper4,paper8", "'bloodmnist' is given twice"),
        ("eurosat,eurosat=dir:x", "'eurosat' is given twice"),
        ("a=dir:x,a=dir:y", "'a' is given twice"),
    ],
)
def test_refuses_to_resolve(value, message):
    with pytest.raises(ValueError, match=message):
        domains.resolve_domains(value)


@pytest.mark.usefixtures("registry")
def test_registers_once():
    domains.register_domain("sky", "dir:sky", "Clouds.", groups=("outdoors", "all"))
    for group in ("outdoors", "all"):
        assert domains.resolve_domains(group) == {"sky": "dir:sky"}
    for name, group, message in [
        ("sky", "custom", "registered already"),
        ("outdoors", "custom", "a group bears that name"),
        ("paper8", "custom", "a group bears that name"),
        ("new", "imagenette", "a group bears that name"),
        ("new", "sky", "a group bears that name"),
        ("a,b", "custom", "without comma"),
        ("", "custom", "without comma"),
    ]:
        with pytest.raises(ValueError, match=message):
            domains.register_domain(name, "dir:x", "Clouds.", groups=(group,))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("textrue", "did you mean texture"),
        ("s3:bucket", "give tfds:NAME"),
        ("dir:", "names none: give dir:PATH"),
        ("h5:a.h5?pixels=b", r"'pixels=b' is unknown; give \?image=IMAGE&label=LABEL&id=ID"),
        ("zip:a.zip?label=none&label=none", "label= is given twice"),
        ("sample:medical:many", "'many' is no count"),
        ("sample:paintings", "no such domain"),
        ("sklearn:iris", "give sklearn:digits"),
    ],
)
def test_open_source_refuses(spec, message):
    with pytest.raises(ValueError, match=message):
        domains.open_source(spec)


def test_open_source_takes_names_and_specs():
    assert domains.open_source("texture").ids == domains.open_source("sample:texture:512").ids
