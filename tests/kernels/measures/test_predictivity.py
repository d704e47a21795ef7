"""Held-out ridge regression against scikit-learn."""

import functools

import jax
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from substrate_jax.kernels import linear_predictivity
from substrate_jax.kernels.measures.predictivity import fold_of_rows
from tests import helpers
from tests.kernels.encoders import ROWS, sample

FOLD = np.asarray(fold_of_rows(ROWS, 5))


def test_predictivity_is_sklearns():
    x, y, _ = sample()
    want = []
    for held in range(5):
        train, test = held != FOLD, held == FOLD
        penalty = 0.1 * np.sum((x[train] - x[train].mean(0)) ** 2, dtype=np.float64) / x.shape[1]
        model = Ridge(alpha=penalty).fit(x[train].astype(float), y[train].astype(float))
        predicted = model.predict(x[test].astype(float))
        want.append(r2_score(y[test], predicted, multioutput="variance_weighted"))
    got = jax.jit(functools.partial(linear_predictivity, penalties=(0.1,)))([x, y])[0, 1]
    np.testing.assert_allclose(got, np.mean(want), atol=helpers.tolerance(ROWS, condition=10))
