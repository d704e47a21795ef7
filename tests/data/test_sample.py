"""The embedded domains: offline, fast to import, distinct, deterministic."""

import os
import subprocess
import sys

import numpy as np
import pytest

from substrate_jax.data import Preprocess, resize_crop
from substrate_jax.data.sample import DEFAULT_COUNT, MIN_STD, SAMPLE_DOMAINS, open_sample


@pytest.mark.parametrize("name", SAMPLE_DOMAINS)
def test_crops_are_distinct_and_show_something(name):
    source = open_sample(name)
    assert len(source) == DEFAULT_COUNT == 512
    seen = set()
    for row in range(len(source)):
        example = source[row]
        picture, box = example.id.split("/")
        left, top, right, bottom = map(int, box.split("-"))
        assert example.image.shape == (bottom - top, right - left, 3)
        assert picture == source.label_names[example.label]
        small = resize_crop(example.image, Preprocess(32))
        assert small.std() > MIN_STD / 2
        seen.add(small.tobytes())
    assert len(seen) == len(source)


def test_every_domain_shows_its_pictures():
    for name in SAMPLE_DOMAINS:
        source = open_sample(name)
        counts = np.bincount(source.labels, minlength=len(source.label_names))
        assert counts.min() >= 25, name


def test_more_crops_extend_fewer_and_keep_their_pixels():
    few, many = open_sample("astronomy", 40), open_sample("astronomy", 90)
    assert many.ids[:40] == few.ids
    assert few.fingerprint != many.fingerprint
    assert few.fingerprint == open_sample("astronomy", 40).fingerprint
    np.testing.assert_array_equal(few[39].image, many[39].image)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("paintings", 5, "no such domain; give one of photographs"),
        ("medical", 0, "give at least 1"),
        ("depth", 30_000, "its pictures give .* ask for fewer"),
    ],
)
def test_refuses(name, count, message):
    with pytest.raises(ValueError, match=message):
        open_sample(name, count)


# With no network and nothing in the home folder, in a fresh interpreter; and without the second
# that each of these packages takes to import.
OFFLINE = """
import socket, sys
def refuse(*_): raise OSError("no network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import substrate_jax.data as data
for domain in data.list_domains("sample"):
    print(domain.name, data.open_source(domain.spec)[0].id)
heavy = {"tensorflow", "tensorflow_datasets", "skimage", "sklearn", "torch", "pooch"}
print("imported", sorted(heavy & set(sys.modules)))
"""


def test_loads_offline_with_an_empty_home(tmp_path):
    keep = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env={**keep, "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *domains, imported = done.stdout.splitlines()
    assert [line.split()[0] for line in domains] == list(SAMPLE_DOMAINS)
    assert imported == "imported []"
    assert not list(tmp_path.iterdir())
