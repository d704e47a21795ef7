import pytest

from tests.analyses.probe.data import case


@pytest.fixture(scope="package", params=[(5, 20), (40, 4)], ids=["tall", "wide"])
def small(request):
    width, shots = request.param
    return case(width, shots)
