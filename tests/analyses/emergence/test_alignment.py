"""Agreement with a target, against float64 formulas."""

import numpy as np
import pytest

from substrate_jax.analyses.emergence.alignment import TITLES, alignment
from substrate_jax.kernels.measures.predictivity import PENALTIES, fold_of_rows
from substrate_jax.kernels.reference import measures, statistics
from tests.helpers import random_orthogonal

RNG = np.random.default_rng(0)
TARGET = RNG.normal(size=(40, 6)).astype(np.float32)
SIGNAL = (TARGET @ RNG.normal(size=(6, 8)) + RNG.normal(size=(40, 8))).astype(np.float32)
NOISE = RNG.normal(size=(40, 8)).astype(np.float32)
FLAT = np.ones((40, 8), np.float32)


@pytest.fixture(scope="module")
def found():
    turned = (3 * SIGNAL @ random_orthogonal(RNG, 8) + 1).astype(np.float32)
    return alignment([SIGNAL, NOISE, turned, FLAT], TARGET)


def test_against_formulas(found):
    fold = np.asarray(fold_of_rows(40, 5))
    for row, x in enumerate((SIGNAL, NOISE)):
        want = {
            "cka": measures.cka(x, TARGET),
            "debiased_cka": measures.cka(x, TARGET, debiased=True),
            "procrustes": measures.procrustes(x, TARGET),
            "predictivity": measures.predictivity(x, TARGET, fold, PENALTIES),
            "mutual_knn": statistics.mutual_knn(x, TARGET, 10),
        }
        for name, value in want.items():
            assert getattr(found, name)[row] == pytest.approx(value, abs=2e-5), name


def test_signal_stands_out_of_noise(found):
    assert found.p_value[0] < 1e-3 < found.p_value[1]
    want = np.maximum((found.cka - found.tau) / (1 - found.tau), 0)
    np.testing.assert_allclose(found.calibrated_cka[:3], want[:3], atol=1e-5)
    assert found.calibrated_cka[1] == 0


def test_rotation_scale_and_shift_change_nothing_but_neighbors(found):
    for name in set(TITLES) - {"mutual_knn"}:
        values = getattr(found, name)
        assert values[2] == pytest.approx(values[0], abs=1e-4), name


def test_constant_features_agree_with_nothing(found):
    for name in TITLES:
        assert getattr(found, name)[3] == 0, name


@pytest.mark.parametrize("rows", [(40, 39), (11, 11)])
def test_refuses_other_rows_and_too_few(rows):
    with pytest.raises(ValueError, match="same images to all, 12 or more"):
        alignment([SIGNAL[: rows[0]]], TARGET[: rows[1]])
