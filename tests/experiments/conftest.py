"""Plans without estimates, which take seconds: tests of plans are many."""

import pytest

from experiments import cka


@pytest.fixture(autouse=True)
def no_estimate(request, monkeypatch):
    if not request.node.get_closest_marker("long"):
        monkeypatch.setattr(cka, "estimate", lambda *_: "no estimate")
