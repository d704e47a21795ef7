"""Two processes of two devices, over loopback, compute what one device does."""

import jax
import numpy as np
import pytest

from tests.helpers import relative_error
from tests.kernels.measures.test_table import ORACLES
from tests.multiprocess import processes
from tests.multiprocess.kernels_worker import everything, sample


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    processes.run("tests.multiprocess.kernels_worker", folder)
    return [dict(np.load(folder / f"kernels{rank}.npz")) for rank in range(2)]


def test_two_processes_give_the_numbers_of_one(found):
    want = jax.jit(everything)([jax.numpy.asarray(block) for block in sample()])
    first, second = found
    assert first.keys() == second.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        condition = ORACLES[name][1] if name in ORACLES else 1
        assert relative_error(first[name], value) < 1e-5 * max(1, condition / 10), name
