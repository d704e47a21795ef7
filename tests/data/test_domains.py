"""The registry of domains, and what users may type."""

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
        ("medical,sample", "'medical' is given twice"),
        ("a=dir:x,a=dir:y", "'a' is given twice"),
    ],
)
def test_refuses_to_resolve(value, message):
    with pytest.raises(ValueError, match=message):
        domains.resolve_domains(value)


@pytest.mark.usefixtures("registry")
def test_registers_once():
    domains.register_domain("sky", "dir:sky", "Clouds.", group="outdoors")
    assert domains.resolve_domains("outdoors") == {"sky": "dir:sky"}
    for name, group, message in [
        ("sky", "custom", "registered already"),
        ("outdoors", "custom", "a group bears that name"),
        ("new", "sky", "a group bears that name"),
        ("a,b", "custom", "without comma"),
        ("", "custom", "without comma"),
    ]:
        with pytest.raises(ValueError, match=message):
            domains.register_domain(name, "dir:x", "Clouds.", group=group)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("textrue", "did you mean texture"),
        ("s3:bucket", "give tfds:NAME"),
        ("dir:", "give tfds:NAME"),
        ("sample:medical:many", "'many' is no count"),
        ("sample:paintings", "no such domain"),
    ],
)
def test_open_source_refuses(spec, message):
    with pytest.raises(ValueError, match=message):
        domains.open_source(spec)


def test_open_source_takes_names_and_specs():
    assert domains.open_source("texture").ids == domains.open_source("sample:texture:512").ids
