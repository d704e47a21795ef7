"""The check of domains names what does not fit, and how to fix it."""

import numpy as np
import pytest

from substrate_jax.features import Features
from substrate_jax.substrate.domains import DomainShapes, check_components, check_domains


def domain(n: int = 6, widths=(3, 2)) -> dict[str, np.ndarray]:
    return {f"encoder{i}": np.ones((n, d), np.float32) for i, d in enumerate(widths)}


def test_shapes_of_domains_of_several_sizes():
    features = Features(tuple("abcde"), None, domain(5))
    shapes = check_domains({"one": domain(), "two": features})
    assert shapes == DomainShapes(("one", "two"), (6, 5), ("encoder0", "encoder1"), (3, 2))


def ragged() -> dict[str, np.ndarray]:
    return domain() | {"encoder1": np.ones((4, 2), np.float32)}


def broken(value: float) -> dict[str, np.ndarray]:
    features = domain()
    features["encoder1"][3, 1] = value
    return features


BAD = {
    "no domain": ({}, "there is no domain: give"),
    "no encoder": ({"bare": {}}, "domain 'bare' has no encoder: give"),
    "no encoder in a later one": ({"one": domain(), "bare": {}}, "domain 'bare' has no encoder"),
    "a vector": ({"one": {"encoder0": np.ones(4)}}, r"'one': encoder0 has shape \(4,\): give"),
    "other widths": (
        {"one": domain(), "wide": domain(widths=(3, 5))},
        "domain 'wide' has encoders of widths .*5}, domain 'one' has .*2}: give the same",
    ),
    "fewer encoders": ({"one": domain(), "few": domain(widths=(3,))}, "domain 'few' has encoders"),
    "other order": (
        {"one": domain(), "turned": dict(reversed(domain().items()))},
        "domain 'turned' has .* in the same order",
    ),
    "other rows": ({"one": ragged()}, "domain 'one' has encoders with .*4} rows: give the same"),
    "few rows": ({"one": domain(), "small": domain(3)}, "'small' has 3 images: give 4 or more"),
    "no rows": ({"empty": domain(0)}, "domain 'empty' has 0 images: give 4"),
    "NaN": ({"one": broken(np.nan)}, r"domain one, encoder1 holds NaN or inf in 1 of 6 rows \(3\)"),
    "inf": ({"one": broken(np.inf)}, "domain one, encoder1 holds NaN or inf"),
}


@pytest.mark.parametrize("case", BAD)
def test_domains_that_do_not_fit_are_named(case):
    domains, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        check_domains(domains)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("k", "message"),
    [
        (0, "k=0: give 1 to 5"),
        (6, "k=6: give 1 to 5, the features"),
        (4, "domain 'b' has 4 images: k=4 components need 5 or more"),
    ],
)
def test_components_out_of_range_are_named(k, message):
    shapes = check_domains({"a": domain(), "b": domain(4)})
    check_components(shapes, 3)
    with pytest.raises(ValueError, match=message):
        check_components(shapes, k)
