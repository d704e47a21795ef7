"""Every public kernel under stress is right, or gives a NaN that its docstring announces.

The table is `stress/table.py`, what the kernels are put to is `stress/cells.py`, and how they are
judged `stress/checks.py`. `stress/test_inputs.py` is of rows, dtypes and what is no array.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from substrate_jax import kernels
from tests.kernels.stress import cells
from tests.kernels.stress.checks import compiled, stressed, wrong
from tests.kernels.stress.table import CASES, FEW, NO_ARRAYS, RESULTS


def test_every_public_kernel_is_in_the_table():
    listed = {name.split()[0] for name in CASES} | RESULTS.keys() | NO_ARRAYS
    assert listed == set(kernels.__all__)
    assert set(RESULTS.values()) <= CASES.keys()


@pytest.mark.parametrize("name", FEW)
def test_hard_features_have_the_right_value_or_an_announced_nan(name):
    found = {cell: wrong(name, stressed(name, cell), compiled(name), cell) for cell in cells.VALUES}
    assert not any(found.values()), "\n".join(f"{name}, {c}: {w}" for c, w in found.items() if w)


@pytest.mark.parametrize(("strata", "orders"), [(None, 24), (np.array([0, 1, 1, 0]), 4)])
def test_sampled_p_values_are_no_less_than_the_share_of_one_order(strata, orders):
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)

    def p_values(key):
        options = {"permutations": 199, "strata": strata}
        found = kernels.calibrate_cka([x], method="permutation", key=key, **options)
        null, observed = kernels.permutation_null([x], key, **options)
        reached = jnp.sum(null >= observed[None] - 1e-6, axis=0) + 1
        return found.p_value[0, 0], 10 ** found.log10_p_value[0, 0], reached[0, 0] / 200

    p, again, raw = jax.jit(lambda keys: jax.lax.map(p_values, keys))(
        jax.random.split(jax.random.key(0), 8)
    )
    assert np.min(raw) < 1 / orders  # which a sample would have said
    np.testing.assert_allclose(p, np.maximum(raw, 1 / orders), rtol=1e-5)
    np.testing.assert_allclose(again, p, rtol=1e-5)
