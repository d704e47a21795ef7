"""Ranks and exponent of features, against formulas written out in another way."""

import numpy as np
import pytest

from substrate_jax.analyses.emergence.spectrum import spectrum
from tests.helpers import random_orthogonal

RNG = np.random.default_rng(0)


def with_spectrum(n, eigenvalues, rng=RNG):
    """Centered [n, d] features whose covariance has these eigenvalues, turned at random."""
    d = len(eigenvalues)
    left = rng.normal(size=(n, d))
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    return left @ np.diag(np.sqrt(eigenvalues)) @ random_orthogonal(rng, d)


def test_against_entropies_of_gram_matrices():
    z = RNG.normal(size=(60, 12)) @ RNG.normal(size=(12, 12)) + 3
    found = spectrum(z.astype(np.float32))
    singular = np.sqrt(np.linalg.eigvalsh(z.T @ z))
    values = np.linalg.eigvalsh(np.cov(z.T))
    want = [np.prod((v / v.sum()) ** (-v / v.sum())) for v in (singular, values)]
    np.testing.assert_allclose([found.rankme, found.effective_rank], want, rtol=1e-5)
    assert found.rankme != pytest.approx(found.effective_rank, rel=0.1)  # two names, two numbers


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.5])
def test_alpha_is_the_exponent_of_a_power_law(exponent):
    z = with_spectrum(300, np.arange(1, 121) ** -exponent)
    # The first ten and those past 100 do not count.
    bent = np.arange(1, 121) ** -exponent
    bent[:10], bent[100:] = 5 * bent[:10], bent[100:] / 5
    for features in (z, with_spectrum(300, bent)):
        assert spectrum(features).alpha == pytest.approx(exponent, abs=1e-6)


def test_equal_directions_count_in_full_and_rotation_and_scale_nothing():
    z = with_spectrum(200, np.ones(20))
    assert spectrum(z).effective_rank == pytest.approx(20, rel=1e-9)
    turned = 1e6 * z @ random_orthogonal(RNG, 20)
    assert spectrum(turned).rankme == pytest.approx(spectrum(z).rankme, rel=1e-9)


def test_a_common_offset_is_a_direction_of_rankme_alone():
    z = with_spectrum(200, np.ones(20))
    found, plain = spectrum(z + 100), spectrum(z)
    assert found.effective_rank == pytest.approx(plain.effective_rank, rel=1e-6)
    assert found.rankme < 2


def test_one_direction_few_directions_and_none():
    line = np.outer(RNG.normal(size=150), np.ones(130))
    assert spectrum(line).effective_rank == pytest.approx(1)
    assert np.isnan(spectrum(line).alpha)
    assert np.isnan(spectrum(RNG.normal(size=(101, 99))).alpha)
    assert np.isnan(spectrum(RNG.normal(size=(100, 120))).alpha)  # 99 eigenvalues
    assert np.isfinite(spectrum(RNG.normal(size=(101, 120))).alpha)
    constant = spectrum(np.full((30, 4), 2.0))
    assert np.isnan([constant.rankme, constant.effective_rank, constant.alpha]).all()


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((1, 3)), np.ones((3, 0))])
def test_refuses_what_is_no_matrix(bad):
    with pytest.raises(ValueError, match=r"give \[n, d\]"):
        spectrum(bad)


def test_refuses_nan():
    with pytest.raises(ValueError, match="NaN or infinity"):
        spectrum(np.array([[0.0, np.nan], [1.0, 2.0]]))
